//! Sorting. NaN counts as greater than infinity, as MLX has it too.

use super::axes;
use crate::{Array, Direction, Result, TensorType, Type, mlx::Mlx};

pub(super) fn sort(mlx: Mlx, x: &Array, axis: usize, direction: Direction) -> Result<Array> {
    let shape = x.shape();
    // MLX's sort of no elements never ends.
    if shape.rank() == 0 || shape.size() == 0 {
        return Ok(x.clone());
    }
    let axis = axes::checked_one(axis, shape.rank())?;
    let ascending = mlx.sort(x, axis)?;
    match direction {
        Direction::Asc => Ok(ascending),
        Direction::Desc => mlx.reverse(&ascending, &[axis]),
    }
}

/// Stable in both directions. Descending is ascending seen from the end: of the reversed input, so
/// that equal elements, whose order ascending keeps, come out in their first order.
pub(super) fn argsort(
    mlx: Mlx,
    x: &Array,
    axis: usize,
    direction: Direction,
    out: &TensorType,
) -> Result<Array> {
    let shape = x.shape();
    if shape.rank() == 0 || shape.size() == 0 {
        return mlx.broadcast_to(&mlx.scalar(0, out.ty)?, shape.dims());
    }
    let axis = axes::checked_one(axis, shape.rank())?;
    let indices = match direction {
        Direction::Asc => mlx.argsort(x, axis)?,
        Direction::Desc => {
            let from_end = mlx.argsort(&mlx.reverse(x, &[axis])?, axis)?;
            let last = mlx.scalar(i64::from(shape.dims()[axis as usize]) - 1, Type::U32)?;
            mlx.subtract(&last, &mlx.reverse(&from_end, &[axis])?)?
        }
    };
    mlx.convert(&indices, out.ty)
}
