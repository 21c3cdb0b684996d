//! Elements at indices.

use super::{
    Operand,
    indices::{Indexed, check_count},
};
use crate::{Array, Op, Result, Type, check::Checks, infer::indexed, mlx::Mlx};

/// For each row of the indices, the part of `x` that is there: axes that are not indexed stay whole.
pub(super) fn gather(
    mlx: Mlx,
    op: &Op,
    x: &Operand<'_>,
    indices: &Operand<'_>,
    axes: &[usize],
    checks: &mut Checks,
) -> Result<Array> {
    let ty = x.tensor_type();
    let dims = indexed::gathered(&ty, &indices.tensor_type(), axes)?;
    if dims.contains(&0) {
        return empty(mlx, &dims, x.array.ty());
    }
    let mut sizes = ty.shape.dims().to_vec();
    axes.iter().for_each(|&axis| sizes[axis] = 1);
    check_count(op, "indices", &dims[..indices.array.shape().rank() - 1])?;
    check_count(op, "elements each", &sizes)?;
    let columns = Indexed { op, x: &ty, axes }.columns(mlx, indices, checks)?;
    let axes: Vec<i32> = axes.iter().map(|&axis| axis as i32).collect();
    let parts = mlx.gather(x.array, &columns, &axes, &sizes)?;
    mlx.reshape(&parts, &dims)
}

/// `x` with the parts at the indices in place of `axis`.
pub(super) fn take(
    mlx: Mlx,
    op: &Op,
    x: &Operand<'_>,
    indices: &Operand<'_>,
    axis: usize,
    checks: &mut Checks,
) -> Result<Array> {
    let ty = x.tensor_type();
    let dims = indexed::taken(&ty, &indices.tensor_type(), axis)?;
    if dims.contains(&0) {
        return empty(mlx, &dims, x.array.ty());
    }
    let outer = indices.array.shape();
    let mut sizes = ty.shape.dims().to_vec();
    sizes[axis] = 1;
    check_count(op, "indices", outer.dims())?;
    check_count(op, "elements each", &sizes)?;
    let axes = &[axis];
    let within = Indexed { op, x: &ty, axes }.within(mlx, indices, checks)?;
    let parts = mlx.gather(x.array, &[within], &[axis as i32], &sizes)?;
    sizes.remove(axis);
    let parts = mlx.reshape(&parts, &[outer.dims(), &sizes].concat())?;
    // The indices' axes come first now.
    let (indexed, rank) = (outer.rank() as i32, dims.len() as i32);
    let (before, after) = (indexed..indexed + axis as i32, indexed + axis as i32..rank);
    let order: Vec<i32> = before.chain(0..indexed).chain(after).collect();
    if order.is_sorted() {
        return Ok(parts);
    }
    mlx.transpose(&parts, &order)
}

/// The elements that the indices name along `axis`, for each position of the other axes.
pub(super) fn take_along_axis(
    mlx: Mlx,
    op: &Op,
    x: &Operand<'_>,
    indices: &Operand<'_>,
    axis: usize,
    checks: &mut Checks,
) -> Result<Array> {
    let ty = x.tensor_type();
    let dims = indexed::taken_along_axis(&ty, &indices.tensor_type(), axis)?;
    if dims.contains(&0) {
        return empty(mlx, &dims, x.array.ty());
    }
    let axes = &[axis];
    let within = Indexed { op, x: &ty, axes }.within(mlx, indices, checks)?;
    mlx.take_along_axis(x.array, &within, axis as i32)
}

/// No elements, of which MLX has nothing to gather.
fn empty(mlx: Mlx, dims: &[i32], ty: Type) -> Result<Array> {
    mlx.broadcast_to(&mlx.scalar(0, ty)?, dims)
}
