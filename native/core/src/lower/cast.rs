//! `Nx.as_type/2`.

use std::borrow::Cow;

use crate::{Array, Kind, Result, Type, mlx::Mlx};

/// `x` as `ty`.
///
/// Integers wrap. Floats are truncated toward zero; NaN gives 0, an infinity the type's extreme,
/// and a number that does not fit wraps. Complex numbers lose their imaginary part.
pub(super) fn cast(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    let from = x.ty();
    match (from.kind(), ty.kind()) {
        _ if from == ty => Ok(x.clone()),
        (Kind::Complex, Kind::Complex) => mlx.convert(x, ty),
        (Kind::Complex, _) => cast(mlx, &mlx.real(x)?, ty),
        (Kind::Float, Kind::Signed | Kind::Unsigned) => float_to_integer(mlx, x, ty),
        _ => mlx.convert(x, ty),
    }
}

/// [`cast`] without a reference to count where `x` is of the type already, as it mostly is.
pub(super) fn promote(mlx: Mlx, x: &Array, ty: Type) -> Result<Cow<'_, Array>> {
    if x.ty() == ty {
        return Ok(Cow::Borrowed(x));
    }
    cast(mlx, x, ty).map(Cow::Owned)
}

/// C++ leaves the conversion of what does not fit undefined, so every step here fits.
fn float_to_integer(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    let from = x.ty();
    let zero = mlx.scalar(0, from)?;
    let finite = mlx.select(&mlx.is_finite(x)?, x, &zero)?;
    let whole = if ty == Type::U64 {
        // From 2^63 on, only the unsigned type holds the number.
        let unsigned = mlx.convert(&mlx.maximum(&finite, &zero)?, Type::U64)?;
        let signed = mlx.convert(
            &mlx.convert(&mlx.minimum(&finite, &zero)?, Type::S64)?,
            Type::U64,
        )?;
        mlx.add(&unsigned, &signed)?
    } else {
        mlx.convert(&mlx.convert(&finite, Type::S64)?, ty)?
    };
    let (least, greatest) = extremes(ty);
    let infinity = mlx.scalar(f64::INFINITY, from)?;
    let over = mlx.equal(x, &infinity)?;
    let under = mlx.equal(x, &mlx.negative(&infinity)?)?;
    let bounded = mlx.select(&over, &greatest.scalar(ty)?, &whole)?;
    mlx.select(&under, &least.scalar(ty)?, &bounded)
}

/// The least and the greatest value of an integer type.
pub(super) fn extremes(ty: Type) -> (crate::Number, crate::Number) {
    let bits = ty.bits();
    let (least, greatest) = match ty.kind() {
        Kind::Signed => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        _ => (0, (1_i128 << bits) - 1),
    };
    (
        crate::Number::Integer(least),
        crate::Number::Integer(greatest),
    )
}
