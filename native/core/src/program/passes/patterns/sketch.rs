//! Programs for the tests of patterns, written as formulas are.

use std::sync::Arc;

use crate::{
    Instruction, Op, Program, Stream, Tensor, TensorType, Type, infer,
    program::passes::{
        Pass,
        samples::{bits, constant, step, stream, ty},
    },
};

/// A program under construction; values are known by their numbers.
pub(super) struct Sketch {
    inputs: Vec<TensorType>,
    types: Vec<TensorType>,
    steps: Vec<Instruction>,
}

impl Sketch {
    pub(super) fn new(inputs: &[&str]) -> Self {
        let types: Vec<_> = inputs.iter().map(|input| ty(input)).collect();
        Self {
            inputs: types.clone(),
            types,
            steps: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, step: Instruction) -> usize {
        self.types.extend(step.outs.iter().cloned());
        self.steps.push(step);
        self.types.len() - 1
    }

    /// An operation that tells the type of its result.
    pub(super) fn op(&mut self, op: Op, inputs: &[usize]) -> usize {
        let types: Vec<_> = inputs.iter().map(|&x| self.types[x].clone()).collect();
        let out = infer(&op, &types).unwrap().to_string();
        self.to(op, &out, inputs)
    }

    pub(super) fn to(&mut self, op: Op, out: &str, inputs: &[usize]) -> usize {
        self.step(step(op, &[out], inputs))
    }

    /// A scalar of the type that a value has.
    pub(super) fn number(&mut self, number: f64, like: usize) -> usize {
        let ty = self.types[like].ty.to_string();
        self.step(constant(number, &ty))
    }

    pub(super) fn as_type(&mut self, x: usize, ty: &str) -> usize {
        let dims = self.types[x].to_string();
        let dims = dims.find('[').map_or("", |at| &dims[at..]);
        self.to(Op::AsType, &format!("{ty}{dims}"), &[x])
    }

    pub(super) fn sum(&mut self, x: usize, axis: usize) -> usize {
        let (axes, keep_axes) = (Some(vec![axis]), true);
        self.op(Op::Sum { axes, keep_axes }, &[x])
    }

    pub(super) fn max(&mut self, x: usize, axis: usize) -> usize {
        let (axes, keep_axes) = (Some(vec![axis]), true);
        self.op(Op::ReduceMax { axes, keep_axes }, &[x])
    }

    pub(super) fn mean(&mut self, x: usize, axis: usize) -> usize {
        let sum = self.sum(x, axis);
        let count = f64::from(self.types[x].shape.dims()[axis]);
        let count = self.number(count, x);
        self.op(Op::Divide, &[sum, count])
    }

    pub(super) fn dims(&self, x: usize) -> Vec<i32> {
        self.types[x].shape.dims().to_vec()
    }

    pub(super) fn ty(&self, x: usize) -> Type {
        self.types[x].ty
    }

    /// How many instructions there are.
    pub(super) fn count(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn program(self, outputs: &[usize]) -> Program {
        Program::new(self.inputs, self.steps, outputs.to_vec()).unwrap()
    }

    /// The names of the operations that are left of a program that gives `output`, after a pass.
    pub(super) fn left(self, pass: Pass, output: usize) -> Vec<String> {
        names(&self.program(&[output]).optimized(&[pass]).unwrap().0)
    }

    /// The same, of a program that is held to give what it gives without the pass.
    pub(super) fn fused(self, pass: Pass, output: usize) -> Vec<String> {
        let program = self.program(&[output]);
        let (fused, _) = program.clone().optimized(&[pass]).unwrap();
        agree(&program, &fused);
        names(&fused)
    }
}

pub(super) fn names(program: &Program) -> Vec<String> {
    let steps = program.instructions().iter();
    steps.map(|step| step.op.name()).collect()
}

/// Holds two programs to give the same but for the last digits that the type has.
pub(super) fn agree(program: &Program, fused: &Program) {
    let stream = stream();
    let inputs: Vec<_> = (0..)
        .zip(program.inputs())
        .map(|(seed, ty)| numbers(ty, seed, &stream))
        .collect();
    let expected = bits(program, &inputs, &stream);
    let actual = bits(fused, &inputs, &stream);
    for ((ty, expected), actual) in program.output_types().iter().zip(expected).zip(actual) {
        let most = off(program);
        for (at, (x, y)) in floats(ty.ty, &expected)
            .zip(floats(ty.ty, &actual))
            .enumerate()
        {
            let near =
                (x - y).abs() <= most * (1.0 + x.abs()) || x.is_nan() && y.is_nan() || x == y;
            assert!(near, "{x} {y} at {at} of {ty}\n{program:?}\n{fused:?}");
        }
    }
}

/// Some digits less than the narrowest of a program's types has.
fn off(program: &Program) -> f64 {
    let types = program.values().map(|value| match value.ty {
        Type::Bf16 => 0.05,
        Type::F16 => 0.006,
        _ => 1e-5,
    });
    types.fold(0.0, f64::max)
}

/// Numbers from -2 to 2, or of integers 0 and 1.
fn numbers(ty: &TensorType, seed: u64, stream: &Stream) -> Arc<Tensor> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let elements = (0..ty.shape.size()).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let x = (state >> 40) as f32 / (1 << 22) as f32 - 2.0;
        match ty.ty {
            Type::F32 => x.to_ne_bytes().to_vec(),
            Type::Bf16 => ((x.to_bits() >> 16) as u16).to_ne_bytes().to_vec(),
            Type::F16 => half::f16::from_f32(x).to_ne_bytes().to_vec(),
            _ => {
                let mut bytes = vec![0; ty.ty.bytes()];
                bytes[0] = u8::from(x > -1.0);
                bytes
            }
        }
    });
    let bytes: Vec<u8> = elements.collect();
    Arc::new(Tensor::from_bytes(stream, ty, &bytes).unwrap())
}

fn floats(ty: Type, bytes: &[u8]) -> impl Iterator<Item = f64> {
    let narrow = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
    bytes.chunks(ty.bytes()).map(move |each| match ty {
        Type::Bf16 => f64::from(f32::from_bits(u32::from(narrow(each)) << 16)),
        Type::F16 => f64::from(half::f16::from_bits(narrow(each))),
        Type::F32 => f64::from(f32::from_ne_bytes([each[0], each[1], each[2], each[3]])),
        _ => f64::from(each[0]),
    })
}
