//! `Nx.LinAlg.svd/2`: LAPACK's singular values and vectors.

use super::{
    Call,
    matrix::{Finite, batch, columns, result, sizes, transpose},
    vectors::{below, cleaned, phases, unit},
};
use crate::{Array, Result, TensorType, Type, mlx::Mlx};

/// Decomposed in f64, which costs little and keeps small singular values apart.
pub(super) fn svd(
    call: &Call<'_>,
    full: bool,
    x: &Array,
    outs: &[TensorType],
) -> Result<Vec<Array>> {
    let host = call.host;
    let x = batch(host, x, Type::F64)?;
    let finite = Finite::of(host, &x)?;
    let (count, height, width) = sizes(&x);
    let wide = height < width;
    let tall = if wide {
        transpose(host, &finite.matrices)?
    } else {
        finite.matrices.clone()
    };
    let [left, values, right] = decomposed(host, &tall, full, outs[1].ty)?;
    let (u, vt) = if wide {
        (right, transpose(host, &left)?)
    } else {
        (left, transpose(host, &right)?)
    };
    let values = host.reshape(&values, &[count, 1, height.min(width)])?;
    Ok(vec![
        result(host, &finite.or_nan(host, &u)?, &outs[0])?,
        result(host, &finite.or_nan(host, &values)?, &outs[1])?,
        result(host, &finite.or_nan(host, &vt)?, &outs[2])?,
    ])
}

/// U, the singular values and V of matrices with at least as many rows as columns. A column of V has
/// the sign of an eigenvector, and that of U follows; where the singular value is zero, and beyond, U
/// has signs of its own.
fn decomposed(host: Mlx, x: &Array, full: bool, ty: Type) -> Result<[Array; 3]> {
    let (_, height, width) = sizes(x);
    let [u, values, vt] = if full || height == width {
        host.svd(x)?
    } else {
        // LAPACK would make all of a U that is mostly not asked for.
        let (q, r) = host.qr(x)?;
        let [u, values, vt] = host.svd(&r)?;
        [host.matmul(&q, &u)?, values, vt]
    };
    let greatest = host.max(&values, &[1], true)?;
    // What the rounding of the matrix itself may have made of zero: ranks and inverses count on it.
    let values = below(host, &values, &greatest, f64::from(height) * unit(ty))?;
    let v = transpose(host, &vt)?;
    let (signs, own) = (phases(host, &v)?, phases(host, &u)?);
    let row = host.reshape(&values, &[-1, 1, width])?;
    let zero = host.equal(&row, &host.scalar(0, Type::F64)?)?;
    let followed = host.select(&zero, &columns(host, &own, 0, width)?, &signs)?;
    let beyond = columns(host, &own, width, sizes(&u).2)?;
    let of_u = host.concatenate(&[followed, beyond], 2)?;
    Ok([
        cleaned(host, &host.multiply(&u, &of_u)?)?,
        values,
        cleaned(host, &host.multiply(&v, &signs)?)?,
    ])
}
