//! Patterns: several operations that one gives at once, as layers of models are written.
//!
//! A pattern looks at a value and says of which other values it could be made by a fused operation. That
//! takes the place of all between them if nothing else needs what lies there; otherwise it would be
//! computed twice. What is large is found before what is small in it, since the last operations are
//! looked at first.
//!
//! The operations round in fewer places, so that results differ in their last digits. They differ by more
//! only where the single operations overflow.

mod activation;
mod attention;
mod dot_add;
mod fusion;
mod graph;
mod layer_norm;
mod layout;
mod product;
mod quantized_matmul;
mod rms_norm;
mod rotary;
mod rows;
mod softmax;

#[cfg(test)]
mod sketch;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use fusion::Fusion;
use graph::Graph;

use super::writer::{Numbers, Writer};
use crate::{
    Op, Result,
    program::{Instruction, Program, Step},
};

pub(super) use activation::ACTIVATION;
pub(super) use attention::ATTENTION;
pub(super) use dot_add::DOT_ADD;
pub(super) use layer_norm::LAYER_NORM;
pub(super) use quantized_matmul::QUANTIZED_MATMUL;
pub(super) use rms_norm::RMS_NORM;
pub(super) use rotary::{NORMALIZED_ROTARY, ROTARY_EMBEDDING};
pub(super) use softmax::SOFTMAX;

/// What a pattern looks like.
pub(super) struct Pattern {
    /// Whether it may end with this operation.
    ends: fn(&Op) -> bool,
    /// What could take the place of what gives a value.
    find: for<'g, 'a> fn(&'g Graph<'a>, usize) -> Option<Fusion<'g, 'a>>,
}

impl Pattern {
    /// The program with fused operations in place of the pattern.
    pub(super) fn run(&self, program: Program, found: &mut usize) -> Result<Program> {
        let given = vec![None; program.inputs.len()];
        self.fuse(program, &given, found)
    }

    /// The same of a program of whose inputs these are known.
    fn fuse(&self, program: Program, given: &[Option<f64>], found: &mut usize) -> Result<Program> {
        let concerned = |step: &Instruction| match &step.op {
            Step::Op(op) => (self.ends)(op),
            _ => true,
        };
        if !program.instructions.iter().any(concerned) {
            return Ok(program);
        }
        let graph = Graph::new(&program, given);
        let plan = self.plan(&program, &graph);
        *found += plan.fused.len();
        let mut rewriting = Rewriting {
            writer: Writer::new(program.inputs.clone()),
            numbers: (0..program.inputs.len()).collect(),
            count: graph.count(),
        };
        for (at, step) in program.instructions.iter().enumerate() {
            if let Some(steps) = plan.fused.get(&at) {
                rewriting.replace(steps);
            } else if plan.dropped[at] {
                rewriting.skip(step);
            } else {
                rewriting.keep(self.inside(step, &graph, found)?);
            }
        }
        let numbers = &rewriting.numbers;
        let outputs = program.outputs.iter().map(|&output| numbers[output]);
        let outputs = outputs.collect();
        rewriting.writer.close(outputs)
    }

    /// The instruction with fused operations in its programs.
    fn inside(&self, step: &Instruction, graph: &Graph, found: &mut usize) -> Result<Instruction> {
        let carried = match step.op {
            Step::While { .. } => step.outs.len(),
            _ => 0,
        };
        let inputs = step.inputs.iter().enumerate();
        let given = inputs.map(|(at, &input)| graph.number(input).filter(|_| at >= carried));
        let given: Vec<_> = given.collect();
        let step = step.clone();
        Ok(Instruction {
            op: step.op.try_map(|part| self.fuse(part, &given, found))?,
            ..step
        })
    }

    fn plan(&self, program: &Program, graph: &Graph) -> Plan {
        let count = program.instructions.len();
        let mut plan = Plan {
            fused: HashMap::new(),
            dropped: vec![false; count],
        };
        // What lies in a pattern begins no other; what is only laid out for it may.
        let (mut taken, mut spare) = (vec![false; count], vec![false; count]);
        let mut value = graph.count();
        for (at, step) in program.instructions.iter().enumerate().rev() {
            value -= step.outs.len();
            if taken[at] || !matches!(&step.op, Step::Op(op) if (self.ends)(op)) {
                continue;
            }
            let Some(fusion) = (self.find)(graph, value) else {
                continue;
            };
            let Some(parts) = graph.between(at, &fusion.leaves()) else {
                continue;
            };
            if let Some(steps) = fusion.instead_of(value) {
                for (part, own) in parts {
                    spare[part] = true;
                    taken[part] |= own;
                }
                plan.fused.insert(at, steps);
            }
        }
        plan.drop_unneeded(program, &spare, graph.count());
        plan
    }
}

/// What becomes of a program's instructions.
struct Plan {
    /// Those that give the results of patterns, by their place, and what takes it.
    fused: HashMap<usize, Vec<Instruction>>,
    dropped: Vec<bool>,
}

impl Plan {
    /// Drops what is spare if nothing needs it.
    fn drop_unneeded(&mut self, program: &Program, spare: &[bool], count: usize) {
        if self.fused.is_empty() {
            return;
        }
        let mut needed = vec![false; count];
        for &output in &program.outputs {
            needed[output] = true;
        }
        let mut value = count;
        for (at, step) in program.instructions.iter().enumerate().rev() {
            value -= step.outs.len();
            if let Some(steps) = self.fused.get(&at) {
                for &input in steps.iter().flat_map(|step| &step.inputs) {
                    if let Some(needed) = needed.get_mut(input) {
                        *needed = true;
                    }
                }
            } else if spare[at] && !needed[value] {
                self.dropped[at] = true;
            } else {
                for &input in &step.inputs {
                    needed[input] = true;
                }
            }
        }
    }
}

/// A program as it is written anew.
struct Rewriting {
    writer: Writer,
    /// The new numbers of the values so far.
    numbers: Vec<usize>,
    /// How many values the old program has.
    count: usize,
}

/// In place of the number of what is dropped, which nobody uses.
const NOWHERE: usize = usize::MAX;

impl Rewriting {
    fn keep(&mut self, mut step: Instruction) {
        for input in &mut step.inputs {
            *input = self.numbers[*input];
        }
        self.numbers.extend(self.writer.add(step));
    }

    fn skip(&mut self, step: &Instruction) {
        self.numbers.extend(step.outs.iter().map(|_| NOWHERE));
    }

    /// Writes what takes the place of an instruction with one result.
    fn replace(&mut self, steps: &[Instruction]) {
        let mut new = Numbers::new();
        for step in steps {
            let mut step = step.clone();
            for input in &mut step.inputs {
                *input = match input.checked_sub(self.count) {
                    Some(at) => new[at],
                    None => self.numbers[*input],
                };
            }
            new.extend(self.writer.add(step));
        }
        self.numbers.extend(new.last());
    }
}
