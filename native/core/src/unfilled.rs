//! Memory of MLX's that is written to before it becomes a tensor.

use std::{ffi::c_void, ptr::NonNull, slice};

use mlx_sys as sys;

use crate::{
    Array, Error, Result, TensorType,
    mlx::{memory_limit, too_large},
};

/// An array that nobody else has, with no elements yet.
pub(crate) struct Unfilled {
    array: Array,
    data: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the address is that of the array's memory, which nobody else knows.
unsafe impl Send for Unfilled {}

impl Unfilled {
    /// Memory for a tensor whose elements MLX has as they lie in files, and which has some.
    ///
    /// # Errors
    ///
    /// If there is not so much.
    pub fn new(ty: &TensorType) -> Result<Self> {
        let bytes = ty.bytes();
        if bytes > memory_limit() {
            return Err(too_large(ty));
        }
        let dims = ty.shape.dims();
        let mut data: *mut c_void = std::ptr::null_mut();
        let array = Array::from_call(|out| {
            // SAFETY: `dims` is read before the call returns, and `data` is writable.
            unsafe {
                sys::emily_array_of_memory(
                    out,
                    &raw mut data,
                    dims.as_ptr(),
                    dims.len() as i32,
                    ty.ty.to_mlx(),
                )
            }
        })?;
        let data = NonNull::new(data.cast())
            .ok_or_else(|| Error::Mlx(format!("MLX gave no memory for {ty}")))?;
        Ok(Self { array, data, bytes })
    }

    /// Where the elements are to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: MLX has allocated so many bytes there, which stay as long as the array, and nobody else knows
        // the array. They were not written to, but any byte is one, and the compiler sees no allocation.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), self.bytes) }
    }

    /// The array, with what was written.
    pub fn into_array(self) -> Array {
        self.array
    }
}
