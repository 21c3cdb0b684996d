//! Functions that do the work of several in one kernel where the device has it.

use mlx_sys as sys;

use super::Mlx;
use crate::{ActivationFunction, Array, Device, Result};

/// What mlx-c takes where an argument is left out.
const NONE: sys::mlx_array = sys::mlx_array {
    ctx: std::ptr::null_mut(),
};

/// Whether our kernels for GPUs can compute a result of this shape: they have a thread for each element,
/// counted with 32 bits.
pub(crate) fn fits_one_kernel(x: &Array) -> bool {
    let shape = x.shape();
    shape.rank() > 0 && (1..1 << 31).contains(&shape.size())
}

/// Whether [`Mlx::short_attention`] does better than MLX: for few positions of the query, where MLX has a kernel
/// only without a mask.
pub(crate) fn fits_short_attention(query: &Array, key: &Array, value: &Array) -> bool {
    let (shape, seen, weighed) = (query.shape(), key.shape(), value.shape());
    let [.., positions, features] = shape.dims() else {
        return false;
    };
    let most = [*features, weighed.dims()[3]].into_iter().max();
    *positions <= MOST_POSITIONS
        && most <= Some(MOST_FEATURES)
        && fits_one_kernel(query)
        && seen.size() > 0
        && weighed.size() > 0
        // SAFETY: the call takes nothing.
        && unsafe { sys::emily_gpu_is_cuda() }
}

/// More share what they read, and matrices of them are multiplied faster.
const MOST_POSITIONS: i32 = 4;
/// What a block has room for.
const MOST_FEATURES: i32 = 256;

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
    /// [`fits_one_kernel`] must hold of `x`, and gamma has one axis.
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

    /// [`Self::attention`] in a kernel of ours for CUDA, where [`fits_short_attention`] holds. The mask is of
    /// bytes or of any float.
    pub(crate) fn short_attention(
        self,
        [query, key, value]: [&Array; 3],
        mask: Option<&Array>,
        scale: f64,
    ) -> Result<Array> {
        let mask = mask.map_or(NONE, Array::raw);
        let (query, key, value) = (query.raw(), key.raw(), value.raw());
        // SAFETY: the handles are live or null where that is allowed, and the result's is writable.
        Array::stored(|out| unsafe {
            sys::emily_gpu_attention(out, query, key, value, mask, scale as f32, self.0)
        })
    }

    /// On a GPU the mask is of booleans, or of the query's type; else of bytes or of any float.
    pub(crate) fn attention(
        self,
        query: &Array,
        key: &Array,
        value: &Array,
        mask: Option<&Array>,
        scale: f64,
    ) -> Result<Array> {
        let (mode, scale) = (if mask.is_some() { c"array" } else { c"" }, scale as f32);
        let mask = mask.map_or(NONE, Array::raw);
        let (query, key, value) = (query.raw(), key.raw(), value.raw());
        // SAFETY: the handles are live or null where that is allowed, the text is read before the call
        // returns, and the result's handle is writable.
        Array::stored(|out| unsafe {
            if self.device() == Device::Cpu {
                return sys::emily_attention(out, query, key, value, mask, scale, self.0);
            }
            sys::mlx_fast_scaled_dot_product_attention(
                out,
                query,
                key,
                value,
                scale,
                mode.as_ptr(),
                mask,
                NONE,
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
