//! Reductions along axes.

use super::{axes, cast::cast, compare::truth};
use crate::{Array, Result, TensorType, TieBreak, Type, mlx::Mlx};

type Reduction = fn(Mlx, &Array, &[i32], bool) -> Result<Array>;
type Extreme = fn(Mlx, &Array, i32, bool) -> Result<Array>;

pub(super) fn sum(mlx: Mlx, x: &Array, axes: Option<&[usize]>, out: &TensorType) -> Result<Array> {
    accumulate(mlx, x, axes, out, Mlx::sum)
}

pub(super) fn product(
    mlx: Mlx,
    x: &Array,
    axes: Option<&[usize]>,
    out: &TensorType,
) -> Result<Array> {
    accumulate(mlx, x, axes, out, Mlx::product)
}

pub(super) fn max(mlx: Mlx, x: &Array, axes: Option<&[usize]>, out: &TensorType) -> Result<Array> {
    reduce(mlx, &cast(mlx, x, out.ty)?, axes, out, Mlx::max)
}

pub(super) fn min(mlx: Mlx, x: &Array, axes: Option<&[usize]>, out: &TensorType) -> Result<Array> {
    reduce(mlx, &cast(mlx, x, out.ty)?, axes, out, Mlx::min)
}

pub(super) fn all(mlx: Mlx, x: &Array, axes: Option<&[usize]>, out: &TensorType) -> Result<Array> {
    mlx.boolean(&reduce(mlx, &truth(mlx, x)?, axes, out, Mlx::all)?)
}

pub(super) fn any(mlx: Mlx, x: &Array, axes: Option<&[usize]>, out: &TensorType) -> Result<Array> {
    mlx.boolean(&reduce(mlx, &truth(mlx, x)?, axes, out, Mlx::any)?)
}

/// Sums and products of half floats run in f32, as many small terms would otherwise vanish; MLX
/// widens small integers by itself, and the conversion back wraps.
fn accumulate(
    mlx: Mlx,
    x: &Array,
    axes: Option<&[usize]>,
    out: &TensorType,
    reduction: Reduction,
) -> Result<Array> {
    let wide = if out.ty.is_half() { Type::F32 } else { out.ty };
    let total = reduce(mlx, &cast(mlx, x, wide)?, axes, out, reduction)?;
    mlx.convert(&total, out.ty)
}

/// No axes means all of them. Whether they stay, with size 1, follows from the output's shape.
fn reduce(
    mlx: Mlx,
    x: &Array,
    axes: Option<&[usize]>,
    out: &TensorType,
    reduction: Reduction,
) -> Result<Array> {
    let rank = x.shape().rank();
    let axes = match axes {
        Some(axes) => axes::checked(axes, rank)?,
        None => (0..rank as i32).collect(),
    };
    if axes.is_empty() {
        return Ok(x.clone());
    }
    reduction(mlx, x, &axes, out.shape.rank() == rank)
}

/// The index of the extreme along `axis`, or in row-major order. The last NaN, if there is one, wins
/// over everything.
pub(super) fn extreme_index(
    mlx: Mlx,
    x: &Array,
    axis: Option<usize>,
    tie_break: TieBreak,
    extreme: Extreme,
    out: &TensorType,
) -> Result<Array> {
    let (x, axis) = match axis {
        Some(axis) => (x.clone(), axes::checked_one(axis, x.shape().rank())?),
        None => (mlx.reshape(x, &[-1])?, 0),
    };
    let shape = x.shape();
    let keep = out.shape.rank() == shape.rank() && shape.rank() > 0;
    let size = shape.dims()[axis as usize];
    let mut index = match tie_break {
        TieBreak::Low => extreme(mlx, &x, axis, keep)?,
        TieBreak::High => last(mlx, &x, axis, keep, size, extreme)?,
    };
    if x.ty().is_inexact() {
        let nan = mlx.boolean(&mlx.is_nan(&x)?)?;
        let any = mlx.any(&nan, &[axis], keep)?;
        index = mlx.select(
            &any,
            &last(mlx, &nan, axis, keep, size, Mlx::argmax)?,
            &index,
        )?;
    }
    mlx.shaped(&mlx.convert(&index, out.ty)?, &out.shape)
}

/// The last index of the extreme.
fn last(mlx: Mlx, x: &Array, axis: i32, keep: bool, size: i32, extreme: Extreme) -> Result<Array> {
    let from_end = extreme(mlx, &mlx.reverse(x, &[axis])?, axis, keep)?;
    mlx.subtract(&mlx.scalar(i64::from(size) - 1, Type::U32)?, &from_end)
}
