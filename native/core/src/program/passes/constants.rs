//! What is known before a program runs.

use super::writer::{Numbers, Writer};
use crate::{
    Clause, Number, Op, Result, TensorType, Type,
    program::{
        Instruction, Program, Step,
        known::{self, Known, fits},
    },
};

pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let known = vec![None; program.inputs.len()];
    folded(program, known, found)
}

/// The program, of whose inputs these are known.
fn folded(program: Program, known: Vec<Option<Known>>, found: &mut usize) -> Result<Program> {
    let numbers = (0..program.inputs.len()).collect();
    let mut writer = Writer::new(program.inputs.clone());
    let mut folding = Folding { known, found };
    let outputs = writer.follow(program, numbers, |writer, instruction| {
        folding.add(writer, instruction)
    })?;
    writer.close(outputs)
}

struct Folding<'a> {
    /// What each value of the new program is, where that is a known integer.
    known: Vec<Option<Known>>,
    found: &'a mut usize,
}

impl Folding<'_> {
    fn add(&mut self, writer: &mut Writer, instruction: Instruction) -> Result<Numbers> {
        let Instruction { op, outs, inputs } = instruction;
        match op {
            Step::Op(op) => Ok(self.add_op(writer, op, outs, inputs)),
            Step::Cond { clauses, last } => self.add_cond(writer, clauses, last, outs, inputs),
            Step::While { condition, body } => {
                // What is carried changes.
                let stays = |(at, &input): (usize, &usize)| {
                    let carried = at < outs.len();
                    (!carried).then(|| self.known[input]).flatten()
                };
                let known: Vec<_> = inputs.iter().enumerate().map(stays).collect();
                let op = Step::While {
                    condition: folded(condition, known.clone(), self.found)?,
                    body: folded(body, known, self.found)?,
                };
                Ok(self.keep(writer, Instruction { op, outs, inputs }))
            }
            op @ Step::Call { .. } => Ok(self.keep(writer, Instruction { op, outs, inputs })),
        }
    }

    fn keep(&mut self, writer: &mut Writer, instruction: Instruction) -> Numbers {
        self.known.extend(instruction.outs.iter().map(|_| None));
        writer.add(instruction)
    }

    fn add_op(
        &mut self,
        writer: &mut Writer,
        op: Op,
        outs: Vec<TensorType>,
        inputs: Vec<usize>,
    ) -> Numbers {
        let known = known::fold(&op, &outs, inputs.iter().map(|&input| self.known[input]));
        let value = match (&op, known) {
            (Op::Constant { .. }, _) => None,
            (_, Some(known)) => Some(Number::Integer(known)),
            _ => moved(writer, &op, &outs, &inputs),
        };
        self.known.push(known);
        self.known.extend(outs.iter().skip(1).map(|_| None));
        let instruction = match value {
            Some(value) => {
                *self.found += 1;
                Instruction {
                    op: Op::Constant { value }.into(),
                    outs,
                    inputs: Vec::new(),
                }
            }
            None => Instruction {
                op: op.into(),
                outs,
                inputs,
            },
        };
        writer.add(instruction)
    }

    /// A `cond` without the clauses that are known not to count, or the body that is known to.
    fn add_cond(
        &mut self,
        writer: &mut Writer,
        clauses: Vec<Clause>,
        last: Program,
        outs: Vec<TensorType>,
        inputs: Vec<usize>,
    ) -> Result<Numbers> {
        let known: Vec<_> = inputs.iter().map(|&input| self.known[input]).collect();
        let mut kept = Vec::new();
        let mut last = Some(last);
        for Clause { predicate, body } in clauses {
            let predicate = folded(predicate, known.clone(), self.found)?;
            match answer(&predicate, &known) {
                Some(false) => *self.found += 1,
                Some(true) => {
                    *self.found += 1;
                    last = Some(body);
                    break;
                }
                None => kept.push(Clause {
                    predicate,
                    body: folded(body, known.clone(), self.found)?,
                }),
            }
        }
        let Some(last) = last else {
            return Ok(Numbers::new());
        };
        if kept.is_empty() {
            *self.found += 1;
            let outputs = writer.follow(last, inputs, |writer, step| self.add(writer, step))?;
            return Ok(outputs.into_iter().collect());
        }
        let op = Step::Cond {
            clauses: kept,
            last: folded(last, known, self.found)?,
        };
        Ok(self.keep(writer, Instruction { op, outs, inputs }))
    }
}

/// What a predicate gives, if it is known and nothing else comes of it.
fn answer(predicate: &Program, known: &[Option<Known>]) -> Option<bool> {
    let &[output] = &predicate.outputs[..] else {
        return None;
    };
    let value = match predicate.source(output) {
        None => known[output]?,
        Some(Instruction {
            op: Step::Op(op @ Op::Constant { .. }),
            outs,
            ..
        }) => known::fold(op, outs, [].into_iter())?,
        Some(_) => return None,
    };
    (!predicate.has_calls()).then_some(value != 0)
}

/// The number that a constant of another shape or type is.
///
/// One element alone may be reshaped: several are one in memory, seen more often, and a reshape might
/// lay them out, which the constant would not.
fn moved(writer: &Writer, op: &Op, outs: &[TensorType], inputs: &[usize]) -> Option<Number> {
    let ([x], [out]) = (inputs, outs) else {
        return None;
    };
    let Some(Step::Op(Op::Constant { value })) = writer.source(*x) else {
        return None;
    };
    let from = writer.value(*x);
    let single = from.shape.size() == 1 && from.ty == out.ty;
    match op {
        Op::Reshape | Op::Squeeze if single && out.shape.size() == 1 => Some(*value),
        Op::Broadcast { axes } if from.shape.rank() == 0 && single && axes.is_empty() => {
            Some(*value)
        }
        Op::AsType if from.shape == out.shape => {
            let Number::Integer(integer) = *value else {
                return None;
            };
            let exact = from.ty.is_integer() && fits(integer, from.ty) && holds(out.ty, integer);
            exact.then_some(*value)
        }
        _ => None,
    }
}

/// Whether a type has this integer.
fn holds(ty: Type, integer: Known) -> bool {
    let digits = match ty {
        Type::Bf16 => 8,
        Type::F16 => 11,
        Type::F32 => 24,
        Type::F64 => 53,
        _ => return ty.is_integer() && fits(integer, ty),
    };
    integer.unsigned_abs() <= 1 << digits
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use super::*;

    fn after(program: Program) -> Program {
        program.optimized(&[Pass::Constants]).unwrap().0
    }

    fn names(program: &Program) -> Vec<String> {
        let steps = program.instructions().iter();
        steps.map(|step| step.op.name()).collect()
    }

    #[test]
    fn known_integers_are_computed_at_once() {
        let steps = vec![
            integer(3, "s32"),
            integer(4, "s32"),
            op(Op::Multiply, "s32", &[1, 2]),
            op(Op::Less, "u8", &[2, 3]),
            op(Op::AsType, "f32", &[3]),
            op(Op::Add, "f32", &[0, 5]),
        ];
        let program = after(program(&["f32"], steps, &[4, 6]));
        let value = |at: usize| match &program.instructions()[at].op {
            Step::Op(Op::Constant { value }) => *value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(2), Number::Integer(12));
        assert_eq!(value(3), Number::Integer(1));
        assert_eq!(value(4), Number::Integer(12));
        assert_eq!(program.instructions()[5].op, Op::Add.into());
    }

    #[test]
    fn what_is_rounded_or_wraps_is_left_to_the_device() {
        for (value, ty, operation, out) in [
            (1 << 24, "s32", Op::AsType, Some("f32")),
            ((1 << 24) + 1, "s32", Op::AsType, None),
            (257, "s32", Op::AsType, None),
            (256, "s32", Op::AsType, Some("bf16")),
            (300, "u8", Op::AsType, None),
            (-1, "s32", Op::AsType, None),
        ] {
            let to = out.unwrap_or(match value {
                257 => "bf16",
                300 => "s32",
                -1 => "u8",
                _ => "f32",
            });
            let steps = vec![integer(value, ty), op(operation, to, &[0])];
            let program = after(program(&[], steps, &[1]));
            let folded = names(&program)[1] == "constant";
            assert_eq!(folded, out.is_some(), "{value} {ty} {to}");
        }
        let steps = vec![integer(200, "u8"), op(Op::Add, "u8", &[0, 0])];
        assert_eq!(
            names(&after(program(&[], steps, &[1]))),
            ["constant", "add"]
        );
    }

    #[test]
    fn scalars_of_known_numbers_take_other_shapes() {
        let broadcast = Op::Broadcast { axes: vec![] };
        let steps = vec![
            constant(0.5, "f32"),
            op(broadcast, "f32[2][3]", &[0]),
            op(Op::Reshape, "f32[3][2]", &[1]),
            op(Op::Reshape, "f32[1]", &[0]),
        ];
        let program = after(program(&[], steps, &[2, 3]));
        let expected = ["constant", "constant", "reshape", "constant"];
        assert_eq!(names(&program), expected);
    }

    fn choice(predicate: Program) -> Step {
        let body = |op_: Op| program(&["f32", "s32"], vec![op(op_, "f32", &[0])], &[2]);
        let clauses = vec![Clause {
            predicate,
            body: body(Op::Exp),
        }];
        Step::Cond {
            clauses,
            last: body(Op::Log),
        }
    }

    #[test]
    fn of_a_known_choice_one_body_is_left() {
        let passed = program(&["f32", "s32"], vec![], &[1]);
        for (value, name) in [(0, "log"), (7, "exp")] {
            let steps = vec![
                integer(value, "s32"),
                step(choice(passed.clone()), &["f32"], &[0, 1]),
            ];
            let program = after(program(&["f32"], steps, &[2]));
            assert_eq!(names(&program), ["constant", name]);
        }
        let unknown = program(&["f32", "s32"], vec![op(Op::AsType, "s32", &[0])], &[2]);
        let steps = vec![integer(1, "s32"), step(choice(unknown), &["f32"], &[0, 1])];
        assert_eq!(
            names(&after(program(&["f32"], steps, &[2]))),
            ["constant", "cond"]
        );
    }

    #[test]
    fn a_predicate_that_calls_stays() {
        let call = step(Step::Call { number: 0 }, &[], &[0]);
        let predicate = program(&["f32", "s32"], vec![call], &[1]);
        let steps = vec![
            integer(1, "s32"),
            step(choice(predicate), &["f32"], &[0, 1]),
        ];
        assert_eq!(
            names(&after(program(&["f32"], steps, &[2]))),
            ["constant", "cond"]
        );
    }

    #[test]
    fn what_a_loop_carries_is_not_known() {
        let add = |ty: &str| op(Op::Add, ty, &[0, 1]);
        let condition = program(&["s32", "s32"], vec![op(Op::Less, "u8", &[0, 1])], &[2]);
        let body = program(
            &["s32", "s32"],
            vec![op(Op::Add, "s32", &[1, 1]), add("s32")],
            &[3],
        );
        let looped = Step::While { condition, body };
        let steps = vec![
            integer(0, "s32"),
            integer(5, "s32"),
            step(looped, &["s32"], &[0, 1]),
        ];
        let program = after(program(&[], steps, &[2]));
        let Step::While { condition, body } = &program.instructions()[2].op else {
            panic!("{program:?}");
        };
        assert_eq!(names(condition), ["less"]);
        assert_eq!(names(body), ["constant", "add"]);
    }
}
