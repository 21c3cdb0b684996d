//! Functions that do the work of several in one kernel where the device has it.

use mlx_sys as sys;

use super::{Mlx, NONE};
use crate::{ActivationFunction, Array, Device, Result};

/// Threads that a kernel of ours may have: MLX counts them with an `int`, whole blocks of them.
const MOST_THREADS: usize = i32::MAX as usize - 255;
/// Those that work on one row together.
const WARP: usize = 32;

/// Whether our kernels for GPUs that have a thread for each element can compute a result of this shape.
pub(crate) fn fits_one_kernel(x: &Array) -> bool {
    let shape = x.shape();
    shape.rank() > 0 && (1..=MOST_THREADS).contains(&shape.size())
}

/// Whether [`Mlx::rotary`] can turn it on a GPU, where each row has a warp.
pub(crate) fn fits_rotary(x: &Array) -> bool {
    fits_one_kernel(x) && rows(x).saturating_mul(WARP) <= MOST_THREADS
}

/// Whether [`Mlx::short_attention`] can do it, and does better than MLX: for few positions of the query.
pub(crate) fn fits_short_attention(query: &Array, key: &Array, value: &Array) -> bool {
    let (shape, seen, weighed) = (query.shape(), key.shape(), value.shape());
    let ([.., positions, features], [.., found]) = (shape.dims(), weighed.dims()) else {
        return false;
    };
    *positions <= MOST_POSITIONS
        && *features.max(found) <= MOST_FEATURES
        && fits_one_kernel(query)
        && rows(query) <= MOST_THREADS / MOST_ROW_THREADS
        && seen.size() > 0
        && weighed.size() > 0
}

/// Whether the GPU is one of NVIDIA's.
pub(crate) fn is_cuda() -> bool {
    // SAFETY: the call takes nothing.
    unsafe { sys::emily_gpu_is_cuda() }
}

/// What has at least one axis and one element divided along the last axis.
fn rows(x: &Array) -> usize {
    let shape = x.shape();
    let width = shape.dims().last().map_or(1, |&size| size as usize);
    shape.size() / width.max(1)
}

/// More share what they read, and matrices of them are multiplied faster.
const MOST_POSITIONS: i32 = 4;
/// What a block has room for.
const MOST_FEATURES: i32 = 256;
/// 32 parts of a long key, with a block of 1024 each.
const MOST_ROW_THREADS: usize = 1 << 15;

impl Mlx {
    /// Along the last axis; narrow floats are summed as f32.
    pub(crate) fn softmax(self, x: &Array) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe {
            match self.device() {
                Device::Cpu => sys::emily_softmax(out, x.raw(), self.0),
                Device::Gpu => sys::mlx_softmax_axis(out, x.raw(), -1, true, self.0),
            }
        })
    }

    pub(crate) fn layer_norm(
        self,
        x: &Array,
        gamma: &Array,
        beta: &Array,
        epsilon: f64,
    ) -> Result<Array> {
        let norm = match self.device() {
            Device::Cpu => sys::emily_layer_norm,
            Device::Gpu => sys::mlx_fast_layer_norm,
        };
        let (x, gamma, beta) = (x.raw(), gamma.raw(), beta.raw());
        // SAFETY: the handles are live and the result's is writable.
        Array::stored(|out| unsafe { norm(out, x, gamma, beta, epsilon as f32, self.0) })
    }

    /// On a GPU `gamma` has one axis.
    pub(crate) fn rms_norm(self, x: &Array, gamma: Option<&Array>, epsilon: f64) -> Result<Array> {
        let norm = match self.device() {
            Device::Cpu => sys::emily_rms_norm,
            Device::Gpu => sys::mlx_fast_rms_norm,
        };
        let gamma = gamma.map_or(NONE, Array::raw);
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe { norm(out, x.raw(), gamma, epsilon as f32, self.0) })
    }

    /// `x * cosines + rotated * sines`; with a gamma and an epsilon of the RMS norm of `x`. On a GPU
    /// [`fits_rotary`] must hold of `x`, and gamma has one axis.
    pub(crate) fn rotary(
        self,
        x: &Array,
        [cosines, sines]: [&Array; 2],
        norm: Option<(&Array, f64)>,
    ) -> Result<Array> {
        let rotary = match self.device() {
            Device::Cpu => sys::emily_rotary,
            Device::Gpu => sys::emily_gpu_rotary,
        };
        let gamma = norm.map_or(NONE, |(gamma, _)| gamma.raw());
        let epsilon = norm.map_or(0.0, |(_, epsilon)| epsilon as f32);
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe {
            let (x, cosines, sines) = (x.raw(), cosines.raw(), sines.raw());
            rotary(out, x, cosines, sines, gamma, epsilon, self.0)
        })
    }

    /// The function of each element, times `factor` if there is one. On a GPU [`fits_one_kernel`] must hold
    /// of `x`.
    pub(crate) fn activation(
        self,
        function: ActivationFunction,
        x: &Array,
        factor: Option<&Array>,
    ) -> Result<Array> {
        let function = match function {
            ActivationFunction::Silu => sys::emily_function__EMILY_SILU,
            ActivationFunction::Gelu => sys::emily_function__EMILY_GELU,
            ActivationFunction::GeluTanh => sys::emily_function__EMILY_GELU_TANH,
        };
        let activation = match self.device() {
            Device::Cpu => sys::emily_activation,
            Device::Gpu => sys::emily_gpu_activation,
        };
        let factor = factor.map_or(NONE, Array::raw);
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe { activation(out, function, x.raw(), factor, self.0) })
    }

    /// The last arguments are how many features to turn, whether pairs are neighbours, the base of the
    /// frequencies if these are not given, and what positions are multiplied with.
    pub(crate) fn rope(
        self,
        x: &Array,
        offset: &Array,
        frequencies: Option<&Array>,
        (dims, traditional, base, scale): (usize, bool, Option<f64>, f64),
    ) -> Result<Array> {
        let frequencies = frequencies.map_or(NONE, Array::raw);
        let base = sys::mlx_optional_float {
            value: base.unwrap_or_default() as f32,
            has_value: base.is_some(),
        };
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_fast_rope_dynamic(
                out,
                x.raw(),
                dims as i32,
                traditional,
                base,
                scale as f32,
                offset.raw(),
                frequencies,
                self.0,
            )
        })
    }

    /// [`Self::attention`] with a mask in a kernel of ours for CUDA, where MLX has one only without; for what
    /// [`fits_short_attention`]. The mask is of bytes or of any float.
    pub(crate) fn short_attention(
        self,
        [query, key, value]: [&Array; 3],
        mask: &Array,
        scale: f64,
    ) -> Result<Array> {
        let (query, key, value, mask) = (query.raw(), key.raw(), value.raw(), mask.raw());
        // SAFETY: the handles are live, and the result's is writable.
        Array::stored(|out| unsafe {
            sys::emily_gpu_attention(out, query, key, value, mask, scale as f32, self.0)
        })
    }

    /// On a GPU the mask is of booleans, or of the query's type, as the sinks are; else it is of bytes or of any float,
    /// and sinks are of any float.
    pub(crate) fn attention(
        self,
        [query, key, value]: [&Array; 3],
        mask: Option<&Array>,
        sinks: Option<&Array>,
        scale: f64,
    ) -> Result<Array> {
        let (mode, scale) = (if mask.is_some() { c"array" } else { c"" }, scale as f32);
        let [mask, sinks] = [mask, sinks].map(|input| input.map_or(NONE, Array::raw));
        let (query, key, value) = (query.raw(), key.raw(), value.raw());
        // SAFETY: the handles are live or null where that is allowed, the text is read before the call
        // returns, and the result's handle is writable.
        Array::stored(|out| unsafe {
            if self.device() == Device::Cpu {
                return sys::emily_attention(out, query, key, value, mask, sinks, scale, self.0);
            }
            sys::mlx_fast_scaled_dot_product_attention(
                out,
                query,
                key,
                value,
                scale,
                mode.as_ptr(),
                mask,
                sinks,
                false,
                self.0,
            )
        })
    }

    /// `a b`, and `c` added to it if there is one, of one of the types of fused operations, on the
    /// host's processor alone. Sums are in f32.
    pub(crate) fn matrix_product(self, a: &Array, b: &Array, c: Option<&Array>) -> Result<Array> {
        let c = c.map_or(NONE, Array::raw);
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe { sys::emily_product(out, a.raw(), b.raw(), c, self.0) })
    }

    /// `a b + c`.
    pub(crate) fn multiply_add(self, a: &Array, b: &Array, c: &Array) -> Result<Array> {
        // SAFETY: the handles are live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_addmm(out, c.raw(), a.raw(), b.raw(), 1.0, 1.0, self.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stream, Type, install_error_handler};

    /// A view of one number, of any shape.
    fn view(dims: &[i32]) -> Array {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let mlx = stream.mlx();
        let zero = mlx.scalar(0, Type::F32).unwrap();
        mlx.broadcast_to(&zero, dims).unwrap()
    }

    #[test]
    fn kernels_have_no_more_threads_than_mlx_counts() {
        assert!(!fits_one_kernel(&view(&[])));
        assert!(!fits_one_kernel(&view(&[3, 0])));
        assert!(fits_one_kernel(&view(&[i32::MAX - 255])));
        assert!(!fits_one_kernel(&view(&[i32::MAX - 254])));

        assert!(fits_rotary(&view(&[1 << 20, 64])));
        assert!(fits_one_kernel(&view(&[1 << 26, 2])));
        assert!(!fits_rotary(&view(&[1 << 26, 2])));
    }

    #[test]
    fn short_attention_is_for_few_positions_and_rows() {
        let fits = |[b, h, t, d]: [i32; 4], [s, e]: [i32; 2]| {
            let (key, value) = (view(&[b, h, s, d]), view(&[b, h, s, e]));
            fits_short_attention(&view(&[b, h, t, d]), &key, &value)
        };
        assert!(fits([1, 16, 4, 256], [5000, 256]));
        assert!(!fits([1, 16, 5, 256], [5000, 256]));
        assert!(!fits([1, 16, 4, 257], [5000, 256]));
        assert!(!fits([1, 16, 4, 256], [5000, 257]));
        assert!(!fits([1, 16, 4, 256], [0, 256]));
        assert!(fits([65_535, 1, 1, 8], [1, 8]));
        assert!(!fits([65_536, 1, 1, 8], [1, 8]));
    }
}
