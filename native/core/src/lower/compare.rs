//! Comparisons, logic and choice.

use super::cast::cast;
use crate::{Array, Error, Kind, Op, Result, Shape, TensorType, Type, mlx::Mlx};

/// MLX's bool: whether each element is not zero. NaN is not zero.
pub(super) fn truth(mlx: Mlx, x: &Array) -> Result<Array> {
    mlx.not_equal(x, &mlx.scalar(0, x.ty())?)
}

pub(super) fn select(
    mlx: Mlx,
    predicate: &Array,
    x: &Array,
    y: &Array,
    out: &TensorType,
) -> Result<Array> {
    let chosen = mlx.select(
        &truth(mlx, predicate)?,
        &cast(mlx, x, out.ty)?,
        &cast(mlx, y, out.ty)?,
    )?;
    // A scalar predicate and scalar branches may still stand for a larger output.
    if chosen.shape() == out.shape {
        return Ok(chosen);
    }
    mlx.broadcast_to(&chosen, out.shape.dims())
}

pub(super) fn clip(mlx: Mlx, x: &Array, min: &Array, max: &Array, ty: Type) -> Result<Array> {
    check_bounds(&min.shape(), &max.shape())?;
    let at_least = mlx.maximum(&cast(mlx, x, ty)?, &cast(mlx, min, ty)?)?;
    mlx.minimum(&at_least, &cast(mlx, max, ty)?)
}

/// Scalars, as in Nx, so that the result has the tensor's shape.
pub(crate) fn check_bounds(min: &Shape, max: &Shape) -> Result<()> {
    if min.rank() + max.rank() == 0 {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected :min and :max to be scalars, got shapes: {:?} and {:?}",
        min.dims(),
        max.dims()
    )))
}

pub(super) fn logical(mlx: Mlx, op: &Op, x: &Array, y: &Array) -> Result<Array> {
    let (x, y) = (truth(mlx, x)?, truth(mlx, y)?);
    mlx.boolean(&match op {
        Op::LogicalAnd => mlx.logical_and(&x, &y)?,
        Op::LogicalOr => mlx.logical_or(&x, &y)?,
        _ => mlx.not_equal(&x, &y)?,
    })
}

/// `Nx.equal/2` and the like: as u8, on the type that holds both sides.
pub(super) fn comparison(mlx: Mlx, op: &Op, x: &Array, y: &Array) -> Result<Array> {
    let result = match (x.ty(), y.ty()) {
        (Type::U64, other) if other.kind() == Kind::Signed => {
            unsigned_with_signed(mlx, op, x, y, false)?
        }
        (other, Type::U64) if other.kind() == Kind::Signed => {
            unsigned_with_signed(mlx, op, y, x, true)?
        }
        (Type::C64, Type::F64) => complex_with_double(mlx, op, x, y)?,
        (Type::F64, Type::C64) => complex_with_double(mlx, op, y, x)?,
        (left, right) => {
            let Some(ty) = left.merge(right) else {
                return Err(Error::argument(format!(
                    "expected {} of types that MLX can hold together, got: {left} and {right}",
                    op.name()
                )));
            };
            relation(mlx, op, &cast(mlx, x, ty)?, &cast(mlx, y, ty)?)?
        }
    };
    mlx.boolean(&result)
}

/// No integer type of MLX holds all of u64 and a signed type: a negative number is less than every
/// unsigned one, and the others compare as u64.
fn unsigned_with_signed(
    mlx: Mlx,
    op: &Op,
    unsigned: &Array,
    signed: &Array,
    swapped: bool,
) -> Result<Array> {
    let zero = mlx.scalar(0, signed.ty())?;
    let magnitude = mlx.convert(&mlx.maximum(signed, &zero)?, Type::U64)?;
    let negative = mlx.less(signed, &zero)?;
    let (compared, when_negative) = if swapped {
        let less = matches!(op, Op::Less | Op::LessEqual | Op::NotEqual);
        (relation(mlx, op, &magnitude, unsigned)?, less)
    } else {
        let greater = matches!(op, Op::Greater | Op::GreaterEqual | Op::NotEqual);
        (relation(mlx, op, unsigned, &magnitude)?, greater)
    };
    if when_negative {
        mlx.logical_or(&compared, &negative)
    } else {
        mlx.logical_and(&compared, &mlx.logical_not(&negative)?)
    }
}

/// Nx compares them as complex numbers of two f64, which MLX does not have: they are equal where the
/// real parts are and there is no imaginary one. Complex numbers have no order.
fn complex_with_double(mlx: Mlx, op: &Op, complex: &Array, double: &Array) -> Result<Array> {
    let real = mlx.equal(&mlx.convert(&mlx.real(complex)?, Type::F64)?, double)?;
    let imaginary = mlx.imag(complex)?;
    let none = mlx.equal(&imaginary, &mlx.scalar(0, imaginary.ty())?)?;
    let equal = mlx.logical_and(&real, &none)?;
    match op {
        Op::Equal => Ok(equal),
        Op::NotEqual => mlx.logical_not(&equal),
        _ => Err(Error::argument(format!(
            "expected {} of real numbers, got: {} and {}",
            op.name(),
            complex.ty(),
            double.ty()
        ))),
    }
}

/// As an MLX bool.
fn relation(mlx: Mlx, op: &Op, x: &Array, y: &Array) -> Result<Array> {
    match op {
        Op::Equal => mlx.equal(x, y),
        Op::NotEqual => mlx.not_equal(x, y),
        Op::Greater => mlx.greater(x, y),
        Op::Less => mlx.less(x, y),
        Op::GreaterEqual => mlx.greater_equal(x, y),
        _ => mlx.less_equal(x, y),
    }
}
