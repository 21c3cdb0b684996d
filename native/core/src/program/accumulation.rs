//! Functions that join what they make of an element with an accumulator, such as a sum of squares.

use super::{Instruction, Program, Step};
use crate::Op;

/// The number of the accumulator among the values of a reducing function.
const ACCUMULATOR: usize = 1;

/// A reducing function in two parts, each of the same inputs as the whole.
pub(crate) struct Accumulation {
    /// What becomes of an element; none if it stays as it is.
    pub each: Option<Program>,
    /// How that joins the accumulator: associative, as the whole function need not be.
    pub join: Program,
}

impl Program {
    /// The parts of a function whose last step is an associative operation between the accumulator
    /// and something that does not depend on it.
    pub(crate) fn accumulation(&self) -> Option<Accumulation> {
        let inputs = self.inputs.len();
        let [output] = self.outputs[..] else {
            return None;
        };
        let last = self.instructions.get(output.checked_sub(inputs)?)?;
        let part = match last.inputs[..] {
            [ACCUMULATOR, part] | [part, ACCUMULATOR] => part,
            _ => return None,
        };
        if !is_associative(&last.op)
            || last.outs[..] != self.inputs[ACCUMULATOR..=ACCUMULATOR]
            || self.depends_on_accumulator(part)
        {
            return None;
        }
        let each = (part != 0).then(|| Self {
            inputs: self.inputs.clone(),
            instructions: self.instructions[..(part + 1).saturating_sub(inputs)].to_vec(),
            outputs: vec![part],
        });
        let join = Instruction {
            inputs: vec![0, ACCUMULATOR],
            ..last.clone()
        };
        Some(Accumulation {
            each,
            join: Self {
                inputs: self.inputs.clone(),
                instructions: vec![join],
                outputs: vec![inputs],
            },
        })
    }

    fn depends_on_accumulator(&self, value: usize) -> bool {
        let mut depends: Vec<bool> = (0..self.inputs.len())
            .map(|input| input == ACCUMULATOR)
            .collect();
        for instruction in &self.instructions {
            depends.push(instruction.inputs.iter().any(|&input| depends[input]));
        }
        depends[value]
    }
}

const fn is_associative(step: &Step) -> bool {
    matches!(
        step,
        Step::Op(
            Op::Add
                | Op::Multiply
                | Op::Min
                | Op::Max
                | Op::BitwiseAnd
                | Op::BitwiseOr
                | Op::BitwiseXor
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, TensorType, Type};

    fn accumulation(types: [Type; 2], steps: &[(Op, &[usize])]) -> Option<Accumulation> {
        let scalar = |ty| TensorType {
            ty,
            shape: Shape::default(),
        };
        let steps = steps.iter().map(|(op, inputs)| Instruction {
            op: op.clone().into(),
            outs: vec![scalar(Type::F32)],
            inputs: inputs.to_vec(),
        });
        let steps: Vec<_> = steps.collect();
        let output = 1 + steps.len();
        let program = Program::new(types.map(scalar).to_vec(), steps, vec![output]).unwrap();
        program.accumulation()
    }

    #[test]
    fn parts_a_sum_of_squares() {
        let floats = [Type::F32; 2];
        let squares = [(Op::Multiply, &[0, 0][..]), (Op::Add, &[1, 2])];
        let parts = accumulation(floats, &squares).unwrap();
        let each = parts.each.unwrap();
        assert_eq!((each.instructions.len(), &each.outputs[..]), (1, &[2][..]));
        assert_eq!(parts.join.instructions[0].op, Op::Add.into());
        assert_eq!(parts.join.instructions[0].inputs, [0, 1]);
        let sum = accumulation(floats, &[(Op::Add, &[0, 1])]).unwrap();
        assert!(sum.each.is_none());
    }

    #[test]
    fn leaves_whole_what_has_no_such_parts() {
        let floats = [Type::F32; 2];
        for steps in [
            &[(Op::Subtract, &[0, 1][..])][..],
            &[(Op::Add, &[1, 1])],
            &[(Op::Multiply, &[0, 1]), (Op::Add, &[2, 1])],
            &[(Op::Multiply, &[0, 1]), (Op::Add, &[0, 2])],
            &[(Op::Exp, &[0])],
        ] {
            assert!(accumulation(floats, steps).is_none(), "{steps:?}");
        }
        // Each step of the whole function is rounded to the accumulator's type.
        let integers = [Type::F32, Type::S32];
        assert!(accumulation(integers, &[(Op::Add, &[0, 1])]).is_none());
    }
}
