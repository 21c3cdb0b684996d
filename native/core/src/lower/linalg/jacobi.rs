//! The eigenvalues of symmetric matrices of three rows by Jacobi's rotations, as Nx makes them.
//!
//! Where eigenvalues are equal, any orthonormal vectors of their space will do. With Nx's rotations
//! they are the vectors that Nx gives, and so are all signs.

use super::matrix::{block, columns, identity, rows, sizes, transpose, zeros};
use crate::{Array, Result, Type, mlx::Mlx};

/// After as many nothing but rounding is left off the diagonal: each squares what there was.
const SWEEPS: usize = 4;

/// The rounds of a sweep, after which the rows are in their first order again.
const ROUNDS: usize = 3;

/// How small beside the greatest element what is off the diagonal is left alone: turning by rounding
/// errors would mix the vectors of equal eigenvalues.
const NOISE: f64 = 1e-14;

/// Eigenvalues in no order, and eigenvectors as columns, of matrices of f64.
pub(super) fn eigh(mlx: Mlx, x: &Array) -> Result<(Array, Array)> {
    let (count, _, _) = sizes(x);
    let greatest = mlx.max(&mlx.abs(x)?, &[1, 2], false)?;
    let noise = mlx.multiply(&greatest, &mlx.scalar(NOISE, Type::F64)?)?;
    let noise = mlx.reshape(&noise, &[count, 1])?;
    let constants = Constants::new(mlx)?;
    let mut matrix = padded(mlx, x)?;
    let mut vectors = identity(mlx, (count, 4, 4), Type::F64)?;
    for _ in 0..SWEEPS * ROUNDS {
        let turn = Turn::of(mlx, &matrix, &noise, &constants)?;
        let turned = turn.rows(mlx, &mlx.concatenate(&[matrix, vectors], 2)?)?;
        // Symmetric, so that turning the rows of the transpose turns the columns.
        matrix = turn.rows(mlx, &transpose(mlx, &columns(mlx, &turned, 0, 4)?)?)?;
        vectors = columns(mlx, &turned, 4, 8)?;
    }
    let values = diagonal(mlx, &matrix)?;
    let values = mlx.slice(&values, &[0, 0], &[count, 3], &[1, 1])?;
    let vectors = transpose(mlx, &block(mlx, &vectors, (0, 3), (0, 3))?)?;
    Ok((values, vectors))
}

/// With a row and a column of zeros, so that the rows meet in pairs.
fn padded(mlx: Mlx, x: &Array) -> Result<Array> {
    let (count, size, _) = sizes(x);
    // The lower triangle counts.
    let lower = mlx.tril(x, 0)?;
    let upper = transpose(mlx, &mlx.tril(x, -1)?)?;
    let wide = mlx.concatenate(
        &[
            mlx.add(&lower, &upper)?,
            zeros(mlx, (count, size, 1), Type::F64)?,
        ],
        2,
    )?;
    mlx.concatenate(&[wide, zeros(mlx, (count, 1, size + 1), Type::F64)?], 1)
}

fn diagonal(mlx: Mlx, matrix: &Array) -> Result<Array> {
    let (count, _, _) = sizes(matrix);
    let flat = mlx.reshape(matrix, &[count, 16])?;
    mlx.slice(&flat, &[0, 0], &[count, 16], &[1, 5])
}

struct Constants {
    zero: Array,
    one: Array,
    two: Array,
}

impl Constants {
    fn new(mlx: Mlx) -> Result<Self> {
        Ok(Self {
            zero: mlx.scalar(0, Type::F64)?,
            one: mlx.scalar(1, Type::F64)?,
            two: mlx.scalar(2, Type::F64)?,
        })
    }
}

/// The cosines and sines by which the first two rows are turned with the other two.
struct Turn {
    cosines: Array,
    sines: Array,
}

impl Turn {
    /// What brings the elements where the pairs meet to zero.
    fn of(mlx: Mlx, matrix: &Array, noise: &Array, constants: &Constants) -> Result<Self> {
        let Constants { zero, one, two } = constants;
        let (count, _, _) = sizes(matrix);
        let flat = mlx.reshape(matrix, &[count, 16])?;
        let meeting = mlx.slice(&flat, &[0, 2], &[count, 8], &[1, 5])?;
        let all = diagonal(mlx, matrix)?;
        let first = mlx.slice(&all, &[0, 0], &[count, 2], &[1, 1])?;
        let second = mlx.slice(&all, &[0, 2], &[count, 4], &[1, 1])?;
        let still = mlx.less_equal(&mlx.abs(&meeting)?, noise)?;
        let divisor = mlx.multiply(two, &mlx.select(&still, one, &meeting)?)?;
        let cotangent = mlx.divide(&mlx.subtract(&second, &first)?, &divisor)?;
        let root = mlx.sqrt(&mlx.add(one, &mlx.square(&cotangent)?)?)?;
        let positive = mlx.greater_equal(&cotangent, zero)?;
        let root = mlx.select(&positive, &root, &mlx.negative(&root)?)?;
        let tangent = mlx.divide(one, &mlx.add(&cotangent, &root)?)?;
        let tangent = mlx.select(&still, zero, &tangent)?;
        let cosines = mlx.rsqrt(&mlx.add(one, &mlx.square(&tangent)?)?)?;
        let sines = mlx.multiply(&tangent, &cosines)?;
        Ok(Self {
            cosines: mlx.reshape(&cosines, &[count, 2, 1])?,
            sines: mlx.reshape(&sines, &[count, 2, 1])?,
        })
    }

    /// The rows turned, and put where they meet others: the first one stays, the others go round.
    fn rows(&self, mlx: Mlx, x: &Array) -> Result<Array> {
        let (first, second) = (rows(mlx, x, 0, 2)?, rows(mlx, x, 2, 4)?);
        let (c, s) = (&self.cosines, &self.sines);
        let turned = mlx.subtract(&mlx.multiply(&first, c)?, &mlx.multiply(&second, s)?)?;
        let second = mlx.add(&mlx.multiply(&first, s)?, &mlx.multiply(&second, c)?)?;
        let (stays, leaves) = (rows(mlx, &turned, 0, 1)?, rows(mlx, &turned, 1, 2)?);
        mlx.concatenate(&[stays, second, leaves], 1)
    }
}
