//! Fourier transforms, which MLX has of f32 and c64.

use std::slice;

use super::{axes, cast::cast, pad::pad};
use crate::{
    Array, Error, Kind, Op, Result, Shape, Type,
    mlx::{Mlx, check_memory},
};

/// One of MLX's transforms along an axis.
type Transform = fn(Mlx, &Array, i32, i32) -> Result<Array>;

/// What a transform is of.
struct Options<'a> {
    axes: &'a [usize],
    lengths: &'a [usize],
    eps: f64,
}

impl<'a> Options<'a> {
    fn of(op: &'a Op) -> Result<Self> {
        match op {
            Op::Fft { axis, length, eps }
            | Op::Ifft { axis, length, eps }
            | Op::Rfft { axis, length, eps }
            | Op::Irfft { axis, length, eps } => Ok(Self {
                axes: slice::from_ref(axis),
                lengths: slice::from_ref(length),
                eps: *eps,
            }),
            Op::Fft2 { axes, lengths, eps } | Op::Ifft2 { axes, lengths, eps }
                if axes.len() == 2 =>
            {
                Ok(Self {
                    axes,
                    lengths,
                    eps: *eps,
                })
            }
            other => Err(Error::argument(format!(
                "expected {} to have 2 axes, got: {}",
                other.name(),
                other.attributes()
            ))),
        }
    }
}

pub(super) fn transform(mlx: Mlx, op: &Op, x: &Array) -> Result<Array> {
    let ty = result_type(op, x.ty())?;
    let dims = result_dims(op, &x.shape())?;
    if x.shape().size() == 0 {
        return mlx.broadcast_to(&mlx.scalar(0, ty)?, &dims);
    }
    let Options { axes, lengths, eps } = Options::of(op)?;
    let transform: Transform = match op {
        Op::Fft { .. } | Op::Fft2 { .. } => Mlx::fft,
        Op::Ifft { .. } | Op::Ifft2 { .. } => Mlx::ifft,
        Op::Rfft { .. } => Mlx::rfft,
        _ => Mlx::irfft,
    };
    let from = if matches!(op, Op::Rfft { .. }) {
        Type::F32
    } else {
        Type::C64
    };
    let mut result = cast(mlx, x, from)?;
    // The last axis first, as in Nx.
    for (&axis, &length) in axes.iter().zip(lengths).rev() {
        // Of the transform of real numbers there is one half, the other one mirrors it.
        let given = if matches!(op, Op::Irfft { .. }) {
            length / 2 + 1
        } else {
            length
        };
        check_work(&result.shape(), axis, length)?;
        let fitted = fitted(mlx, &result, axis, given)?;
        result = transform(mlx, &fitted, length as i32, axis as i32)?;
    }
    mlx.convert(&cleaned(mlx, &result, eps)?, ty)
}

/// The result's type of each operation, as Nx has it, where MLX has it too.
pub(crate) fn result_type(op: &Op, ty: Type) -> Result<Type> {
    match op {
        _ if ty == Type::F64 => Err(Error::argument(format!(
            "expected {} of a type whose complex numbers are c64, got: {ty}, for which Nx has c128",
            op.name()
        ))),
        Op::Rfft { .. } if ty.kind() == Kind::Complex => Err(Error::argument(format!(
            "expected {} of real numbers, got: {ty}",
            op.name()
        ))),
        Op::Irfft { .. } => Ok(ty.to_real()),
        _ => Ok(Type::C64),
    }
}

/// The result's shape.
pub(crate) fn result_dims(op: &Op, shape: &Shape) -> Result<Vec<i32>> {
    let Options { axes, lengths, .. } = Options::of(op)?;
    axes::checked(axes, shape.rank())?;
    let fit = |&length: &usize| length > 0 && i32::try_from(length).is_ok();
    if axes.len() != lengths.len() || !lengths.iter().all(fit) {
        return Err(Error::argument(format!(
            "expected a length from 1 to 2147483647 for each of the axes {axes:?}, got: {lengths:?}"
        )));
    }
    let mut dims = shape.dims().to_vec();
    for (&axis, &length) in axes.iter().zip(lengths) {
        let length = length as i32;
        dims[axis] = if matches!(op, Op::Rfft { .. }) {
            length / 2 + 1
        } else {
            length
        };
    }
    Ok(dims)
}

/// MLX's threads on the CPU end the process where there is no memory for their work: for a length that
/// is a prime, eight times that of a vector, and of as many vectors as a processor takes at once.
fn check_work(shape: &Shape, axis: usize, length: usize) -> Result<()> {
    let others = shape.size() / (shape.dims()[axis] as usize).max(1);
    let vectors = others.clamp(1, MOST_VECTORS) as i32;
    check_memory(Type::C64, &[8 * vectors, length as i32])
}

/// Of f32, in the registers of any processor.
const MOST_VECTORS: usize = 16;

/// `x` cut, or filled with zeros, to `size` elements on `axis`.
fn fitted(mlx: Mlx, x: &Array, axis: usize, size: usize) -> Result<Array> {
    let shape = x.shape();
    let mut padding = vec![(0, 0, 0); shape.rank()];
    padding[axis].1 = size as i64 - i64::from(shape.dims()[axis]);
    pad(mlx, x, &mlx.scalar(0, x.ty())?, &padding, x.ty())
}

/// Parts that are not above `eps` are 0. The two parts of a complex number are neighbours.
fn cleaned(mlx: Mlx, x: &Array, eps: f64) -> Result<Array> {
    let ty = x.ty();
    let parts = if ty == Type::C64 {
        mlx.view(x, Type::F32)?
    } else {
        x.clone()
    };
    let small = mlx.less_equal(&mlx.abs(&parts)?, &mlx.scalar(eps, Type::F32)?)?;
    let parts = mlx.select(&small, &mlx.scalar(0, Type::F32)?, &parts)?;
    if ty == Type::C64 {
        mlx.view(&parts, ty)
    } else {
        Ok(parts)
    }
}
