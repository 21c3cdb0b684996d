//! `Nx.LinAlg`: systems and factorizations of batches of matrices.
//!
//! Small matrices, and complex ones that LAPACK has no function of MLX's for, are taken apart by the
//! steps that Nx takes, for all matrices of a batch at once; large ones are LAPACK's. An exception of
//! LAPACK's would end the process, so nothing gets there that it could fail on. Whatever the device,
//! this runs on the host, where LAPACK is and many small steps cost the least.

mod cholesky;
mod determinant;
mod eigh;
mod jacobi;
mod lu;
mod matrix;
mod qr;
mod svd;
mod triangular;
mod vectors;

use crate::{
    Array, Error, Op, Result, Stream, TensorType,
    check::Checks,
    error::list,
    infer::infer_all,
    lower::{Arrays, Operand, types},
    mlx::Mlx,
};

/// What the functions of this family work with.
struct Call<'a> {
    mlx: Mlx,
    checks: &'a mut Checks,
}

/// The results of `op` if it is of this family.
pub(super) fn family(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Option<Arrays>> {
    if !is_of_matrices(op) {
        return Ok(None);
    }
    let inputs = types(operands);
    if infer_all(op, &inputs)?[..] != *outs {
        return Err(Error::argument(format!(
            "expected {} of {} to give {}, got: {}",
            op.name(),
            list(&inputs),
            list(&infer_all(op, &inputs)?),
            list(outs)
        )));
    }
    let mut call = Call {
        mlx: stream.host(),
        checks,
    };
    // No matrices, or no right sides.
    if outs.iter().all(|out| out.shape.size() == 0) {
        return outs
            .iter()
            .map(|out| empty(stream.mlx(), out))
            .collect::<Result<_>>()
            .map(Some);
    }
    lowered(&mut call, op, outs, operands).map(|results| Some(results.into()))
}

const fn is_of_matrices(op: &Op) -> bool {
    matches!(
        op,
        Op::TriangularSolve { .. }
            | Op::Solve
            | Op::Cholesky
            | Op::Determinant
            | Op::Qr { .. }
            | Op::Eigh
            | Op::Svd { .. }
            | Op::Lu
    )
}

fn lowered(
    call: &mut Call<'_>,
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
) -> Result<Vec<Array>> {
    match (op, operands) {
        (
            &Op::TriangularSolve {
                lower,
                left_side,
                transform_a,
            },
            [a, b],
        ) => {
            let form = triangular::Form {
                lower,
                left_side,
                transform_a,
            };
            Ok(vec![triangular::solve(call, form, a, b, &outs[0])?])
        }
        (Op::Solve, [a, b]) => Ok(vec![lu::solve(call, a.array, b.array, &outs[0])?]),
        (Op::Cholesky, [x]) => Ok(vec![cholesky::cholesky(call, x.array, &outs[0])?]),
        (Op::Determinant, [x]) => Ok(vec![determinant::determinant(call, x.array, &outs[0])?]),
        (Op::Qr { mode }, [x]) => qr::qr(call, *mode, x.array, outs),
        (Op::Eigh, [x]) => eigh::eigh(call, x.array, outs),
        (Op::Svd { full_matrices }, [x]) => svd::svd(call, *full_matrices, x.array, outs),
        (Op::Lu, [x]) => lu::lu(call, x.array, outs),
        _ => Err(Error::argument(format!(
            "expected {} to take other inputs",
            op.name()
        ))),
    }
}

fn empty(mlx: Mlx, out: &TensorType) -> Result<Array> {
    mlx.broadcast_to(&mlx.scalar(0, out.ty)?, out.shape.dims())
}
