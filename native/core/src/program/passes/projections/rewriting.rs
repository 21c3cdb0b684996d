//! Programs with their products joined.

use std::collections::HashMap;

use super::{Group, Joint, Plan, groups::size};
use crate::{
    Op, Result, Shape, TensorType,
    program::{
        Instruction, Program, Step,
        passes::writer::{Numbers, Writer},
    },
};

/// A program as it is written anew.
pub(super) struct Rewriting<'a, J> {
    pub plan: &'a Plan,
    pub writer: Writer,
    /// The new numbers of the values so far.
    pub numbers: Vec<usize>,
    /// In a loop, the numbers of the joints.
    pub joined: J,
}

impl<J: Iterator<Item = usize>> Rewriting<'_, J> {
    pub(super) fn run(&mut self, program: &Program) -> Result<()> {
        // In a loop the joints of the groups come first, whatever the order of the instructions.
        let mut own = HashMap::new();
        if !self.plan.whole {
            for (at, group) in self.plan.groups.iter().enumerate() {
                own.insert(at, self.joined.by_ref().take(group.joints.len()).collect());
            }
        }
        let groups = self.plan.groups.iter().enumerate();
        let groups: HashMap<_, _> = groups
            .flat_map(|(at, group)| group.members.iter().map(move |&member| (member, at)))
            .collect();
        let mut slices: HashMap<usize, usize> = HashMap::new();
        for (at, step) in program.instructions.iter().enumerate() {
            let Some(&place) = groups.get(&at) else {
                let numbers = self.keep(program, at, step)?;
                self.numbers.extend(numbers);
                continue;
            };
            let group = &self.plan.groups[place];
            if group.members[0] == at {
                let joints: Vec<usize> = own.remove(&place).unwrap_or_default();
                self.product(program, group, joints, &mut slices);
            }
            self.numbers.push(slices[&at]);
        }
        Ok(())
    }

    fn keep(&mut self, program: &Program, at: usize, step: &Instruction) -> Result<Numbers> {
        let mut step = step.clone();
        if let Some(plan) = self.plan.bodies.get(&at) {
            self.join_loop(program, plan, &mut step)?;
        } else {
            let numbers = step.inputs.iter().map(|&input| self.numbers[input]);
            step.inputs = numbers.collect();
        }
        Ok(self.writer.add(step))
    }

    /// The loop with the joints that its body needs as further inputs.
    fn join_loop(&mut self, program: &Program, plan: &Plan, step: &mut Instruction) -> Result<()> {
        let Step::While { condition, body } = &step.op else {
            return Ok(());
        };
        let joints = plan.joints(body);
        let joints = joints
            .iter()
            .map(|joint| joint.of(|part| step.inputs[part]));
        let joints: Vec<_> = joints.collect();
        let mut inputs: Vec<_> = step
            .inputs
            .iter()
            .map(|&input| self.numbers[input])
            .collect();
        let further = joints.iter().map(|joint| joint.out.clone());
        let condition = widened(condition, further)?;
        for joint in &joints {
            inputs.push(self.joint(program, joint));
        }
        step.op = Step::While {
            condition,
            body: plan.rewrite(body.clone())?,
        };
        step.inputs = inputs;
        Ok(())
    }

    /// The number of what is joined, which in a loop has come in.
    fn joint(&mut self, program: &Program, joint: &Joint) -> usize {
        if let Some(number) = self.joined.next() {
            return number;
        }
        let parts = joint.parts.iter().map(|&part| {
            let part = self.ensure(program, part);
            if joint.turned {
                self.transposed(part)
            } else {
                part
            }
        });
        let inputs = parts.collect();
        let out = joint.out.clone();
        let op = Op::Concatenate { axis: joint.axis }.into();
        self.add(op, out, inputs)
    }

    fn transposed(&mut self, matrix: usize) -> usize {
        let TensorType { ty, shape } = self.writer.value(matrix).clone();
        let dims: Vec<i32> = shape.dims().iter().rev().copied().collect();
        let shape = Shape::trusted(&dims);
        let axes = vec![1, 0];
        self.add(
            Op::Transpose { axes }.into(),
            TensorType { ty, shape },
            vec![matrix],
        )
    }

    /// The new number of a value, which may come later in the program.
    fn ensure(&mut self, program: &Program, number: usize) -> usize {
        if let Some(&number) = self.numbers.get(number) {
            return number;
        }
        match program.source(number) {
            Some(step) => {
                let inputs = step.inputs.iter().map(|&input| self.ensure(program, input));
                let inputs = inputs.collect();
                self.add(step.op.clone(), step.outs[0].clone(), inputs)
            }
            None => number,
        }
    }

    /// One product in place of all, and the slices of it that they are.
    fn product(
        &mut self,
        program: &Program,
        group: &Group,
        mut joints: Vec<usize>,
        slices: &mut HashMap<usize, usize>,
    ) {
        if self.plan.whole {
            let made = group.joints.iter().map(|joint| self.joint(program, joint));
            joints = made.collect();
        }
        let first = &program.instructions[group.members[0]];
        let inputs = [vec![self.numbers[first.inputs[0]]], joints].concat();
        let turned = group.joints[0].turned;
        let op = if turned {
            of_columns(&first.op)
        } else {
            first.op.clone()
        };
        let product = self.add(op, group.out.clone(), inputs);
        let mut start = 0;
        for &member in &group.members {
            let step = &program.instructions[member];
            let dims = step.outs[0].shape.dims().iter();
            let lengths: Vec<_> = dims.map(|&dim| dim as usize).collect();
            let mut starts = vec![0; lengths.len()];
            starts[lengths.len() - 1] = start;
            start += size(step) as usize;
            let op = Op::Slice {
                starts,
                strides: vec![1; lengths.len()],
                lengths,
            };
            let number = self.add(op.into(), step.outs[0].clone(), vec![product]);
            slices.insert(member, number);
        }
    }

    fn add(&mut self, op: Step, out: TensorType, inputs: Vec<usize>) -> usize {
        let outs = vec![out];
        self.writer.add(Instruction { op, outs, inputs })[0]
    }
}

/// The product with a matrix that is transposed.
fn of_columns(product: &Step) -> Step {
    let mut product = product.clone();
    if let Step::Op(Op::Dot { contract_b, .. } | Op::DotAdd { contract_b, .. }) = &mut product {
        *contract_b = vec![1];
    }
    product
}

/// The program with further inputs, which it does not use.
fn widened(program: &Program, further: impl Iterator<Item = TensorType>) -> Result<Program> {
    let mut inputs = program.inputs.clone();
    inputs.extend(further);
    let count = program.inputs.len();
    let by = inputs.len() - count;
    let moved = |number: usize| if number < count { number } else { number + by };
    let mut instructions = program.instructions.clone();
    for number in instructions.iter_mut().flat_map(|step| &mut step.inputs) {
        *number = moved(*number);
    }
    let outputs = program.outputs.iter().map(|&output| moved(output));
    Program::new(inputs, instructions, outputs.collect())
}
