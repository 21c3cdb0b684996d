//! The type and shape of a result, as Nx infers them, for callers that do not know them already.

use crate::{Error, Op, Result, Shape, TensorType, Type, error::list};

/// The type and shape of `op`'s result on tensors of these types and shapes.
///
/// # Errors
///
/// If the inputs or attributes do not fit, or if the result's shape is the caller's to choose, as
/// for `Reshape`.
pub fn infer(op: &Op, inputs: &[TensorType]) -> Result<TensorType> {
    if op.arity().is_some_and(|arity| arity != inputs.len())
        || (op.arity().is_none() && inputs.is_empty())
    {
        let expected = op
            .arity()
            .map_or_else(|| "at least 1".to_owned(), |arity| arity.to_string());
        return Err(Error::argument(format!(
            "expected {} to take {expected} inputs, got: {}",
            op.name(),
            inputs.len()
        )));
    }
    let (ty, dims) = match (op, inputs) {
        (
            Op::Constant { .. }
            | Op::Iota { .. }
            | Op::Eye
            | Op::AsType
            | Op::Reshape
            | Op::Squeeze
            | Op::Broadcast { .. },
            _,
        ) => {
            return Err(Error::argument(format!(
                "expected the type and shape of the result of {}, which its inputs do not tell",
                op.name()
            )));
        }
        (Op::Transpose { axes }, [x]) => (x.ty, pick(x, axes)?),
        (
            Op::Slice {
                lengths, strides, ..
            },
            [x],
        ) => (x.ty, sliced(lengths, strides)),
        (Op::Concatenate { axis }, _) => (merged(op, inputs)?, joined(*axis, inputs)?),
        (Op::Stack { axis }, [first, ..]) => {
            (merged(op, inputs)?, stacked(*axis, inputs.len(), first)?)
        }
        (Op::Select, [_, x, y]) => (
            merged(op, &inputs[1..])?,
            broadcast(op, &[&inputs[0], x, y])?,
        ),
        (Op::Clip, [x, ..]) => (merged(op, inputs)?, x.shape.dims().to_vec()),
        (Op::Sum { axes, keep_axes } | Op::Product { axes, keep_axes }, [x]) => (
            x.ty.to_aggregate(),
            reduced(x, axes.as_deref(), *keep_axes)?,
        ),
        (Op::ReduceMax { axes, keep_axes } | Op::ReduceMin { axes, keep_axes }, [x]) => {
            (x.ty, reduced(x, axes.as_deref(), *keep_axes)?)
        }
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
        (Op::Argsort { .. }, [x]) => (Type::S32, x.shape.dims().to_vec()),
        (_, [x]) => (unary_type(op, x.ty), x.shape.dims().to_vec()),
        (_, [x, y]) => (binary_type(op, inputs)?, broadcast(op, &[x, y])?),
        _ => {
            return Err(Error::argument(format!(
                "expected {} to take other inputs",
                op.name()
            )));
        }
    };
    let dims: Vec<i64> = dims.into_iter().map(i64::from).collect();
    Ok(TensorType {
        ty,
        shape: Shape::new(&dims)?,
    })
}

fn unary_type(op: &Op, ty: Type) -> Type {
    match op {
        Op::IsNan | Op::IsInfinity | Op::LogicalNot => Type::U8,
        Op::Real | Op::Imag => ty.to_real(),
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
        | Op::PopulationCount
        | Op::Reverse { .. }
        | Op::Sort { .. } => ty,
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

/// The shape that all inputs broadcast to: axes align at the end, and a size of 1 stretches.
fn broadcast(op: &Op, inputs: &[&TensorType]) -> Result<Vec<i32>> {
    let rank = inputs
        .iter()
        .map(|input| input.shape.rank())
        .max()
        .unwrap_or(0);
    let mut dims = vec![1; rank];
    for input in inputs {
        let offset = rank - input.shape.rank();
        for (dim, &size) in dims[offset..].iter_mut().zip(input.shape.dims()) {
            match (*dim, size) {
                (1, _) => *dim = size,
                (dim, size) if size == 1 || dim == size => {}
                _ => {
                    let types: Vec<_> = inputs.iter().map(|&input| input.clone()).collect();
                    return Err(Error::argument(format!(
                        "expected {} of shapes that broadcast, got: {}",
                        op.name(),
                        list(&types)
                    )));
                }
            }
        }
    }
    Ok(dims)
}

/// The size of each of `axes`.
fn pick(x: &TensorType, axes: &[usize]) -> Result<Vec<i32>> {
    axes.iter()
        .map(|&axis| {
            x.shape.dims().get(axis).copied().ok_or_else(|| {
                Error::argument(format!(
                    "expected :axes to be below the rank of {x}, got: {axes:?}"
                ))
            })
        })
        .collect()
}

fn sliced(lengths: &[usize], strides: &[usize]) -> Vec<i32> {
    let sizes = lengths
        .iter()
        .zip(strides)
        .map(|(length, &stride)| length.div_ceil(stride.max(1)));
    sizes
        .map(|size| i32::try_from(size).unwrap_or(i32::MAX))
        .collect()
}

fn joined(axis: usize, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let mut dims = inputs[0].shape.dims().to_vec();
    let mut total = 0_i32;
    for input in inputs {
        total = total.saturating_add(pick(input, &[axis])?[0]);
    }
    pick(&inputs[0], &[axis])?;
    dims[axis] = total;
    Ok(dims)
}

fn stacked(axis: usize, count: usize, first: &TensorType) -> Result<Vec<i32>> {
    let mut dims = first.shape.dims().to_vec();
    if axis > dims.len() {
        return Err(Error::argument(format!(
            "expected :axis to be at most {}, got: {axis}",
            dims.len()
        )));
    }
    dims.insert(axis, count as i32);
    Ok(dims)
}

fn reduced(x: &TensorType, axes: Option<&[usize]>, keep: bool) -> Result<Vec<i32>> {
    if let Some(axes) = axes {
        pick(x, axes)?;
    }
    let gone = |axis: usize| axes.is_none_or(|axes| axes.contains(&axis));
    let dims = x.shape.dims().iter().enumerate();
    Ok(dims
        .filter_map(|(axis, &dim)| match gone(axis) {
            false => Some(dim),
            true => keep.then_some(1),
        })
        .collect())
}

/// The index of an extreme of the whole tensor is a scalar, whether or not axes are kept.
fn extreme(x: &TensorType, axis: Option<usize>, keep: bool) -> Result<Vec<i32>> {
    axis.map_or_else(|| Ok(Vec::new()), |axis| reduced(x, Some(&[axis]), keep))
}

fn contracted(
    a: &TensorType,
    b: &TensorType,
    contract_a: &[usize],
    batch_a: &[usize],
    contract_b: &[usize],
    batch_b: &[usize],
) -> Result<Vec<i32>> {
    pick(a, contract_a)?;
    pick(b, &[contract_b, batch_b].concat())?;
    let free = |x: &TensorType, contract: &[usize], batch: &[usize]| -> Vec<i32> {
        let dims = x.shape.dims().iter().enumerate();
        dims.filter(|(axis, _)| !contract.contains(axis) && !batch.contains(axis))
            .map(|(_, &dim)| dim)
            .collect()
    };
    Ok([
        pick(a, batch_a)?,
        free(a, contract_a, batch_a),
        free(b, contract_b, batch_b),
    ]
    .concat())
}
