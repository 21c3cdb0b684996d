//! MLX's functions on one stream, under MLX's names; nothing outside `lower` and `eval` calls them.

mod fast;
mod indexing;
mod limit;
mod linalg;
mod quantized;
mod window;

pub(crate) use fast::{fits_one_kernel, fits_rotary, fits_short_attention, is_cuda};
pub use limit::set_memory_limit;
pub(crate) use limit::{check_memory, memory_limit, too_large};
pub(crate) use quantized::Quantized;
pub(crate) use window::Sliding;

use std::ffi::CStr;

use mlx_sys as sys;

use crate::{Array, Device, Number, Result, Shape, Type, error::take_message};

/// What mlx-c takes where an argument is left out.
const NONE: sys::mlx_array = sys::mlx_array {
    ctx: std::ptr::null_mut(),
};

/// Adds nodes to MLX's graph that will be computed on one stream.
#[derive(Clone, Copy)]
pub(crate) struct Mlx(sys::mlx_stream, Device);

/// One method for each mlx-c function of a shape: arrays in, one array out.
macro_rules! elementwise {
    ($($name:ident($($input:ident),+) = $function:ident;)+) => {
        $(
            pub(crate) fn $name(self, $($input: &Array),+) -> Result<Array> {
                // SAFETY: the handles are live and the result's is writable.
                Array::stored(|out| unsafe { sys::$function(out, $($input.raw(),)+ self.0) })
            }
        )+
    };
}

/// One method for each of mlx-c's reductions over several axes.
macro_rules! reductions {
    ($($name:ident = $function:ident;)+) => {
        $(
            pub(crate) fn $name(self, x: &Array, axes: &[i32], keep: bool) -> Result<Array> {
                // SAFETY: the handle is live and `axes` is read before the call returns.
                Array::from_call(|out| unsafe {
                    sys::$function(out, x.raw(), axes.as_ptr(), axes.len(), keep, self.0)
                })
            }
        )+
    };
}

/// One method for each mlx-c function that takes an array and a list of sizes or axes.
macro_rules! with_list {
    ($($name:ident = $function:ident;)+) => {
        $(
            pub(crate) fn $name(self, x: &Array, list: &[i32]) -> Result<Array> {
                // SAFETY: the handle is live and `list` is read before the call returns.
                Array::from_call(|out| unsafe {
                    sys::$function(out, x.raw(), list.as_ptr(), list.len(), self.0)
                })
            }
        )+
    };
}

/// One method for each mlx-c function that takes an array and one integer.
macro_rules! with_integer {
    ($($name:ident = $function:ident;)+) => {
        $(
            pub(crate) fn $name(self, x: &Array, axis: i32) -> Result<Array> {
                // SAFETY: the handle is live and the result's is writable.
                Array::stored(|out| unsafe { sys::$function(out, x.raw(), axis, self.0) })
            }
        )+
    };
}

impl Mlx {
    /// The functions on `stream` of `device`, which must outlive the value.
    pub(crate) const fn new(stream: sys::mlx_stream, device: Device) -> Self {
        Self(stream, device)
    }

    /// Where the stream computes.
    pub(crate) const fn device(self) -> Device {
        self.1
    }

    elementwise! {
        abs(x) = mlx_abs;
        acos(x) = mlx_arccos;
        acosh(x) = mlx_arccosh;
        asin(x) = mlx_arcsin;
        asinh(x) = mlx_arcsinh;
        atan(x) = mlx_arctan;
        atanh(x) = mlx_arctanh;
        bitwise_not(x) = mlx_bitwise_invert;
        ceil(x) = mlx_ceil;
        conjugate(x) = mlx_conjugate;
        cos(x) = mlx_cos;
        cosh(x) = mlx_cosh;
        erf(x) = mlx_erf;
        erf_inv(x) = mlx_erfinv;
        exp(x) = mlx_exp;
        expm1(x) = mlx_expm1;
        floor(x) = mlx_floor;
        imag(x) = mlx_imag;
        is_finite(x) = mlx_isfinite;
        is_inf(x) = mlx_isinf;
        is_nan(x) = mlx_isnan;
        log(x) = mlx_log;
        log1p(x) = mlx_log1p;
        logical_not(x) = mlx_logical_not;
        negative(x) = mlx_negative;
        real(x) = mlx_real;
        rsqrt(x) = mlx_rsqrt;
        sigmoid(x) = mlx_sigmoid;
        sign(x) = mlx_sign;
        sin(x) = mlx_sin;
        sinh(x) = mlx_sinh;
        sqrt(x) = mlx_sqrt;
        square(x) = mlx_square;
        tan(x) = mlx_tan;
        tanh(x) = mlx_tanh;

        add(x, y) = mlx_add;
        arctan2(x, y) = mlx_arctan2;
        bitwise_and(x, y) = mlx_bitwise_and;
        bitwise_or(x, y) = mlx_bitwise_or;
        bitwise_xor(x, y) = mlx_bitwise_xor;
        divide(x, y) = mlx_divide;
        equal(x, y) = mlx_equal;
        greater(x, y) = mlx_greater;
        greater_equal(x, y) = mlx_greater_equal;
        left_shift(x, y) = mlx_left_shift;
        less(x, y) = mlx_less;
        less_equal(x, y) = mlx_less_equal;
        logical_and(x, y) = mlx_logical_and;
        logical_or(x, y) = mlx_logical_or;
        matmul(x, y) = mlx_matmul;
        maximum(x, y) = mlx_maximum;
        minimum(x, y) = mlx_minimum;
        multiply(x, y) = mlx_multiply;
        not_equal(x, y) = mlx_not_equal;
        power(x, y) = mlx_power;
        remainder(x, y) = mlx_remainder;
        right_shift(x, y) = mlx_right_shift;
        subtract(x, y) = mlx_subtract;
        truncating_divide(x, y) = mlx_floor_divide;

        select(condition, x, y) = mlx_where;
    }

    reductions! {
        all = mlx_all_axes;
        any = mlx_any_axes;
        max = mlx_max_axes;
        min = mlx_min_axes;
        product = mlx_prod_axes;
        sum = mlx_sum_axes;
    }

    with_list! {
        broadcast_to = mlx_broadcast_to;
        reshape = mlx_reshape;
        transpose = mlx_transpose_axes;
    }

    with_integer! {
        argsort = mlx_argsort_axis;
        sort = mlx_sort_axis;
    }

    /// Converts as C++ does; values that do not fit are the caller's concern.
    pub(crate) fn convert(self, x: &Array, ty: Type) -> Result<Array> {
        if x.mlx_dtype() == ty.to_mlx() {
            return Ok(x.clone());
        }
        // CUDA makes 1 + i of a true.
        let number;
        let x = match ty {
            Type::C64 if x.mlx_dtype() == sys::mlx_dtype__MLX_BOOL => {
                number = self.view(x, Type::U8)?;
                &number
            }
            _ => x,
        };
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe { sys::mlx_astype(out, x.raw(), ty.to_mlx(), self.0) })
    }

    /// Reads the same bytes as another type.
    pub(crate) fn view(self, x: &Array, ty: Type) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::from_call(|out| unsafe { sys::mlx_view(out, x.raw(), ty.to_mlx(), self.0) })
    }

    /// An MLX bool as Nx's u8: the bytes are the same already.
    pub(crate) fn boolean(self, x: &Array) -> Result<Array> {
        self.view(x, Type::U8)
    }

    /// The same elements in row-major order.
    pub(crate) fn contiguous(self, x: &Array) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe { sys::mlx_contiguous(out, x.raw(), false, self.0) })
    }

    /// A scalar of `ty`.
    pub(crate) fn scalar(self, value: impl Into<Number>, ty: Type) -> Result<Array> {
        self.convert(&value.into().scalar(ty)?, ty)
    }

    /// 0, 1, … `size` - 1.
    pub(crate) fn arange(self, size: usize, ty: Type) -> Result<Array> {
        // SAFETY: the result's handle is writable.
        Array::stored(|out| unsafe {
            sys::mlx_arange(out, 0.0, size as f64, 1.0, ty.to_mlx(), self.0)
        })
    }

    /// Ones where row and column are equal.
    pub(crate) fn eye(self, rows: i32, columns: i32, ty: Type) -> Result<Array> {
        // SAFETY: the result's handle is writable.
        Array::stored(|out| unsafe { sys::mlx_eye(out, rows, columns, 0, ty.to_mlx(), self.0) })
    }

    /// Elements from `start` until `stop`, every `stride`; the three have one entry an axis.
    pub(crate) fn slice(
        self,
        x: &Array,
        start: &[i32],
        stop: &[i32],
        stride: &[i32],
    ) -> Result<Array> {
        // SAFETY: the handle is live and the lists are read before the call returns.
        Array::from_call(|out| unsafe {
            sys::mlx_slice(
                out,
                x.raw(),
                start.as_ptr(),
                start.len(),
                stop.as_ptr(),
                stop.len(),
                stride.as_ptr(),
                stride.len(),
                self.0,
            )
        })
    }

    /// The elements of `axes` in the opposite order.
    pub(crate) fn reverse(self, x: &Array, axes: &[i32]) -> Result<Array> {
        let shape = x.shape();
        let (mut start, mut stop) = (vec![0; shape.rank()], shape.dims().to_vec());
        let mut stride = vec![1; shape.rank()];
        for &axis in axes {
            let axis = axis as usize;
            // MLX reads a negative stop as counted from the end, so "before the first" is below -size.
            (start[axis], stop[axis], stride[axis]) = (stop[axis] - 1, -stop[axis] - 1, -1);
        }
        self.slice(x, &start, &stop, &stride)
    }

    /// The first index of the greatest element along `axis`.
    pub(crate) fn argmax(self, x: &Array, axis: i32, keep: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::from_call(|out| unsafe { sys::mlx_argmax_axis(out, x.raw(), axis, keep, self.0) })
    }

    /// The first index of the least element along `axis`.
    pub(crate) fn argmin(self, x: &Array, axis: i32, keep: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::from_call(|out| unsafe { sys::mlx_argmin_axis(out, x.raw(), axis, keep, self.0) })
    }

    /// The arrays one after another along `axis`.
    pub(crate) fn concatenate(self, arrays: &[Array], axis: i32) -> Result<Array> {
        let list = ArrayList::new(arrays)?;
        // SAFETY: the list is live and the result's handle is writable.
        Array::stored(|out| unsafe { sys::mlx_concatenate_axis(out, list.0, axis, self.0) })
    }

    /// The arrays beside each other along a new `axis`.
    pub(crate) fn stack(self, arrays: &[Array], axis: i32) -> Result<Array> {
        let list = ArrayList::new(arrays)?;
        // SAFETY: the list is live and the result's handle is writable.
        Array::stored(|out| unsafe { sys::mlx_stack_axis(out, list.0, axis, self.0) })
    }

    /// `x` with the sizes of `shape`, if it does not have them already.
    pub(crate) fn shaped(self, x: &Array, shape: &Shape) -> Result<Array> {
        if x.shape() == *shape {
            return Ok(x.clone());
        }
        self.reshape(x, shape.dims())
    }
}

/// A list of arrays on MLX's side.
pub(crate) struct ArrayList(sys::mlx_vector_array);

impl ArrayList {
    pub(crate) fn new<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<Self> {
        // SAFETY: makes an empty list, then appends live handles to it; MLX copies each reference.
        let list = Self(unsafe { sys::mlx_vector_array_new() });
        for array in arrays {
            // SAFETY: as above.
            if unsafe { sys::mlx_vector_array_append_value(list.0, array.raw()) } != 0 {
                return Err(take_message());
            }
        }
        Ok(list)
    }

    pub(crate) const fn raw(&self) -> sys::mlx_vector_array {
        self.0
    }

    /// The array in this place.
    pub(crate) fn get(&self, at: usize) -> Result<Array> {
        // SAFETY: the list is live and the result's handle is writable; MLX checks the place.
        Array::from_call(|out| unsafe { sys::mlx_vector_array_get(out, self.0, at) })
    }
}

impl Drop for ArrayList {
    fn drop(&mut self) {
        // SAFETY: the list is owned and not used again.
        unsafe { sys::mlx_vector_array_free(self.0) };
    }
}

/// The version of the MLX library that is loaded, such as `0.32.2`.
///
/// # Errors
///
/// If MLX fails to say.
pub fn mlx_version() -> Result<String> {
    // SAFETY: the string is made here, filled, copied and freed.
    unsafe {
        let mut text = sys::mlx_string_new();
        let status = sys::mlx_version(&raw mut text);
        let version = if status == 0 {
            Ok(CStr::from_ptr(sys::mlx_string_data(text))
                .to_string_lossy()
                .into_owned())
        } else {
            Err(take_message())
        };
        sys::mlx_string_free(text);
        version
    }
}
