//! Operations on parts of a tensor and on indices, which may look at their inputs' values.

use super::{Operand, gather, pad, part, scatter};
use crate::{Array, Op, Result, Stream, TensorType, check::Checks};

/// The result of such an operation, none for others.
pub(super) fn indexing(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Option<Array>> {
    let (mlx, out) = (stream.mlx(), &outs[0]);
    let array = match (op, operands) {
        (Op::Pad { padding }, [x, value]) => pad::pad(mlx, x.array, value.array, padding, out.ty),
        (Op::DynamicSlice { lengths, strides }, _) => {
            part::dynamic_slice(mlx, operands, lengths, strides)
        }
        (Op::PutSlice { starts }, [x, slice]) => {
            part::put_slice(mlx, x.array, slice.array, starts, out)
        }
        (Op::DynamicPutSlice, _) => part::dynamic_put_slice(mlx, operands, out),
        (Op::Gather { axes }, [x, indices]) => gather::gather(mlx, op, x, indices, axes, checks),
        (Op::IndexedAdd { axes } | Op::IndexedPut { axes }, [x, indices, updates]) => {
            scatter::indexed(stream, op, [x, indices, updates], axes, out, checks)
        }
        (Op::Take { axis }, [x, indices]) => gather::take(mlx, op, x, indices, *axis, checks),
        (Op::TakeAlongAxis { axis }, [x, indices]) => {
            gather::take_along_axis(mlx, op, x, indices, *axis, checks)
        }
        _ => return Ok(None),
    };
    array.map(Some)
}
