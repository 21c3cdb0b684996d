//! `Nx.LinAlg.eigh/2`: LAPACK's eigenvalues and vectors in Nx's order.

use super::{
    Call,
    matrix::{Finite, batch, result, sizes, working},
    vectors::{cleaned, phases, without_noise},
};
use crate::{
    Array, Direction, Error, Kind, Result, Shape, TensorType, Type, lower::order::argsort,
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
    let (values, vectors) = host.eigh(&finite.matrices)?;
    let magnitude = host.abs(&values)?;
    // Those that are equal but for rounding stay in ascending order, and so do their signs.
    let key = host.convert(&magnitude, working(outs[0].ty.to_real()))?;
    let indices = TensorType {
        ty: Type::S32,
        shape: Shape::trusted(&[count, size]),
    };
    let order = argsort(host, &key, 1, Direction::Desc, &indices)?;
    let values = host.take_along_axis(&values, &order, 1)?;
    let greatest = host.max(&magnitude, &[1], true)?;
    let values = without_noise(host, &values, &greatest, size)?;
    let order = host.reshape(&order, &[count, 1, size])?;
    let vectors = host.take_along_axis(&vectors, &order, 2)?;
    let vectors = host.multiply(&vectors, &phases(host, &vectors)?)?;
    let vectors = cleaned(host, &vectors)?;
    let values = host.reshape(&values, &[count, 1, size])?;
    Ok(vec![
        result(host, &finite.or_nan(host, &values)?, &outs[0])?,
        result(host, &finite.or_nan(host, &vectors)?, &outs[1])?,
    ])
}
