//! The type and shape of a result, as Nx infers them, for callers that do not know them already.

mod fused;
pub(crate) mod indexed;
pub(crate) mod linalg;
pub(crate) mod quantized;
mod shapes;
mod sliding;

pub(crate) use fused::mask_and_sinks;
use smallvec::{SmallVec, smallvec};

use crate::{
    Error, Op, Result, Shape, TensorType, Type,
    error::list,
    lower::{axes, compare::check_bounds, movement::check_slice, windows::Windows},
};
use shapes::{broadcast, common, contracted, extreme, joined, reduced, selected, sliced, stacked};

/// The types and shapes of an operation's results.
pub type Outputs = SmallVec<[TensorType; 1]>;

/// The types and shapes of all results of `op` on tensors of these types and shapes.
///
/// # Errors
///
/// As [`infer`].
pub fn infer_all(op: &Op, inputs: &[TensorType]) -> Result<Outputs> {
    let op = op.plain();
    check_count(op, inputs)?;
    if let Some(outputs) = listed(op, inputs)? {
        return Ok(outputs);
    }
    match (op, inputs) {
        (Op::TopK { k }, [x]) => {
            let shape = shape(indexed::top_k(&x.shape, *k)?)?;
            let (values, indices) = (x.ty, Type::S32);
            Ok([values, indices]
                .map(|ty| TensorType {
                    ty,
                    shape: shape.clone(),
                })
                .into_iter()
                .collect())
        }
        _ => Ok(smallvec![infer(op, inputs)?]),
    }
}

/// The outputs of operations that may have several, none for others.
fn listed(op: &Op, inputs: &[TensorType]) -> Result<Option<Outputs>> {
    Ok(match linalg::outputs(op, inputs)? {
        None => quantized::outputs(op, inputs)?,
        outputs => outputs,
    })
}

fn check_count(op: &Op, inputs: &[TensorType]) -> Result<()> {
    let expected = match op.arity() {
        Some(arity) if arity != inputs.len() => arity.to_string(),
        None if inputs.is_empty() => "at least 1".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::argument(format!(
        "expected {} to take {expected} inputs, got: {}",
        op.name(),
        inputs.len()
    )))
}

/// The type and shape of `op`'s only result on tensors of these types and shapes.
///
/// # Errors
///
/// If the inputs or attributes do not fit, or if the result's shape is the caller's to choose, as
/// for `Reshape`.
pub fn infer(op: &Op, inputs: &[TensorType]) -> Result<TensorType> {
    let op = op.plain();
    check_count(op, inputs)?;
    if let Some(outputs) = listed(op, inputs)? {
        return match &outputs[..] {
            [output] => Ok(output.clone()),
            _ => Err(Error::argument(format!(
                "expected an operation with one output, got: {}",
                op.name()
            ))),
        };
    }
    if let Some((ty, dims)) = indexed::result(op, inputs)? {
        let shape = shape(dims)?;
        return Ok(TensorType { ty, shape });
    }
    let (ty, dims) = match (op, inputs) {
        (
            Op::Constant { .. }
            | Op::Iota { .. }
            | Op::Eye
            | Op::AsType
            | Op::Reshape
            | Op::Squeeze
            | Op::Broadcast { .. }
            | Op::Bitcast,
            _,
        ) => {
            return Err(Error::argument(format!(
                "expected the type and shape of the result of {}, which its inputs do not tell",
                op.name()
            )));
        }
        (Op::Transpose { axes }, [x]) => {
            let order = axes::permutation(axes, x.shape.rank())?;
            let dims = order.iter().map(|&axis| x.shape.dims()[axis as usize]);
            (x.ty, dims.collect())
        }
        (Op::Reverse { axes }, [x]) => {
            axes::checked(axes, x.shape.rank())?;
            (x.ty, x.shape.dims().to_vec())
        }
        (
            Op::Slice {
                starts,
                lengths,
                strides,
            },
            [x],
        ) => {
            check_slice(&x.shape, starts, lengths, strides)?;
            (x.ty, sliced(lengths, strides))
        }
        (Op::Concatenate { axis }, _) => (merged(op, inputs)?, joined(*axis, inputs)?),
        (Op::Stack { axis }, _) => (merged(op, inputs)?, stacked(*axis, inputs)?),
        (Op::Select, [predicate, x, y]) => {
            (merged(op, &inputs[1..])?, selected(op, predicate, x, y)?)
        }
        (Op::Clip, [x, min, max]) => {
            check_bounds(&min.shape, &max.shape)?;
            (merged(op, inputs)?, x.shape.dims().to_vec())
        }
        (Op::Sum { axes, keep_axes } | Op::Product { axes, keep_axes }, [x]) => (
            x.ty.to_aggregate(),
            reduced(x, axes.as_deref(), *keep_axes)?,
        ),
        (Op::ReduceMax { axes, keep_axes } | Op::ReduceMin { axes, keep_axes }, [x]) => {
            (x.ty, reduced(x, axes.as_deref(), *keep_axes)?)
        }
        (
            Op::Reduce {
                axes,
                keep_axes,
                fun,
            },
            [x, ..],
        ) => (fun.result()?.ty, reduced(x, axes.as_deref(), *keep_axes)?),
        (Op::All { axes, keep_axes } | Op::Any { axes, keep_axes }, [x]) => {
            (Type::U8, reduced(x, axes.as_deref(), *keep_axes)?)
        }
        (
            Op::Argmax {
                axis, keep_axis, ..
            }
            | Op::Argmin {
                axis, keep_axis, ..
            },
            [x],
        ) => (Type::S32, extreme(x, *axis, *keep_axis)?),
        (Op::AllClose { .. }, [a, b]) => {
            broadcast(op, &[a, b])?;
            merged(op, inputs)?;
            (Type::U8, Vec::new())
        }
        (
            Op::CumulativeSum { axis, .. }
            | Op::CumulativeProduct { axis, .. }
            | Op::CumulativeMin { axis, .. }
            | Op::CumulativeMax { axis, .. },
            [x],
        ) => {
            axes::checked_one(*axis, x.shape.rank())?;
            (x.ty, x.shape.dims().to_vec())
        }
        (
            Op::Dot {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            [a, b],
        ) => (
            merged(op, inputs)?,
            contracted(a, b, contract_a, batch_a, contract_b, batch_b)?,
        ),
        (Op::Sort { axis, .. } | Op::Argsort { axis, .. }, [x]) => {
            // A scalar is in order along whatever axis.
            if x.shape.rank() > 0 {
                axes::checked_one(*axis, x.shape.rank())?;
            }
            let indices = matches!(op, Op::Argsort { .. });
            let ty = if indices { Type::S32 } else { x.ty };
            (ty, x.shape.dims().to_vec())
        }
        (
            Op::WindowSum { .. }
            | Op::WindowProduct { .. }
            | Op::WindowMax { .. }
            | Op::WindowMin { .. },
            [x],
        ) => sliding::aggregated(op, x)?,
        (Op::WindowReduce { fun, .. }, [x, ..]) => {
            (fun.result()?.ty, Windows::of(op, &x.shape)?.counts())
        }
        (Op::WindowScatterMax { .. } | Op::WindowScatterMin { .. }, [x, source, init]) => {
            sliding::scattered(op, x, source, init)?
        }
        (Op::Conv { .. }, [x, kernel]) => sliding::convolved(op, x, kernel)?,
        (
            Op::Fft { .. }
            | Op::Ifft { .. }
            | Op::Fft2 { .. }
            | Op::Ifft2 { .. }
            | Op::Rfft { .. }
            | Op::Irfft { .. },
            [x],
        ) => sliding::transformed(op, x)?,
        (
            Op::Softmax
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::RotaryEmbedding
            | Op::RmsNormRotaryEmbedding { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Activation { .. }
            | Op::DotAdd { .. },
            _,
        ) => fused::result(op, inputs)?,
        (_, [x]) => (unary_type(op, x.ty), x.shape.dims().to_vec()),
        (_, [x, y]) => (binary_type(op, inputs)?, broadcast(op, &[x, y])?),
        _ => {
            return Err(Error::argument(format!(
                "expected {} to take other inputs",
                op.name()
            )));
        }
    };
    let shape = shape(dims)?;
    Ok(TensorType { ty, shape })
}

fn shape(dims: Vec<i32>) -> Result<Shape> {
    let dims: SmallVec<[i64; 6]> = dims.into_iter().map(i64::from).collect();
    Shape::new(&dims)
}

/// The shape that elements of all these shapes have together.
pub(crate) fn broadcast_shape(shapes: &[Shape]) -> Result<Shape> {
    let dims = common(shapes.iter()).ok_or_else(|| {
        Error::argument(format!("expected shapes that broadcast, got: {shapes:?}"))
    })?;
    Ok(Shape::trusted(&dims))
}

fn unary_type(op: &Op, ty: Type) -> Type {
    match op {
        Op::IsNan | Op::IsInfinity | Op::LogicalNot => Type::U8,
        Op::Real | Op::Imag | Op::Phase => ty.to_real(),
        Op::Abs => {
            if ty == Type::C64 {
                Type::F32
            } else {
                ty
            }
        }
        Op::Conjugate => Type::C64,
        Op::Negate
        | Op::Sign
        | Op::Ceil
        | Op::Floor
        | Op::Round
        | Op::BitwiseNot
        | Op::CountLeadingZeros
        | Op::PopulationCount => ty,
        _ => ty.to_floating(),
    }
}

fn binary_type(op: &Op, inputs: &[TensorType]) -> Result<Type> {
    Ok(match op {
        Op::Equal
        | Op::NotEqual
        | Op::Greater
        | Op::Less
        | Op::GreaterEqual
        | Op::LessEqual
        | Op::LogicalAnd
        | Op::LogicalOr
        | Op::LogicalXor => Type::U8,
        Op::Divide | Op::Atan2 => merged(op, inputs)?.to_floating(),
        _ => merged(op, inputs)?,
    })
}

fn merged(op: &Op, inputs: &[TensorType]) -> Result<Type> {
    let mut types = inputs.iter().map(|input| input.ty);
    let first = types.next();
    types
        .fold(first, |ty, other| ty.and_then(|ty| ty.merge(other)))
        .ok_or_else(|| {
            Error::argument(format!(
                "expected {} of types that MLX can hold together, got: {}",
                op.name(),
                list(inputs)
            ))
        })
}
