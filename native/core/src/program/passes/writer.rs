//! Programs as passes write them.

use std::{collections::HashMap, ops::Range};

use smallvec::SmallVec;

use crate::{
    Result, TensorType,
    program::{Instruction, Program, Step},
};

/// The numbers of an instruction's results, or of a program's.
pub(super) type Numbers = SmallVec<[usize; 2]>;

/// A program under construction; its values have other numbers than in the one that a pass reads.
pub(super) struct Writer {
    inputs: Vec<TensorType>,
    instructions: Vec<Instruction>,
    /// Of each value, its type and shape, and the instruction that gives it.
    values: Vec<(TensorType, Option<usize>)>,
}

impl Writer {
    pub(super) fn new(inputs: Vec<TensorType>) -> Self {
        Self {
            values: inputs.iter().map(|input| (input.clone(), None)).collect(),
            inputs,
            instructions: Vec::new(),
        }
    }

    /// Adds an instruction; its inputs are numbers in this program.
    pub(super) fn add(&mut self, instruction: Instruction) -> Numbers {
        let numbers = self.next(&instruction);
        let at = Some(self.instructions.len());
        let outs = instruction.outs.iter();
        self.values.extend(outs.map(|out| (out.clone(), at)));
        self.instructions.push(instruction);
        numbers.collect()
    }

    fn next(&self, instruction: &Instruction) -> Range<usize> {
        let first = self.values.len();
        first..first + instruction.outs.len()
    }

    /// A value's type and shape.
    pub(super) fn value(&self, number: usize) -> &TensorType {
        &self.values[number].0
    }

    /// What gives a value, if it is no input.
    pub(super) fn source(&self, number: usize) -> Option<&Step> {
        let at = self.values[number].1?;
        Some(&self.instructions[at].op)
    }

    /// Adds what `each` makes of every instruction, whose inputs are numbers in this program by then;
    /// `each` gives the numbers of what takes the place of its results. `numbers` are those of the
    /// program's inputs. Returns those of its outputs.
    pub(super) fn follow(
        &mut self,
        program: Program,
        mut numbers: Vec<usize>,
        mut each: impl FnMut(&mut Self, Instruction) -> Result<Numbers>,
    ) -> Result<Vec<usize>> {
        for mut instruction in program.instructions {
            for input in &mut instruction.inputs {
                *input = numbers[*input];
            }
            numbers.extend(each(self, instruction)?);
        }
        let outputs = program.outputs.into_iter();
        Ok(outputs.map(|output| numbers[output]).collect())
    }

    /// The program.
    pub(super) fn close(self, outputs: Vec<usize>) -> Result<Program> {
        Program::new(self.inputs, self.instructions, outputs)
    }
}

/// The program with each instruction replaced, as [`Writer::follow`] does; `numbers` are those of values
/// to be used in place of the inputs.
pub(super) fn rewritten(
    program: Program,
    numbers: Vec<usize>,
    each: impl FnMut(&mut Writer, Instruction) -> Result<Numbers>,
) -> Result<Program> {
    let mut writer = Writer::new(program.inputs.clone());
    let outputs = writer.follow(program, numbers, each)?;
    writer.close(outputs)
}

/// The program of instructions whose inputs are numbers in another program, each with the numbers there
/// of what it gives; so are `outputs`, and `taken`, which are those of the inputs.
pub(super) fn renumbered(
    inputs: Vec<TensorType>,
    taken: Vec<usize>,
    mut steps: Vec<(Instruction, Vec<usize>)>,
    outputs: &[usize],
) -> Result<Program> {
    let given = steps.iter().flat_map(|(_, given)| given);
    let numbers: HashMap<usize, usize> = taken.iter().chain(given).copied().zip(0..).collect();
    for (step, _) in &mut steps {
        for input in &mut step.inputs {
            *input = numbers[input];
        }
    }
    let steps = steps.into_iter().map(|(step, _)| step);
    let outputs = outputs.iter().map(|output| numbers[output]);
    Program::new(inputs, steps.collect(), outputs.collect())
}
