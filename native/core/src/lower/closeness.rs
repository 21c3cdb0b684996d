//! `Nx.all_close/3`.

use super::{cast::cast, compare::comparison};
use crate::{Array, Error, Kind, Op, Result, Stream, Type, mlx::Mlx};

/// Whether |a - b| is at most `atol + rtol · |b|` everywhere, or both are the same infinity.
pub(super) fn all_close(
    stream: &Stream,
    a: &Array,
    b: &Array,
    equal_nan: bool,
    (rtol, atol): (f64, f64),
) -> Result<Array> {
    let integers = a.ty().is_integer() && b.ty().is_integer();
    // Integers are compared in f64, which Metal does not have.
    let mlx = if integers {
        stream.host()
    } else {
        stream.mlx()
    };
    let difference = difference(mlx, a, b)?;
    let bound = bound(mlx, b, integers, rtol, atol)?;
    let near = |ty| mlx.less_equal(&cast(mlx, &difference, ty)?, &cast(mlx, &bound, ty)?);
    let mut close = if difference.ty() == Type::F64 || bound.ty() == Type::F64 {
        near(Type::F64)?
    } else {
        near(Type::F32)?
    };
    if !integers {
        let infinite = mlx.logical_or(&mlx.is_inf(a)?, &mlx.is_inf(b)?)?;
        close = mlx.select(&infinite, &comparison(mlx, &Op::Equal, a, b)?, &close)?;
        if equal_nan {
            let both = mlx.logical_and(&mlx.is_nan(a)?, &mlx.is_nan(b)?)?;
            close = mlx.logical_or(&both, &close)?;
        }
    }
    let axes: Vec<i32> = (0..close.shape().rank() as i32).collect();
    let close = mlx.all(&close, &axes, false)?;
    mlx.boolean(&close)
}

/// |a - b|, of half floats in f32; integers wrap, as everywhere.
fn difference(mlx: Mlx, a: &Array, b: &Array) -> Result<Array> {
    let Some(ty) = a.ty().merge(b.ty()) else {
        return Err(Error::argument(format!(
            "expected all_close of types that MLX can hold together, got: {} and {}",
            a.ty(),
            b.ty()
        )));
    };
    let ty = if ty.is_half() { Type::F32 } else { ty };
    mlx.abs(&mlx.subtract(&cast(mlx, a, ty)?, &cast(mlx, b, ty)?)?)
}

/// `atol + rtol · |b|`. The tolerances are numbers to Nx, which it gives the type f32.
fn bound(mlx: Mlx, b: &Array, integers: bool, rtol: f64, atol: f64) -> Result<Array> {
    let ty = if integers || b.ty() == Type::F64 {
        Type::F64
    } else {
        Type::F32
    };
    let number = |value: f64| mlx.scalar(f64::from(value as f32), ty);
    let magnitude = match b.ty().kind() {
        Kind::Complex => mlx.abs(b)?,
        _ => mlx.abs(&cast(mlx, b, ty)?)?,
    };
    mlx.add(&number(atol)?, &mlx.multiply(&number(rtol)?, &magnitude)?)
}
