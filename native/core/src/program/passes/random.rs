//! Programs drawn at random, which give the passes a good deal to do.

use std::sync::Arc;

use super::samples::{constant, integer, op, program as build, step, ty};
use crate::{Clause, Instruction, Op, Program, Step, Stream, Tensor};

/// The types of all values. The first one is a square, so that it may be transposed, of enough elements
/// for their sum to depend on the order in which they lie in memory.
const TYPES: [&str; 4] = ["f32[17][17]", "f32", "s32", "u8"];

/// A program and inputs for it, always the same ones for a seed.
pub(in crate::program) fn program(seed: u64, stream: &Stream) -> (Program, Vec<Arc<Tensor>>) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let program = random.program(&TYPES, &TYPES, 2);
    let inputs = TYPES.map(|text| {
        let ty = ty(text);
        let elements = (0..ty.shape.size()).flat_map(|_| match text {
            "s32" => (random.below(7) as i32 - 3).to_ne_bytes().to_vec(),
            "u8" => vec![random.below(3) as u8],
            _ => (random.below(100) as f32 / 7.0 - 5.0)
                .to_ne_bytes()
                .to_vec(),
        });
        let bytes: Vec<u8> = elements.collect();
        Arc::new(Tensor::from_bytes(stream, &ty, &bytes).unwrap())
    });
    (program, inputs.to_vec())
}

struct Random(u64);

/// Instructions so far, and the type of each value.
struct Draft {
    steps: Vec<Instruction>,
    types: Vec<&'static str>,
}

impl Draft {
    fn add(&mut self, instruction: Instruction, types: &[&'static str]) -> usize {
        self.steps.push(instruction);
        self.types.extend(types);
        self.types.len() - types.len()
    }

    fn add_one(&mut self, operation: Op, out: &'static str, inputs: &[usize]) -> usize {
        self.add(op(operation, out, inputs), &[out])
    }
}

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn program(&mut self, inputs: &[&'static str], outs: &[&'static str], depth: usize) -> Program {
        let mut draft = Draft {
            steps: Vec::new(),
            types: inputs.to_vec(),
        };
        for _ in 0..4 + self.below(8) {
            self.step(&mut draft, depth);
        }
        let outputs: Vec<usize> = outs.iter().map(|out| self.value(&mut draft, out)).collect();
        build(inputs, draft.steps, &outputs)
    }

    /// A value of a type, old or new.
    fn value(&mut self, draft: &mut Draft, ty: &'static str) -> usize {
        let values = draft.types.iter().enumerate();
        let fitting: Vec<usize> = values
            .filter(|(_, other)| **other == ty)
            .map(|(at, _)| at)
            .collect();
        if !fitting.is_empty() && self.below(5) > 0 {
            return self.one_of(&fitting);
        }
        self.constant(draft, ty)
    }

    fn constant(&mut self, draft: &mut Draft, ty: &'static str) -> usize {
        let instruction = match ty {
            "s32" | "u8" => integer(self.below(3) as i128, ty),
            _ => constant(self.one_of(&[0.0, -0.0, 0.5, 1.0, 1.1]), ty),
        };
        draft.add(instruction, &[ty])
    }

    fn step(&mut self, draft: &mut Draft, depth: usize) {
        let wide = TYPES[0];
        let real = self.one_of(&TYPES[..2]);
        match self.below(if depth > 0 { 13 } else { 10 }) {
            0 => {
                let ty = self.one_of(&TYPES);
                self.constant(draft, ty);
            }
            1 => {
                let x = self.value(draft, real);
                let operation =
                    self.one_of(&[Op::Sin, Op::Negate, Op::Sigmoid, Op::AsType, Op::Reshape]);
                draft.add_one(operation, real, &[x]);
            }
            2 | 3 => {
                let (x, y) = (self.value(draft, wide), self.value(draft, real));
                let operation = self.one_of(&[Op::Add, Op::Multiply, Op::Subtract, Op::Max]);
                draft.add_one(operation, wide, &[x, y]);
            }
            4 => {
                let x = self.value(draft, wide);
                let sum = Op::Sum {
                    axes: None,
                    keep_axes: false,
                };
                draft.add_one(sum, "f32", &[x]);
            }
            5 => {
                let (x, y) = (self.value(draft, "s32"), self.value(draft, "s32"));
                let operation = self.one_of(&[Op::Add, Op::Multiply, Op::Subtract, Op::Min]);
                draft.add_one(operation, "s32", &[x, y]);
            }
            6 => {
                let (x, y) = (self.value(draft, "s32"), self.value(draft, "s32"));
                draft.add_one(Op::Less, "u8", &[x, y]);
            }
            7 => {
                let (from, to) = self.one_of(&[("s32", "f32"), ("u8", "s32"), ("s32", "u8")]);
                let x = self.value(draft, from);
                draft.add_one(Op::AsType, to, &[x]);
            }
            8 if self.below(2) == 0 => {
                let x = self.value(draft, wide);
                let axes = self.one_of(&[vec![0, 1], vec![1, 0]]);
                draft.add_one(Op::Transpose { axes }, wide, &[x]);
            }
            8 => {
                let x = self.value(draft, "f32");
                draft.add_one(Op::Broadcast { axes: vec![] }, wide, &[x]);
            }
            // Once more what is there already.
            9 if !draft.steps.is_empty() => {
                let again = self.one_of(&draft.steps);
                let outs = again.outs.iter().map(ToString::to_string);
                let types = outs.map(|out| TYPES.into_iter().find(|ty| *ty == out).unwrap());
                let types: Vec<_> = types.collect();
                draft.add(again, &types);
            }
            10 | 11 => self.loop_(draft, depth),
            _ if depth > 0 => self.cond(draft, depth),
            _ => {}
        }
    }

    /// Some values to be passed on, with a counter that is 0 first.
    fn passed(&mut self, draft: &mut Draft) -> (Vec<usize>, Vec<&'static str>) {
        let mut inputs = vec![draft.add(integer(0, "s32"), &["s32"])];
        for _ in 0..2 + self.below(4) {
            let ty = self.one_of(&TYPES);
            inputs.push(self.value(draft, ty));
        }
        let types = inputs.iter().map(|&input| draft.types[input]).collect();
        (inputs, types)
    }

    fn loop_(&mut self, draft: &mut Draft, depth: usize) {
        let (inputs, types) = self.passed(draft);
        let carried = 1 + self.below(types.len());
        let rounds = self.below(4) as i128;
        let next = types.len();
        let condition = vec![integer(rounds, "s32"), op(Op::Less, "u8", &[0, next])];
        let inner = self.program(&types, &types[1..carried], depth - 1);
        let (mut steps, mut outputs) = (inner.instructions().to_vec(), inner.outputs.clone());
        let one = inner.values().count();
        steps.push(integer(1, "s32"));
        steps.push(op(Op::Add, "s32", &[0, one]));
        outputs.insert(0, one + 1);
        for (at, output) in outputs.iter_mut().enumerate().skip(1) {
            if self.below(4) == 0 {
                *output = at;
            }
        }
        let looped = Step::While {
            condition: build(&types, condition, &[next + 1]),
            body: build(&types, steps, &outputs),
        };
        draft.add(step(looped, &types[..carried], &inputs), &types[..carried]);
    }

    fn cond(&mut self, draft: &mut Draft, depth: usize) {
        let (inputs, types) = self.passed(draft);
        let outs: Vec<_> = (0..1 + self.below(3))
            .map(|_| self.one_of(&TYPES))
            .collect();
        let clauses = (0..1 + self.below(2)).map(|_| Clause {
            predicate: self.program(&types, &["s32"], 0),
            body: self.program(&types, &outs, depth - 1),
        });
        let choice = Step::Cond {
            clauses: clauses.collect(),
            last: self.program(&types, &outs, depth - 1),
        };
        draft.add(step(choice, &outs, &inputs), &outs);
    }
}
