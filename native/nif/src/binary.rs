//! Binaries of the BEAM that tensors read in place.

use std::{ptr::NonNull, slice};

use emily_core::Source;
use rustler::{Binary, OwnedEnv};

use crate::disposal::free;

/// A binary that stays in memory for as long as the value lives, whatever becomes of the process that it
/// came from.
pub struct Kept {
    address: NonNull<u8>,
    len: usize,
    /// Holds a reference to the binary.
    env: Option<OwnedEnv>,
}

// SAFETY: the environment is nobody else's and is only freed, which any thread may do; the bytes are
// only read.
unsafe impl Send for Kept {}

impl Kept {
    /// Keeps `binary` without a copy; none if that cannot be. One that begins within a byte of another is
    /// copied each time that somebody looks at it.
    pub fn new(binary: Binary<'_>) -> Option<Self> {
        let env = OwnedEnv::new();
        // Looking at it makes the BEAM pin it: what is appended to it later goes to another place.
        let (address, len) = env.run(|env| {
            let kept = Binary::from_term(binary.to_term(env)).ok()?;
            Some((NonNull::from(kept.as_slice()).cast::<u8>(), kept.len()))
        })?;
        (address.as_ptr().cast_const() == binary.as_ptr()).then_some(Self {
            address,
            len,
            env: Some(env),
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(env) = self.env.take() {
            free(env, self.len);
        }
    }
}

// SAFETY: the BEAM does not move or change the binary while the environment holds its reference.
unsafe impl Source for Kept {
    fn bytes(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}
