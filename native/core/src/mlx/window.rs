//! MLX's views, convolutions and Fourier transforms.

use mlx_sys as sys;

use super::Mlx;
use crate::{Array, Result};

/// How a kernel moves over an input whose axes are batch, the spatial ones, channels.
pub(crate) struct Sliding {
    pub strides: Vec<i32>,
    pub padding_low: Vec<i32>,
    pub padding_high: Vec<i32>,
    pub kernel_dilation: Vec<i32>,
    pub input_dilation: Vec<i32>,
    pub groups: i32,
}

/// One method for each of MLX's Fourier transforms along one axis.
macro_rules! transforms {
    ($($name:ident = $function:ident;)+) => {
        $(
            pub(crate) fn $name(self, x: &Array, length: i32, axis: i32) -> Result<Array> {
                let norm = sys::mlx_fft_norm__MLX_FFT_NORM_BACKWARD;
                // SAFETY: the handle is live and the result's is writable.
                Array::stored(|out| unsafe {
                    sys::$function(out, x.raw(), length, axis, norm, self.0)
                })
            }
        )+
    };
}

impl Mlx {
    transforms! {
        fft = mlx_fft_fft;
        ifft = mlx_fft_ifft;
        irfft = mlx_fft_irfft;
        rfft = mlx_fft_rfft;
    }

    /// `x`, which is in row-major order, seen with other sizes and steps.
    ///
    /// MLX does not look whether all of that lies within `x`; the caller must.
    pub(crate) fn as_strided(self, x: &Array, dims: &[i32], strides: &[i64]) -> Result<Array> {
        debug_assert_eq!(dims.len(), strides.len());
        // SAFETY: the handle is live and the lists are read before the call returns.
        Array::from_call(|out| unsafe {
            sys::mlx_as_strided(
                out,
                x.raw(),
                dims.as_ptr(),
                dims.len(),
                strides.as_ptr(),
                strides.len(),
                0,
                self.0,
            )
        })
    }

    /// `x`, [batch, spatial…, channels], with `kernel`, [outputs, spatial…, channels of a group].
    pub(crate) fn convolve(self, x: &Array, kernel: &Array, sliding: &Sliding) -> Result<Array> {
        let Sliding {
            strides,
            padding_low,
            padding_high,
            kernel_dilation,
            input_dilation,
            groups,
        } = sliding;
        // SAFETY: the handles are live and the lists are read before the call returns.
        Array::stored(|out| unsafe {
            sys::mlx_conv_general(
                out,
                x.raw(),
                kernel.raw(),
                strides.as_ptr(),
                strides.len(),
                padding_low.as_ptr(),
                padding_low.len(),
                padding_high.as_ptr(),
                padding_high.len(),
                kernel_dilation.as_ptr(),
                kernel_dilation.len(),
                input_dilation.as_ptr(),
                input_dilation.len(),
                *groups,
                false,
                self.0,
            )
        })
    }

    /// `x`, a vector, with each of `updates`, [count, 1], added at its index.
    ///
    /// MLX does not look whether the indices lie within `x`; the caller must.
    pub(crate) fn scatter_add_rows(
        self,
        x: &Array,
        indices: &Array,
        updates: &Array,
    ) -> Result<Array> {
        // SAFETY: the handles are live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_scatter_add_single(out, x.raw(), indices.raw(), updates.raw(), 0, self.0)
        })
    }
}
