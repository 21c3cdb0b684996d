//! `Nx.LinAlg.svd/2`: LAPACK's singular values and vectors.

use super::{
    Call,
    matrix::{Finite, batch, columns, refuse_large, refuse_vast, result, sizes, transpose},
    vectors::{below, cleaned, phases, unit},
};
use crate::{Array, Result, TensorType, Type, mlx::Mlx};

/// The most rows of matrices with no fewer columns, and the other way round.
const MOST_ROWS: i32 = 16_384;

/// Decomposed in f64, which costs little and keeps small singular values apart.
pub(super) fn svd(
    call: &Call<'_>,
    full: bool,
    x: &Array,
    outs: &[TensorType],
) -> Result<Vec<Array>> {
    let mlx = call.mlx;
    let x = batch(mlx, x, Type::F64)?;
    let finite = Finite::of(mlx, &x)?;
    let (count, height, width) = sizes(&x);
    refuse_large(height.min(width), MOST_ROWS)?;
    let wide = height < width;
    if full {
        let most = height.max(width);
        refuse_vast((count, most, most), Type::F64)?;
    }
    let tall = if wide {
        transpose(mlx, &finite.matrices)?
    } else {
        finite.matrices.clone()
    };
    let [left, values, right] = decomposed(mlx, &tall, full, outs[1].ty)?;
    let (u, vt) = if wide {
        (right, transpose(mlx, &left)?)
    } else {
        (left, transpose(mlx, &right)?)
    };
    let values = mlx.reshape(&values, &[count, 1, height.min(width)])?;
    Ok(vec![
        result(mlx, &finite.or_nan(mlx, &u)?, &outs[0])?,
        result(mlx, &finite.or_nan(mlx, &values)?, &outs[1])?,
        result(mlx, &finite.or_nan(mlx, &vt)?, &outs[2])?,
    ])
}

/// U, the singular values and V of matrices with at least as many rows as columns. A column of V has
/// the sign of an eigenvector, and that of U follows; where the singular value is zero, and beyond, U
/// has signs of its own.
fn decomposed(mlx: Mlx, x: &Array, full: bool, ty: Type) -> Result<[Array; 3]> {
    let (_, height, width) = sizes(x);
    let [u, values, vt] = if full || height == width {
        mlx.svd(x)?
    } else {
        // LAPACK would make all of a U that is mostly not asked for.
        let (q, r) = mlx.qr(x)?;
        let [u, values, vt] = mlx.svd(&r)?;
        [mlx.matmul(&q, &u)?, values, vt]
    };
    let greatest = mlx.max(&values, &[1], true)?;
    // What the rounding of the matrix itself may have made of zero: ranks and inverses count on it.
    let values = below(mlx, &values, &greatest, f64::from(height) * unit(ty))?;
    let v = transpose(mlx, &vt)?;
    let (signs, own) = (phases(mlx, &v)?, phases(mlx, &u)?);
    let row = mlx.reshape(&values, &[-1, 1, width])?;
    let zero = mlx.equal(&row, &mlx.scalar(0, Type::F64)?)?;
    let followed = mlx.select(&zero, &columns(mlx, &own, 0, width)?, &signs)?;
    let beyond = columns(mlx, &own, width, sizes(&u).2)?;
    let of_u = mlx.concatenate(&[followed, beyond], 2)?;
    Ok([
        cleaned(mlx, &mlx.multiply(&u, &of_u)?)?,
        values,
        cleaned(mlx, &mlx.multiply(&v, &signs)?)?,
    ])
}
