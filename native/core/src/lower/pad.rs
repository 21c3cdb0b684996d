//! `Nx.pad/3`: elements before, after and between, or fewer of them.

use super::cast::cast;
use crate::{
    Array, Result, Type,
    infer::indexed,
    mlx::{Mlx, check_memory},
};

/// What is added before, after and between the elements of each axis.
pub(super) type Padding = (i64, i64, i64);

/// The result is of type `ty`.
pub(super) fn pad(
    mlx: Mlx,
    x: &Array,
    value: &Array,
    padding: &[Padding],
    ty: Type,
) -> Result<Array> {
    let dims = indexed::padded(&x.shape(), &value.shape(), padding)?;
    if padding.iter().all(|&entry| entry == (0, 0, 0)) {
        return cast(mlx, x, ty);
    }
    check_memory(ty, &dims)?;
    let filled = mlx.broadcast_to(&cast(mlx, value, ty)?, &dims)?;
    let sizes = x.shape();
    let axes = sizes.dims().iter().zip(&dims).zip(padding);
    let kept: Option<Vec<_>> = axes
        .map(|((&from, &to), &(low, _, interior))| Kept::of(from, to, low, interior))
        .collect();
    let Some(kept) = kept else {
        return Ok(filled);
    };
    let list = |entry: fn(&Kept) -> i32| -> Vec<i32> { kept.iter().map(entry).collect() };
    let x = cast(mlx, x, ty)?;
    let ones = vec![1; dims.len()];
    let part = mlx.slice(&x, &list(|kept| kept.first), &list(Kept::end), &ones)?;
    let (starts, stops) = (list(|kept| kept.start), list(Kept::stop));
    mlx.slice_update(&filled, &part, &starts, &stops, &list(|kept| kept.stride))
}

/// The elements of an axis that are left, and where they come to lie.
struct Kept {
    first: i32,
    count: i32,
    start: i32,
    stride: i32,
}

impl Kept {
    /// None if no element is left. Element `i` of `from` comes to `low + i * (interior + 1)`.
    fn of(from: i32, to: i32, low: i64, interior: i64) -> Option<Self> {
        // Far more bits than any entry of the padding has.
        let (from, to, low) = (i128::from(from), i128::from(to), i128::from(low));
        let stride = i128::from(interior) + 1;
        let first = if low < 0 {
            (stride - 1 - low) / stride
        } else {
            0
        };
        let start = low + first * stride;
        if first >= from || start >= to {
            return None;
        }
        let count = (from - first).min((to - start + stride - 1) / stride);
        Some(Self {
            first: first as i32,
            count: count as i32,
            start: start as i32,
            // What is beyond the axis need not fit.
            stride: if count > 1 { stride as i32 } else { 1 },
        })
    }

    const fn end(&self) -> i32 {
        self.first + self.count
    }

    const fn stop(&self) -> i32 {
        self.start + (self.count - 1) * self.stride + 1
    }
}
