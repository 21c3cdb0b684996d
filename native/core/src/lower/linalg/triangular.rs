//! Triangular systems, solved by substitution.
//!
//! MLX multiplies by the inverse that LAPACK makes, which ends the process where a matrix is singular,
//! and knows real numbers alone.

use super::{
    Call,
    matrix::{batch, block, identity, result, right_side, rows, sizes, transpose, working},
};
use crate::{
    Array, Error, Kind, Result, TensorType, TransformA, Type, infer::linalg::is_vector,
    lower::Operand, mlx::Mlx,
};

/// The largest matrix that substitution takes element by element.
const UNROLLED: i32 = 16;

/// Which triangle counts, on which side of the unknown it stands, and what becomes of it first.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub lower: bool,
    pub left_side: bool,
    pub transform_a: TransformA,
}

pub(super) fn solve(
    call: &mut Call<'_>,
    form: Form,
    a: &Operand<'_>,
    b: &Operand<'_>,
    out: &TensorType,
) -> Result<Array> {
    let (mlx, ty) = (call.mlx, precise(a.array, working(out.ty)));
    let vector = is_vector(&a.array.shape(), &b.array.shape());
    let matrices = batch(mlx, a.array, ty)?;
    let b = right_side(mlx, b.array, sizes(&matrices).0, vector, ty)?;
    match regular(a) {
        Some(true) => {}
        // What Nx says too, so that its callers see the same text.
        Some(false) => return Err(Error::argument("can't solve for singular matrix")),
        None => require_regular(call, &matrices)?,
    }
    let a = match form.transform_a {
        TransformA::Conjugate if ty.kind() == Kind::Complex => mlx.conjugate(&matrices)?,
        _ => matrices,
    };
    // x a = b is the transpose of aT xT = bT; a vector is the same on either side.
    let transposed = (form.transform_a == TransformA::Transpose) == form.left_side;
    let turned = !form.left_side && !vector;
    let a = if transposed { transpose(mlx, &a)? } else { a };
    let b = if turned { transpose(mlx, &b)? } else { b };
    let x = if form.lower == transposed {
        backward(mlx, &a, &b)?
    } else {
        forward(mlx, &a, &b)?
    };
    let x = if turned { transpose(mlx, &x)? } else { x };
    result(mlx, &x, out)
}

/// The type that systems with `a`, of rows that are not many, are solved in, rather than in `ty`: Nx
/// rounds the unknowns once.
pub(super) fn precise(a: &Array, ty: Type) -> Type {
    let few = a
        .shape()
        .dims()
        .last()
        .is_some_and(|&size| size <= UNROLLED);
    if few && ty == Type::F32 {
        Type::F64
    } else {
        ty
    }
}

/// Whether no diagonal has a zero, where that can be seen at once.
fn regular(a: &Operand<'_>) -> Option<bool> {
    let zeros = a.ready_zeros()?;
    let columns = *a.array.shape().dims().last()? as usize;
    let mut matrices = zeros.chunks_exact(columns * columns);
    Some(matrices.all(|matrix| !matrix.iter().step_by(columns + 1).any(|&zero| zero)))
}

/// Asks that no diagonal has a zero.
pub(super) fn require_regular(call: &mut Call<'_>, triangular: &Array) -> Result<()> {
    let mlx = call.mlx;
    let diagonal = mlx.diagonal(triangular)?;
    let zero = mlx.scalar(0, diagonal.ty())?;
    let regular = mlx.all(&mlx.not_equal(&diagonal, &zero)?, &[0, 1], false)?;
    call.checks.require(
        regular,
        "expected matrices that can be inverted, got: a singular one",
    );
    Ok(())
}

/// Solves `a x = b` with lower triangular matrices; what is above their diagonals is not looked at.
pub(super) fn forward(mlx: Mlx, a: &Array, b: &Array) -> Result<Array> {
    let (_, size, _) = sizes(a);
    if size <= UNROLLED {
        return substitute(mlx, a, b);
    }
    let inverses = diagonal_inverses(mlx, a)?;
    let mut solved: Option<Array> = None;
    for (index, start) in (0..size).step_by(UNROLLED as usize).enumerate() {
        let stop = size.min(start + UNROLLED);
        let b = rows(mlx, b, start, stop)?;
        let b = match &solved {
            Some(solved) => {
                let left = block(mlx, a, (start, stop), (0, start))?;
                mlx.subtract(&b, &mlx.matmul(&left, solved)?)?
            }
            None => b,
        };
        let x = match inverses.get(index) {
            Some(inverse) => mlx.matmul(inverse, &b)?,
            None => substitute(mlx, &block(mlx, a, (start, stop), (start, stop))?, &b)?,
        };
        solved = Some(match solved {
            Some(solved) => mlx.concatenate(&[solved, x], 1)?,
            None => x,
        });
    }
    solved.ok_or_else(|| Error::argument("expected matrices with rows, got: none"))
}

/// Solves `a x = b` with upper triangular matrices: backwards they are lower ones.
pub(super) fn backward(mlx: Mlx, a: &Array, b: &Array) -> Result<Array> {
    let x = forward(mlx, &mlx.reverse(a, &[1, 2])?, &mlx.reverse(b, &[1])?)?;
    mlx.reverse(&x, &[1])
}

/// By halves: the first rows of the solution, then the others with what the first leave of `b`.
fn substitute(mlx: Mlx, a: &Array, b: &Array) -> Result<Array> {
    let (_, size, _) = sizes(a);
    if size == 1 {
        return mlx.divide(b, a);
    }
    let half = size / 2;
    let first = substitute(
        mlx,
        &block(mlx, a, (0, half), (0, half))?,
        &rows(mlx, b, 0, half)?,
    )?;
    let known = mlx.matmul(&block(mlx, a, (half, size), (0, half))?, &first)?;
    let second = substitute(
        mlx,
        &block(mlx, a, (half, size), (half, size))?,
        &mlx.subtract(&rows(mlx, b, half, size)?, &known)?,
    )?;
    mlx.concatenate(&[first, second], 1)
}

/// The inverses of the full blocks on the diagonals, which are solved for all at once.
fn diagonal_inverses(mlx: Mlx, a: &Array) -> Result<Vec<Array>> {
    let (count, size, _) = sizes(a);
    let starts = (0..size - UNROLLED + 1).step_by(UNROLLED as usize);
    let blocks: Vec<Array> = starts
        .map(|start| {
            let range = (start, start + UNROLLED);
            block(mlx, a, range, range)
        })
        .collect::<Result<_>>()?;
    let together = mlx.concatenate(&blocks, 0)?;
    let all = sizes(&together);
    let inverses = substitute(mlx, &together, &identity(mlx, all, a.ty())?)?;
    let of = |index: i32| {
        let (first, last) = (index * count, (index + 1) * count);
        mlx.slice(&inverses, &[first, 0, 0], &[last, all.1, all.2], &[1; 3])
    };
    (0..blocks.len() as i32).map(of).collect()
}
