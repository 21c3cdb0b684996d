//! Parts of a tensor that start where tensors say. A part that would reach beyond the end starts
//! earlier, as in Nx.

use super::{Operand, cast::cast, movement::steps};
use crate::{
    Array, Error, Kind, Result, Shape, TensorType, Type,
    infer::indexed::{self, check_start_count},
    mlx::Mlx,
};

pub(super) fn dynamic_slice(
    mlx: Mlx,
    operands: &[Operand<'_>],
    lengths: &[usize],
    strides: &[usize],
) -> Result<Array> {
    let types: Vec<_> = operands.iter().map(Operand::tensor_type).collect();
    indexed::dynamic_slice(&types, lengths, strides)?;
    let [x, starts @ ..] = operands else {
        return Err(Error::argument("expected a tensor to slice, got: none"));
    };
    let sizes: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
    let part = match Start::of(mlx, starts, &x.array.shape(), &sizes)? {
        Start::Known(starts) => {
            let stops = sums(&starts, &sizes);
            let view = mlx.slice(x.array, &starts, &stops, &vec![1; starts.len()])?;
            // What could be looked at is a matter of time, and floats are added up as they lie in memory:
            // they have to lie as below.
            if view.ty().is_inexact() && sizes != x.array.shape().dims() {
                mlx.contiguous(&view)?
            } else {
                view
            }
        }
        Start::Computed { axes, start } => mlx.slice_dynamic(x.array, &start, &axes, &sizes)?,
    };
    mlx.slice(
        &part,
        &vec![0; sizes.len()],
        &sizes,
        &steps(strides, lengths),
    )
}

pub(super) fn put_slice(
    mlx: Mlx,
    x: &Array,
    slice: &Array,
    starts: &[usize],
    out: &TensorType,
) -> Result<Array> {
    let (shape, part) = (x.shape(), slice.shape());
    indexed::put_slice(&shape, &part)?;
    check_start_count(&shape, starts.len())?;
    let room = shape.dims().iter().zip(part.dims()).zip(starts);
    let starts: Vec<i32> = room
        .map(|((dim, part), &start)| start.min((dim - part) as usize) as i32)
        .collect();
    update(mlx, x, slice, &Start::Known(starts), out)
}

pub(super) fn dynamic_put_slice(
    mlx: Mlx,
    operands: &[Operand<'_>],
    out: &TensorType,
) -> Result<Array> {
    let types: Vec<_> = operands.iter().map(Operand::tensor_type).collect();
    indexed::dynamic_put_slice(&types)?;
    let [x, slice, starts @ ..] = operands else {
        return Err(Error::argument("expected a tensor and a slice, got: less"));
    };
    let start = Start::of(mlx, starts, &x.array.shape(), slice.array.shape().dims())?;
    update(mlx, x.array, slice.array, &start, out)
}

fn update(mlx: Mlx, x: &Array, slice: &Array, start: &Start, out: &TensorType) -> Result<Array> {
    let (x, slice) = (cast(mlx, x, out.ty)?, cast(mlx, slice, out.ty)?);
    let part = slice.shape();
    if part.size() == 0 {
        return Ok(x);
    }
    match start {
        Start::Known(starts) => {
            let stops = sums(starts, part.dims());
            mlx.slice_update(&x, &slice, starts, &stops, &vec![1; starts.len()])
        }
        Start::Computed { axes, start } => mlx.slice_update_dynamic(&x, &slice, start, axes),
    }
}

fn sums(left: &[i32], right: &[i32]) -> Vec<i32> {
    left.iter()
        .zip(right)
        .map(|(left, right)| left + right)
        .collect()
}

/// Where a part starts; it always fits.
enum Start {
    /// One for each axis.
    Known(Vec<i32>),
    /// A vector with one for each of `axes`; the others start at 0.
    Computed { axes: Vec<i32>, start: Array },
}

impl Start {
    fn of(mlx: Mlx, starts: &[Operand<'_>], shape: &Shape, lengths: &[i32]) -> Result<Self> {
        let greatest: Vec<i32> = shape
            .dims()
            .iter()
            .zip(lengths)
            .map(|(dim, length)| dim - length)
            .collect();
        let known: Vec<Option<i32>> = starts
            .iter()
            .zip(&greatest)
            .map(|(start, &greatest)| known(start, greatest))
            .collect();
        if let Some(known) = known.iter().copied().collect() {
            return Ok(Self::Known(known));
        }
        let mut axes = Vec::new();
        let mut entries = Vec::new();
        for (axis, start) in starts.iter().enumerate() {
            let entry = match known[axis] {
                Some(0) => continue,
                Some(start) => mlx.scalar(i64::from(start), Type::S32)?,
                None => clamped(mlx, start.array, greatest[axis])?,
            };
            axes.push(axis as i32);
            entries.push(mlx.reshape(&entry, &[1])?);
        }
        let start = match &entries[..] {
            [start] => start.clone(),
            _ => mlx.concatenate(&entries, 0)?,
        };
        Ok(Self::Computed { axes, start })
    }
}

/// The start, if it is 0 whatever the tensor says, or the tensor can be looked at.
fn known(start: &Operand<'_>, greatest: i32) -> Option<i32> {
    if greatest == 0 {
        return Some(0);
    }
    let element = *start.ready_elements()?.first()?;
    Some(element.clamp(0, greatest.into()) as i32)
}

/// From 0 to `greatest`, as s32.
fn clamped(mlx: Mlx, start: &Array, greatest: i32) -> Result<Array> {
    // Narrow types may not hold the bounds.
    let start = match start.ty().bits() {
        32 | 64 => start.clone(),
        _ => mlx.convert(start, Type::S32)?,
    };
    let ty = start.ty();
    let start = match ty.kind() {
        Kind::Signed => mlx.maximum(&start, &mlx.scalar(0, ty)?)?,
        _ => start,
    };
    let start = mlx.minimum(&start, &mlx.scalar(i64::from(greatest), ty)?)?;
    mlx.convert(&start, Type::S32)
}

#[cfg(test)]
mod tests {
    use crate::{Device, Op, Shape, Stream, Tensor, TensorType, Type, install_error_handler};

    #[test]
    fn a_part_is_added_up_alike_whenever_its_start_is_computed() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let ty = |ty, dims: &[i64]| TensorType {
            ty,
            shape: Shape::new(dims).unwrap(),
        };
        let numbers = (0..400).map(|at| (at * 7919 % 1000) as f32 / 7.0);
        let bytes: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
        let x = Tensor::from_bytes(&stream, &ty(Type::F32, &[100, 2, 2]), &bytes).unwrap();
        let index = ty(Type::S32, &[]);
        let one = Tensor::from_bytes(&stream, &index, &1_i32.to_ne_bytes()).unwrap();
        let later = Tensor::apply(&stream, &Op::Multiply, Some(&index), &[&one, &one]).unwrap();
        let sums = [&one, &later].map(|start| {
            let slice = Op::DynamicSlice {
                lengths: vec![100, 1, 2],
                strides: vec![1, 1, 1],
            };
            let sum = Op::Sum {
                axes: None,
                keep_axes: false,
            };
            let part = ty(Type::F32, &[100, 1, 2]);
            let part = Tensor::apply(&stream, &slice, Some(&part), &[&x, start, start, start]);
            let total = ty(Type::F32, &[]);
            let total = Tensor::apply(&stream, &sum, Some(&total), &[&part.unwrap()]).unwrap();
            total.readable().unwrap().bytes().unwrap().to_vec()
        });
        assert_eq!(sums[0], sums[1]);
    }
}
