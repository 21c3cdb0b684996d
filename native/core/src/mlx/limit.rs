//! How much memory there may be.

use std::{
    fs,
    mem::MaybeUninit,
    sync::atomic::{AtomicUsize, Ordering},
};

use mlx_sys as sys;

use crate::{Array, Device, Error, Result, Shape, TensorType, Type, error::take_message};

/// [`memory_limit`] as it was last worked out; none yet where it is 0.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// The bytes that MLX is ready to use by itself, a good part of the machine's memory.
///
/// On the CPU MLX does not look whether it was given the memory that it asked for, and what is larger
/// than all there is cannot be given; so nothing like that may get there.
pub(crate) fn memory_limit() -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => {
            let mut limit = 0;
            // SAFETY: `limit` is writable.
            let status = unsafe { sys::mlx_get_memory_limit(&raw mut limit) };
            keep((status == 0 && limit > 0).then_some(limit))
        }
        known => known,
    }
}

/// Has MLX use at most `bytes`, and returns how many it was before.
///
/// # Errors
///
/// If `bytes` is 0, or MLX fails.
pub fn set_memory_limit(bytes: usize) -> Result<usize> {
    if bytes == 0 {
        return Err(Error::argument(
            "expected :limit to be at least 1 byte, got: 0",
        ));
    }
    let before = memory_limit();
    let mut of_mlx = 0;
    // SAFETY: `of_mlx` is writable.
    if unsafe { sys::mlx_set_memory_limit(&raw mut of_mlx, bytes) } != 0 {
        return Err(take_message());
    }
    keep(Some(bytes));
    Ok(before)
}

/// Notes the limit that follows from MLX's own.
fn keep(own: Option<usize>) -> usize {
    let limit = own.into_iter().chain(process_limit()).min();
    let limit = limit.unwrap_or(usize::MAX).max(1);
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// What the process may have of the machine's memory, if it may not have all of it. A GPU's memory is
/// not the process's.
fn process_limit() -> Option<usize> {
    if Device::available().contains(&Device::Gpu) {
        return None;
    }
    [address_space(), container()].into_iter().flatten().min()
}

#[cfg(unix)]
fn address_space() -> Option<usize> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` is writable, and filled where the call succeeds.
    let limit = unsafe {
        match libc::getrlimit(libc::RLIMIT_AS, limit.as_mut_ptr()) {
            0 => limit.assume_init(),
            _ => return None,
        }
    };
    usize::try_from(limit.rlim_cur).ok()
}

/// The limit of the container that the process is in: of control groups of version 2, or of version 1.
fn container() -> Option<usize> {
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let text = files
        .into_iter()
        .find_map(|file| fs::read_to_string(file).ok())?;
    text.trim().parse().ok()
}

/// The refusal of a tensor beyond [`memory_limit`].
pub(crate) fn too_large(ty: &TensorType) -> Error {
    Error::argument(format!(
        "expected a tensor of at most {} bytes, which is what memory allows, got: {ty} of {} bytes",
        memory_limit(),
        ty.memory()
    ))
}

/// That elements of `ty` with these sizes fit memory, for what is stored on the way to a result.
pub(crate) fn check_memory(ty: Type, dims: &[i32]) -> Result<()> {
    let dims: Vec<i64> = dims.iter().copied().map(i64::from).collect();
    let all = TensorType {
        ty,
        shape: Shape::new(&dims)?,
    };
    if all.bytes() > memory_limit() {
        return Err(too_large(&all));
    }
    Ok(())
}

impl Array {
    /// As [`Self::from_call`], for what MLX will store whole, be it a result or a step on the way to one.
    pub(crate) fn stored(call: impl FnOnce(*mut sys::mlx_array) -> i32) -> Result<Self> {
        let array = Self::from_call(call)?;
        if array.is_vast() {
            return Err(too_large(&array.tensor_type()));
        }
        Ok(array)
    }

    /// Whether no memory holds all of its elements; a broadcast one needs not have them there.
    pub(crate) fn is_vast(&self) -> bool {
        // SAFETY: the handle is not empty.
        unsafe { sys::mlx_array_nbytes(self.raw()) > memory_limit() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stream, install_error_handler};

    #[test]
    fn a_step_that_no_memory_holds_is_refused_where_it_is_made() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let mlx = stream.mlx();
        // As bytes they fit, as numbers of 64 bits they do not.
        let rows = i32::try_from(memory_limit() >> 21).unwrap();
        let one = mlx.scalar(1, Type::U8).unwrap();
        let bytes = mlx.broadcast_to(&one, &[rows, 1 << 20]).unwrap();
        assert!(!bytes.is_vast());
        let error = mlx.convert(&bytes, Type::U64).err().unwrap().to_string();
        assert!(
            error.contains(&format!("got: u64[{rows}][1048576]")),
            "{error}"
        );
        assert!(mlx.add(&bytes, &mlx.scalar(1, Type::F32).unwrap()).is_err());
        assert!(mlx.add(&bytes, &bytes).is_ok());
    }
}
