//! The memory that MLX holds.

use mlx_sys as sys;

use crate::{Device, Error, Result, adopted::adopted_memory, error::take_message};

/// Bytes that tensors hold in this process, on all devices together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub struct Memory {
    /// MLX's own, in tensors and in what is being computed.
    pub active: usize,
    /// The most that was active at a time, since the start or the last [`reset_peak_memory`].
    pub peak: usize,
    /// Given back by tensors and kept for the next ones.
    pub cache: usize,
    /// Not MLX's, but read by its arrays in place; see [`Tensor::adopt`](crate::Tensor::adopt).
    pub adopted: usize,
}

/// What tensors hold now.
///
/// # Errors
///
/// If MLX fails to say.
pub fn memory() -> Result<Memory> {
    let adopted = adopted_memory();
    Ok(Memory {
        active: bytes(sys::mlx_get_active_memory)?,
        peak: bytes(sys::mlx_get_peak_memory)?,
        cache: bytes(sys::mlx_get_cache_memory)?,
        adopted,
    })
}

/// The bytes that only stay because something still needs them: [`Memory::active`] and
/// [`Memory::adopted`] together.
///
/// # Errors
///
/// If MLX fails to say.
pub fn held_memory() -> Result<usize> {
    let adopted = adopted_memory();
    Ok(adopted + bytes(sys::mlx_get_active_memory)?)
}

fn bytes(get: unsafe extern "C" fn(*mut usize) -> i32) -> Result<usize> {
    let mut bytes = 0;
    // SAFETY: `bytes` is writable, which is all that these functions of mlx-c ask for.
    match unsafe { get(&raw mut bytes) } {
        0 => Ok(bytes),
        _ => Err(take_message()),
    }
}

/// Counts the peak anew, from what is active now.
///
/// # Errors
///
/// If MLX fails.
pub fn reset_peak_memory() -> Result<()> {
    // SAFETY: takes nothing.
    done(unsafe { sys::mlx_reset_peak_memory() })
}

/// Has MLX keep at most `bytes` of freed memory for the next tensors, and returns how many it was
/// before.
///
/// # Errors
///
/// If MLX fails.
pub fn set_cache_limit(bytes: usize) -> Result<usize> {
    let mut before = 0;
    // SAFETY: `before` is writable.
    done(unsafe { sys::mlx_set_cache_limit(&raw mut before, bytes) }).map(|()| before)
}

/// Has Metal keep up to `bytes` of MLX's memory where the GPU can read it, and returns how many it was
/// before.
///
/// # Errors
///
/// If the machine has no Metal, or that is more than it recommends.
pub fn set_wired_limit(bytes: usize) -> Result<usize> {
    if !(cfg!(target_os = "macos") && Device::available().contains(&Device::Gpu)) {
        return Err(Error::argument(format!(
            "expected :limit to be set on a machine with Metal, which alone wires memory, got: {bytes} bytes on \
             one without"
        )));
    }
    let mut before = 0;
    // SAFETY: `before` is writable.
    match unsafe { sys::mlx_set_wired_limit(&raw mut before, bytes) } {
        0 => Ok(before),
        _ => Err(Error::argument(format!(
            "expected :limit to be at most the working set that Metal recommends, got: {bytes} bytes ({})",
            take_message()
        ))),
    }
}

/// Gives the memory that no tensor uses back to the system.
///
/// # Errors
///
/// If MLX fails.
pub fn clear_cache() -> Result<()> {
    // SAFETY: takes nothing.
    done(unsafe { sys::mlx_clear_cache() })
}

fn done(status: i32) -> Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(take_message()),
    }
}
