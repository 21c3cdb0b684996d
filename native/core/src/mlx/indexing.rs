//! MLX's functions that read and write parts of an array.
//!
//! MLX reads and writes wherever an index points, so indices must lie within their axes.

use mlx_sys as sys;

use super::{ArrayList, Mlx};
use crate::{Array, Result};

/// The type of a running total: the array's own.
const SAME_TYPE: sys::mlx_optional_dtype = sys::mlx_optional_dtype {
    value: sys::mlx_dtype__MLX_FLOAT32,
    has_value: false,
};

/// One method for each mlx-c function that combines updates with the elements at indices.
macro_rules! scatters {
    ($($(#[$doc:meta])* $name:ident = $function:ident;)+) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name(
                self,
                x: &Array,
                indices: &[Array],
                updates: &Array,
                axes: &[i32],
            ) -> Result<Array> {
                let list = ArrayList::new(indices)?;
                // SAFETY: the handles are live and `axes` is read before the call returns.
                Array::stored(|out| unsafe {
                    sys::$function(
                        out, x.raw(), list.raw(), updates.raw(), axes.as_ptr(), axes.len(), self.0,
                    )
                })
            }
        )+
    };
}

impl Mlx {
    scatters! {
        /// The updates in place of the elements at the indices, which have one array for each of
        /// `axes`. Updates have the indices' shape, then one size for each axis of `x`.
        scatter = mlx_scatter;
        /// As [`Self::scatter`], added to the elements.
        scatter_add = mlx_scatter_add;
        /// As [`Self::scatter`], where they are greater than the elements.
        scatter_max = mlx_scatter_max;
    }

    /// For each index the elements of `sizes` from there; the indices have one array for each of
    /// `axes`. The result has the indices' shape, then `sizes`.
    pub(crate) fn gather(
        self,
        x: &Array,
        indices: &[Array],
        axes: &[i32],
        sizes: &[i32],
    ) -> Result<Array> {
        let list = ArrayList::new(indices)?;
        // SAFETY: the handles are live and the lists are read before the call returns.
        Array::stored(|out| unsafe {
            sys::mlx_gather(
                out,
                x.raw(),
                list.raw(),
                axes.as_ptr(),
                axes.len(),
                sizes.as_ptr(),
                sizes.len(),
                self.0,
            )
        })
    }

    /// The elements along `axis` that the indices name for each position of the other axes.
    pub(crate) fn take_along_axis(self, x: &Array, indices: &Array, axis: i32) -> Result<Array> {
        // SAFETY: the handles are live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_take_along_axis(out, x.raw(), indices.raw(), axis, self.0)
        })
    }

    /// `sizes` elements from `start`, which has an integer for each of `axes` and lies in order in
    /// memory; other axes start at 0.
    pub(crate) fn slice_dynamic(
        self,
        x: &Array,
        start: &Array,
        axes: &[i32],
        sizes: &[i32],
    ) -> Result<Array> {
        // SAFETY: the handles are live and the lists are read before the call returns.
        Array::stored(|out| unsafe {
            sys::mlx_slice_dynamic(
                out,
                x.raw(),
                start.raw(),
                axes.as_ptr(),
                axes.len(),
                sizes.as_ptr(),
                sizes.len(),
                self.0,
            )
        })
    }

    /// `x` with `update` from `start` until `stop`, at every `stride`.
    pub(crate) fn slice_update(
        self,
        x: &Array,
        update: &Array,
        start: &[i32],
        stop: &[i32],
        stride: &[i32],
    ) -> Result<Array> {
        // SAFETY: the handles are live and the lists are read before the call returns.
        Array::stored(|out| unsafe {
            sys::mlx_slice_update(
                out,
                x.raw(),
                update.raw(),
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

    /// `x` with `update` from `start` on, which is as for [`Self::slice_dynamic`].
    pub(crate) fn slice_update_dynamic(
        self,
        x: &Array,
        update: &Array,
        start: &Array,
        axes: &[i32],
    ) -> Result<Array> {
        // SAFETY: the handles are live and `axes` is read before the call returns.
        Array::stored(|out| unsafe {
            sys::mlx_slice_update_dynamic(
                out,
                x.raw(),
                update.raw(),
                start.raw(),
                axes.as_ptr(),
                axes.len(),
                self.0,
            )
        })
    }

    /// Sums along `axis` up to and with each element.
    pub(crate) fn cumulative_sum(self, x: &Array, axis: i32, reverse: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_cumsum_axis(out, x.raw(), axis, reverse, true, SAME_TYPE, self.0)
        })
    }

    /// Products along `axis` up to and with each element.
    pub(crate) fn cumulative_product(self, x: &Array, axis: i32, reverse: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_cumprod_axis(out, x.raw(), axis, reverse, true, SAME_TYPE, self.0)
        })
    }

    /// The greatest along `axis` up to and with each element.
    pub(crate) fn cumulative_max(self, x: &Array, axis: i32, reverse: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_cummax_axis(out, x.raw(), axis, reverse, true, self.0)
        })
    }

    /// The least along `axis` up to and with each element.
    pub(crate) fn cumulative_min(self, x: &Array, axis: i32, reverse: bool) -> Result<Array> {
        // SAFETY: the handle is live and the result's is writable.
        Array::stored(|out| unsafe {
            sys::mlx_cummin_axis(out, x.raw(), axis, reverse, true, self.0)
        })
    }
}
