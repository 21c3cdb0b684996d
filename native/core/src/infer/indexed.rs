//! The shapes of results whose inputs are indices or parts of a tensor; each function checks that its
//! inputs and attributes fit.

use super::{merged, shapes::sliced};
use crate::{
    Error, Op, Result, Shape, TensorType, Type,
    error::list,
    lower::{axes, movement::check_slice},
};

/// Type and shape of the results of operations that are on parts and indices, none for others.
pub(super) fn result(op: &Op, inputs: &[TensorType]) -> Result<Option<(Type, Vec<i32>)>> {
    Ok(Some(match (op, inputs) {
        (Op::Pad { padding }, [x, value]) => (
            merged(op, inputs)?,
            padded(&x.shape, &value.shape, padding)?,
        ),
        (Op::DynamicSlice { lengths, strides }, [x, ..]) => {
            (x.ty, dynamic_slice(inputs, lengths, strides)?)
        }
        (Op::PutSlice { starts }, [x, slice]) => {
            check_start_count(&x.shape, starts.len())?;
            (merged(op, inputs)?, put_slice(&x.shape, &slice.shape)?)
        }
        (Op::DynamicPutSlice, _) => {
            let dims = dynamic_put_slice(inputs)?;
            (merged(op, &inputs[..2])?, dims)
        }
        (Op::Gather { axes }, [x, indices]) => (x.ty, gathered(x, indices, axes)?),
        (Op::IndexedAdd { axes } | Op::IndexedPut { axes }, [x, indices, updates]) => {
            let ty = merged(op, &[x.clone(), updates.clone()])?;
            (ty, indexed(x, indices, updates, axes)?)
        }
        (Op::Take { axis }, [x, indices]) => (x.ty, taken(x, indices, *axis)?),
        (Op::TakeAlongAxis { axis }, [x, indices]) => (x.ty, taken_along_axis(x, indices, *axis)?),
        _ => return Ok(None),
    }))
}

/// Each axis with `low` more elements before, `high` after and `interior` between its own.
pub(crate) fn padded(x: &Shape, value: &Shape, padding: &[(i64, i64, i64)]) -> Result<Vec<i32>> {
    if value.rank() > 0 {
        return Err(Error::argument(format!(
            "expected the value to pad with to be a scalar, got shape: {:?}",
            value.dims()
        )));
    }
    if padding.len() != x.rank() {
        return Err(Error::argument(format!(
            "expected :padding to have an entry for each of the {} axes, got: {}",
            x.rank(),
            padding.len()
        )));
    }
    let axes = x.dims().iter().zip(padding).enumerate();
    axes.map(|(axis, (&dim, &(low, high, interior)))| {
        let between = i128::from((dim - 1).max(0)) * i128::from(interior);
        let size = i128::from(dim) + between + i128::from(low) + i128::from(high);
        let size = i32::try_from(size).ok().filter(|&size| size >= 0);
        size.filter(|_| interior >= 0).ok_or_else(|| {
            Error::argument(format!(
                "expected :padding to give axis {axis} from 0 to 2147483647 elements with none or more between its {dim}, got: {low}, {high} and {interior}"
            ))
        })
    })
    .collect()
}

/// A part of the first input, from the integers that the others are.
pub(crate) fn dynamic_slice(
    inputs: &[TensorType],
    lengths: &[usize],
    strides: &[usize],
) -> Result<Vec<i32>> {
    let x = &inputs[0].shape;
    check_starts(x, &inputs[1..])?;
    check_slice(x, &vec![0; x.rank()], lengths, strides)?;
    Ok(sliced(lengths, strides))
}

/// The first input with the second in it, from the integers that the others are.
pub(crate) fn dynamic_put_slice(inputs: &[TensorType]) -> Result<Vec<i32>> {
    let [x, slice, starts @ ..] = inputs else {
        return Err(Error::argument(format!(
            "expected a tensor, a slice and a start for each axis, got: {}",
            list(inputs)
        )));
    };
    check_starts(&x.shape, starts)?;
    put_slice(&x.shape, &slice.shape)
}

/// That there is a start for each axis.
pub(crate) fn check_start_count(x: &Shape, count: usize) -> Result<()> {
    if count == x.rank() {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected :starts to have an entry for each of the {} axes, got: {count}",
        x.rank()
    )))
}

/// As large as what the slice is put into.
pub(crate) fn put_slice(x: &Shape, slice: &Shape) -> Result<Vec<i32>> {
    let fits = slice.rank() == x.rank()
        && slice
            .dims()
            .iter()
            .zip(x.dims())
            .all(|(part, dim)| part <= dim);
    if fits {
        return Ok(x.dims().to_vec());
    }
    Err(Error::argument(format!(
        "expected a slice with the rank of the tensor, {:?}, and no larger, got: {:?}",
        x.dims(),
        slice.dims()
    )))
}

fn check_starts(x: &Shape, starts: &[TensorType]) -> Result<()> {
    let scalar = |start: &TensorType| start.shape.rank() == 0 && start.ty.is_integer();
    if starts.len() == x.rank() && starts.iter().all(scalar) {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected an integer scalar as the start of each of the {} axes, got: {}",
        x.rank(),
        list(starts)
    )))
}

/// The indices' shape without their last axis, then the axes of `x` that are not indexed.
pub(crate) fn gathered(x: &TensorType, indices: &TensorType, axes: &[usize]) -> Result<Vec<i32>> {
    check_indices(x, indices, axes)?;
    let (outer, _) = indices.shape.dims().split_at(indices.shape.rank() - 1);
    let inner = axes::remaining(x.shape.rank(), [axes, &[]]);
    let inner = inner.iter().map(|&axis| x.shape.dims()[axis]);
    Ok(outer.iter().copied().chain(inner).collect())
}

/// The shape of `x`: each of the updates replaces or changes what is at its row of the indices.
pub(crate) fn indexed(
    x: &TensorType,
    indices: &TensorType,
    updates: &TensorType,
    axes: &[usize],
) -> Result<Vec<i32>> {
    check_indices(x, indices, axes)?;
    let inner = axes::remaining(x.shape.rank(), [axes, &[]]);
    let fits = match (indices.shape.dims(), updates.shape.dims()) {
        (&[rows, _], &[count, ref parts @ ..]) => {
            let mut sizes = parts.iter().zip(&inner);
            rows == count
                && parts.len() == inner.len()
                && sizes.all(|(&part, &axis)| part <= x.shape.dims()[axis])
        }
        _ => false,
    };
    if fits {
        return Ok(x.shape.dims().to_vec());
    }
    Err(Error::argument(format!(
        "expected rows of indices and as many updates, each no larger than the axes of {x} but {axes:?}, got: {indices} and {updates}"
    )))
}

fn check_indices(x: &TensorType, indices: &TensorType, axes: &[usize]) -> Result<()> {
    check_integers(indices)?;
    axes::checked(axes, x.shape.rank())?;
    let sorted = !axes.is_empty() && axes.is_sorted();
    let depth = indices.shape.dims().last().copied();
    if sorted && depth.is_some_and(|depth| depth as usize == axes.len()) {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected :axes to be ascending and as many as the last axis of the indices is long, got: {axes:?} and {indices}"
    )))
}

fn check_integers(indices: &TensorType) -> Result<()> {
    if indices.ty.is_integer() {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected indices of an integer type, got: {indices}"
    )))
}

/// The shape of `x` with the indices' in place of `axis`.
pub(crate) fn taken(x: &TensorType, indices: &TensorType, axis: usize) -> Result<Vec<i32>> {
    check_integers(indices)?;
    axes::checked_one(axis, x.shape.rank())?;
    let (before, rest) = x.shape.dims().split_at(axis);
    Ok([before, indices.shape.dims(), &rest[1..]].concat())
}

/// The indices' shape, which differs from that of `x` along `axis` at most.
pub(crate) fn taken_along_axis(
    x: &TensorType,
    indices: &TensorType,
    axis: usize,
) -> Result<Vec<i32>> {
    check_integers(indices)?;
    axes::checked_one(axis, x.shape.rank())?;
    let dims = indices.shape.dims().to_vec();
    let mut expected = x.shape.dims().to_vec();
    if let Some(&size) = dims.get(axis) {
        expected[axis] = size;
    }
    if dims == expected {
        return Ok(dims);
    }
    Err(Error::argument(format!(
        "expected indices that differ from {x} along axis {axis} at most, got: {indices}"
    )))
}

/// The first `k` along the last axis.
pub(crate) fn top_k(x: &Shape, k: usize) -> Result<Vec<i32>> {
    match x.dims() {
        &[ref before @ .., last] if (1..=last as usize).contains(&k) => {
            Ok([before, &[k as i32]].concat())
        }
        dims => Err(Error::argument(format!(
            "expected :k to be from 1 to the size of the last axis, got: {k} for shape {dims:?}"
        ))),
    }
}
