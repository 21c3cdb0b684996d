//! Programs for tests, in few words.

use std::sync::Arc;

use crate::{
    Device, Executable, Instruction, Number, Op, Pause, Program, Replay, Step, Stream, Tensor,
    TensorType, install_error_handler,
};

/// `f32[2][3]`
pub(in crate::program) fn ty(text: &str) -> TensorType {
    TensorType::read(text)
}

pub(in crate::program) fn step(
    op: impl Into<Step>,
    outs: &[&str],
    inputs: &[usize],
) -> Instruction {
    Instruction {
        op: op.into(),
        outs: outs.iter().map(|out| ty(out)).collect(),
        inputs: inputs.to_vec(),
    }
}

pub(in crate::program) fn op(op: Op, out: &str, inputs: &[usize]) -> Instruction {
    step(op, &[out], inputs)
}

pub(in crate::program) fn constant(value: f64, out: &str) -> Instruction {
    let value = Number::Float(value);
    op(Op::Constant { value }, out, &[])
}

pub(in crate::program) fn integer(value: i128, out: &str) -> Instruction {
    let value = Number::Integer(value);
    op(Op::Constant { value }, out, &[])
}

pub(in crate::program) fn program(
    inputs: &[&str],
    steps: Vec<Instruction>,
    outputs: &[usize],
) -> Program {
    let inputs = inputs.iter().map(|input| ty(input)).collect();
    Program::new(inputs, steps, outputs.to_vec()).unwrap()
}

/// Elementwise operations without attributes.
pub(in crate::program) fn elementwise() -> Vec<Op> {
    vec![
        Op::Add,
        Op::Subtract,
        Op::Multiply,
        Op::Divide,
        Op::Pow,
        Op::Remainder,
        Op::Quotient,
        Op::Atan2,
        Op::Min,
        Op::Max,
        Op::BitwiseAnd,
        Op::BitwiseOr,
        Op::BitwiseXor,
        Op::BitwiseNot,
        Op::LeftShift,
        Op::RightShift,
        Op::Equal,
        Op::NotEqual,
        Op::Greater,
        Op::Less,
        Op::GreaterEqual,
        Op::LessEqual,
        Op::LogicalAnd,
        Op::LogicalOr,
        Op::LogicalXor,
        Op::LogicalNot,
        Op::IsNan,
        Op::IsInfinity,
        Op::Negate,
        Op::Abs,
        Op::Sign,
        Op::Exp,
        Op::Expm1,
        Op::Log,
        Op::Log1p,
        Op::Sigmoid,
        Op::Cos,
        Op::Sin,
        Op::Tan,
        Op::Cosh,
        Op::Sinh,
        Op::Tanh,
        Op::Acos,
        Op::Asin,
        Op::Atan,
        Op::Acosh,
        Op::Asinh,
        Op::Atanh,
        Op::Sqrt,
        Op::Rsqrt,
        Op::Erf,
        Op::Ceil,
        Op::Floor,
        Op::Round,
    ]
}

pub(in crate::program) fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

/// The bytes of a program's results.
pub(super) fn bits(program: &Program, inputs: &[Arc<Tensor>], stream: &Stream) -> Vec<Vec<u8>> {
    ran(&Arc::new(program.clone().into()), inputs, stream).0
}

/// The bytes of a program's results, and how many instructions it ran for them, but for those in loops.
pub(in crate::program) fn ran(
    executable: &Arc<Executable>,
    inputs: &[Arc<Tensor>],
    stream: &Stream,
) -> (Vec<Vec<u8>>, usize) {
    let mut replay = Replay::new(executable, stream, inputs.to_vec()).unwrap();
    let steps = replay.program().instructions().len();
    let results = loop {
        match replay.advance(usize::MAX).unwrap() {
            Pause::Done(results) => break results,
            Pause::Compute(roots) | Pause::Begin(roots) => {
                for root in roots {
                    root.eval().unwrap();
                }
            }
            Pause::Busy => {}
            Pause::Call(_) => panic!("expected a program without calls"),
        }
    };
    let bytes = |result: &Arc<Tensor>| {
        let readable = result.readable().unwrap();
        readable.eval().unwrap();
        readable.bytes().unwrap().to_vec()
    };
    (results.iter().map(bytes).collect(), steps)
}
