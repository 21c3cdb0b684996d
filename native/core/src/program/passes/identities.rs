//! Operations that give what they are given.

use super::writer::{Writer, rewritten};
use crate::{
    Number, Op, Result,
    program::{Instruction, Program, Step, known::is_counted},
};

pub(super) fn run(program: Program, found: &mut usize) -> Result<Program> {
    let numbers = (0..program.inputs.len()).collect();
    rewritten(program, numbers, |writer, mut instruction| {
        if let Some(same) = unchanged(writer, &instruction) {
            *found += 1;
            return Ok([same].into_iter().collect());
        }
        instruction.op = instruction.op.try_map(|part| run(part, found))?;
        Ok(writer.add(instruction))
    })
}

/// The input that is the result, bit by bit.
///
/// Where x is a float, x + 0 is not x for -0.0, nor x * 1 for every NaN. Of integers, scalars alone: of a
/// larger one the sum might lie in memory otherwise than x does.
fn unchanged(writer: &Writer, instruction: &Instruction) -> Option<usize> {
    let (Step::Op(op), [out]) = (&instruction.op, &instruction.outs[..]) else {
        return None;
    };
    let constant = |number| match writer.source(number) {
        Some(Step::Op(Op::Constant {
            value: Number::Integer(value),
        })) => Some(*value),
        _ => None,
    };
    let counted = out.shape.rank() == 0 && is_counted(out.ty);
    let same = match (op, &instruction.inputs[..]) {
        (Op::AsType | Op::Reshape | Op::Squeeze, [x]) => *x,
        (Op::Broadcast { axes } | Op::Transpose { axes }, [x])
            if axes.iter().copied().eq(0..out.shape.rank()) =>
        {
            *x
        }
        (
            Op::Slice {
                starts, strides, ..
            },
            [x],
        ) if starts.iter().all(|&start| start == 0) && strides.iter().all(|&by| by == 1) => *x,
        (Op::Concatenate { .. }, [x]) => *x,
        (Op::Add | Op::Subtract, [x, y]) if counted && constant(*y) == Some(0) => *x,
        (Op::Add, [x, y]) if counted && constant(*x) == Some(0) => *y,
        (Op::Multiply, [x, y]) if counted && constant(*y) == Some(1) => *x,
        (Op::Multiply, [x, y]) if counted && constant(*x) == Some(1) => *y,
        _ => return None,
    };
    (writer.value(same) == out).then_some(same)
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use super::*;

    fn left(steps: Vec<Instruction>, input: &str) -> usize {
        let last = steps.len();
        let program = program(&[input], steps, &[last]);
        let (after, _) = program.optimized(&[Pass::Identities]).unwrap();
        after.instructions().len()
    }

    #[test]
    fn what_moves_nothing_is_left_out() {
        let transpose = |axes: &[usize]| Op::Transpose {
            axes: axes.to_vec(),
        };
        let slice = |length| Op::Slice {
            starts: vec![0, 0],
            lengths: vec![2, length],
            strides: vec![1, 1],
        };
        for (operation, out, count) in [
            (Op::Reshape, "f32[2][3]", 0),
            (Op::Reshape, "f32[3][2]", 1),
            (Op::AsType, "f32[2][3]", 0),
            (Op::AsType, "s32[2][3]", 1),
            (Op::Squeeze, "f32[2][3]", 0),
            (transpose(&[0, 1]), "f32[2][3]", 0),
            (Op::Broadcast { axes: vec![0, 1] }, "f32[2][3]", 0),
            (Op::Broadcast { axes: vec![1, 2] }, "f32[1][2][3]", 1),
            (slice(3), "f32[2][3]", 0),
            (slice(2), "f32[2][2]", 1),
            (Op::Concatenate { axis: 0 }, "f32[2][3]", 0),
            (Op::Negate, "f32[2][3]", 1),
        ] {
            let steps = vec![op(operation.clone(), out, &[0])];
            assert_eq!(left(steps, "f32[2][3]"), count, "{operation:?} {out}");
        }
        // The same shape, and yet another tensor.
        let steps = vec![op(transpose(&[1, 0]), "f32[2][2]", &[0])];
        assert_eq!(left(steps, "f32[2][2]"), 1);
    }

    #[test]
    fn zero_is_added_to_floats_and_not_to_counters() {
        for (ty, count) in [("s32", 1), ("u8", 1), ("f32", 2), ("s32[2]", 2), ("u64", 2)] {
            let steps = vec![integer(0, ty), op(Op::Add, ty, &[0, 1])];
            assert_eq!(left(steps, ty), count, "{ty}");
            let steps = vec![integer(1, ty), op(Op::Multiply, ty, &[1, 0])];
            assert_eq!(left(steps, ty), count, "{ty}");
            let steps = vec![integer(0, ty), op(Op::Subtract, ty, &[1, 0])];
            assert_eq!(left(steps, ty), 2, "{ty}");
        }
    }
}
