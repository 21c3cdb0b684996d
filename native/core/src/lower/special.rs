//! Functions that MLX has no primitive for.

use super::double::Double;
use crate::{Array, Kind, Result, Type, mlx::Mlx};

/// Runs `function` in f32 for the half types, whose own arithmetic is too coarse for a series.
pub(super) fn in_single(
    mlx: Mlx,
    x: &Array,
    function: fn(Mlx, &Array) -> Result<Array>,
) -> Result<Array> {
    let ty = x.ty();
    if !ty.is_half() {
        return function(mlx, x);
    }
    mlx.convert(&function(mlx, &mlx.convert(x, Type::F32)?)?, ty)
}

/// Half away from zero.
pub(super) fn round(mlx: Mlx, x: &Array) -> Result<Array> {
    let ty = x.ty();
    let magnitude = mlx.abs(x)?;
    let whole = mlx.floor(&magnitude)?;
    let half = mlx.scalar(0.5, ty)?;
    let up = mlx.greater_equal(&mlx.subtract(&magnitude, &whole)?, &half)?;
    let rounded = mlx.select(&up, &mlx.add(&whole, &mlx.scalar(1, ty)?)?, &whole)?;
    let negative = mlx.less(x, &mlx.scalar(0, ty)?)?;
    let rounded = mlx.select(&negative, &mlx.negative(&rounded)?, &rounded)?;
    // Infinity less infinity is NaN, which compares false: infinities and NaN came through as whole.
    mlx.select(&mlx.is_finite(x)?, &rounded, x)
}

/// -1, 0 or 1; NaN and zeros stay what they are.
pub(super) fn sign(mlx: Mlx, x: &Array) -> Result<Array> {
    let sign = mlx.sign(x)?;
    if x.ty().is_integer() {
        return Ok(sign);
    }
    let zero = mlx.scalar(0, x.ty())?;
    let other = mlx.logical_or(&mlx.is_nan(x)?, &mlx.equal(x, &zero)?)?;
    mlx.select(&other, x, &sign)
}

/// The real cube root, or a complex number's principal one.
pub(super) fn cbrt(mlx: Mlx, x: &Array) -> Result<Array> {
    let ty = x.ty();
    let third = mlx.scalar(1.0 / 3.0, ty)?;
    if ty.kind() == Kind::Complex {
        return mlx.power(x, &third);
    }
    let root = mlx.power(&mlx.abs(x)?, &third)?;
    let negative = mlx.less(x, &mlx.scalar(0, ty)?)?;
    let root = mlx.select(&negative, &mlx.negative(&root)?, &root)?;
    // One step of Newton's, since a third is no binary fraction: 27 must give 3. Where the square
    // vanishes or overflows, the power stands.
    let excess = mlx.subtract(&root, &mlx.divide(x, &mlx.square(&root)?)?)?;
    let better = mlx.subtract(&root, &mlx.multiply(&excess, &third)?)?;
    mlx.select(&mlx.is_finite(&better)?, &better, &root)
}

/// The complementary error function, with a relative error of a few units in the last place even
/// where 1 - erf(x) would leave nothing: a Chebyshev series for its logarithm (Press et al.,
/// Numerical Recipes, 3rd edition, section 6.2.2).
pub(super) fn erfc(mlx: Mlx, x: &Array) -> Result<Array> {
    let ty = x.ty();
    let z = mlx.abs(x)?;
    let two = mlx.scalar(2, ty)?;
    let t = mlx.divide(&two, &mlx.add(&z, &two)?)?;
    let y = mlx.subtract(&mlx.multiply(&t, &mlx.scalar(4, ty)?)?, &two)?;
    // f32 is exhausted long before the series.
    let terms = if ty == Type::F64 {
        &ERFC[1..]
    } else {
        &ERFC[1..14]
    };
    let mut previous = mlx.scalar(0, ty)?;
    let mut sum = mlx.scalar(0, ty)?;
    for &coefficient in terms.iter().rev() {
        let next = mlx.subtract(&mlx.multiply(&y, &sum)?, &previous)?;
        let next = mlx.add(&next, &mlx.scalar(coefficient, ty)?)?;
        previous = std::mem::replace(&mut sum, next);
    }
    let series = mlx.add(&mlx.scalar(ERFC[0], ty)?, &mlx.multiply(&y, &sum)?)?;
    let series = mlx.subtract(&mlx.multiply(&series, &mlx.scalar(0.5, ty)?)?, &previous)?;
    let logarithm = mlx.subtract(&series, &mlx.square(&z)?)?;
    let exponential = match ty {
        Type::F64 => Double::new(mlx, &logarithm).exp()?,
        _ => mlx.exp(&logarithm)?,
    };
    let upper = mlx.multiply(&t, &exponential)?;
    let negative = mlx.less(x, &mlx.scalar(0, ty)?)?;
    mlx.select(&negative, &mlx.subtract(&two, &upper)?, &upper)
}

#[rustfmt::skip]
#[allow(clippy::excessive_precision, reason = "as published")]
const ERFC: [f64; 28] = [
    -1.302_653_719_781_709_4, 6.419_697_923_564_902_6e-1, 1.947_647_320_418_583_6e-2,
    -9.561_514_786_808_631e-3, -9.465_953_444_820_36e-4, 3.668_394_978_527_61e-4,
    4.252_332_480_690_7e-5, -2.027_857_811_253_4e-5, -1.624_290_004_647e-6, 1.303_655_835_580e-6,
    1.562_644_172_2e-8, -8.523_809_591_5e-8, 6.529_054_439e-9, 5.059_343_495e-9, -9.913_641_56e-10,
    -2.273_651_22e-10, 9.646_791_1e-11, 2.394_038e-12, -6.886_027e-12, 8.944_87e-13, 3.130_92e-13,
    -1.127_08e-13, 3.81e-16, 7.106e-15, -1.523e-15, -9.4e-17, 1.21e-16, -2.8e-17,
];

/// The number of zero bits above the highest set one.
pub(super) fn count_leading_zeros(mlx: Mlx, x: &Array) -> Result<Array> {
    let mut filled = unsigned(mlx, x)?;
    let ty = filled.ty();
    let mut distance = 1;
    while distance < ty.bits() {
        let shifted = mlx.right_shift(&filled, &mlx.scalar(distance as i64, ty)?)?;
        filled = mlx.bitwise_or(&filled, &shifted)?;
        distance *= 2;
    }
    // Every bit from the highest set one down is set now.
    let below = population_count(mlx, &filled)?;
    mlx.subtract(&mlx.scalar(ty.bits() as i64, ty)?, &below)
}

/// The number of set bits: those of ever wider fields, added in pairs.
pub(super) fn population_count(mlx: Mlx, x: &Array) -> Result<Array> {
    let mut counts = unsigned(mlx, x)?;
    let ty = counts.ty();
    let mut width = 1;
    while width < ty.bits() {
        // Fields of `width` set bits, `width` clear ones, and so on: 0x55…, 0x33…, 0x0f….
        let mask = u64::MAX / ((1 << width) + 1);
        let mask = mlx.scalar(crate::Number::Integer(mask.into()), ty)?;
        let low = mlx.bitwise_and(&counts, &mask)?;
        let high = mlx.right_shift(&counts, &mlx.scalar(width as i64, ty)?)?;
        counts = mlx.add(&low, &mlx.bitwise_and(&high, &mask)?)?;
        width *= 2;
    }
    Ok(counts)
}

/// The same bits, unsigned.
fn unsigned(mlx: Mlx, x: &Array) -> Result<Array> {
    match Type::from_nx("u", x.ty().bits()) {
        Some(ty) if x.ty().is_integer() && ty != x.ty() => mlx.view(x, ty),
        _ => Ok(x.clone()),
    }
}
