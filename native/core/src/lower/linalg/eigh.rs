//! `Nx.LinAlg.eigh/2`: LAPACK's eigenvalues and vectors, or those of rotations, in Nx's order.

use super::{
    Call, jacobi,
    matrix::{Finite, batch, refuse_large, result, sizes, working},
    vectors::{cleaned, phases, without_noise},
};
use crate::{
    Array, Direction, Kind, Result, Shape, TensorType, Type, lower::order::argsort, mlx::Mlx,
};

/// The most rows of real matrices.
const MOST_ROWS: i32 = 16_384;

/// The most rows of complex matrices: of them LAPACK tells the memory that it needs as an f32, which
/// is not exact beyond 2^24.
const MOST_COMPLEX_ROWS: i32 = 2048;

/// Real matrices are decomposed in f64, which costs little and keeps small eigenvalues apart.
pub(super) fn eigh(call: &Call<'_>, x: &Array, outs: &[TensorType]) -> Result<Vec<Array>> {
    let mlx = call.mlx;
    let complex = outs[1].ty.kind() == Kind::Complex;
    let x = batch(mlx, x, if complex { Type::C64 } else { Type::F64 })?;
    let (count, size, _) = sizes(&x);
    refuse_large(
        size,
        if complex {
            MOST_COMPLEX_ROWS
        } else {
            MOST_ROWS
        },
    )?;
    let finite = Finite::of(mlx, &x)?;
    let three = size == 3 && !complex;
    let (values, vectors) = if three {
        jacobi::eigh(mlx, &finite.matrices)?
    } else {
        mlx.eigh(&finite.matrices)?
    };
    let (values, vectors) = in_order(mlx, values, vectors, working(outs[0].ty.to_real()))?;
    let vectors = if three {
        vectors
    } else {
        mlx.multiply(&vectors, &phases(mlx, &vectors)?)?
    };
    let vectors = cleaned(mlx, &vectors)?;
    let values = mlx.reshape(&values, &[count, 1, size])?;
    Ok(vec![
        result(mlx, &finite.or_nan(mlx, &values)?, &outs[0])?,
        result(mlx, &finite.or_nan(mlx, &vectors)?, &outs[1])?,
    ])
}

/// The greatest eigenvalues first, whatever their signs. Of those that are equal in `ty`, whose vectors
/// are any of their space, the one with the greatest element comes first.
fn in_order(mlx: Mlx, values: Array, vectors: Array, ty: Type) -> Result<(Array, Array)> {
    let (_, size, _) = sizes(&vectors);
    let elements = mlx.max(&mlx.abs(&vectors)?, &[1], false)?;
    let elements = mlx.convert(&elements, Type::F32)?;
    let (values, vectors) = descending(mlx, &elements, &values, &vectors)?;
    let magnitude = mlx.abs(&values)?;
    let key = mlx.convert(&magnitude, ty)?;
    let (values, vectors) = descending(mlx, &key, &values, &vectors)?;
    let greatest = mlx.max(&magnitude, &[1], true)?;
    Ok((without_noise(mlx, &values, &greatest, size)?, vectors))
}

/// Values, and columns of vectors, by the key of each.
fn descending(mlx: Mlx, key: &Array, values: &Array, vectors: &Array) -> Result<(Array, Array)> {
    let (count, size, _) = sizes(vectors);
    let indices = TensorType {
        ty: Type::S32,
        shape: Shape::trusted(&[count, size]),
    };
    let order = argsort(mlx, key, 1, Direction::Desc, &indices)?;
    let values = mlx.take_along_axis(values, &order, 1)?;
    let order = mlx.reshape(&order, &[count, 1, size])?;
    Ok((values, mlx.take_along_axis(vectors, &order, 2)?))
}
