//! MLX's functions on quantized matrices.
//!
//! Some of what they cannot compute makes an exception on a thread of MLX's, so shapes, types and settings
//! must be checked before; see `infer::quantized`.

#[cfg(test)]
mod tests;

use std::ffi::CStr;

use mlx_sys as sys;

use super::{ArrayList, Mlx, NONE};
use crate::{
    Array, QuantizationMode, Result, Type, error::take_message, infer::quantized::Packing,
};

/// A quantized matrix as its tensors.
#[derive(Clone, Copy)]
pub(crate) struct Quantized<'a> {
    pub packing: Packing,
    pub packed: &'a Array,
    pub scales: &'a Array,
    pub biases: Option<&'a Array>,
}

impl Mlx {
    /// Packed numbers, scales, and biases if the mode has them.
    pub(crate) fn quantize(self, x: &Array, packing: Packing) -> Result<Vec<Array>> {
        // SAFETY: makes an empty list, which the call fills.
        let mut list = ArrayList(unsafe { sys::mlx_vector_array_new() });
        // SAFETY: the handle is live, the list is writable, and the text ends with a NUL.
        let status = unsafe {
            sys::mlx_quantize(
                &raw mut list.0,
                x.raw(),
                integer(packing.group_size),
                integer(packing.bits),
                name(packing.mode).as_ptr(),
                NONE,
                self.0,
            )
        };
        if status != 0 {
            return Err(take_message());
        }
        let parts = (0..packing.parts()).map(|at| self.alone(list.get(at)?));
        parts.collect()
    }

    /// The numbers in `ty`; if they are affine, that is the scales' type.
    pub(crate) fn dequantize(self, matrix: Quantized<'_>, ty: Type) -> Result<Array> {
        let Packing {
            mode,
            group_size,
            bits,
        } = matrix.packing;
        let ty = sys::mlx_optional_dtype {
            value: ty.to_mlx(),
            has_value: true,
        };
        // SAFETY: the handles are live or null where that is allowed, the text is read before the call
        // returns, and the result's handle is writable.
        Array::stored(|out| unsafe {
            sys::mlx_dequantize(
                out,
                matrix.packed.raw(),
                matrix.scales.raw(),
                matrix.biases.map_or(NONE, Array::raw),
                integer(group_size),
                integer(bits),
                name(mode).as_ptr(),
                NONE,
                ty,
                self.0,
            )
        })
    }

    /// The product of `x`, which has two axes at least, with the matrix, transposed or not.
    pub(crate) fn quantized_matmul(
        self,
        x: &Array,
        matrix: Quantized<'_>,
        transpose: bool,
    ) -> Result<Array> {
        let Packing {
            mode,
            group_size,
            bits,
        } = matrix.packing;
        // SAFETY: the handles are live or null where that is allowed, the text is read before the call
        // returns, and the result's handle is writable.
        Array::stored(|out| unsafe {
            sys::mlx_quantized_matmul(
                out,
                x.raw(),
                matrix.packed.raw(),
                matrix.scales.raw(),
                matrix.biases.map_or(NONE, Array::raw),
                transpose,
                integer(group_size),
                integer(bits),
                name(mode).as_ptr(),
                self.0,
            )
        })
    }

    /// [`Self::quantized_matmul`] on x86_64's CPU: the same bits, from sums side by side. Of several
    /// matrices there are as many as `x` has.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn quantized_sums(
        self,
        x: &Array,
        matrix: Quantized<'_>,
        transpose: bool,
    ) -> Result<Array> {
        let Packing {
            mode,
            group_size,
            bits,
        } = matrix.packing;
        let packing = match mode {
            QuantizationMode::Affine => sys::emily_packing__EMILY_AFFINE,
            QuantizationMode::Mxfp4 => sys::emily_packing__EMILY_MXFP4,
            QuantizationMode::Mxfp8 => sys::emily_packing__EMILY_MXFP8,
            QuantizationMode::Nvfp4 => sys::emily_packing__EMILY_NVFP4,
        };
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe {
            sys::emily_quantized_product(
                out,
                x.raw(),
                matrix.packed.raw(),
                matrix.scales.raw(),
                matrix.biases.map_or(NONE, Array::raw),
                packing,
                bits as i32,
                group_size as i32,
                transpose,
                self.0,
            )
        })
    }

    /// The products of pairs of matrices; the indices, of u32 and within their side, are of `x` and of the
    /// quantized matrices, at least one of them. MLX reads wherever they point.
    pub(crate) fn gather_qmm(
        self,
        x: &Array,
        matrices: Quantized<'_>,
        [left, right]: [Option<&Array>; 2],
        (transpose, sorted): (bool, bool),
    ) -> Result<Array> {
        let Packing {
            mode,
            group_size,
            bits,
        } = matrices.packing;
        // SAFETY: the handles are live or null where that is allowed, the text is read before the call
        // returns, and the result's handle is writable.
        Array::stored(|out| unsafe {
            sys::mlx_gather_qmm(
                out,
                x.raw(),
                matrices.packed.raw(),
                matrices.scales.raw(),
                matrices.biases.map_or(NONE, Array::raw),
                left.map_or(NONE, Array::raw),
                right.map_or(NONE, Array::raw),
                transpose,
                integer(group_size),
                integer(bits),
                name(mode).as_ptr(),
                sorted,
                self.0,
            )
        })
    }
}

const fn integer(value: usize) -> sys::mlx_optional_int {
    sys::mlx_optional_int {
        value: value as i32,
        has_value: true,
    }
}

const fn name(mode: QuantizationMode) -> &'static CStr {
    match mode {
        QuantizationMode::Affine => c"affine",
        QuantizationMode::Mxfp4 => c"mxfp4",
        QuantizationMode::Mxfp8 => c"mxfp8",
        QuantizationMode::Nvfp4 => c"nvfp4",
    }
}
