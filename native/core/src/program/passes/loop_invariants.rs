//! What loops compute over and over.

use std::collections::HashMap;

use super::{
    invariance::is_harmless,
    writer::{Numbers, Writer, rewritten},
};
use crate::{
    Result, TensorType,
    program::{Instruction, Program, Step},
};

pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let numbers = (0..program.inputs.len()).collect();
    rewritten(program, numbers, |writer, instruction| {
        let Instruction { op, outs, inputs } = instruction;
        // Inner loops first: what comes out of them may come out of this one, too.
        match op.try_map(|part| run(part, found))? {
            Step::While { condition, body } => {
                let mut values = Vec::new();
                // The body may give a value as it has come in, which does not change then.
                let changes: Vec<bool> = (0..outs.len()).map(|at| body.outputs[at] != at).collect();
                for (at, &input) in inputs.iter().enumerate() {
                    let stays = !changes.get(at).unwrap_or(&false);
                    values.push(if stays {
                        Origin::Around(input)
                    } else {
                        Origin::Inside(at)
                    });
                }
                *found += changes.iter().filter(|&&changes| !changes).count();
                let condition = Part::of(condition, &values, writer, found);
                let body = Part::of(body, &values, writer, found);
                add(writer, &changes, [condition, body], outs, &inputs)
            }
            op => Ok(writer.add(Instruction { op, outs, inputs })),
        }
    })
}

/// Where a value of a loop's condition or body comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// The program around the loop has it under this number, and it stays the same.
    Around(usize),
    /// An input of this number, or an instruction's result, by its place among those that are left.
    Inside(usize),
}

/// A condition or a body, of which what stays the same has moved to the program around it.
struct Part {
    inputs: usize,
    instructions: Vec<Instruction>,
    values: Vec<Origin>,
    outputs: Vec<usize>,
}

impl Part {
    fn of(program: Program, inputs: &[Origin], writer: &mut Writer, found: &mut usize) -> Self {
        let mut part = Self {
            inputs: inputs.len(),
            instructions: Vec::new(),
            values: inputs.to_vec(),
            outputs: program.outputs,
        };
        let mut given = inputs.len();
        for instruction in program.instructions {
            if let Some(moved) = part.moved(&instruction, writer) {
                *found += 1;
                part.values.extend(moved.into_iter().map(Origin::Around));
            } else {
                let next = given + instruction.outs.len();
                part.values.extend((given..next).map(Origin::Inside));
                given = next;
                part.instructions.push(instruction);
            }
        }
        part
    }

    /// The numbers that an instruction's results get in the program around it, if it moves there.
    fn moved(&self, instruction: &Instruction, writer: &mut Writer) -> Option<Numbers> {
        let around = instruction
            .inputs
            .iter()
            .map(|&input| match self.values[input] {
                Origin::Around(number) => Some(number),
                Origin::Inside(_) => None,
            });
        let inputs: Vec<usize> = around.collect::<Option<_>>()?;
        let types: Vec<_> = inputs
            .iter()
            .map(|&input| writer.value(input).clone())
            .collect();
        is_harmless(instruction, &types).then(|| {
            writer.add(Instruction {
                inputs,
                ..instruction.clone()
            })
        })
    }

    /// The values that it uses, as often as it does.
    fn used(&self) -> impl Iterator<Item = Origin> {
        let inputs = self.instructions.iter().flat_map(|step| &step.inputs);
        inputs.chain(&self.outputs).map(|&value| self.values[value])
    }

    /// The program that takes `inputs`, of which the first ones are those at `carried`, and the others
    /// what has these numbers in the program around it.
    fn close(
        self,
        inputs: Vec<TensorType>,
        carried: &HashMap<usize, usize>,
        captured: &HashMap<usize, usize>,
    ) -> Result<Program> {
        let count = inputs.len();
        let number = |value: usize| match self.values[value] {
            Origin::Around(number) => captured[&number],
            Origin::Inside(at) if at < self.inputs => carried[&at],
            Origin::Inside(at) => at - self.inputs + count,
        };
        let instructions = self.instructions.iter().map(|step| Instruction {
            inputs: step.inputs.iter().map(|&input| number(input)).collect(),
            ..step.clone()
        });
        let outputs = self.outputs.iter().map(|&output| number(output));
        Program::new(inputs, instructions.collect(), outputs.collect())
    }
}

/// Adds the loop of a condition and a body; returns the numbers of all values that it carried before.
fn add(
    writer: &mut Writer,
    changes: &[bool],
    [condition, mut body]: [Part; 2],
    outs: Vec<TensorType>,
    inputs: &[usize],
) -> Result<Numbers> {
    let changing = |at: &usize| changes[*at];
    let places: Vec<usize> = (0..outs.len()).filter(changing).collect();
    body.outputs = places.iter().map(|&at| body.outputs[at]).collect();
    // What it was given stays, though it may not need it any more; then what has moved.
    let mut around = inputs[outs.len()..].to_vec();
    let used = condition.used().chain(body.used());
    around.extend(used.filter_map(|origin| match origin {
        Origin::Around(number) => Some(number),
        Origin::Inside(_) => None,
    }));
    let mut captured = HashMap::new();
    let mut given: Vec<usize> = places.iter().map(|&at| inputs[at]).collect();
    for number in around {
        captured.entry(number).or_insert_with(|| {
            given.push(number);
            given.len() - 1
        });
    }
    let carried = places.iter().enumerate().map(|(new, &old)| (old, new));
    let carried: HashMap<_, _> = carried.collect();
    let types: Vec<_> = given
        .iter()
        .map(|&input| writer.value(input).clone())
        .collect();
    let op = Step::While {
        condition: condition.close(types.clone(), &carried, &captured)?,
        body: body.close(types, &carried, &captured)?,
    };
    let left = outs
        .into_iter()
        .zip(changes)
        .filter(|(_, changes)| **changes);
    let mut numbers = writer
        .add(Instruction {
            op,
            outs: left.map(|(out, _)| out).collect(),
            inputs: given,
        })
        .into_iter();
    let results = inputs.iter().zip(changes);
    Ok(results
        .filter_map(|(&input, &changes)| if changes { numbers.next() } else { Some(input) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use super::*;
    use crate::Op;

    fn after(program: Program) -> (Program, usize) {
        let (after, counts) = program.optimized(&[Pass::LoopInvariants]).unwrap();
        (after, counts[0].1)
    }

    fn names(program: &Program) -> Vec<String> {
        let steps = program.instructions().iter();
        steps.map(|step| step.op.name()).collect()
    }

    fn body(program: &Program) -> &Program {
        let steps = program.instructions().iter();
        let mut bodies = steps.filter_map(|step| match &step.op {
            Step::While { body, .. } => Some(body),
            _ => None,
        });
        bodies.next().unwrap()
    }

    /// `while {i, x}, i < 10, do: {i + 1, x + step(w)}`
    fn looped(each: Instruction, captured: &str) -> Program {
        let inputs = ["s32", "f32", captured];
        let condition = vec![integer(10, "s32"), op(Op::Less, "u8", &[0, 3])];
        let body = vec![
            integer(1, "s32"),
            op(Op::Add, "s32", &[0, 3]),
            each,
            op(Op::Add, "f32", &[1, 5]),
        ];
        let looped = Step::While {
            condition: program(&inputs, condition, &[4]),
            body: program(&inputs, body, &[4, 6]),
        };
        program(
            &inputs,
            vec![step(looped, &["s32", "f32"], &[0, 1, 2])],
            &[4],
        )
    }

    #[test]
    fn what_stays_the_same_is_computed_before_the_loop() {
        let (after, found) = after(looped(op(Op::Exp, "f32", &[2]), "f32"));
        assert_eq!(names(&after), ["constant", "constant", "exp", "while"]);
        assert_eq!(names(body(&after)), ["add", "add"]);
        assert_eq!(found, 3);
    }

    #[test]
    fn what_changes_stays_and_so_does_what_may_fail() {
        let (after_, _) = after(looped(op(Op::Exp, "f32", &[1]), "f32"));
        assert_eq!(names(body(&after_)), ["add", "exp", "add"]);
        let (after_, _) = after(looped(op(Op::Determinant, "f32", &[2]), "f32[2][2]"));
        assert_eq!(names(body(&after_)), ["add", "determinant", "add"]);
        let call = step(Step::Call { number: 0 }, &["f32"], &[2]);
        let (after_, _) = after(looped(call, "f32"));
        assert_eq!(names(body(&after_)), ["add", "call", "add"]);
    }

    #[test]
    fn what_is_carried_unchanged_is_not_carried() {
        let inputs = ["s32", "f32", "f32"];
        let steps = vec![
            op(Op::Exp, "f32", &[1]),
            op(Op::Add, "f32", &[2, 3]),
            op(Op::Add, "s32", &[0, 0]),
        ];
        let looped = Step::While {
            condition: program(&inputs, vec![op(Op::Less, "u8", &[0, 1])], &[3]),
            body: program(&inputs, steps, &[5, 1, 4]),
        };
        let steps = vec![step(looped, &["s32", "f32", "f32"], &[0, 1, 2])];
        let (after, found) = after(program(&inputs, steps, &[3, 4, 5]));
        assert_eq!(found, 2);
        assert_eq!(names(&after), ["exp", "while"]);
        // The values are the inputs, the exponential, and what the loop carries.
        assert_eq!(after.outputs, [4, 1, 5]);
        assert_eq!(after.instructions()[1].inputs, [0, 2, 1, 3]);
    }

    #[test]
    fn what_comes_out_of_an_inner_loop_comes_out_of_the_outer_one() {
        let inputs = ["s32", "f32", "f32"];
        let inner = looped(op(Op::Exp, "f32", &[2]), "f32");
        let [inner] = inner.instructions() else {
            panic!("{inner:?}");
        };
        let outer = Step::While {
            condition: program(&inputs, vec![op(Op::Less, "u8", &[0, 1])], &[3]),
            body: program(&inputs, vec![inner.clone()], &[3, 4]),
        };
        let steps = vec![step(outer, &["s32", "f32"], &[0, 1, 2])];
        let (after, _) = after(program(&inputs, steps, &[3, 4]));
        assert_eq!(names(&after), ["constant", "constant", "exp", "while"]);
        assert_eq!(names(body(&after)), ["while"]);
    }
}
