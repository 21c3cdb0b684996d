//! Floats of 8 bits: rounding to them, and the bits they are written with.

use crate::{Array, Result, Type, mlx::Mlx};

/// A format of floats that is narrower than f32.
pub(super) struct Format {
    /// The bits after the first one of a number.
    fraction: i32,
    /// The exponent of the least normal number.
    least: i32,
    /// What greater numbers become, where there is no infinity.
    greatest: Option<f64>,
}

pub(super) const E5M2: Format = Format {
    fraction: 2,
    least: -14,
    greatest: None,
};

pub(super) const E4M3FN: Format = Format {
    fraction: 3,
    least: -6,
    greatest: Some(448.0),
};

/// The fraction of an f32.
const FRACTION: i32 = 23;

/// The nearest number of the format, ties to even; of an f32, as an f16.
pub(super) fn rounded(mlx: Mlx, x: &Array, format: &Format) -> Result<Array> {
    let word = |value: i64| mlx.scalar(value, Type::U32);
    let bits = mlx.view(x, Type::U32)?;
    let magnitude = mlx.bitwise_and(&bits, &word(0x7fff_ffff)?)?;

    // Just less than half of the last kept bit is added, or just half if that bit is set.
    let dropped = FRACTION - format.fraction;
    let kept = mlx.right_shift(&magnitude, &word(dropped.into())?)?;
    let odd = mlx.bitwise_and(&kept, &word(1)?)?;
    let up = mlx.add(
        &mlx.add(&magnitude, &word((1 << (dropped - 1)) - 1)?)?,
        &odd,
    )?;
    let normal = mlx.bitwise_and(&up, &word(!((1 << dropped) - 1) & 0xffff_ffff)?)?;
    let normal = mlx.view(&normal, Type::F32)?;

    // Below the least normal number all have the same last bit, which is that of this f32.
    let size = mlx.view(&magnitude, Type::F32)?;
    let coarse = mlx.scalar(2_f64.powi(format.least + dropped), Type::F32)?;
    let tiny = mlx.subtract(&mlx.add(&size, &coarse)?, &coarse)?;
    let least = mlx.scalar(2_f64.powi(format.least), Type::F32)?;
    let mut value = mlx.select(&mlx.less(&size, &least)?, &tiny, &normal)?;
    if let Some(greatest) = format.greatest {
        value = mlx.minimum(&value, &mlx.scalar(greatest, Type::F32)?)?;
    }

    let sign = mlx.bitwise_and(&bits, &word(0x8000_0000)?)?;
    let value = mlx.bitwise_or(&mlx.view(&value, Type::U32)?, &sign)?;
    let value = mlx.select(&mlx.is_nan(x)?, x, &mlx.view(&value, Type::F32)?)?;
    // What rounds beyond e5m2's greatest number is beyond f16's too.
    mlx.convert(&value, Type::F16)
}

/// The bytes that f8 of the carrier f16 are written with.
pub(super) fn codes(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    if ty == Type::F8E5M2 {
        let upper = mlx.right_shift(&mlx.view(x, Type::U16)?, &mlx.scalar(8, Type::U16)?)?;
        return mlx.convert(&upper, Type::U8);
    }
    // With e4m3fn's lower exponents, an f16 has its bits in the same order, the subnormal ones too.
    let scaled = mlx.multiply(x, &mlx.scalar(2_f64.powi(-8), Type::F16)?)?;
    let bits = mlx.view(&scaled, Type::U16)?;
    let magnitude = mlx.right_shift(&bits, &mlx.scalar(7, Type::U16)?)?;
    let magnitude = mlx.bitwise_and(&magnitude, &mlx.scalar(0x7f, Type::U16)?)?;
    let magnitude = mlx.select(&mlx.is_nan(x)?, &mlx.scalar(0x7f, Type::U16)?, &magnitude)?;
    let sign = mlx.right_shift(&mlx.view(x, Type::U16)?, &mlx.scalar(8, Type::U16)?)?;
    let sign = mlx.bitwise_and(&sign, &mlx.scalar(0x80, Type::U16)?)?;
    mlx.convert(&mlx.bitwise_or(&magnitude, &sign)?, Type::U8)
}

/// The f8 that are written with these bytes, in the carrier f16.
pub(super) fn of_codes(mlx: Mlx, codes: &Array, ty: Type) -> Result<Array> {
    let word = |value: i64| mlx.scalar(value, Type::U16);
    let codes = mlx.convert(codes, Type::U16)?;
    let signs = mlx.left_shift(&codes, &word(8)?)?;
    if ty == Type::F8E5M2 {
        return mlx.view(&signs, Type::F16);
    }
    let magnitude = mlx.bitwise_and(&codes, &word(0x7f)?)?;
    let is_nan = mlx.equal(&magnitude, &word(0x7f)?)?;
    let signs = mlx.bitwise_and(&signs, &word(0x8000)?)?;
    let bits = mlx.bitwise_or(&mlx.left_shift(&magnitude, &word(7)?)?, &signs)?;
    let scaled = mlx.view(&bits, Type::F16)?;
    let numbers = mlx.multiply(&scaled, &mlx.scalar(2_f64.powi(8), Type::F16)?)?;
    let nan = mlx.view(&mlx.bitwise_or(&signs, &word(0x7e00)?)?, Type::F16)?;
    mlx.select(&is_nan, &nan, &numbers)
}
