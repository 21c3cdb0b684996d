//! An operation's meaning: the nodes that it adds to MLX's lazy graph.
//!
//! Each submodule holds one family of operations. Inputs come with the types Nx allows, results
//! have exactly the type and shape of `out`; MLX's booleans never leave this module.

pub(crate) mod axes;
mod binary;
mod cast;
mod checked;
mod closeness;
pub(crate) mod compare;
mod complex;
pub(crate) mod conv;
pub(crate) mod convolution;
mod creation;
mod cumulative;
mod depthwise;
pub(crate) mod dot;
mod double;
pub(crate) mod fft;
mod finite;
mod fused;
mod gather;
mod indexing;
mod indices;
mod linalg;
pub(crate) mod movement;
mod narrow;
mod operand;
mod order;
mod pad;
mod part;
mod quantized;
mod reducer;
mod reduction;
mod scatter;
pub(crate) mod scatter_window;
mod small_float;
mod special;
mod unary;
pub(crate) mod window;
pub(crate) mod windows;

use smallvec::{SmallVec, smallvec};

use crate::{
    Array, Error, Kind, Op, Result, Stream, TensorType,
    check::Checks,
    error::{guarded, list},
    mlx::{Mlx, memory_limit, too_large},
};

pub(crate) use operand::Operand;

/// The results, and what must hold of the values for them to be any good.
pub(crate) struct Lowered {
    pub arrays: Arrays,
    pub checks: Checks,
}

type Arrays = SmallVec<[Array; 1]>;

/// Adds `op` to MLX's lazy graph, to be computed on `stream`.
///
/// # Errors
///
/// If the number of inputs, their shapes or the attributes do not fit, or if the results would not
/// have the types and shapes of `outs`.
pub(crate) fn lower(
    op: &Op,
    outs: &[TensorType],
    inputs: &[Operand<'_>],
    stream: &Stream,
) -> Result<Lowered> {
    match op {
        Op::Checked { op: inner, of, .. } => {
            op.check_assertions()?;
            checked::lower(inner, of, outs, inputs, stream)
        }
        _ => lower_plain(op, outs, inputs, stream),
    }
}

fn lower_plain(
    op: &Op,
    outs: &[TensorType],
    inputs: &[Operand<'_>],
    stream: &Stream,
) -> Result<Lowered> {
    let mut checks = Checks::default();
    let result = refusal(op, outs, inputs, stream).map_or_else(
        || {
            guarded(|| {
                if narrow::concerns(outs, inputs) {
                    return narrow::lower(op, outs, inputs, stream, &mut checks);
                }
                families(op, outs, inputs, stream, &mut checks)
            })
        },
        Err,
    );
    match result {
        Ok(arrays) => {
            if fit(&arrays, outs) {
                return Ok(Lowered { arrays, checks });
            }
            Err(misfit(op, outs, inputs, &arrays))
        }
        Err(error) => Err(error.in_operation(op, outs, &types(inputs), &stream.to_string())),
    }
}

fn fit(arrays: &[Array], outs: &[TensorType]) -> bool {
    let mut results = arrays.iter().zip(outs);
    arrays.len() == outs.len() && results.all(|(array, out)| array.has_type(out))
}

fn misfit(op: &Op, outs: &[TensorType], inputs: &[Operand<'_>], arrays: &[Array]) -> Error {
    let got: Vec<_> = arrays.iter().map(Array::tensor_type).collect();
    Error::argument(format!(
        "expected {} of {} to give {}, got: {}",
        op.name(),
        list(&types(inputs)),
        list(outs),
        list(&got)
    ))
}

/// What is wrong with the call whatever the operation does, if anything is.
fn refusal(op: &Op, outs: &[TensorType], inputs: &[Operand<'_>], stream: &Stream) -> Option<Error> {
    let problem = match (op.arity(), inputs.len()) {
        (Some(expected), given) if expected != given => Some(format!(
            "expected {} to take {expected} inputs, got: {given}",
            op.name()
        )),
        (None, 0) => Some(format!(
            "expected {} to take at least 1 input, got: 0",
            op.name()
        )),
        _ if op.outputs() != outs.len() => Some(format!(
            "expected {} to give {} outputs, got: {}",
            op.name(),
            op.outputs(),
            outs.len()
        )),
        _ => None,
    };
    problem.map(Error::argument).or_else(|| {
        let device = stream.device();
        let vast = outs.iter().find(|out| out.memory() > memory_limit());
        let too_large = vast.filter(|_| !is_view(op)).map(too_large);
        let refused = too_large.or_else(|| refused_input(op, inputs));
        refused
            .or_else(|| refused_program(op, outs, inputs))
            .or_else(|| {
                let inputs = inputs.iter().map(|input| input.ty);
                let mut types = outs.iter().map(|out| out.ty).chain(inputs);
                types.find_map(|ty| device.refusal(ty))
            })
    })
}

/// The refusal of an input of which no memory holds all elements: a view of fewer, seen more often. MLX
/// copies such a one wherever its functions want another order.
fn refused_input(op: &Op, inputs: &[Operand<'_>]) -> Option<Error> {
    let vast = inputs.iter().find(|input| input.array.is_vast())?;
    (!is_view(op) && !reads_part(op)).then(|| too_large(&vast.tensor_type()))
}

/// The refusal of a function that is not one of the elements, which have the result's type by then, and
/// of what else it is given.
fn refused_program(op: &Op, outs: &[TensorType], inputs: &[Operand<'_>]) -> Option<Error> {
    let (Op::Reduce { fun, .. } | Op::WindowReduce { fun, .. }) = op else {
        return None;
    };
    let others = inputs.iter().skip(2).map(|input| input.ty);
    let given = outs.iter().map(|out| out.ty).cycle().take(2).chain(others);
    fun.check_types(given).err()
}

/// Whether the operation reads those elements alone that its result has.
const fn reads_part(op: &Op) -> bool {
    matches!(
        op,
        Op::Gather { .. } | Op::Take { .. } | Op::TakeAlongAxis { .. } | Op::DynamicSlice { .. }
    )
}

/// Whether the result stores no more than the inputs do.
const fn is_view(op: &Op) -> bool {
    matches!(
        op,
        Op::Constant { .. }
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Bitcast
    )
}

fn types(inputs: &[Operand<'_>]) -> Vec<TensorType> {
    inputs.iter().map(Operand::tensor_type).collect()
}

/// Operations with several outputs, and those that look at values; then all others.
fn families(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Arrays> {
    if let Some(array) = indexing::indexing(op, outs, operands, stream, checks)? {
        return Ok(smallvec![array]);
    }
    if let (Op::TopK { k }, [x]) = (op, operands) {
        return order::top_k(stream.mlx(), x.array, *k, outs);
    }
    if let Some(arrays) = linalg::family(op, outs, operands, stream, checks)? {
        return Ok(arrays);
    }
    if let Some(arrays) = quantized::family(op, outs, operands, stream, checks)? {
        return Ok(arrays);
    }
    if let (Op::Atan2, [x, y], Kind::Complex) = (op, operands, outs[0].ty.kind()) {
        let atan2 = binary::complex_atan2(stream.mlx(), x.array, y.array, &outs[0], checks)?;
        return Ok(smallvec![atan2]);
    }
    let inputs: SmallVec<[&Array; 4]> = operands.iter().map(|operand| operand.array).collect();
    let out = &outs[0];
    let array = match op {
        Op::Reduce { axes, fun, .. } => {
            reducer::reduce(fun, axes.as_deref(), &inputs, stream, out, checks)
        }
        Op::WindowReduce { fun, .. } => {
            reducer::window_reduce(op, fun, &inputs, stream, out, checks)
        }
        _ => family(op, out, &inputs, stream),
    };
    Ok(smallvec![array?])
}

fn family(op: &Op, out: &TensorType, inputs: &[&Array], stream: &Stream) -> Result<Array> {
    let mlx: Mlx = stream.mlx();
    match (op, inputs) {
        (Op::Constant { value }, _) => creation::constant(mlx, *value, out),
        (Op::Iota { axis }, _) => creation::iota(mlx, *axis, out),
        (Op::Eye, _) => creation::eye(mlx, out),

        (Op::AsType, [x]) => cast::cast(mlx, x, out.ty),
        (Op::Reshape, [x]) => mlx.shaped(x, &out.shape),
        (Op::Squeeze, [x]) => movement::squeeze(mlx, x, &out.shape),
        (Op::Broadcast { axes }, [x]) => movement::broadcast(mlx, x, axes, &out.shape),
        (Op::Transpose { axes }, [x]) => movement::transpose(mlx, x, axes),
        (Op::Reverse { axes }, [x]) => movement::reverse(mlx, x, axes),
        (
            Op::Slice {
                starts,
                lengths,
                strides,
            },
            [x],
        ) => movement::slice(mlx, x, starts, lengths, strides),
        (Op::Concatenate { axis }, _) => movement::concatenate(mlx, inputs, *axis, out.ty),
        (Op::Stack { axis }, _) => movement::stack(mlx, inputs, *axis, out.ty),
        (Op::Bitcast, [x]) => movement::bitcast(mlx, x, out.ty),

        (Op::Select, [predicate, x, y]) => compare::select(mlx, predicate, x, y, out),
        (Op::Clip, [x, min, max]) => compare::clip(mlx, x, min, max, out.ty),

        (Op::Sum { axes, .. }, [x]) => reduction::sum(mlx, x, axes.as_deref(), out),
        (Op::Product { axes, .. }, [x]) => reduction::product(mlx, x, axes.as_deref(), out),
        (Op::ReduceMax { axes, .. }, [x]) => reduction::max(mlx, x, axes.as_deref(), out),
        (Op::ReduceMin { axes, .. }, [x]) => reduction::min(mlx, x, axes.as_deref(), out),
        (Op::All { axes, .. }, [x]) => reduction::all(mlx, x, axes.as_deref(), out),
        (Op::Any { axes, .. }, [x]) => reduction::any(mlx, x, axes.as_deref(), out),
        (
            Op::Argmax {
                axis, tie_break, ..
            },
            [x],
        ) => reduction::extreme_index(mlx, x, *axis, *tie_break, Mlx::argmax, out),
        (
            Op::Argmin {
                axis, tie_break, ..
            },
            [x],
        ) => reduction::extreme_index(mlx, x, *axis, *tie_break, Mlx::argmin, out),

        (
            Op::AllClose {
                equal_nan,
                rtol,
                atol,
            },
            [a, b],
        ) => closeness::all_close(stream, a, b, *equal_nan, (*rtol, *atol)),
        (
            Op::CumulativeSum { axis, reverse }
            | Op::CumulativeProduct { axis, reverse }
            | Op::CumulativeMin { axis, reverse }
            | Op::CumulativeMax { axis, reverse },
            [x],
        ) => cumulative::cumulative(mlx, op, x, *axis, *reverse, out),

        (
            Op::Dot {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            [a, b],
        ) => dot::dot(
            mlx,
            stream.device(),
            &dot::Side {
                array: a,
                contract: contract_a,
                batch: batch_a,
            },
            &dot::Side {
                array: b,
                contract: contract_b,
                batch: batch_b,
            },
            out,
        ),
        (Op::Sort { axis, direction }, [x]) => order::sort(mlx, x, *axis, *direction),
        (Op::Argsort { axis, direction }, [x]) => order::argsort(mlx, x, *axis, *direction, out),

        (
            Op::WindowSum { .. }
            | Op::WindowProduct { .. }
            | Op::WindowMax { .. }
            | Op::WindowMin { .. },
            [x],
        ) => window::aggregate(mlx, op, x),
        (Op::WindowScatterMax { .. } | Op::WindowScatterMin { .. }, [x, source, init]) => {
            scatter_window::scatter(stream, op, x, source, init)
        }
        (Op::Conv { .. }, [x, kernel]) => conv::conv(mlx, stream.device(), op, x, kernel),
        (
            Op::Fft { .. }
            | Op::Ifft { .. }
            | Op::Fft2 { .. }
            | Op::Ifft2 { .. }
            | Op::Rfft { .. }
            | Op::Irfft { .. },
            [x],
        ) => fft::transform(mlx, op, x),

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
        ) => fused::lower(op, out, inputs, stream),

        (_, [x]) => unary::unary(mlx, op, x, out),
        (_, [x, y]) => binary::binary(mlx, op, x, y, out),
        _ => Err(Error::argument(format!(
            "expected {} to take other inputs",
            op.name()
        ))),
    }
}
