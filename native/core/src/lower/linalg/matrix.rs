//! Batches of matrices: arrays whose three axes are the batch, rows and columns.

use crate::{
    Array, Error, Kind, Result, Shape, TensorType, Type,
    lower::cast::cast,
    mlx::{Mlx, memory_limit, too_large},
};

/// More elements than MLX's loops over matrices count in 32 bits.
const MOST_ELEMENTS: usize = 1 << 31;

/// What a type is computed in: halves in f32, as everywhere.
pub(super) const fn working(ty: Type) -> Type {
    if ty.is_half() {
        Type::F32
    } else {
        ty.to_floating()
    }
}

/// The matrices in the last two axes of `x`, which has them, as a batch of `ty`.
pub(super) fn batch(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    let shape = x.shape();
    let (outer, matrix) = shape.dims().split_at(shape.rank() - 2);
    let count = outer
        .iter()
        .try_fold(1_i32, |count, &size| count.checked_mul(size));
    let count = count.ok_or_else(|| {
        Error::argument(format!(
            "expected at most 2147483647 matrices, got: {}",
            x.tensor_type()
        ))
    })?;
    shaped(mlx, x, [count, matrix[0], matrix[1]], ty)
}

/// The right sides of `count` systems, vectors or matrices, as a batch of `ty`.
pub(super) fn right_side(mlx: Mlx, b: &Array, count: i32, vector: bool, ty: Type) -> Result<Array> {
    if !vector {
        return batch(mlx, b, ty);
    }
    let rows = b.shape().dims().last().copied().unwrap_or(1);
    shaped(mlx, b, [count, rows, 1], ty)
}

fn shaped(mlx: Mlx, x: &Array, dims: [i32; 3], ty: Type) -> Result<Array> {
    refuse_vast((dims[0], dims[1], dims[2]), ty)?;
    cast(mlx, &mlx.shaped(x, &Shape::trusted(&dims))?, ty)
}

/// Refuses a batch of these sizes that MLX could not count or hold.
pub(super) fn refuse_vast((count, rows, columns): (i32, i32, i32), ty: Type) -> Result<()> {
    let shape = Shape::new(&[count, rows, columns].map(i64::from))?;
    let ty = TensorType { ty, shape };
    if ty.shape.size() >= MOST_ELEMENTS {
        return Err(Error::argument(format!(
            "expected matrices of fewer than {MOST_ELEMENTS} elements together, got: {ty}"
        )));
    }
    if ty.bytes() > memory_limit() {
        return Err(too_large(&ty));
    }
    Ok(())
}

/// Refuses matrices with more rows and columns than LAPACK, which counts the memory that it needs in
/// 32 bits, can decompose.
pub(super) fn refuse_large(least: i32, most: i32) -> Result<()> {
    if least > most {
        return Err(Error::argument(format!(
            "expected matrices of at most {most} rows or columns, got: {least}"
        )));
    }
    Ok(())
}

/// A batch as the result that it is.
pub(super) fn result(mlx: Mlx, x: &Array, out: &TensorType) -> Result<Array> {
    mlx.shaped(&cast(mlx, x, out.ty)?, &out.shape)
}

/// The sizes of a batch: how many matrices, and their rows and columns.
pub(super) fn sizes(x: &Array) -> (i32, i32, i32) {
    let shape = x.shape();
    match *shape.dims() {
        [count, rows, columns] => (count, rows, columns),
        _ => (0, 0, 0),
    }
}

/// The rows and columns from a start until a stop.
pub(super) fn block(mlx: Mlx, x: &Array, rows: (i32, i32), columns: (i32, i32)) -> Result<Array> {
    let (count, _, _) = sizes(x);
    mlx.slice(
        x,
        &[0, rows.0, columns.0],
        &[count, rows.1, columns.1],
        &[1, 1, 1],
    )
}

/// Some rows.
pub(super) fn rows(mlx: Mlx, x: &Array, start: i32, stop: i32) -> Result<Array> {
    let (_, _, columns) = sizes(x);
    block(mlx, x, (start, stop), (0, columns))
}

/// Some columns.
pub(super) fn columns(mlx: Mlx, x: &Array, start: i32, stop: i32) -> Result<Array> {
    let (_, rows, _) = sizes(x);
    block(mlx, x, (0, rows), (start, stop))
}

pub(super) fn transpose(mlx: Mlx, x: &Array) -> Result<Array> {
    mlx.transpose(x, &[0, 2, 1])
}

/// Transposed, and conjugated if complex.
pub(super) fn adjoint(mlx: Mlx, x: &Array) -> Result<Array> {
    let transposed = transpose(mlx, x)?;
    match x.ty().kind() {
        Kind::Complex => mlx.conjugate(&transposed),
        _ => Ok(transposed),
    }
}

pub(super) fn zeros(mlx: Mlx, (count, rows, columns): (i32, i32, i32), ty: Type) -> Result<Array> {
    mlx.broadcast_to(&mlx.scalar(0, ty)?, &[count, rows, columns])
}

/// Ones on the diagonals.
pub(super) fn identity(
    mlx: Mlx,
    (count, rows, columns): (i32, i32, i32),
    ty: Type,
) -> Result<Array> {
    mlx.broadcast_to(&mlx.eye(rows, columns, ty)?, &[count, rows, columns])
}

/// The sum of the squared magnitudes of each column, in the real type.
pub(super) fn column_squares(mlx: Mlx, x: &Array) -> Result<Array> {
    let squares = match x.ty().kind() {
        Kind::Complex => mlx.add(&mlx.square(&mlx.real(x)?)?, &mlx.square(&mlx.imag(x)?)?)?,
        _ => mlx.square(x)?,
    };
    mlx.sum(&squares, &[1], true)
}

/// Matrices for LAPACK, which may loop forever, read out of bounds or end the process on what is not
/// finite: such matrices become zeros, and what was made of them NaN.
pub(super) struct Finite {
    /// As an MLX bool, for each matrix.
    are: Array,
    /// The matrices.
    pub matrices: Array,
}

impl Finite {
    pub(super) fn of(mlx: Mlx, x: &Array) -> Result<Self> {
        let finite = match x.ty().kind() {
            Kind::Complex => mlx.logical_and(
                &mlx.is_finite(&mlx.real(x)?)?,
                &mlx.is_finite(&mlx.imag(x)?)?,
            )?,
            _ => mlx.is_finite(x)?,
        };
        let are = mlx.all(&finite, &[1, 2], true)?;
        let matrices = mlx.select(&are, x, &mlx.scalar(0, x.ty())?)?;
        Ok(Self { are, matrices })
    }

    /// NaN for each matrix that was not finite.
    pub(super) fn or_nan(&self, mlx: Mlx, made: &Array) -> Result<Array> {
        let nan = mlx.scalar(f64::NAN, made.ty())?;
        mlx.select(&self.are, made, &nan)
    }

    /// Whether `holds` or the matrix was not finite.
    pub(super) fn or_not(&self, mlx: Mlx, holds: &Array) -> Result<Array> {
        mlx.logical_or(holds, &mlx.logical_not(&self.are)?)
    }
}
