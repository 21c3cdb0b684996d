//! Tensors of memory that MLX did not allocate.
//!
//! To save memory MLX has an operation write its result over an input, if no other reference to the
//! input's memory is left. Adopted memory must not change, so each adopted array has a second
//! reference, the [`Guard`]'s. It may not be given up before all others are: those of the tensor
//! itself, of lazy graphs, and of results that are views. Nobody tells when the last of them goes, so a
//! guard whose tensor is gone is put aside, and looked at again whenever such a reference may have
//! gone: when a tensor was dropped or computed.

use std::{
    cell::Cell,
    ffi::c_void,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use mlx_sys as sys;

use crate::{Array, Result, TensorType};

/// Smaller ones are sooner copied than adopted.
const LEAST_BYTES: usize = 1 << 15;

/// The widest element's; any tensor may be bitcast to the type with that.
const ALIGNMENT: usize = 8;

/// Bytes that MLX may read in place.
///
/// # Safety
///
/// The bytes stay where they are, and do not change, for as long as the value lives. It may be dropped
/// on any thread.
pub unsafe trait Source: Send + 'static {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

/// Whether [`Tensor::adopt`](crate::Tensor::adopt) would not copy these `bytes`.
pub fn can_adopt(ty: &TensorType, bytes: &[u8]) -> bool {
    !ty.ty.is_narrow()
        && bytes.len() == ty.bytes()
        && bytes.len() >= LEAST_BYTES
        && bytes.as_ptr().align_offset(ALIGNMENT) == 0
        // SAFETY: only asks MLX which allocator it has.
        && unsafe { sys::emily_can_adopt() }
}

/// The bytes that are adopted now.
static ADOPTED: AtomicUsize = AtomicUsize::new(0);

/// Guards without a tensor; [`WAITING`] says how many.
static ASIDE: Mutex<Vec<Array>> = Mutex::new(Vec::new());
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is in [`sweep`].
    static SWEEPING: Cell<bool> = const { Cell::new(false) };
}

/// What keeps MLX from writing into an array's memory, if that is adopted.
#[derive(Default)]
pub(crate) struct Guard(Option<Array>);

impl Drop for Guard {
    /// The tensor's own references must be gone: a struct's last field is dropped last.
    fn drop(&mut self) {
        if let Some(array) = self.0.take() {
            let mut aside = ASIDE.lock().unwrap_or_else(PoisonError::into_inner);
            aside.push(array);
            WAITING.store(aside.len(), Ordering::Relaxed);
        }
        sweep();
    }
}

/// The bytes of others that tensors read in place.
pub(crate) fn adopted_memory() -> usize {
    sweep();
    ADOPTED.load(Ordering::Relaxed)
}

/// An array that reads the bytes of `source`, which [`can_adopt`] allows, in place.
pub(crate) fn adopt(ty: &TensorType, source: impl Source) -> Result<(Array, Guard)> {
    sweep();
    let owner = Owner::new(source);
    let dims = ty.shape.dims();
    let (data, owner) = (owner.0.bytes().as_ptr(), Box::into_raw(Box::new(owner)));
    let made = Array::from_call(|out| {
        // SAFETY: the source has `ty.bytes()` bytes, which stay at their address until `release` is
        // called with the owner; `dims` is read before the call returns.
        unsafe {
            sys::emily_array_adopt(
                out,
                data.cast(),
                dims.as_ptr(),
                dims.len() as i32,
                ty.ty.to_mlx(),
                owner.cast(),
                Some(release),
            )
        }
    });
    match made {
        Ok(array) => Ok((array.clone(), Guard(Some(array)))),
        Err(error) => {
            // SAFETY: the owner was not taken.
            drop(unsafe { Box::from_raw(owner) });
            Err(error)
        }
    }
}

/// A source that is counted.
struct Owner(Box<dyn Source>);

impl Owner {
    fn new(source: impl Source) -> Self {
        ADOPTED.fetch_add(source.bytes().len(), Ordering::Relaxed);
        Self(Box::new(source))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        ADOPTED.fetch_sub(self.0.bytes().len(), Ordering::Relaxed);
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: comes from `Box::into_raw` in `adopt`, and MLX gives it back once.
    drop(unsafe { Box::from_raw(owner.cast::<Owner>()) });
}

/// Gives up the guards that are the only reference to their memory.
///
/// A source may hold a tensor of adopted memory, whose source may hold another one. They are given up
/// one after the other and not one inside the other, however long the chain is.
pub(crate) fn sweep() {
    // Whoever puts a guard aside writes WAITING and then reads the count of references; whoever gives up
    // a reference changes the count and then reads WAITING. With a fence between both, one of them sees
    // what the other did.
    fence(Ordering::SeqCst);
    if WAITING.load(Ordering::Relaxed) == 0 || SWEEPING.replace(true) {
        return;
    }
    loop {
        let alone = take_alone();
        if alone.is_empty() {
            break;
        }
        // Outside of the lock: what a source drops with it may come back here.
        drop(alone);
    }
    SWEEPING.set(false);
}

fn take_alone() -> Vec<Array> {
    let mut aside = ASIDE.lock().unwrap_or_else(PoisonError::into_inner);
    let alone = aside.extract_if(.., |array| {
        // SAFETY: the handle is live. Nobody can get a second reference from the only one, which is here.
        unsafe { sys::emily_array_is_sole(array.raw()) }
    });
    let alone = alone.collect();
    WAITING.store(aside.len(), Ordering::Relaxed);
    alone
}
