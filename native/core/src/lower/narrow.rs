//! Types narrower than any of MLX's.
//!
//! Integers of 2 and 4 bits are carried in 8, f8 in f16, and a carrier holds nothing but numbers of
//! the narrow type. An operation is lowered in types that MLX has (for f8 in f32, so that nothing is
//! rounded twice), and its results become numbers of the narrow type: integers wrap; floats are
//! rounded to the nearest number, ties to even. The families know nothing of all this.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::{
    Arrays, Operand, cast, creation, families, fit, misfit, movement,
    small_float::{E4M3FN, E5M2, codes, of_codes, rounded},
};
use crate::{Array, Kind, Op, Result, Shape, Stream, TensorType, Type, check::Checks, mlx::Mlx};

/// Whether a type of the call is narrow; hardly ever, so that other calls only ask this.
pub(super) fn concerns(outs: &[TensorType], inputs: &[Operand<'_>]) -> bool {
    outs.iter().any(|out| out.ty.is_narrow()) || inputs.iter().any(|input| input.ty.is_narrow())
}

/// The results in the types that carry those of `outs`.
pub(super) fn lower(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Arrays> {
    let mlx = stream.mlx();
    match (op, outs, operands) {
        (Op::Constant { value }, [out], _) => {
            let scalar = TensorType {
                ty: out.ty.working(),
                shape: Shape::default(),
            };
            let number = narrowed(mlx, op, &creation::constant(mlx, *value, &scalar)?, out.ty)?;
            Ok(smallvec![mlx.broadcast_to(&number, out.shape.dims())?])
        }
        // Infinity becomes the greatest number of the narrow type, not of its carrier.
        (Op::AsType, [out], [x]) if out.ty.is_integer() => {
            let number = cast::cast(mlx, x.array, out.ty)?;
            Ok(smallvec![narrowed(mlx, op, &number, out.ty)?])
        }
        (Op::Bitcast, [out], [x]) => {
            movement::check_bitcast(x.ty, out.ty)?;
            let written = bits(mlx, x.array, x.ty)?;
            Ok(smallvec![of_bits(mlx, op, &written, out.ty)?])
        }
        (
            Op::AllClose {
                equal_nan,
                rtol,
                atol,
            },
            _,
            [a, b],
        ) if integers(a.ty.merge(b.ty)) => {
            // The difference wraps, as it does in 8 bits where the narrow ones are the highest.
            let ty = a.ty.merge(b.ty).unwrap_or(a.ty);
            let (a, b) = (highest(mlx, a.array, ty)?, highest(mlx, b.array, ty)?);
            let inputs = [&a, &b].map(|array| Operand {
                array,
                ty: ty.carrier(),
                ready: false,
            });
            let scaled = Op::AllClose {
                equal_nan: *equal_nan,
                rtol: *rtol,
                atol: *atol * f64::from(1 << (8 - ty.bits())),
            };
            families(&scaled, outs, &inputs, stream, checks)
        }
        _ if moves(op)
            && outs.len() == 1
            && operands.first().is_some_and(|x| x.ty == outs[0].ty) =>
        {
            families(op, &[outs[0].carried()], operands, stream, checks)
        }
        _ => compute(op, outs, operands, stream, checks),
    }
}

/// Whether the elements of the only result are elements of the first input.
const fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape
            | Op::Squeeze
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Reverse { .. }
            | Op::Slice { .. }
            | Op::ReduceMax { .. }
            | Op::ReduceMin { .. }
            | Op::Sort { .. }
            | Op::DynamicSlice { .. }
            | Op::Gather { .. }
            | Op::Take { .. }
            | Op::TakeAlongAxis { .. }
    )
}

fn compute(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Arrays> {
    let mlx = stream.mlx();
    let widened = operands.iter().map(|operand| widened(mlx, op, operand));
    let widened = widened.collect::<Result<SmallVec<[Cow<'_, Array>; 4]>>>()?;
    let inputs = operands.iter().zip(&widened);
    let inputs: SmallVec<[Operand<'_>; 4]> = inputs
        .map(|(operand, array)| Operand {
            array,
            ty: operand.ty.working(),
            ready: operand.ready && matches!(array, Cow::Borrowed(_)),
        })
        .collect();
    let working: SmallVec<[TensorType; 1]> = outs
        .iter()
        .map(|out| TensorType {
            ty: out.ty.working(),
            shape: out.shape.clone(),
        })
        .collect();
    let arrays = families(op, &working, &inputs, stream, checks)?;
    // Families that find the type by themselves merge the carriers, which may give a wider one.
    let settled = arrays.iter().zip(&working).map(|(array, out)| {
        if array.ty().is_integer() == out.ty.is_integer() {
            return mlx.convert(array, out.ty);
        }
        Ok(array.clone())
    });
    let settled = settled.collect::<Result<Arrays>>()?;
    if arrays.len() != outs.len() || !fit(&settled, &working) {
        return Err(misfit(op, outs, operands, &arrays));
    }
    let results = settled.iter().zip(outs);
    results
        .map(|(array, out)| narrowed(mlx, op, array, out.ty))
        .collect()
}

fn integers(ty: Option<Type>) -> bool {
    ty.is_some_and(|ty| ty.is_narrow() && ty.is_integer())
}

/// The operand in the type that it is computed in.
fn widened<'a>(mlx: Mlx, op: &Op, operand: &Operand<'a>) -> Result<Cow<'a, Array>> {
    let (x, ty) = (operand.array, operand.ty);
    match op {
        _ if !ty.is_narrow() => Ok(Cow::Borrowed(x)),
        Op::PopulationCount if ty.is_integer() => bits(mlx, x, ty).map(Cow::Owned),
        // The bits lie at the byte's upper end, and set ones below them end the zeros of a zero.
        Op::CountLeadingZeros if ty.is_integer() => {
            let rest = 8 - ty.bits();
            let below = mlx.scalar((1 << rest) - 1, Type::U8)?;
            let upper = mlx.view(&highest(mlx, x, ty)?, Type::U8)?;
            mlx.bitwise_or(&upper, &below).map(Cow::Owned)
        }
        _ if ty.is_integer() => Ok(Cow::Borrowed(x)),
        _ => mlx.convert(x, ty.working()).map(Cow::Owned),
    }
}

/// The narrow integers of `ty`, in 8 bits of which theirs are the highest.
fn highest(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    let carrier = ty.carrier();
    let rest = mlx.scalar(8 - ty.bits() as i64, carrier)?;
    mlx.left_shift(&mlx.convert(x, carrier)?, &rest)
}

/// What numbers of at most 8 bits are written with, alone in a byte.
fn bits(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    if ty.kind() == Kind::Float {
        return codes(mlx, x, ty);
    }
    let mask = mlx.scalar((1 << ty.bits()) - 1, Type::U8)?;
    mlx.bitwise_and(&mlx.view(x, Type::U8)?, &mask)
}

/// The numbers of a type of at most 8 bits that are written so.
fn of_bits(mlx: Mlx, op: &Op, bits: &Array, ty: Type) -> Result<Array> {
    match ty.kind() {
        Kind::Float => of_codes(mlx, bits, ty),
        _ => narrowed(mlx, op, &mlx.view(bits, ty.carrier())?, ty),
    }
}

/// Numbers of the type that `ty` is computed in as numbers of `ty`, in its carrier.
fn narrowed(mlx: Mlx, op: &Op, x: &Array, ty: Type) -> Result<Array> {
    match ty {
        Type::F8E5M2 => rounded(mlx, x, &E5M2),
        Type::F8E4M3FN => rounded(mlx, x, &E4M3FN),
        _ if !ty.is_narrow() => Ok(x.clone()),
        // A window with nothing but padding has the carrier's extreme.
        _ if matches!(op, Op::WindowMax { .. } | Op::WindowMin { .. }) => {
            let (least, greatest) = cast::extremes(ty);
            let at_least = mlx.maximum(x, &mlx.scalar(least, ty)?)?;
            mlx.minimum(&at_least, &mlx.scalar(greatest, ty)?)
        }
        _ if ty.kind() == Kind::Signed => {
            let rest = mlx.scalar(8 - ty.bits() as i64, Type::S8)?;
            mlx.right_shift(&mlx.left_shift(x, &rest)?, &rest)
        }
        _ => bits(mlx, x, ty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, install_error_handler};

    #[test]
    fn calls_of_types_that_mlx_has_take_no_detour() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        for ty in Type::ALL {
            let array = stream.mlx().scalar(1, ty).unwrap();
            let ready = false;
            let operand = Operand {
                array: &array,
                ty,
                ready,
            };
            let out = TensorType {
                ty,
                shape: Shape::default(),
            };
            assert_eq!(concerns(&[], &[operand]), ty.is_narrow(), "{ty}");
            assert_eq!(concerns(&[out], &[]), ty.is_narrow(), "{ty}");
        }
    }
}
