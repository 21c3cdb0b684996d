//! Passes: programs made into others that give the same with less work.
//!
//! Each is a function of a program and works on the programs in it, too. Those of [`Pass::EXACT`] change
//! neither what is computed of a value that is needed, nor in which memory layout: MLX adds floats up in
//! the order in which they lie there. The others may change last digits.

mod closed;
mod common_subexpressions;
mod constants;
mod dead_code;
mod identities;
mod invariance;
mod loop_invariants;
mod patterns;
mod projections;
mod split;
mod writer;

#[cfg(test)]
pub(super) mod random;
#[cfg(test)]
pub(super) mod samples;

pub(super) use closed::closed;
pub(super) use projections::joined;
pub(super) use split::Split;

use patterns::Pattern;

use super::{Clause, Instruction, Program, Step};
use crate::Result;

/// What can be done to a program before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "rustler", derive(rustler::NifUnitEnum))]
pub enum Pass {
    /// Operations on known integers, and scalars of known numbers that take another shape or type,
    /// become constants; of a `cond` whose predicate is known, one body is left.
    Constants,
    /// Operations that give what they are given, such as a reshape to the same shape, are left out.
    Identities,
    /// What a loop computes in each round from what stays the same is computed once, before it.
    LoopInvariants,
    /// What is computed twice is computed once.
    CommonSubexpressions,
    /// Attention is one operation: queries by keys, softmax, and that by values.
    Attention,
    /// Layer normalization is one operation.
    LayerNorm,
    /// Normalization by the root of the mean square is one operation.
    RmsNorm,
    /// What tells positions by turning pairs of features is one operation, with a normalization of them.
    RotaryEmbedding,
    /// Softmax along the last axis is one operation.
    Softmax,
    /// SiLU and GELU, with what they are multiplied with in gated layers, are one operation.
    Activation,
    /// A product with a matrix that is dequantized for it is one operation.
    QuantizedMatmul,
    /// A product of matrices and what is added to it are one operation.
    DotAdd,
    /// Products of one tensor with several matrices are one product with all of them, beside each other.
    /// An [`Executable`](super::Executable) joins those that its callers give, once.
    Projections,
    /// What no result depends on is not computed, carried through loops, or given to the programs in a
    /// `cond` or `while`.
    DeadCode,
}

/// What a pass finds may be more once the others have run, but seldom after this many times.
const MOST_ROUNDS: usize = 3;

impl Pass {
    /// Every pass, in the order in which they run.
    pub const ALL: [Self; 14] = [
        Self::Constants,
        Self::Identities,
        Self::LoopInvariants,
        Self::CommonSubexpressions,
        Self::Attention,
        Self::LayerNorm,
        Self::RmsNorm,
        Self::RotaryEmbedding,
        Self::Softmax,
        Self::Activation,
        Self::QuantizedMatmul,
        Self::DotAdd,
        Self::Projections,
        Self::DeadCode,
    ];

    /// Those that find patterns of operations that one gives at once.
    pub const PATTERNS: [Self; 8] = [
        Self::Attention,
        Self::LayerNorm,
        Self::RmsNorm,
        Self::RotaryEmbedding,
        Self::Softmax,
        Self::Activation,
        Self::QuantizedMatmul,
        Self::DotAdd,
    ];

    /// Those that change no bit of any result.
    pub const EXACT: [Self; 5] = [
        Self::Constants,
        Self::Identities,
        Self::LoopInvariants,
        Self::CommonSubexpressions,
        Self::DeadCode,
    ];

    /// The program after this pass, and how often it found something.
    fn run(self, program: Program) -> Result<(Program, usize)> {
        let mut found = 0;
        if let Some(pattern) = self.pattern() {
            let program = pattern.run(program, &mut found)?;
            let program = match self {
                Self::RotaryEmbedding => patterns::NORMALIZED_ROTARY.run(program, &mut 0)?,
                _ => program,
            };
            return Ok((program, found));
        }
        let run = match self {
            Self::Constants => constants::run,
            Self::Identities => identities::run,
            Self::LoopInvariants => loop_invariants::run,
            Self::CommonSubexpressions => common_subexpressions::run,
            Self::Projections => projections::run,
            _ => dead_code::run,
        };
        Ok((run(program, &mut found)?, found))
    }

    const fn pattern(self) -> Option<&'static Pattern> {
        match self {
            Self::Attention => Some(&patterns::ATTENTION),
            Self::RotaryEmbedding => Some(&patterns::ROTARY_EMBEDDING),
            Self::LayerNorm => Some(&patterns::LAYER_NORM),
            Self::RmsNorm => Some(&patterns::RMS_NORM),
            Self::Softmax => Some(&patterns::SOFTMAX),
            Self::Activation => Some(&patterns::ACTIVATION),
            Self::QuantizedMatmul => Some(&patterns::QUANTIZED_MATMUL),
            Self::DotAdd => Some(&patterns::DOT_ADD),
            _ => None,
        }
    }
}

impl Program {
    /// A program that gives the same results, and how often each of `passes` found something
    /// to do. They run in the order of [`Pass::ALL`], again as long as they find something.
    ///
    /// Inputs and outputs stay what they are, and so do calls and their order. What is not computed any
    /// more raises no errors.
    ///
    /// # Errors
    ///
    /// If a pass makes a program that [`Program::new`] refuses, which would be a fault in the pass.
    pub fn optimized(self, passes: &[Pass]) -> Result<(Self, Vec<(Pass, usize)>)> {
        let chosen = Pass::ALL.into_iter().filter(|pass| passes.contains(pass));
        let mut counts: Vec<_> = chosen.map(|pass| (pass, 0)).collect();
        let mut program = self;
        // Right after itself a pass finds nothing, or too little to look for it.
        let others = counts.len().saturating_sub(1);
        let mut left = counts.len();
        for _ in 0..MOST_ROUNDS {
            for (pass, count) in &mut counts {
                let (after, found) = pass.run(program)?;
                program = after;
                *count += found;
                left = if found > 0 { others } else { left - 1 };
                if left == 0 {
                    return Ok((program, counts));
                }
            }
        }
        Ok((program, counts))
    }

    /// The instruction that gives a value, if it is no input.
    fn source(&self, number: usize) -> Option<&Instruction> {
        let mut given = self.inputs.len();
        let mut steps = self.instructions.iter();
        steps.find(|step| {
            let first = given;
            given += step.outs.len();
            (first..given).contains(&number)
        })
    }

    /// Whether whoever runs it is called.
    fn has_calls(&self) -> bool {
        self.instructions.iter().any(|step| step.op.has_calls())
    }
}

impl Step {
    /// Whether whoever runs the program is called, so that the step cannot be left out.
    fn has_calls(&self) -> bool {
        matches!(self, Self::Call { .. }) || self.parts().any(Program::has_calls)
    }

    /// The step with what becomes of each program in it.
    fn try_map(self, mut each: impl FnMut(Program) -> Result<Program>) -> Result<Self> {
        Ok(match self {
            Self::Cond { clauses, last } => Self::Cond {
                clauses: clauses
                    .into_iter()
                    .map(|clause| {
                        Ok(Clause {
                            predicate: each(clause.predicate)?,
                            body: each(clause.body)?,
                        })
                    })
                    .collect::<Result<_>>()?,
                last: each(last)?,
            },
            Self::While { condition, body } => Self::While {
                condition: each(condition)?,
                body: each(body)?,
            },
            plain @ (Self::Call { .. } | Self::Op(_)) => plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{random, samples::*, *};
    use crate::{Executable, Op};

    #[test]
    fn random_programs_give_the_same_bits_before_and_after() {
        let stream = stream();
        let mut found = [0; Pass::EXACT.len()];
        for seed in 0..100 {
            let (program, inputs) = random::program(seed, &stream);
            let expected = bits(&program, &inputs, &stream);
            let (optimized, counts) = program.clone().optimized(&Pass::EXACT).unwrap();
            assert_eq!(bits(&optimized, &inputs, &stream), expected, "{program:?}");
            for (total, (_, count)) in found.iter_mut().zip(counts) {
                *total += count;
            }
            let executable =
                Arc::new(Executable::optimized(program.clone(), &Pass::EXACT).unwrap());
            for _ in 0..2 {
                assert_eq!(
                    ran(&executable, &inputs, &stream).0,
                    expected,
                    "{program:?}"
                );
            }
            for pass in Pass::EXACT {
                let (alone, _) = program.clone().optimized(&[pass]).unwrap();
                assert_eq!(
                    bits(&alone, &inputs, &stream),
                    expected,
                    "{pass:?} {program:?}"
                );
            }
        }
        // A generator that gives the passes nothing to do would show nothing.
        assert!(found.iter().all(|&count| count > 30), "{found:?}");
    }

    #[test]
    fn no_passes_change_nothing() {
        let program = program(&["f32"], vec![op(Op::Exp, "f32", &[0])], &[0]);
        let (same, counts) = program.clone().optimized(&[]).unwrap();
        assert_eq!((same, counts), (program, vec![]));
    }

    /// A chain in which each third operation is done twice, with a constant of its own.
    fn chain(length: usize) -> Program {
        let mut steps = Vec::new();
        let mut last = 0;
        while steps.len() < length {
            let at = steps.len() + 1;
            steps.push(constant(2.0, "f32[4]"));
            steps.push(op(Op::Multiply, "f32[4]", &[last, at]));
            steps.push(op(Op::Multiply, "f32[4]", &[last, at]));
            steps.push(op(Op::Add, "f32[4]", &[at + 1, at + 2]));
            last = at + 3;
        }
        program(&["f32[4]"], steps, &[last])
    }

    fn time(length: usize) -> Duration {
        let program = chain(length);
        let start = Instant::now();
        let (optimized, _) = program.optimized(&Pass::ALL).unwrap();
        let took = start.elapsed();
        assert!(optimized.instructions().len() < length * 3 / 4);
        took
    }

    #[test]
    fn ten_times_the_program_takes_about_ten_times_as_long() {
        // The best of several tries, each as long as the other, since others use the processor, too.
        let ten_short = || (0..10).map(|_| time(1_000)).sum::<Duration>();
        let tries = (0..5).map(|_| (ten_short(), time(10_000)));
        let (short, long) = tries
            .reduce(|(short, long), (s, l)| (short.min(s), long.min(l)))
            .unwrap();
        assert!(long < short * 3, "{short:?} {long:?}");
    }
}
