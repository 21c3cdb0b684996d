//! What need not be computed in each call, apart from the rest.

use std::collections::HashMap;

use super::{
    Pass,
    writer::{Writer, renumbered},
};
use crate::{
    Result, TensorType,
    program::{Instruction, Program},
};

/// A program in two.
pub(in crate::program) struct Split {
    /// Of the whole program's inputs, those that [`Self::before`] takes, in its order.
    pub sources: Vec<usize>,
    /// Gives the values that were asked for.
    pub before: Program,
    /// The rest: takes the whole program's inputs and then those values.
    pub rest: Program,
}

impl Split {
    /// The program with these values computed apart; none if there are none.
    pub(in crate::program) fn at(program: Program, numbers: &[usize]) -> Result<Option<Self>> {
        if numbers.is_empty() {
            return Ok(None);
        }
        let (sources, before) = before(&program, numbers)?;
        Ok(Some(Self {
            sources,
            before,
            rest: rest(program, numbers)?,
        }))
    }
}

/// The program that gives these values, and the inputs that it takes.
fn before(program: &Program, wanted: &[usize]) -> Result<(Vec<usize>, Program)> {
    let mut needed = vec![false; program.values().count()];
    for &number in wanted {
        needed[number] = true;
    }
    let mut steps = Vec::new();
    let mut given = needed.len();
    for step in program.instructions.iter().rev() {
        given -= step.outs.len();
        let given: Vec<_> = (given..given + step.outs.len()).collect();
        if given.iter().any(|&number| needed[number]) {
            step.inputs.iter().for_each(|&input| needed[input] = true);
            steps.push((step.clone(), given));
        }
    }
    steps.reverse();
    let sources: Vec<_> = (0..given).filter(|&input| needed[input]).collect();
    let inputs = sources.iter().map(|&source| program.inputs[source].clone());
    let before = renumbered(inputs.collect(), sources.clone(), steps, wanted)?;
    Ok((sources, before))
}

fn rest(program: Program, known: &[usize]) -> Result<Program> {
    let count = program.inputs.len();
    let values: Vec<_> = program.values().collect();
    let further: Vec<TensorType> = known.iter().map(|&number| values[number].clone()).collect();
    let inputs = [program.inputs.clone(), further].concat();
    let mut writer = Writer::new(inputs);
    let places = known.iter().copied().zip(count..);
    let places: HashMap<usize, usize> = places.collect();
    let mut given = count;
    let outputs = writer.follow(
        program,
        (0..count).collect(),
        |writer, step: Instruction| {
            let own = given..given + step.outs.len();
            given = own.end;
            let numbers = writer.add(step);
            let numbers = own.zip(numbers);
            Ok(numbers
                .map(|(old, new)| places.get(&old).copied().unwrap_or(new))
                .collect())
        },
    )?;
    let (rest, _) = writer.close(outputs)?.optimized(&[Pass::DeadCode])?;
    Ok(rest)
}
