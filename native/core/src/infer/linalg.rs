//! The results of `Nx.LinAlg`'s functions.

use smallvec::smallvec;

use super::{Outputs, merged};
use crate::{Error, Op, QrMode, Result, Shape, TensorType, Type, error::list};

/// The types and shapes of all results of `op` if it is a function of matrices.
pub(super) fn outputs(op: &Op, inputs: &[TensorType]) -> Result<Option<Outputs>> {
    Ok(Some(match (op, inputs) {
        (Op::TriangularSolve { left_side, .. }, [a, b]) => {
            smallvec![system(op, a, b, *left_side)?]
        }
        (Op::Solve, [a, b]) => smallvec![system(op, a, b, true)?],
        (Op::Cholesky, [x]) => {
            square(op, x)?;
            smallvec![floating(x, x.shape.dims())]
        }
        (Op::Determinant, [x]) => {
            let (outer, _) = square(op, x)?;
            smallvec![floating(x, outer)]
        }
        (Op::Eigh, [x]) => {
            square(op, x)?;
            let dims = x.shape.dims();
            smallvec![floating(x, &dims[..dims.len() - 1]), floating(x, dims)]
        }
        (Op::Lu, [x]) => {
            square(op, x)?;
            let factor = floating(x, x.shape.dims());
            smallvec![x.clone(), factor.clone(), factor]
        }
        (Op::Qr { mode }, [x]) => {
            let (outer, [rows, columns]) = matrix(op, x)?;
            let least = rows.min(columns);
            let inner = if *mode == QrMode::Complete {
                rows
            } else {
                least
            };
            smallvec![
                floating(x, &[outer, &[rows, inner]].concat()),
                floating(x, &[outer, &[inner, columns]].concat())
            ]
        }
        (Op::Svd { full_matrices }, [x]) => singular(op, x, *full_matrices)?,
        _ => return Ok(None),
    }))
}

/// Whether `b` is one vector for each of the matrices `a`, rather than a matrix.
pub(crate) fn is_vector(a: &Shape, b: &Shape) -> bool {
    a.dims()
        .split_last()
        .is_some_and(|(_, dims)| dims == b.dims())
}

fn singular(op: &Op, x: &TensorType, full: bool) -> Result<Outputs> {
    let (outer, [rows, columns]) = matrix(op, x)?;
    if x.ty == Type::C64 {
        return Err(Error::argument(format!(
            "expected svd of real matrices, got: {x}"
        )));
    }
    let least = rows.min(columns);
    let (left, right) = if full {
        (rows, columns)
    } else {
        (least, least)
    };
    Ok(smallvec![
        floating(x, &[outer, &[rows, left]].concat()),
        floating(x, &[outer, &[least]].concat()),
        floating(x, &[outer, &[right, columns]].concat())
    ])
}

/// The unknown of a system: a vector, or a matrix on the left or right of which `a` stands.
fn system(op: &Op, a: &TensorType, b: &TensorType, left_side: bool) -> Result<TensorType> {
    let (outer, [size, _]) = square(op, a)?;
    let fits = is_vector(&a.shape, &b.shape)
        || match b.shape.dims() {
            [batch @ .., rows, columns] => {
                let along = if left_side { rows } else { columns };
                batch == outer && *along == size
            }
            _ => false,
        };
    if !fits {
        return Err(Error::argument(format!(
            "expected {} of matrices and of vectors or matrices that fit them, got: {a}, {b}",
            op.name()
        )));
    }
    let ty = merged(op, &[a.clone(), b.clone()])?.to_floating();
    Ok(TensorType {
        ty,
        shape: b.shape.clone(),
    })
}

/// The axes of the batch, and the size of each of its matrices, which have rows and columns.
fn matrix<'a>(op: &Op, x: &'a TensorType) -> Result<(&'a [i32], [i32; 2])> {
    match x.shape.dims() {
        [outer @ .., rows, columns] if *rows > 0 && *columns > 0 => Ok((outer, [*rows, *columns])),
        _ => Err(Error::argument(format!(
            "expected {} of a matrix or a batch of matrices with elements, got: {}",
            op.name(),
            list(std::slice::from_ref(x))
        ))),
    }
}

fn square<'a>(op: &Op, x: &'a TensorType) -> Result<(&'a [i32], [i32; 2])> {
    let (outer, size) = matrix(op, x)?;
    if size[0] != size[1] {
        return Err(Error::argument(format!(
            "expected {} of square matrices, got: {x}",
            op.name()
        )));
    }
    Ok((outer, size))
}

fn floating(x: &TensorType, dims: &[i32]) -> TensorType {
    TensorType {
        ty: x.ty.to_floating(),
        shape: Shape::trusted(dims),
    }
}
