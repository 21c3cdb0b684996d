//! What joins matrices, apart from what uses them.

use super::is_moved;
use crate::{
    Op, Result, TensorType,
    program::{
        Instruction, Pass, Program, Step,
        passes::writer::{Writer, renumbered},
    },
};

/// A program in two.
pub(in crate::program) struct Split {
    /// Of the whole program's inputs, those that [`Self::joining`] takes, in its order.
    pub sources: Vec<usize>,
    /// Gives the joined matrices.
    pub joining: Program,
    /// The rest: takes the whole program's inputs and then the joined matrices.
    pub rest: Program,
}

impl Split {
    /// None if nothing is joined.
    pub(in crate::program) fn of(program: Program) -> Result<Option<Self>> {
        let joined = joined(&program);
        if joined.is_empty() {
            return Ok(None);
        }
        let (sources, joining) = joining(&program, &joined)?;
        Ok(Some(Self {
            sources,
            joining,
            rest: rest(program, &joined)?,
        }))
    }
}

/// Matrices beside each other, made of inputs alone, that are the right side of a product or are given to
/// a loop.
fn joined(program: &Program) -> Vec<usize> {
    let mut fixed = vec![true; program.inputs.len()];
    let mut joined = vec![false; fixed.len()];
    for step in &program.instructions {
        let of_fixed = step.inputs.iter().all(|&input| fixed[input]);
        let concatenated = matches!(step.op, Step::Op(Op::Concatenate { .. }));
        fixed.extend(step.outs.iter().map(|_| of_fixed && is_moved(step)));
        joined.extend(step.outs.iter().map(|_| of_fixed && concatenated));
    }
    let mut used = vec![false; joined.len()];
    for step in &program.instructions {
        let from = match &step.op {
            Step::Op(Op::Dot { .. } | Op::DotAdd { .. }) => 1,
            Step::While { .. } => step.outs.len(),
            _ => continue,
        };
        for &input in &step.inputs[from..] {
            used[input] = true;
        }
    }
    let numbers = (0..joined.len()).filter(|&number| joined[number] && used[number]);
    numbers.collect()
}

/// The inputs that are joined, and the program that does it.
fn joining(program: &Program, joined: &[usize]) -> Result<(Vec<usize>, Program)> {
    let mut needed = vec![false; program.values().count()];
    for &number in joined {
        needed[number] = true;
    }
    let mut steps = Vec::new();
    let mut given = needed.len();
    for step in program.instructions.iter().rev() {
        given -= step.outs.len();
        if needed[given] {
            step.inputs.iter().for_each(|&input| needed[input] = true);
            steps.push((step.clone(), vec![given]));
        }
    }
    steps.reverse();
    let sources: Vec<_> = (0..given).filter(|&input| needed[input]).collect();
    let inputs = sources.iter().map(|&source| program.inputs[source].clone());
    let joining = renumbered(inputs.collect(), sources.clone(), steps, joined)?;
    Ok((sources, joining))
}

fn rest(program: Program, joined: &[usize]) -> Result<Program> {
    let count = program.inputs.len();
    let values: Vec<_> = program.values().collect();
    let further: Vec<TensorType> = joined
        .iter()
        .map(|&number| values[number].clone())
        .collect();
    let inputs = [program.inputs.clone(), further].concat();
    let mut writer = Writer::new(inputs);
    let mut given = count;
    let outputs = writer.follow(
        program,
        (0..count).collect(),
        |writer, step: Instruction| {
            let number = given;
            given += step.outs.len();
            Ok(match joined.iter().position(|&joined| joined == number) {
                Some(place) => [count + place].into_iter().collect(),
                None => writer.add(step),
            })
        },
    )?;
    let (rest, _) = writer.close(outputs)?.optimized(&[Pass::DeadCode])?;
    Ok(rest)
}
