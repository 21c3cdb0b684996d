//! Operations that move elements and change none.

use super::{axes, cast::cast};
use crate::{Array, Error, Kind, Result, Shape, Type, mlx::Mlx};

pub(super) fn broadcast(mlx: Mlx, x: &Array, axes: &[usize], shape: &Shape) -> Result<Array> {
    axes::checked(axes, shape.rank())?;
    let dims = x.shape();
    if axes.len() != dims.rank() || !axes.is_sorted() {
        return Err(Error::argument(format!(
            "expected :axes to be one ascending axis for each of the input's {}, got: {axes:?}",
            dims.rank()
        )));
    }
    let mut expanded = vec![1; shape.rank()];
    for (&axis, &dim) in axes.iter().zip(dims.dims()) {
        expanded[axis] = dim;
    }
    mlx.broadcast_to(&mlx.shaped(x, &Shape::trusted(&expanded))?, shape.dims())
}

pub(super) fn squeeze(mlx: Mlx, x: &Array, shape: &Shape) -> Result<Array> {
    let from = x.shape();
    let wide = |shape: &Shape| -> Vec<i32> {
        let dims = shape.dims().iter().copied();
        dims.filter(|&dim| dim != 1).collect()
    };
    if wide(&from) != wide(shape) || shape.rank() > from.rank() {
        return Err(Error::argument(format!(
            "expected squeeze to drop axes of size 1 alone, got: {:?} from {:?}",
            shape.dims(),
            from.dims()
        )));
    }
    mlx.shaped(x, shape)
}

pub(super) fn transpose(mlx: Mlx, x: &Array, axes: &[usize]) -> Result<Array> {
    mlx.transpose(x, &axes::permutation(axes, x.shape().rank())?)
}

pub(super) fn reverse(mlx: Mlx, x: &Array, axes: &[usize]) -> Result<Array> {
    mlx.reverse(x, &axes::checked(axes, x.shape().rank())?)
}

pub(super) fn slice(
    mlx: Mlx,
    x: &Array,
    starts: &[usize],
    lengths: &[usize],
    strides: &[usize],
) -> Result<Array> {
    let shape = x.shape();
    check_slice(&shape, starts, lengths, strides)?;
    let stops: Vec<_> = starts.iter().zip(lengths).map(|(a, b)| a + b).collect();
    mlx.slice(x, &sizes(starts), &sizes(&stops), &steps(strides, lengths))
}

/// What lies within an axis fits 32 bits.
fn sizes(list: &[usize]) -> Vec<i32> {
    list.iter().map(|&size| size as i32).collect()
}

/// Strides beyond the length leave its first element, and MLX's sums of them might not fit.
pub(super) fn steps(strides: &[usize], lengths: &[usize]) -> Vec<i32> {
    let steps = strides.iter().zip(lengths);
    steps
        .map(|(&stride, &length)| stride.min(length.max(1)) as i32)
        .collect()
}

/// That each axis has its entry, and the elements from its start are there.
pub(crate) fn check_slice(
    shape: &Shape,
    starts: &[usize],
    lengths: &[usize],
    strides: &[usize],
) -> Result<()> {
    let rank = shape.rank();
    if [starts, lengths, strides]
        .iter()
        .any(|list| list.len() != rank)
    {
        return Err(Error::argument(format!(
            "expected :starts, :lengths and :strides to have {rank} entries each, got: {starts:?}, {lengths:?}, {strides:?}"
        )));
    }
    for (axis, &dim) in shape.dims().iter().enumerate() {
        let end = starts[axis].checked_add(lengths[axis]);
        if end.is_none_or(|end| end > dim as usize) || strides[axis] == 0 {
            return Err(Error::argument(format!(
                "expected the slice of axis {axis} to lie within its {dim} elements with a positive stride, got: {} elements from {} by {}",
                lengths[axis], starts[axis], strides[axis]
            )));
        }
    }
    Ok(())
}

pub(super) fn bitcast(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    check_bitcast(x.ty(), ty)?;
    mlx.view(x, ty)
}

/// Types of the same width alone have the same shape; complex numbers Nx does not take apart.
pub(super) fn check_bitcast(from: Type, to: Type) -> Result<()> {
    let complex = [from, to].iter().any(|ty| ty.kind() == Kind::Complex);
    if from.bits() == to.bits() && !complex {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected bitcast between real types of the same width, got: {from} to {to}"
    )))
}

pub(super) fn concatenate(mlx: Mlx, inputs: &[&Array], axis: usize, ty: Type) -> Result<Array> {
    let axis = axes::checked_one(axis, inputs[0].shape().rank())?;
    mlx.concatenate(&cast_all(mlx, inputs, ty)?, axis)
}

pub(super) fn stack(mlx: Mlx, inputs: &[&Array], axis: usize, ty: Type) -> Result<Array> {
    let axis = axes::checked_one(axis, inputs[0].shape().rank() + 1)?;
    mlx.stack(&cast_all(mlx, inputs, ty)?, axis)
}

fn cast_all(mlx: Mlx, inputs: &[&Array], ty: Type) -> Result<Vec<Array>> {
    inputs.iter().map(|input| cast(mlx, input, ty)).collect()
}
