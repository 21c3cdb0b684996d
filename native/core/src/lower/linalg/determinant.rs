//! `Nx.LinAlg.determinant/1`: closed formulas for two and three rows, else from the LU factors.

use super::{
    Call,
    lu::Factors,
    matrix::{batch, block, result, working},
};
use crate::{Array, Result, TensorType, Type, mlx::Mlx};

pub(super) fn determinant(call: &Call<'_>, x: &Array, out: &TensorType) -> Result<Array> {
    let mlx = call.mlx;
    let size = x.shape().dims().last().copied().unwrap_or(0);
    let value = match size {
        // Integers are multiplied as such, with Nx's type of products, in which they wrap.
        2 | 3 => {
            let ty = x.ty();
            let exact = if ty.is_integer() {
                ty.to_aggregate()
            } else {
                working(ty)
            };
            closed(mlx, &batch(mlx, x, exact)?, size)?
        }
        _ => factored(call, &batch(mlx, x, working(out.ty))?)?,
    };
    result(mlx, &value, out)
}

/// The products along the diagonals that fall to the right, less those along the others; with two
/// rows there is one of each.
fn closed(mlx: Mlx, x: &Array, size: i32) -> Result<Array> {
    let product = |start: i32, step: i32| {
        let mut product = element(mlx, x, 0, start)?;
        for row in 1..size {
            let column = (start + step * row).rem_euclid(size);
            product = mlx.multiply(&product, &element(mlx, x, row, column)?)?;
        }
        Ok(product)
    };
    if size == 2 {
        return mlx.subtract(&product(0, 1)?, &product(1, 1)?);
    }
    let mut sum = mlx.add(&mlx.add(&product(0, 1)?, &product(1, 1)?)?, &product(2, 1)?)?;
    for start in (0..size).rev() {
        sum = mlx.subtract(&sum, &product(start, -1)?)?;
    }
    Ok(sum)
}

fn element(mlx: Mlx, x: &Array, row: i32, column: i32) -> Result<Array> {
    block(mlx, x, (row, row + 1), (column, column + 1))
}

/// The product of U's diagonal, negated for an odd permutation.
fn factored(call: &Call<'_>, x: &Array) -> Result<Array> {
    let mlx = call.mlx;
    let factors = Factors::of(call, x)?;
    let diagonal = mlx.diagonal(&factors.upper)?;
    let product = mlx.product(&diagonal, &[1], true)?;
    let later = mlx.greater(&factors.order, &mlx.transpose(&factors.order, &[0, 2, 1])?)?;
    let before = mlx.triu(&mlx.convert(&later, Type::S32)?, 1)?;
    let inversions = mlx.sum(&before, &[1, 2], false)?;
    let odd = mlx.remainder(&inversions, &mlx.scalar(2, Type::S32)?)?;
    let odd = mlx.reshape(&mlx.equal(&odd, &mlx.scalar(1, Type::S32)?)?, &[-1, 1])?;
    let signed = mlx.select(&odd, &mlx.negative(&product)?, &product)?;
    // A zero beside an infinity would give NaN.
    let zero = mlx.scalar(0, signed.ty())?;
    let singular = mlx.any(&mlx.equal(&diagonal, &zero)?, &[1], true)?;
    mlx.select(&singular, &zero, &signed)
}
