//! `Nx.LinAlg.cholesky/1`.

use super::{
    Call,
    matrix::{Finite, adjoint, batch, block, result, rows, sizes, working, zeros},
    triangular::forward,
};
use crate::{Array, Kind, Result, TensorType, mlx::Mlx};

/// The largest matrix that is factorized column by column.
const UNROLLED: i32 = 8;

/// What Nx adds to a root before it divides by it, so that a column without variance gives zeros.
const EPS: f64 = 1.0e-10;

pub(super) fn cholesky(call: &mut Call<'_>, x: &Array, out: &TensorType) -> Result<Array> {
    let x = batch(call.mlx, x, working(out.ty))?;
    let (factor, definite) = if x.ty().kind() == Kind::Complex || sizes(&x).1 <= UNROLLED {
        let factor = halved(call.mlx, &x)?;
        // NaN and infinity give NaN, which is no fault.
        let definite = definite(call.mlx, &factor, Mlx::greater_equal)?;
        let definite = Finite::of(call.mlx, &x)?.or_not(call.mlx, &definite)?;
        (factor, definite)
    } else {
        lapack(call.mlx, &x)?
    };
    let definite = call.mlx.all(&definite, &[0, 1, 2], false)?;
    call.checks.require(
        definite,
        "expected positive definite matrices, got: one that is not",
    );
    result(call.mlx, &factor, out)
}

/// Whether the diagonal compares to zero as it should, for each matrix. The steps that Nx takes factorize
/// semidefinite matrices as well; LAPACK stops at a zero.
fn definite(
    mlx: Mlx,
    factor: &Array,
    compare: fn(Mlx, &Array, &Array) -> Result<Array>,
) -> Result<Array> {
    let (count, _, _) = sizes(factor);
    let diagonal = mlx.diagonal(factor)?;
    let diagonal = match diagonal.ty().kind() {
        Kind::Complex => mlx.real(&diagonal)?,
        _ => diagonal,
    };
    let positive = compare(mlx, &diagonal, &mlx.scalar(0, diagonal.ty())?)?;
    mlx.reshape(&mlx.all(&positive, &[1], true)?, &[count, 1, 1])
}

fn lapack(mlx: Mlx, x: &Array) -> Result<(Array, Array)> {
    let finite = Finite::of(mlx, x)?;
    let factor = mlx.cholesky(&finite.matrices)?;
    let definite = finite.or_not(mlx, &definite(mlx, &factor, Mlx::greater)?)?;
    Ok((finite.or_nan(mlx, &factor)?, definite))
}

/// The factor of the first half of the rows, then what the others are of it, then the factor of what
/// remains.
fn halved(mlx: Mlx, x: &Array) -> Result<Array> {
    let (count, size, _) = sizes(x);
    if size <= UNROLLED {
        return unrolled(mlx, x);
    }
    let half = size / 2;
    let first = halved(mlx, &block(mlx, x, (0, half), (0, half))?)?;
    let below = block(mlx, x, (half, size), (0, half))?;
    let below = adjoint(mlx, &forward(mlx, &first, &adjoint(mlx, &below)?)?)?;
    let rest = block(mlx, x, (half, size), (half, size))?;
    let product = mlx.matmul(&below, &adjoint(mlx, &below)?)?;
    let second = halved(mlx, &mlx.subtract(&rest, &product)?)?;
    let right = zeros(mlx, (count, half, size - half), x.ty())?;
    let top = mlx.concatenate(&[first, right], 2)?;
    mlx.concatenate(&[top, mlx.concatenate(&[below, second], 2)?], 1)
}

/// Column by column, each divided by the root of its first element and taken off the others.
fn unrolled(mlx: Mlx, x: &Array) -> Result<Array> {
    let (count, size, _) = sizes(x);
    let mut left = x.clone();
    let mut done = Vec::with_capacity(size as usize);
    for index in 0..size {
        let height = size - index;
        let column = block(mlx, &left, (0, height), (0, 1))?;
        let column = divided(mlx, &column)?;
        if height > 1 {
            let below = rows(mlx, &column, 1, height)?;
            let product = mlx.multiply(&below, &adjoint(mlx, &below)?)?;
            let rest = block(mlx, &left, (1, height), (1, height))?;
            left = mlx.subtract(&rest, &product)?;
        }
        let above = zeros(mlx, (count, index, 1), x.ty())?;
        done.push(mlx.concatenate(&[above, column], 1)?);
    }
    mlx.concatenate(&done, 2)
}

/// A column by the root of its first element, which is real.
fn divided(mlx: Mlx, column: &Array) -> Result<Array> {
    let (_, height, _) = sizes(column);
    let first = rows(mlx, column, 0, 1)?;
    let root = match column.ty().kind() {
        Kind::Complex => mlx.convert(&mlx.sqrt(&mlx.real(&first)?)?, column.ty())?,
        _ => mlx.sqrt(&first)?,
    };
    if height == 1 {
        return Ok(root);
    }
    let divisor = mlx.add(&root, &mlx.scalar(EPS, root.ty())?)?;
    let below = mlx.divide(&rows(mlx, column, 1, height)?, &divisor)?;
    mlx.concatenate(&[root, below], 1)
}
