//! `Nx.LinAlg.eigh/2`: LAPACK's eigenvalues and vectors, or those of rotations, in Nx's order.

use super::{
    Call, jacobi,
    matrix::{Finite, batch, result, sizes, working},
    vectors::{cleaned, phases, without_noise},
};
use crate::{
    Array, Direction, Error, Kind, Result, Shape, TensorType, Type, lower::order::argsort, mlx::Mlx,
};

/// The most rows of complex matrices: LAPACK tells the memory that it needs as an f32, which is not
/// exact beyond 2^24.
const MOST_COMPLEX_ROWS: i32 = 2048;

/// Real matrices are decomposed in f64, which costs little and keeps small eigenvalues apart.
pub(super) fn eigh(call: &Call<'_>, x: &Array, outs: &[TensorType]) -> Result<Vec<Array>> {
    let host = call.host;
    let complex = outs[1].ty.kind() == Kind::Complex;
    let x = batch(host, x, if complex { Type::C64 } else { Type::F64 })?;
    let (count, size, _) = sizes(&x);
    if complex && size > MOST_COMPLEX_ROWS {
        return Err(Error::argument(format!(
            "expected complex matrices of at most {MOST_COMPLEX_ROWS} rows, got: {size}"
        )));
    }
    let finite = Finite::of(host, &x)?;
    let three = size == 3 && !complex;
    let (values, vectors) = if three {
        jacobi::eigh(host, &finite.matrices)?
    } else {
        host.eigh(&finite.matrices)?
    };
    let (values, vectors) = in_order(host, values, vectors, working(outs[0].ty.to_real()))?;
    let vectors = if three {
        vectors
    } else {
        host.multiply(&vectors, &phases(host, &vectors)?)?
    };
    let vectors = cleaned(host, &vectors)?;
    let values = host.reshape(&values, &[count, 1, size])?;
    Ok(vec![
        result(host, &finite.or_nan(host, &values)?, &outs[0])?,
        result(host, &finite.or_nan(host, &vectors)?, &outs[1])?,
    ])
}

/// The greatest eigenvalues first, whatever their signs. Of those that are equal in `ty`, whose vectors
/// are any of their space, the one with the greatest element comes first.
fn in_order(host: Mlx, values: Array, vectors: Array, ty: Type) -> Result<(Array, Array)> {
    let (_, size, _) = sizes(&vectors);
    let elements = host.max(&host.abs(&vectors)?, &[1], false)?;
    let elements = host.convert(&elements, Type::F32)?;
    let (values, vectors) = descending(host, &elements, &values, &vectors)?;
    let magnitude = host.abs(&values)?;
    let key = host.convert(&magnitude, ty)?;
    let (values, vectors) = descending(host, &key, &values, &vectors)?;
    let greatest = host.max(&magnitude, &[1], true)?;
    Ok((without_noise(host, &values, &greatest, size)?, vectors))
}

/// Values, and columns of vectors, by the key of each.
fn descending(host: Mlx, key: &Array, values: &Array, vectors: &Array) -> Result<(Array, Array)> {
    let (count, size, _) = sizes(vectors);
    let indices = TensorType {
        ty: Type::S32,
        shape: Shape::trusted(&[count, size]),
    };
    let order = argsort(host, key, 1, Direction::Desc, &indices)?;
    let values = host.take_along_axis(values, &order, 1)?;
    let order = host.reshape(&order, &[count, 1, size])?;
    Ok((values, host.take_along_axis(vectors, &order, 2)?))
}
