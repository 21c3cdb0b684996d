//! Sums, products and extremes of windows.

use super::{
    cast::extremes,
    windows::{Along, Windows, row_major},
};
use crate::{Array, Error, Kind, Number, Op, Result, Type, mlx::Mlx};

/// What becomes of a window's elements, two at a time or all at once.
struct Fold {
    pair: fn(Mlx, &Array, &Array) -> Result<Array>,
    all: fn(Mlx, &Array, &[i32], bool) -> Result<Array>,
}

const SUM: Fold = Fold {
    pair: Mlx::add,
    all: Mlx::sum,
};
const PRODUCT: Fold = Fold {
    pair: Mlx::multiply,
    all: Mlx::product,
};
const MAX: Fold = Fold {
    pair: Mlx::maximum,
    all: Mlx::max,
};
const MIN: Fold = Fold {
    pair: Mlx::minimum,
    all: Mlx::min,
};

pub(super) fn aggregate(mlx: Mlx, op: &Op, x: &Array) -> Result<Array> {
    let ty = x.ty();
    let windows = Windows::of(op, &x.shape())?;
    let (fold, neutral) = match op {
        Op::WindowSum { .. } => (SUM, Number::from(0)),
        Op::WindowProduct { .. } => (PRODUCT, Number::from(1)),
        _ => {
            check_ordered(op, ty)?;
            let (least, greatest) = bounds(ty);
            match op {
                Op::WindowMax { .. } => (MAX, least),
                _ => (MIN, greatest),
            }
        }
    };
    // Many small terms would otherwise vanish.
    let wide = if ty.is_half() { Type::F32 } else { ty };
    let x = windows.pad(mlx, &mlx.convert(x, wide)?, &mlx.scalar(neutral, wide)?)?;
    mlx.convert(&folded(mlx, &x, &windows, &fold)?, ty)
}

/// The greatest element of each window of `x`, which has its edges already.
pub(super) fn greatest(mlx: Mlx, x: &Array, windows: &Windows) -> Result<Array> {
    folded(mlx, x, windows, &MAX)
}

/// The least element of each window of `x`, which has its edges already.
pub(super) fn least(mlx: Mlx, x: &Array, windows: &Windows) -> Result<Array> {
    folded(mlx, x, windows, &MIN)
}

/// That numbers of the type have an order.
pub(crate) fn check_ordered(op: &Op, ty: Type) -> Result<()> {
    if ty.kind() == Kind::Complex {
        return Err(Error::argument(format!(
            "expected {} of real numbers, got: {ty}",
            op.name()
        )));
    }
    Ok(())
}

/// What is at most, and what is at least, each number of the type.
pub(super) fn bounds(ty: Type) -> (Number, Number) {
    if ty.is_integer() {
        return extremes(ty);
    }
    (f64::NEG_INFINITY.into(), f64::INFINITY.into())
}

/// A box is folded axis by axis, which takes as many steps as its sides add up to, and whole slices
/// at each, where going through the windows would take their product, and single elements.
fn folded(mlx: Mlx, x: &Array, windows: &Windows, fold: &Fold) -> Result<Array> {
    let mut result = x.clone();
    for (axis, along) in windows.0.iter().enumerate() {
        result = slid(mlx, &result, axis, along, fold)?;
    }
    Ok(result)
}

/// Up to this many elements, taking them one by one is quickest.
const SHORT: i32 = 8;

fn slid(mlx: Mlx, x: &Array, axis: usize, along: &Along, fold: &Fold) -> Result<Array> {
    if along.window <= SHORT {
        let first = every(mlx, x, axis, along, 0)?;
        return (1..along.window).try_fold(first, |result, at| {
            let next = every(mlx, x, axis, along, at * along.dilation)?;
            (fold.pair)(mlx, &result, &next)
        });
    }
    if along.stride >= along.window.saturating_mul(along.dilation) {
        return apart(mlx, x, axis, along, fold);
    }
    doubled(mlx, x, axis, along, fold)
}

/// The element `offset` after the first one of each window.
fn every(mlx: Mlx, x: &Array, axis: usize, along: &Along, offset: i32) -> Result<Array> {
    let (starts, stops) = (offset, along.stop(offset));
    slice(mlx, x, axis, (starts, stops, along.stride))
}

fn slice(
    mlx: Mlx,
    x: &Array,
    axis: usize,
    (start, stop, stride): (i32, i32, i32),
) -> Result<Array> {
    let shape = x.shape();
    if (start, stop, stride) == (0, shape.dims()[axis], 1) {
        return Ok(x.clone());
    }
    let (mut starts, mut stops) = (vec![0; shape.rank()], shape.dims().to_vec());
    let mut strides = vec![1; shape.rank()];
    (starts[axis], stops[axis], strides[axis]) = (start, stop, stride);
    mlx.slice(x, &starts, &stops, &strides)
}

/// Windows that share no elements are rows, which MLX reduces.
fn apart(mlx: Mlx, x: &Array, axis: usize, along: &Along, fold: &Fold) -> Result<Array> {
    let shape = x.shape();
    let mut dims = shape.dims().to_vec();
    let mut strides = row_major(&dims);
    let step = strides[axis];
    dims[axis] = along.count;
    dims.insert(axis + 1, along.window);
    strides[axis] = step * i64::from(along.stride);
    strides.insert(axis + 1, step * i64::from(along.dilation));
    let rows = mlx.as_strided(&mlx.contiguous(x)?, &dims, &strides)?;
    (fold.all)(mlx, &rows, &[axis as i32 + 1], false)
}

/// Windows that overlap share runs of 1, 2, 4, … elements, each folded from two of half the length;
/// a window is made of one run for each bit of its size.
fn doubled(mlx: Mlx, x: &Array, axis: usize, along: &Along, fold: &Fold) -> Result<Array> {
    let mut runs = x.clone();
    let mut result: Option<Array> = None;
    let (mut length, mut taken) = (1, 0);
    loop {
        if along.window & length != 0 {
            let run = every(mlx, &runs, axis, along, taken * along.dilation)?;
            result = Some(match result {
                Some(result) => (fold.pair)(mlx, &result, &run)?,
                None => run,
            });
            taken += length;
        }
        if taken == along.window {
            return result.ok_or_else(|| Error::argument("expected a window, got none"));
        }
        let (size, apart) = (runs.shape().dims()[axis], length * along.dilation);
        runs = (fold.pair)(
            mlx,
            &slice(mlx, &runs, axis, (0, size - apart, 1))?,
            &slice(mlx, &runs, axis, (apart, size, 1))?,
        )?;
        length *= 2;
    }
}
