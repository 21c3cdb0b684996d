//! Operations with assertions: what is looked at in their values, and what is said where that is not
//! as it should be. The words are looked for when an assertion has failed, and not before.

use super::{Lowered, Operand, finite, indices::Indexed, lower_plain};
use crate::{
    Array, Assertion, Error, Kind, Op, Result, Stream, TensorType, Type,
    check::{Explanation, Pending},
    eval::Tensor,
};

/// As the operation alone, with what must hold among what is asked of the values.
pub(super) fn lower(
    op: &Op,
    of: &[Assertion],
    outs: &[TensorType],
    inputs: &[Operand<'_>],
    stream: &Stream,
) -> Result<Lowered> {
    let mut lowered = lower_plain(op, outs, inputs, stream)?;
    if let (true, Some(axes), [x, indices, ..]) =
        (of.contains(&Assertion::Bounds), op.indexed_axes(), inputs)
    {
        let explanation = || outside(op, axes, x, indices, stream);
        lowered.checks.explain_last(explanation);
    }
    if of.contains(&Assertion::Finite) {
        finite::require(op, outs, inputs, stream, &mut lowered).map_err(|error| {
            error.in_operation(op, outs, &super::types(inputs), &stream.to_string())
        })?;
    }
    Ok(lowered)
}

/// Says which index is not within its axis.
fn outside(
    op: &Op,
    axes: &[usize],
    x: &Operand<'_>,
    indices: &Operand<'_>,
    stream: &Stream,
) -> Explanation {
    let (op, axes, stream) = (op.clone(), axes.to_vec(), stream.clone());
    let (x, ty, indices) = (
        x.tensor_type(),
        indices.tensor_type(),
        indices.array.clone(),
    );
    Box::new(move || {
        let (op, axes) = (&op, &axes[..]);
        let outside = Indexed { op, x: &x, axes }.outside(&ty, integers(&stream, &indices)?);
        outside.ok_or_else(|| Error::argument("each index is within its axis"))
    })
}

/// The elements, computed already, of an integer array.
fn integers(stream: &Stream, array: &Array) -> Result<impl Iterator<Item = i128>> {
    let signed = array.ty().kind() == Kind::Signed;
    let wide = if signed { Type::S64 } else { Type::U64 };
    let bytes = bytes(stream, stream.mlx().convert(array, wide)?)?;
    let words: Vec<_> = bytes
        .chunks_exact(8)
        .filter_map(<[u8]>::first_chunk)
        .copied()
        .collect();
    Ok(words.into_iter().map(move |word| match signed {
        true => i64::from_ne_bytes(word).into(),
        false => u64::from_ne_bytes(word).into(),
    }))
}

/// What the array's elements are made of, in row-major order, once they are computed.
pub(super) fn bytes(stream: &Stream, array: Array) -> Result<Vec<u8>> {
    let ty = array.tensor_type();
    let tensor = Tensor::pending(stream, array, &ty, Pending::default()).readable()?;
    Ok(tensor.bytes().unwrap_or_default().to_vec())
}
