//! Which operations may run though the program might not have come to them.

use crate::{
    Kind, Op, Shape, TensorType, Type,
    infer::{broadcast_shape, infer},
    program::{Instruction, Step},
};

/// What is computed before a loop is kept as long as it runs. Beyond this many bytes, a result must be no
/// larger than what it is made from.
const MOST_BYTES: usize = 1 << 24;

/// Whether nothing can be seen of an instruction but its result: it raises no error, neither now nor when
/// somebody reads what it gives, and takes little memory. `inputs` are the types and shapes that it gets.
pub(super) fn is_harmless(instruction: &Instruction, inputs: &[TensorType]) -> bool {
    let (Step::Op(op), [out]) = (&instruction.op, &instruction.outs[..]) else {
        return false;
    };
    // A GPU refuses f64, which a program without any inputs of it may never come to.
    let double = out.ty == Type::F64 && inputs.iter().all(|input| input.ty != Type::F64);
    let real = inputs.iter().chain([out]).all(|each| is_plain(each.ty));
    let largest = inputs.iter().map(TensorType::bytes).max();
    let small = out.bytes() <= largest.unwrap_or(0).max(MOST_BYTES);
    real && !double && small && fits(op, inputs, out)
}

/// Whether MLX has the type, and every operation of real numbers takes it.
fn is_plain(ty: Type) -> bool {
    ty.kind() != Kind::Complex && !ty.is_narrow()
}

/// Whether the operation gives this of these inputs. Operations that look at indices or take matrices
/// apart are not among them, since their values may be at fault.
fn fits(op: &Op, inputs: &[TensorType], out: &TensorType) -> bool {
    let rank = out.shape.rank();
    match (op, inputs) {
        (Op::Checked { .. }, _) => false,
        (Op::Constant { .. }, []) => true,
        (Op::Iota { axis }, []) => axis.is_none_or(|axis| axis < rank),
        (Op::Eye, []) => rank >= 2,
        (Op::AsType, [x]) => x.shape == out.shape,
        (Op::Reshape, [x]) => x.ty == out.ty && x.shape.size() == out.shape.size(),
        (Op::Squeeze, [x]) => {
            x.ty == out.ty && wide(&x.shape) == wide(&out.shape) && rank <= x.shape.rank()
        }
        (Op::Broadcast { axes }, [x]) => x.ty == out.ty && broadcasts(&x.shape, axes, &out.shape),
        (Op::Bitcast, _) => false,
        (
            Op::Transpose { .. }
            | Op::Reverse { .. }
            | Op::Slice { .. }
            | Op::Concatenate { .. }
            | Op::Stack { .. }
            | Op::Clip
            | Op::Select
            | Op::Sum { .. }
            | Op::Product { .. }
            | Op::All { .. }
            | Op::Any { .. }
            | Op::Dot { .. },
            _,
        ) => infer(op, inputs).is_ok_and(|inferred| inferred == *out),
        (_, [_] | [_, _]) if op.is_elementwise() => combines(op, inputs, out),
        _ => false,
    }
}

/// Whether an elementwise operation takes these types and gives that one.
fn combines(op: &Op, inputs: &[TensorType], out: &TensorType) -> bool {
    let shapes: Vec<_> = inputs.iter().map(|input| input.shape.clone()).collect();
    if !broadcast_shape(&shapes).is_ok_and(|shape| shape == out.shape) {
        return false;
    }
    let integers = inputs.iter().chain([out]).all(|each| each.ty.is_integer());
    let merged = inputs.iter().map(|input| Some(input.ty));
    let merged = merged.reduce(|x, y| x?.merge(y?)).flatten();
    match op {
        Op::Equal
        | Op::NotEqual
        | Op::Greater
        | Op::Less
        | Op::GreaterEqual
        | Op::LessEqual
        | Op::LogicalAnd
        | Op::LogicalOr
        | Op::LogicalXor
        | Op::LogicalNot
        | Op::IsNan
        | Op::IsInfinity => out.ty == Type::U8 && merged.is_some(),
        Op::BitwiseAnd
        | Op::BitwiseOr
        | Op::BitwiseXor
        | Op::BitwiseNot
        | Op::LeftShift
        | Op::RightShift
        | Op::Quotient => integers,
        Op::Add
        | Op::Subtract
        | Op::Multiply
        | Op::Min
        | Op::Max
        | Op::Remainder
        | Op::Pow
        | Op::Negate
        | Op::Abs
        | Op::Sign => true,
        Op::Divide
        | Op::Atan2
        | Op::Exp
        | Op::Expm1
        | Op::Log
        | Op::Log1p
        | Op::Sigmoid
        | Op::Cos
        | Op::Sin
        | Op::Tan
        | Op::Cosh
        | Op::Sinh
        | Op::Tanh
        | Op::Acos
        | Op::Asin
        | Op::Atan
        | Op::Acosh
        | Op::Asinh
        | Op::Atanh
        | Op::Sqrt
        | Op::Rsqrt
        | Op::Erf
        | Op::Ceil
        | Op::Floor
        | Op::Round => out.ty.kind() == Kind::Float,
        _ => false,
    }
}

fn wide(shape: &Shape) -> Vec<i32> {
    let dims = shape.dims().iter().copied();
    dims.filter(|&dim| dim != 1).collect()
}

/// Whether each axis of a shape is, at its place among those of another, as long or 1.
fn broadcasts(from: &Shape, axes: &[usize], to: &Shape) -> bool {
    let ascending = axes.windows(2).all(|pair| pair[0] < pair[1]);
    let mut places = axes.iter().zip(from.dims());
    ascending
        && axes.len() == from.rank()
        && places.all(|(&axis, &dim)| {
            let there = to.dims().get(axis);
            there.is_some_and(|&there| dim == 1 || dim == there)
        })
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::{Assertion, Number, Tensor};

    fn harmless(operation: Op, out: &str, inputs: &[&str]) -> bool {
        let inputs: Vec<_> = inputs.iter().map(|text| ty(text)).collect();
        is_harmless(&op(operation, out, &[]), &inputs)
    }

    #[test]
    fn what_may_raise_is_not_harmless() {
        let take = || Op::Take { axis: 0 };
        assert!(!harmless(take(), "f32[2]", &["f32[3]", "s32[2]"]));
        assert!(!harmless(Op::Cholesky, "f32[2][2]", &["f32[2][2]"]));
        assert!(!harmless(Op::Add, "c64", &["c64", "c64"]));
        let checked = Op::Checked {
            op: Box::new(Op::Add),
            of: vec![Assertion::Finite],
            at: None,
        };
        assert!(!harmless(checked, "f32", &["f32", "f32"]));
        assert!(harmless(Op::Add, "f32[2]", &["f32[2]", "f32"]));
        assert!(!harmless(Op::Add, "f32[3]", &["f32[2]", "f32"]));
        assert!(!harmless(Op::BitwiseAnd, "f32", &["f32", "f32"]));
        assert!(harmless(Op::Reshape, "f32[6]", &["f32[2][3]"]));
        assert!(!harmless(Op::Reshape, "f32[5]", &["f32[2][3]"]));
        // A GPU may be where it is not to be computed.
        assert!(!harmless(Op::AsType, "f64", &["f32"]));
        assert!(harmless(Op::Exp, "f64", &["f64"]));
        // Far more memory than what it is made from.
        let wide = Op::Iota { axis: None };
        assert!(!harmless(wide, "s32[100000000]", &[]));
        assert!(harmless(Op::Exp, "f32[100000000]", &["f32[100000000]"]));
    }

    /// Elementwise operations on all pairs of types, of which the core refuses none that is harmless.
    #[test]
    fn what_is_harmless_is_computed() {
        let stream = stream();
        let constant = |ty: Type| {
            let value = Number::Integer(1);
            let out = TensorType {
                ty,
                shape: Shape::default(),
            };
            Tensor::apply_all(&stream, &Op::Constant { value }, Some(&[out]), &[])
                .unwrap()
                .remove(0)
        };
        let types =
            ["u2", "u8", "u64", "s8", "s32", "bf16", "f32", "f64", "c64"].map(|text| ty(text).ty);
        let tensors = types.map(constant);
        let mut count = 0;
        for operation in elementwise() {
            for x in &tensors {
                for y in &tensors {
                    let all = [x, y];
                    let given = &all[..operation.arity().unwrap()];
                    let taken: Vec<_> = given.iter().map(|each| each.tensor_type()).collect();
                    for out in types {
                        let instruction = op(operation.clone(), &out.to_string(), &[]);
                        if is_harmless(&instruction, &taken) {
                            count += 1;
                            let outs = Some(&instruction.outs[..]);
                            let made = Tensor::apply_all(&stream, &operation, outs, given);
                            made.unwrap();
                        }
                    }
                }
            }
        }
        assert!(count > 1000, "{count}");
    }
}
