//! The shapes of results.

use crate::{
    Error, Op, Result, Shape, TensorType,
    error::list,
    lower::{axes, dot::check_axes},
};

/// The shape that all inputs of `op` broadcast to.
pub(super) fn broadcast(op: &Op, inputs: &[&TensorType]) -> Result<Vec<i32>> {
    common(inputs.iter().map(|input| &input.shape)).ok_or_else(|| apart(op, inputs))
}

/// The shape that all of these broadcast to, if there is one: axes align at the end, and a size of 1
/// stretches.
pub(super) fn common<'a>(shapes: impl Iterator<Item = &'a Shape> + Clone) -> Option<Vec<i32>> {
    let rank = shapes.clone().map(Shape::rank).max().unwrap_or(0);
    let mut dims = vec![1; rank];
    for shape in shapes {
        let offset = rank - shape.rank();
        for (dim, &size) in dims[offset..].iter_mut().zip(shape.dims()) {
            match (*dim, size) {
                (1, _) => *dim = size,
                (dim, size) if size == 1 || dim == size => {}
                _ => return None,
            }
        }
    }
    Some(dims)
}

/// A predicate that is no scalar gives its shape, to which both sides must broadcast.
pub(super) fn selected(
    op: &Op,
    predicate: &TensorType,
    x: &TensorType,
    y: &TensorType,
) -> Result<Vec<i32>> {
    let dims = broadcast(op, &[predicate, x, y])?;
    if predicate.shape.rank() > 0 && dims != predicate.shape.dims() {
        return Err(apart(op, &[predicate, x, y]));
    }
    Ok(dims)
}

fn apart(op: &Op, inputs: &[&TensorType]) -> Error {
    let types: Vec<_> = inputs.iter().map(|&input| input.clone()).collect();
    Error::argument(format!(
        "expected {} of shapes that broadcast, got: {}",
        op.name(),
        list(&types)
    ))
}

/// A stride longer than the slice leaves its first element.
pub(super) fn sliced(lengths: &[usize], strides: &[usize]) -> Vec<i32> {
    let sizes = lengths.iter().zip(strides);
    sizes
        .map(|(length, &stride)| length.div_ceil(stride) as i32)
        .collect()
}

/// One after another: all sizes but that of `axis` are the same.
pub(super) fn joined(axis: usize, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let mut dims = inputs[0].shape.dims().to_vec();
    axes::checked_one(axis, dims.len())?;
    let mut total = 0_i32;
    for input in inputs {
        let mut others = input.shape.dims().to_vec();
        let size = others.get(axis).copied().unwrap_or(0);
        if let Some(other) = others.get_mut(axis) {
            *other = dims[axis];
        }
        if others != dims {
            return Err(Error::argument(format!(
                "expected inputs that differ along axis {axis} at most, got: {}",
                list(inputs)
            )));
        }
        total = total.checked_add(size).ok_or_else(|| {
            Error::argument(format!(
                "expected inputs whose sizes along axis {axis} add up to at most 2147483647, got: {}",
                list(inputs)
            ))
        })?;
    }
    dims[axis] = total;
    Ok(dims)
}

/// Beside each other along a new axis: all shapes are the same.
pub(super) fn stacked(axis: usize, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let mut dims = inputs[0].shape.dims().to_vec();
    axes::checked_one(axis, dims.len() + 1)?;
    if inputs.iter().any(|input| input.shape.dims() != dims) {
        return Err(Error::argument(format!(
            "expected inputs of one shape, got: {}",
            list(inputs)
        )));
    }
    dims.insert(axis, inputs.len() as i32);
    Ok(dims)
}

/// No axes means all of them.
pub(super) fn reduced(x: &TensorType, axes: Option<&[usize]>, keep: bool) -> Result<Vec<i32>> {
    if let Some(axes) = axes {
        axes::checked(axes, x.shape.rank())?;
    }
    let gone = |axis: usize| axes.is_none_or(|axes| axes.contains(&axis));
    let dims = x.shape.dims().iter().enumerate();
    Ok(dims
        .filter_map(|(axis, &dim)| match gone(axis) {
            false => Some(dim),
            true => keep.then_some(1),
        })
        .collect())
}

/// The index of an extreme of the whole tensor is a scalar, whether or not axes are kept.
pub(super) fn extreme(x: &TensorType, axis: Option<usize>, keep: bool) -> Result<Vec<i32>> {
    axis.map_or_else(|| Ok(Vec::new()), |axis| reduced(x, Some(&[axis]), keep))
}

/// The batch axes, then what is left of each side.
pub(super) fn contracted(
    a: &TensorType,
    b: &TensorType,
    contract_a: &[usize],
    batch_a: &[usize],
    contract_b: &[usize],
    batch_b: &[usize],
) -> Result<Vec<i32>> {
    check_axes(
        (&a.shape, contract_a, batch_a),
        (&b.shape, contract_b, batch_b),
    )?;
    let sizes = |x: &TensorType, axes: &[usize]| -> Vec<i32> {
        axes.iter().map(|&axis| x.shape.dims()[axis]).collect()
    };
    let free_a = axes::remaining(a.shape.rank(), [contract_a, batch_a]);
    let free_b = axes::remaining(b.shape.rank(), [contract_b, batch_b]);
    Ok([sizes(a, batch_a), sizes(a, &free_a), sizes(b, &free_b)].concat())
}
