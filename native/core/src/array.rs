//! A reference to an MLX array.

use std::{ffi::c_void, slice};

use mlx_sys as sys;

use crate::{Error, Result, Shape, TensorType, Type, error::take_message, packing::unpack};

/// A counted reference to a node of MLX's lazy graph, computed or not.
pub struct Array(sys::mlx_array);

// SAFETY: an `mlx_array` is a `std::shared_ptr` with an atomic count. Building on it only reads
// what never changes after its construction (shape, type, primitive's identity). What evaluation
// changes is touched by `eval` alone, under its lock; see `eval::LOCK`. MLX itself looks at it once more
// when a lazy array is dropped: whether it has siblings, which matters for those alone that are results
// of a factorization; see `Mlx::alone`.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl Array {
    /// Calls an mlx-c function that fills an array and returns a status.
    pub(crate) fn from_call(call: impl FnOnce(*mut sys::mlx_array) -> i32) -> Result<Self> {
        // SAFETY: makes an empty handle, which the call fills or leaves empty.
        let mut array = Self(unsafe { sys::mlx_array_new() });
        match call(&raw mut array.0) {
            0 => Ok(array),
            _ => Err(take_message()),
        }
    }

    /// An array with a copy of `bytes`, which are row-major, in the host's byte order, and packed as
    /// Nx does.
    ///
    /// # Errors
    ///
    /// If the byte count is not the type's.
    pub fn from_bytes(ty: &TensorType, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != ty.bytes() {
            return Err(Error::argument(format!(
                "expected :binary to be {} bytes for {ty}, got: {} bytes",
                ty.bytes(),
                bytes.len()
            )));
        }
        if ty.ty.is_narrow() {
            return Self::from_bytes(&ty.carried(), &unpack(ty, bytes));
        }
        let dims = ty.shape.dims();
        // The BEAM aligns binaries to 8 bytes at best and sub-binaries not at all; MLX reads
        // elements, so data that is not aligned goes through a copy that is.
        let aligned;
        let data: *const c_void = if bytes.as_ptr().align_offset(ty.ty.bytes().min(8)) == 0 {
            bytes.as_ptr().cast()
        } else {
            aligned = realigned(bytes);
            aligned.as_ptr().cast()
        };
        // SAFETY: `data` holds `ty.bytes()` readable bytes, aligned for the element type, and
        // `dims` is read before the call returns.
        let handle = unsafe {
            sys::mlx_array_new_data(data, dims.as_ptr(), dims.len() as i32, ty.ty.to_mlx())
        };
        if handle.ctx.is_null() {
            return Err(take_message());
        }
        Ok(Self(handle))
    }

    pub(crate) const fn raw(&self) -> sys::mlx_array {
        self.0
    }

    /// The size of each axis.
    pub fn shape(&self) -> Shape {
        Shape::trusted(self.dims())
    }

    fn dims(&self) -> &[i32] {
        // SAFETY: the handle is not empty, and MLX keeps `ndim` sizes at this address, unchanged, for
        // as long as the array lives. With no axes the address may be null.
        unsafe {
            match sys::mlx_array_ndim(self.0) {
                0 => &[],
                rank => slice::from_raw_parts(sys::mlx_array_shape(self.0), rank),
            }
        }
    }

    /// The element type.
    pub fn ty(&self) -> Type {
        // Booleans never leave `lower`, which gives Nx's u8 for them.
        Type::from_mlx(self.mlx_dtype()).unwrap_or(Type::U8)
    }

    pub(crate) fn mlx_dtype(&self) -> sys::mlx_dtype {
        // SAFETY: the handle is not empty.
        unsafe { sys::mlx_array_dtype(self.0) }
    }

    /// The element type and shape.
    pub fn tensor_type(&self) -> TensorType {
        TensorType {
            ty: self.ty(),
            shape: self.shape(),
        }
    }

    /// Whether the array has exactly this type and shape.
    pub(crate) fn has_type(&self, expected: &TensorType) -> bool {
        self.mlx_dtype() == expected.ty.to_mlx() && self.dims() == expected.shape.dims()
    }

    /// Where an evaluated array's elements start.
    ///
    /// # Safety
    ///
    /// The array must have been evaluated and its device must have finished.
    pub(crate) unsafe fn data(&self) -> *const u8 {
        // SAFETY: the caller vouches for the array; the getter only adds its offset to its buffer's
        // address, whatever the element type.
        unsafe { sys::mlx_array_data_uint8(self.0) }
    }

    /// Whether an evaluated array's elements lie in row-major order with no gaps.
    pub(crate) fn is_row_contiguous(&self) -> bool {
        let mut yes = false;
        // SAFETY: the handle is not empty and `yes` is writable.
        unsafe { sys::_mlx_array_is_row_contiguous(&raw mut yes, self.0) == 0 && yes }
    }
}

impl Clone for Array {
    fn clone(&self) -> Self {
        // SAFETY: copies a shared pointer into a fresh handle.
        Self(unsafe {
            let mut handle = sys::mlx_array_new();
            sys::mlx_array_set(&raw mut handle, self.0);
            handle
        })
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: the handle is owned and not used again.
        unsafe { sys::mlx_array_free(self.0) };
    }
}

/// The bytes in memory that is aligned for every element type.
fn realigned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    // SAFETY: `words` owns at least `bytes.len()` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), words.as_mut_ptr().cast(), bytes.len());
    }
    words
}
