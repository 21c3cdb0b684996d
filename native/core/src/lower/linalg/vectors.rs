//! What eigenvectors and singular vectors, which are determined up to a sign or phase, have in
//! common.

use super::matrix::sizes;
use crate::{Array, Kind, Result, Type, mlx::Mlx};

/// As many units as rounding may be away for each row.
const UNITS: f64 = 4.0;

/// What each column is multiplied by for the greatest of its elements, the first one if there are
/// several, to be real and positive: `Nx`'s rotations mostly end there.
pub(super) fn phases(mlx: Mlx, vectors: &Array) -> Result<Array> {
    let magnitude = mlx.abs(vectors)?;
    let greatest = mlx.max(&magnitude, &[1], true)?;
    // Equal but for rounding.
    let near = mlx.scalar(1.0 - 2_f64.powi(-16), magnitude.ty())?;
    let among = mlx.greater_equal(&magnitude, &mlx.multiply(&greatest, &near)?)?;
    let index = mlx.argmax(&mlx.boolean(&among)?, 1, true)?;
    let element = mlx.take_along_axis(vectors, &index, 1)?;
    if vectors.ty().kind() == Kind::Complex {
        let size = mlx.convert(&mlx.abs(&element)?, element.ty())?;
        return mlx.divide(&mlx.conjugate(&element)?, &size);
    }
    let zero = mlx.scalar(0, element.ty())?;
    let (one, minus) = (mlx.scalar(1, element.ty())?, mlx.scalar(-1, element.ty())?);
    mlx.select(&mlx.less(&element, &zero)?, &minus, &one)
}

/// `x` with zeros for what rounding leaves of elements up to `greatest`.
pub(super) fn without_noise(mlx: Mlx, x: &Array, greatest: &Array, size: i32) -> Result<Array> {
    below(mlx, x, greatest, UNITS * f64::from(size) * unit(x.ty()))
}

/// `x` with zeros for what is at most a fraction of `greatest`.
pub(super) fn below(mlx: Mlx, x: &Array, greatest: &Array, fraction: f64) -> Result<Array> {
    let least = mlx.multiply(greatest, &mlx.scalar(fraction, greatest.ty())?)?;
    let noise = mlx.less_equal(&mlx.abs(x)?, &least)?;
    mlx.select(&noise, &mlx.scalar(0, x.ty())?, x)
}

/// The distance from 1 to the next number of f64, or of f32 for all others.
pub(super) fn unit(ty: Type) -> f64 {
    match ty {
        Type::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

/// Orthonormal columns without noise.
pub(super) fn cleaned(mlx: Mlx, vectors: &Array) -> Result<Array> {
    let one = mlx.scalar(1, vectors.ty().to_real())?;
    without_noise(mlx, vectors, &one, sizes(vectors).1)
}
