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
    let unit = match x.ty() {
        Type::F64 => 2_f64.powi(-52),
        _ => 2_f64.powi(-23),
    };
    let unit = mlx.scalar(UNITS * f64::from(size) * unit, greatest.ty())?;
    let noise = mlx.less_equal(&mlx.abs(x)?, &mlx.multiply(greatest, &unit)?)?;
    mlx.select(&noise, &mlx.scalar(0, x.ty())?, x)
}

/// Orthonormal columns without noise.
pub(super) fn cleaned(mlx: Mlx, vectors: &Array) -> Result<Array> {
    let real = match vectors.ty() {
        Type::C64 => Type::F32,
        ty => ty,
    };
    without_noise(mlx, vectors, &mlx.scalar(1, real)?, sizes(vectors).1)
}
