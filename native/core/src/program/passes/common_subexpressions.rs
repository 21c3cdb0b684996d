//! What is computed twice.

use std::collections::HashMap;

use super::writer::{Numbers, rewritten};
use crate::{
    Result,
    program::{Instruction, Program, Step},
};

pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let numbers = (0..program.inputs.len()).collect();
    shared(program, numbers, found)
}

/// The program, of whose inputs each is the same as that with this number.
fn shared(program: Program, numbers: Vec<usize>, found: &mut usize) -> Result<Program> {
    let mut seen: HashMap<Computation, Numbers> = HashMap::new();
    rewritten(program, numbers, |writer, mut instruction| {
        let Some(computation) = Computation::of(&instruction) else {
            let (carried, inputs) = (carried(&instruction), instruction.inputs.clone());
            let same = first_of_each(&inputs, carried);
            instruction.op = instruction
                .op
                .try_map(|part| shared(part, same.clone(), found))?;
            return Ok(writer.add(instruction));
        };
        if let Some(numbers) = seen.get(&computation) {
            *found += 1;
            return Ok(numbers.clone());
        }
        let numbers = writer.add(instruction);
        seen.insert(computation, numbers.clone());
        Ok(numbers)
    })
}

/// How many inputs of an instruction's programs are other values than those that it is given.
fn carried(instruction: &Instruction) -> usize {
    match instruction.op {
        Step::While { .. } => instruction.outs.len(),
        _ => 0,
    }
}

/// For each input the place of the first one that is the same value for good.
fn first_of_each(inputs: &[usize], carried: usize) -> Vec<usize> {
    let mut first = HashMap::new();
    let places = inputs.iter().enumerate();
    places
        .map(|(at, &input)| {
            if at < carried {
                at
            } else {
                *first.entry(input).or_insert(at)
            }
        })
        .collect()
}

/// What an operation computes.
#[derive(PartialEq, Eq, Hash)]
struct Computation {
    /// The operation and its results' types as text: floats among the attributes are equal only if they
    /// are the same, as 0.0 and -0.0 are not.
    what: String,
    inputs: Vec<usize>,
}

impl Computation {
    fn of(instruction: &Instruction) -> Option<Self> {
        let Step::Op(op) = &instruction.op else {
            return None;
        };
        Some(Self {
            what: format!("{op:?} {:?}", instruction.outs),
            inputs: instruction.inputs.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use super::*;
    use crate::Op;

    fn after(program: Program) -> Program {
        let passes = [Pass::CommonSubexpressions];
        program.optimized(&passes).unwrap().0
    }

    #[test]
    fn the_same_of_the_same_is_computed_once() {
        let steps = vec![
            op(Op::Exp, "f32", &[0]),
            op(Op::Exp, "f32", &[0]),
            op(Op::Add, "f32", &[2, 3]),
            op(Op::Add, "f32", &[2, 2]),
            op(Op::Exp, "f32", &[1]),
        ];
        let program = after(program(&["f32", "f32"], steps, &[4, 5, 6]));
        assert_eq!(program.instructions().len(), 3);
        assert_eq!(program.outputs, [3, 3, 4]);
    }

    #[test]
    fn other_numbers_and_types_are_not_the_same() {
        let steps = vec![
            constant(0.0, "f32"),
            constant(-0.0, "f32"),
            constant(0.0, "f64"),
            integer(0, "f32"),
            constant(0.0, "f32"),
        ];
        let program = after(program(&[], steps, &[0, 1, 2, 3, 4]));
        assert_eq!(program.outputs, [0, 1, 2, 3, 0]);
    }

    #[test]
    fn calls_are_all_made() {
        let call = || step(Step::Call { number: 0 }, &["f32"], &[0]);
        let program = after(program(&["f32"], vec![call(), call()], &[1, 2]));
        assert_eq!(program.instructions().len(), 2);
    }

    #[test]
    fn loops_know_what_they_are_given_twice() {
        let inputs = ["f32", "f32", "f32", "f32"];
        let body = vec![
            op(Op::Exp, "f32", &[2]),
            op(Op::Exp, "f32", &[3]),
            op(Op::Exp, "f32", &[0]),
            op(Op::Exp, "f32", &[1]),
            op(Op::Add, "f32", &[4, 5]),
            op(Op::Add, "f32", &[6, 7]),
        ];
        let looped = Step::While {
            condition: program(&inputs, vec![op(Op::Less, "u8", &[0, 2])], &[4]),
            body: program(&inputs, body, &[8, 9]),
        };
        let steps = vec![step(looped, &["f32", "f32"], &[0, 0, 0, 0])];
        let program = after(program(&["f32"], steps, &[1, 2]));
        let Step::While { body, .. } = &program.instructions()[0].op else {
            panic!("{program:?}");
        };
        // The carried values differ from the second round on.
        assert_eq!(body.instructions().len(), 5);
    }
}
