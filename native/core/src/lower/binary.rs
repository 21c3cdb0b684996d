//! Elementwise operations on two inputs, which broadcast.

use super::{cast::promote, compare};
use crate::{Array, Error, Kind, Op, Result, TensorType, Type, check::Checks, mlx::Mlx};

pub(super) fn binary(mlx: Mlx, op: &Op, x: &Array, y: &Array, out: &TensorType) -> Result<Array> {
    match op {
        Op::Equal | Op::NotEqual | Op::Greater | Op::Less | Op::GreaterEqual | Op::LessEqual => {
            return compare::comparison(mlx, op, x, y);
        }
        Op::LogicalAnd | Op::LogicalOr | Op::LogicalXor => return compare::logical(mlx, op, x, y),
        _ => {}
    }
    let ty = out.ty;
    let (x, y) = (promote(mlx, x, ty)?, promote(mlx, y, ty)?);
    let (x, y) = (&*x, &*y);
    match op {
        Op::Add => mlx.add(x, y),
        Op::Subtract => mlx.subtract(x, y),
        Op::Multiply => mlx.multiply(x, y),
        Op::Divide => mlx.divide(x, y),
        Op::Pow if ty.kind() == Kind::Complex => complex_power(mlx, x, y),
        Op::Pow => mlx.power(x, y),
        Op::Atan2 => mlx.arctan2(x, y),
        Op::Min => mlx.minimum(x, y),
        Op::Max => mlx.maximum(x, y),
        Op::Quotient if ty.is_integer() => quotient(mlx, x, y, ty),
        Op::Remainder if ty.is_integer() => {
            let whole = quotient(mlx, x, y, ty)?;
            mlx.subtract(x, &mlx.multiply(&whole, y)?)
        }
        Op::Remainder => remainder(mlx, x, y, ty),
        Op::BitwiseAnd => mlx.bitwise_and(x, y),
        Op::BitwiseOr => mlx.bitwise_or(x, y),
        Op::BitwiseXor => mlx.bitwise_xor(x, y),
        Op::LeftShift => left_shift(mlx, x, y, ty),
        Op::RightShift => right_shift(mlx, x, y, ty),
        _ => Err(Error::argument(format!(
            "expected {} to take other inputs, got: {ty} and {ty}",
            op.name()
        ))),
    }
}

/// Truncated division. By zero it gives -1 (all bits set), as XLA does, where a processor would trap;
/// the least number by -1 wraps to itself.
fn quotient(mlx: Mlx, x: &Array, y: &Array, ty: Type) -> Result<Array> {
    let one = mlx.scalar(1, ty)?;
    let minus_one = mlx.scalar(-1, ty)?;
    let by_zero = mlx.equal(y, &mlx.scalar(0, ty)?)?;
    if ty.kind() == Kind::Unsigned {
        let safe = mlx.select(&by_zero, &one, y)?;
        return mlx.select(&by_zero, &minus_one, &mlx.truncating_divide(x, &safe)?);
    }
    let by_minus_one = mlx.equal(y, &minus_one)?;
    let safe = mlx.select(&mlx.logical_or(&by_zero, &by_minus_one)?, &one, y)?;
    let whole = mlx.truncating_divide(x, &safe)?;
    let whole = mlx.select(&by_minus_one, &mlx.negative(x)?, &whole)?;
    mlx.select(&by_zero, &minus_one, &whole)
}

/// The power of 0, whose logarithm MLX takes, is 1 for an exponent of 0, else 0.
fn complex_power(mlx: Mlx, x: &Array, y: &Array) -> Result<Array> {
    let zero = mlx.scalar(0, Type::C64)?;
    let of_zero = mlx.convert(&mlx.equal(y, &zero)?, Type::C64)?;
    mlx.select(&mlx.equal(x, &zero)?, &of_zero, &mlx.power(x, y)?)
}

/// C's `fmod`: the sign is the dividend's, where MLX's remainder has the divisor's.
fn remainder(mlx: Mlx, x: &Array, y: &Array, ty: Type) -> Result<Array> {
    let magnitude = mlx.remainder(&mlx.abs(x)?, &mlx.abs(y)?)?;
    // Dividing by infinity leaves the dividend, which MLX's remainder turns into NaN.
    let by_infinity = mlx.logical_and(&mlx.is_inf(y)?, &mlx.is_finite(x)?)?;
    let magnitude = mlx.select(&by_infinity, &mlx.abs(x)?, &magnitude)?;
    let negative = mlx.less(x, &mlx.scalar(0, ty)?)?;
    mlx.select(&negative, &mlx.negative(&magnitude)?, &magnitude)
}

/// Nx defines it for real numbers, whatever their type.
pub(super) fn complex_atan2(
    mlx: Mlx,
    x: &Array,
    y: &Array,
    out: &TensorType,
    checks: &mut Checks,
) -> Result<Array> {
    let mut real = |x: &Array| -> Result<Array> {
        let x = promote(mlx, x, out.ty)?;
        let imaginary = mlx.imag(&x)?;
        let zero = mlx.equal(&imaginary, &mlx.scalar(0, imaginary.ty())?)?;
        let axes: Vec<i32> = (0..imaginary.shape().rank() as i32).collect();
        checks.require(
            mlx.all(&zero, &axes, false)?,
            "expected numbers without an imaginary part, got: others",
        );
        mlx.real(&x)
    };
    let (x, y) = (real(x)?, real(y)?);
    mlx.convert(&mlx.arctan2(&x, &y)?, out.ty)
}

/// C++ leaves shifts by the width or more, or by a negative number, undefined; nothing of the
/// number is left then.
fn left_shift(mlx: Mlx, x: &Array, y: &Array, ty: Type) -> Result<Array> {
    let (within, amount) = shift_amount(mlx, y, ty)?;
    mlx.select(&within, &mlx.left_shift(x, &amount)?, &mlx.scalar(0, ty)?)
}

/// Arithmetic for signed types: the sign fills the bits that become free.
fn right_shift(mlx: Mlx, x: &Array, y: &Array, ty: Type) -> Result<Array> {
    let (within, amount) = shift_amount(mlx, y, ty)?;
    let left = match ty.kind() {
        Kind::Signed => mlx.right_shift(x, &mlx.scalar(ty.bits() as i64 - 1, ty)?)?,
        _ => mlx.scalar(0, ty)?,
    };
    mlx.select(&within, &mlx.right_shift(x, &amount)?, &left)
}

/// Where the amount is from 0 to the width, and an amount that always is.
fn shift_amount(mlx: Mlx, y: &Array, ty: Type) -> Result<(Array, Array)> {
    let zero = mlx.scalar(0, ty)?;
    let below = mlx.less(y, &mlx.scalar(ty.bits() as i64, ty)?)?;
    let within = mlx.logical_and(&below, &mlx.greater_equal(y, &zero)?)?;
    let amount = mlx.select(&within, y, &zero)?;
    Ok((within, amount))
}
