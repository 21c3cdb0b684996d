//! Products of one tensor with several matrices.
//!
//! A layer's projections take the same tensor. One product with all their matrices beside each other is
//! quicker than one each, if the matrices need not be laid out so every time: only those are joined that
//! a call gives unchanged, which an [`Executable`](crate::Executable) joins once.

mod groups;
mod joined;
mod rewriting;

use std::collections::HashMap;

pub(in crate::program) use joined::joined;

use groups::groups;
use rewriting::Rewriting;

use super::writer::Writer;
use crate::{
    Op, Result, TensorType,
    program::{Instruction, Program, Step},
};

pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let given = vec![true; program.inputs.len()];
    let plan = Plan::of(&program, &given, true);
    *found += plan.count();
    if plan.is_empty() {
        return Ok(program);
    }
    plan.rewrite(program)
}

/// Matrices, or what is added to the products, to be beside each other.
struct Joint {
    /// The numbers of the parts: in a loop those of inputs, in the whole program those of any values.
    parts: Vec<usize>,
    axis: usize,
    /// Whether the parts are matrices that are transposed first.
    turned: bool,
    out: TensorType,
}

/// Products with a common left side, by the places of their instructions.
struct Group {
    members: Vec<usize>,
    /// What takes the place of the right side, and of what is added if something is.
    joints: Vec<Joint>,
    /// The first product's type and sizes, but for the last one, which is that of all together.
    out: TensorType,
}

/// What is to be joined in a program.
struct Plan {
    whole: bool,
    groups: Vec<Group>,
    /// By the place of a `while`, what is to be joined in its body.
    bodies: HashMap<usize, Self>,
}

impl Plan {
    /// `given` says which inputs stay the same while the program runs; `whole` whether it is in no other.
    fn of(program: &Program, given: &[bool], whole: bool) -> Self {
        let mut fixed = given.to_vec();
        let mut bodies = HashMap::new();
        for (at, step) in program.instructions.iter().enumerate() {
            if let Step::While { body, .. } = &step.op {
                let carried = step.outs.len();
                let inputs = step.inputs.iter().enumerate();
                let given: Vec<_> = inputs
                    .map(|(place, &input)| place >= carried && fixed[input])
                    .collect();
                let body = Self::of(body, &given, false);
                if !body.is_empty() {
                    bodies.insert(at, body);
                }
            }
            let same = whole && is_moved(step) && step.inputs.iter().all(|&input| fixed[input]);
            fixed.extend(step.outs.iter().map(|_| same));
        }
        Self {
            whole,
            groups: groups(program, &fixed),
            bodies,
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.bodies.is_empty()
    }

    /// How many products take the place of several.
    fn count(&self) -> usize {
        self.groups.len() + self.bodies.values().map(Self::count).sum::<usize>()
    }

    /// What the program is to be given besides its inputs, in order; the parts are its inputs.
    fn joints(&self, program: &Program) -> Vec<Joint> {
        let own = self.groups.iter().flat_map(|group| &group.joints);
        let mut joints: Vec<_> = own.map(|joint| joint.of(|part| part)).collect();
        for (step, body, plan) in self.loops(program) {
            let inner = plan.joints(body);
            joints.extend(inner.iter().map(|joint| joint.of(|part| step.inputs[part])));
        }
        joints
    }

    /// Each `while` with something to join in its body, in order.
    fn loops<'a>(
        &'a self,
        program: &'a Program,
    ) -> impl Iterator<Item = (&'a Instruction, &'a Program, &'a Self)> {
        let steps = program.instructions.iter().enumerate();
        steps.filter_map(|(at, step)| match &step.op {
            Step::While { body, .. } => Some((step, body, self.bodies.get(&at)?)),
            _ => None,
        })
    }

    /// The program with the joints as further inputs, or in the whole program as values of its own.
    fn rewrite(&self, program: Program) -> Result<Program> {
        let mut inputs = program.inputs.clone();
        let numbers = (0..inputs.len()).collect();
        let mut joined = Vec::new();
        if !self.whole {
            let joints = self.joints(&program);
            joined.extend(inputs.len()..inputs.len() + joints.len());
            inputs.extend(joints.into_iter().map(|joint| joint.out));
        }
        let outputs = program.outputs.clone();
        let mut rewriting = Rewriting {
            plan: self,
            writer: Writer::new(inputs),
            numbers,
            joined: joined.into_iter(),
        };
        rewriting.run(&program)?;
        let outputs = outputs.iter().map(|&output| rewriting.numbers[output]);
        let outputs = outputs.collect();
        rewriting.writer.close(outputs)
    }
}

impl Joint {
    fn of(&self, number: impl Fn(usize) -> usize) -> Self {
        Self {
            parts: self.parts.iter().map(|&part| number(part)).collect(),
            axis: self.axis,
            turned: self.turned,
            out: self.out.clone(),
        }
    }
}

/// Whether it only lays its input out in another way.
const fn is_moved(step: &Instruction) -> bool {
    matches!(
        step.op,
        Step::Op(Op::AsType | Op::Transpose { .. } | Op::Reshape | Op::Squeeze)
    )
}

#[cfg(test)]
mod tests;
