//! Sorting. NaN counts as greater than infinity, as MLX has it too.

use smallvec::smallvec;

use super::{Arrays, axes};
use crate::{
    Array, Device, Direction, Error, Kind, Result, TensorType, Type, infer::indexed, mlx::Mlx,
};

pub(super) fn sort(mlx: Mlx, x: &Array, axis: usize, direction: Direction) -> Result<Array> {
    let shape = x.shape();
    // MLX's sort of no elements never ends.
    if shape.rank() == 0 || shape.size() == 0 {
        return Ok(x.clone());
    }
    let axis = axes::checked_one(axis, shape.rank())?;
    let ascending = mlx.sort(&in_order(mlx, x)?, axis)?;
    match direction {
        Direction::Asc => Ok(ascending),
        Direction::Desc => mlx.reverse(&ascending, &[axis]),
    }
}

/// MLX's sort on CUDA takes a transposed array for one in row-major order.
fn in_order(mlx: Mlx, x: &Array) -> Result<Array> {
    match mlx.device() {
        Device::Cpu => Ok(x.clone()),
        Device::Gpu => mlx.contiguous(x),
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
        Direction::Asc => mlx.argsort(&in_order(mlx, x)?, axis)?,
        Direction::Desc => {
            let from_end = mlx.argsort(&in_order(mlx, &mlx.reverse(x, &[axis])?)?, axis)?;
            let last = mlx.scalar(i64::from(shape.dims()[axis as usize]) - 1, Type::U32)?;
            mlx.subtract(&last, &mlx.reverse(&from_end, &[axis])?)?
        }
    };
    mlx.convert(&indices, out.ty)
}

/// The greatest elements along the last axis and their indices; of equal ones the first come first.
pub(super) fn top_k(mlx: Mlx, x: &Array, k: usize, outs: &[TensorType]) -> Result<Arrays> {
    if x.ty().kind() == Kind::Complex {
        return Err(Error::argument(format!(
            "expected top_k of real numbers, got: {}",
            x.tensor_type()
        )));
    }
    let shape = x.shape();
    let dims = indexed::top_k(&shape, k)?;
    let axis = shape.rank() - 1;
    let all = TensorType {
        ty: outs[1].ty,
        shape,
    };
    let indices = argsort(mlx, x, axis, Direction::Desc, &all)?;
    let ones = vec![1; dims.len()];
    let indices = mlx.slice(&indices, &vec![0; dims.len()], &dims, &ones)?;
    if dims.contains(&0) {
        let values = mlx.broadcast_to(&mlx.scalar(0, x.ty())?, &dims)?;
        return Ok(smallvec![values, indices]);
    }
    let values = mlx.take_along_axis(x, &indices, axis as i32)?;
    Ok(smallvec![values, indices])
}
