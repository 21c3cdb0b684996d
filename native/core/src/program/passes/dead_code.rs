//! What no result depends on.

use super::writer::renumbered;
use crate::{
    Clause, Result,
    program::{Instruction, Program, Step},
};

/// Goes backward from the outputs. Calls are needed whatever they give.
pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let inputs = program.inputs.len();
    let mut first = inputs;
    let mut firsts = Vec::with_capacity(program.instructions.len());
    for instruction in &program.instructions {
        firsts.push(first);
        first += instruction.outs.len();
    }
    let mut needed = vec![false; first];
    for &output in &program.outputs {
        needed[output] = true;
    }
    // Each instruction that is left, with the values that it gives still.
    let mut left = Vec::new();
    for (instruction, first) in program.instructions.into_iter().zip(firsts).rev() {
        let wanted = &needed[first..first + instruction.outs.len()];
        if !wanted.contains(&true) && !instruction.op.has_calls() {
            *found += 1;
            continue;
        }
        let (instruction, given) = trimmed(instruction, wanted, found)?;
        for &input in &instruction.inputs {
            needed[input] = true;
        }
        let given: Vec<_> = given.into_iter().map(|at| first + at).collect();
        left.push((instruction, given));
    }
    left.reverse();
    renumbered(
        program.inputs,
        (0..inputs).collect(),
        left,
        &program.outputs,
    )
}

/// The instruction without the results that are not wanted, where it can do without, and the places of
/// those that are left.
fn trimmed(
    instruction: Instruction,
    wanted: &[bool],
    found: &mut usize,
) -> Result<(Instruction, Vec<usize>)> {
    let Instruction { op, outs, inputs } = instruction;
    let (op, given, taken) = match op {
        Step::Cond { clauses, last } => trimmed_cond(clauses, last, wanted, found)?,
        Step::While { condition, body } => trimmed_while(condition, body, wanted, found)?,
        op => {
            let given = (0..outs.len()).collect();
            return Ok((Instruction { op, outs, inputs }, given));
        }
    };
    let given: Vec<usize> = places(&given);
    let taken = places(&taken);
    *found += outs.len() - given.len() + inputs.len() - taken.len();
    let instruction = Instruction {
        op,
        outs: given.iter().map(|&at| outs[at].clone()).collect(),
        inputs: taken.iter().map(|&at| inputs[at]).collect(),
    };
    Ok((instruction, given))
}

/// A step, which of its results are left, and which of its inputs.
type Trimmed = (Step, Vec<bool>, Vec<bool>);

fn trimmed_cond(
    clauses: Vec<Clause>,
    last: Program,
    wanted: &[bool],
    found: &mut usize,
) -> Result<Trimmed> {
    let taken = vec![false; last.inputs.len()];
    let mut parts = Step::Cond { clauses, last };
    for body in parts.bodies_mut() {
        body.give_only(wanted);
    }
    let parts = parts.try_map(|part| run(part, found))?;
    let taken = parts
        .parts()
        .fold(taken, |taken, part| either(&taken, &part.uses()));
    let step = parts.try_map(|part| part.taking_only(&taken))?;
    Ok((step, wanted.to_vec(), taken))
}

fn trimmed_while(
    condition: Program,
    mut body: Program,
    wanted: &[bool],
    found: &mut usize,
) -> Result<Trimmed> {
    let condition = run(condition, found)?;
    let decisive = condition.uses();
    let carried = carried(&body, &either(wanted, &decisive[..wanted.len()]));
    body.give_only(&carried);
    let body = run(body, found)?;
    let mut taken = either(&decisive, &body.uses());
    taken[..carried.len()].copy_from_slice(&carried);
    let step = Step::While {
        condition: condition.taking_only(&taken)?,
        body: body.taking_only(&taken)?,
    };
    Ok((step, carried, taken))
}

/// Which values a loop has to carry so that these come out right.
fn carried(body: &Program, wanted: &[bool]) -> Vec<bool> {
    let mut carried = vec![false; wanted.len()];
    let mut sources = vec![None; body.inputs.len()];
    let mut next = Vec::new();
    for (at, step) in body.instructions.iter().enumerate() {
        sources.extend(step.outs.iter().map(|_| Some(at)));
        if step.op.has_calls() {
            next.extend(&step.inputs);
        }
    }
    let mut seen = vec![false; sources.len()];
    let wanted = places(wanted).into_iter();
    // A value is wanted as it comes in where it is as it goes out.
    let (mut next, mut ends): (Vec<usize>, Vec<usize>) = (next, wanted.collect());
    loop {
        if let Some(at) = ends.pop() {
            if !carried[at] {
                carried[at] = true;
                next.push(body.outputs[at]);
            }
        } else if let Some(value) = next.pop() {
            if seen[value] {
                continue;
            }
            seen[value] = true;
            match sources[value] {
                Some(at) => next.extend(&body.instructions[at].inputs),
                None if value < carried.len() => ends.push(value),
                None => {}
            }
        } else {
            return carried;
        }
    }
}

fn places(flags: &[bool]) -> Vec<usize> {
    let set = flags.iter().enumerate().filter(|(_, flag)| **flag);
    set.map(|(at, _)| at).collect()
}

fn either(some: &[bool], others: &[bool]) -> Vec<bool> {
    some.iter().zip(others).map(|(a, b)| a | b).collect()
}

impl Step {
    /// The programs that give the results of a `cond`.
    fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Program> {
        let (clauses, last): (&mut [Clause], _) = match self {
            Self::Cond { clauses, last } => (clauses, Some(last)),
            _ => (&mut [], None),
        };
        clauses
            .iter_mut()
            .map(|clause| &mut clause.body)
            .chain(last)
    }
}

impl Program {
    /// Leaves these outputs alone.
    fn give_only(&mut self, wanted: &[bool]) {
        let outputs = places(wanted).into_iter().map(|at| self.outputs[at]);
        self.outputs = outputs.collect();
    }

    /// Which inputs it uses.
    fn uses(&self) -> Vec<bool> {
        let mut uses = vec![false; self.inputs.len()];
        let inputs = self.instructions.iter().flat_map(|step| &step.inputs);
        for &value in inputs.chain(&self.outputs) {
            if let Some(used) = uses.get_mut(value) {
                *used = true;
            }
        }
        uses
    }

    /// The program with these inputs alone, which are all that it uses.
    fn taking_only(self, taken: &[bool]) -> Result<Self> {
        let inputs = places(taken);
        let mut next = taken.len();
        let steps = self.instructions.into_iter().map(|step| {
            let given = (next..next + step.outs.len()).collect();
            next += step.outs.len();
            (step, given)
        });
        let types = inputs.iter().map(|&at| self.inputs[at].clone()).collect();
        renumbered(types, inputs, steps.collect(), &self.outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use super::*;
    use crate::Op;

    fn after(program: Program) -> (Program, usize) {
        let (after, counts) = program.optimized(&[Pass::DeadCode]).unwrap();
        (after, counts[0].1)
    }

    #[test]
    fn what_nothing_needs_goes_and_calls_stay() {
        let call = |number, inputs: &[usize]| step(Step::Call { number }, &["f32"], inputs);
        let steps = vec![
            op(Op::Exp, "f32", &[0]),
            op(Op::Log, "f32", &[0]),
            call(7, &[1]),
            op(Op::Sin, "f32", &[3]),
            call(3, &[0]),
        ];
        let (after, found) = after(program(&["f32", "f32"], steps, &[0]));
        let left: Vec<_> = after.instructions().iter().map(|step| &step.op).collect();
        let [first, second] = [7, 3].map(|number| Step::Call { number });
        assert_eq!(left, [&first, &second]);
        assert_eq!((found, after.inputs().len()), (3, 2));
    }

    #[test]
    fn of_several_results_all_stay() {
        let pair = step(Op::TopK { k: 1 }, &["f32[1]", "s32[1]"], &[0]);
        let (after, found) = after(program(&["f32[3]"], vec![pair], &[2]));
        assert_eq!((after.outputs[..].to_vec(), found), (vec![2], 0));
    }

    #[test]
    fn a_cond_takes_and_gives_what_is_needed() {
        let inputs = ["f32", "f32", "u8", "f32"];
        let body = |value: usize| {
            let steps = vec![op(Op::Exp, "f32", &[value]), op(Op::Log, "f32", &[1])];
            program(&inputs, steps, &[4, 5])
        };
        let clause = Clause {
            predicate: program(&inputs, vec![], &[2]),
            body: body(0),
        };
        let choice = Step::Cond {
            clauses: vec![clause],
            last: body(3),
        };
        let steps = vec![step(choice, &["f32", "f32"], &[0, 1, 2, 3])];
        let (after, found) = after(program(&inputs, steps, &[4]));
        let instruction = &after.instructions()[0];
        assert_eq!(
            (&instruction.inputs[..], instruction.outs.len()),
            (&[0, 2, 3][..], 1)
        );
        // Two logarithms, the result that they were, and the input that they were of.
        assert_eq!(found, 4);
    }

    /// `while {i, x, y, z}, i < 3, do: {i + 1, x + w, y + x, z + y}`, of which `output` is used.
    fn looped(output: usize) -> (Program, usize) {
        let inputs = ["s32", "f32", "f32", "f32", "f32"];
        let condition = vec![integer(3, "s32"), op(Op::Less, "u8", &[0, 5])];
        let body = vec![
            integer(1, "s32"),
            op(Op::Add, "s32", &[0, 5]),
            op(Op::Add, "f32", &[1, 4]),
            op(Op::Add, "f32", &[2, 1]),
            op(Op::Add, "f32", &[3, 2]),
        ];
        let looped = Step::While {
            condition: program(&inputs, condition, &[6]),
            body: program(&inputs, body, &[6, 7, 8, 9]),
        };
        let steps = vec![step(
            looped,
            &["s32", "f32", "f32", "f32"],
            &[0, 1, 2, 3, 4],
        )];
        after(program(&inputs, steps, &[5 + output]))
    }

    #[test]
    fn loops_carry_what_the_results_depend_on() {
        for (output, carried, inputs) in [(0, 1, 1), (1, 2, 3), (2, 3, 4), (3, 4, 5)] {
            let (program, _) = looped(output);
            let instruction = &program.instructions()[0];
            assert_eq!(instruction.outs.len(), carried, "{output}");
            assert_eq!(instruction.inputs.len(), inputs, "{output}");
            assert_eq!(program.outputs, [5 + output.min(carried - 1)]);
        }
    }

    #[test]
    fn loops_carry_what_calls_are_given() {
        let inputs = ["u8", "f32", "f32"];
        let steps = vec![
            step(Step::Call { number: 0 }, &[], &[1]),
            op(Op::Exp, "f32", &[1]),
            op(Op::Exp, "f32", &[2]),
            op(Op::LogicalNot, "u8", &[0]),
        ];
        let looped = Step::While {
            condition: program(&inputs, vec![], &[0]),
            body: program(&inputs, steps, &[5, 3, 4]),
        };
        let outs = ["u8", "f32", "f32"];
        let (program, _) = after(program(
            &inputs,
            vec![step(looped, &outs, &[0, 1, 2])],
            &[0],
        ));
        let instruction = &program.instructions()[0];
        assert_eq!(
            (&instruction.inputs[..], instruction.outs.len()),
            (&[0, 1][..], 2)
        );
    }
}
