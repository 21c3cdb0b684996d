//! Elementwise operations on one input.

use super::{
    cast::{cast, promote},
    compare::truth,
    complex::of_complex,
    double::Double,
    special,
};
use crate::{Array, Error, Kind, Op, Result, TensorType, Type, mlx::Mlx};

pub(super) fn unary(mlx: Mlx, op: &Op, x: &Array, out: &TensorType) -> Result<Array> {
    match op {
        Op::IsNan => mlx.boolean(&mlx.is_nan(x)?),
        Op::IsInfinity => mlx.boolean(&mlx.is_inf(x)?),
        Op::LogicalNot => mlx.boolean(&mlx.logical_not(&truth(mlx, x)?)?),
        Op::CountLeadingZeros => mlx.convert(&special::count_leading_zeros(mlx, x)?, out.ty),
        Op::PopulationCount => mlx.convert(&special::population_count(mlx, x)?, out.ty),
        Op::Phase => phase(mlx, x, out),
        Op::Abs if x.ty().kind() == Kind::Complex => mlx.abs(x),
        Op::Real => cast(mlx, x, out.ty),
        Op::Imag if x.ty().kind() == Kind::Complex => mlx.imag(x),
        Op::Imag => mlx.broadcast_to(&mlx.scalar(0, out.ty)?, out.shape.dims()),
        Op::Ceil | Op::Floor | Op::Round if x.ty().is_integer() => cast(mlx, x, out.ty),
        _ => {
            let x = &*promote(mlx, x, out.ty)?;
            match out.ty {
                Type::F64 => of_double(mlx, op, x),
                Type::C64 => of_complex(mlx, op, x),
                ty => same_type(mlx, op, x, ty),
            }
        }
    }
}

/// Of a real number that is 0 or π.
fn phase(mlx: Mlx, x: &Array, out: &TensorType) -> Result<Array> {
    if x.ty().kind() == Kind::Complex {
        return mlx.arctan2(&mlx.imag(x)?, &mlx.real(x)?);
    }
    mlx.arctan2(&mlx.scalar(0, out.ty)?, &cast(mlx, x, out.ty)?)
}

fn of_double(mlx: Mlx, op: &Op, x: &Array) -> Result<Array> {
    let double = Double::new(mlx, x);
    match op {
        Op::Exp => double.exp(),
        Op::Sin => double.sin(),
        Op::Cos => double.cos(),
        Op::Sigmoid => double.sigmoid(),
        Op::Erf => double.erf(special::erfc),
        Op::ErfInv => double.erf_inv(special::erfc),
        _ => same_type(mlx, op, x, Type::F64),
    }
}

pub(super) fn refused(op: &Op, ty: Type) -> Error {
    Error::argument(format!(
        "expected {} to take other inputs, got: {ty}",
        op.name()
    ))
}

/// Operations whose input is first given the output's type.
pub(super) fn same_type(mlx: Mlx, op: &Op, x: &Array, ty: Type) -> Result<Array> {
    match op {
        Op::Abs => mlx.abs(x),
        Op::BitwiseNot => mlx.bitwise_not(x),
        Op::Ceil => mlx.ceil(x),
        Op::Conjugate => mlx.conjugate(x),
        Op::Floor => mlx.floor(x),
        Op::Negate => mlx.negative(x),
        Op::Round => special::round(mlx, x),
        Op::Sign => special::sign(mlx, x),
        Op::Erfc => special::in_single(mlx, x, special::erfc),
        Op::Cbrt => special::in_single(mlx, x, special::cbrt),
        Op::Acos => mlx.acos(x),
        Op::Acosh => mlx.acosh(x),
        Op::Asin => mlx.asin(x),
        Op::Asinh => mlx.asinh(x),
        Op::Atan => mlx.atan(x),
        Op::Atanh => mlx.atanh(x),
        Op::Cos => mlx.cos(x),
        Op::Cosh => mlx.cosh(x),
        Op::Erf => mlx.erf(x),
        Op::ErfInv => mlx.erf_inv(x),
        Op::Exp => mlx.exp(x),
        Op::Expm1 => mlx.expm1(x),
        Op::Log => mlx.log(x),
        Op::Log1p => mlx.log1p(x),
        Op::Rsqrt => mlx.rsqrt(x),
        Op::Sigmoid => mlx.sigmoid(x),
        Op::Sin => mlx.sin(x),
        Op::Sinh => mlx.sinh(x),
        Op::Sqrt => mlx.sqrt(x),
        Op::Tan => mlx.tan(x),
        Op::Tanh => mlx.tanh(x),
        _ => Err(refused(op, ty)),
    }
}
