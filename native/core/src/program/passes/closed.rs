//! What depends on no input.

use super::invariance::is_harmless;
use crate::{
    Op, TensorType,
    program::{Instruction, Program, Step},
};

/// What is kept of a program for as long as it may be called, in bytes.
const MOST_BYTES: usize = 1 << 26;

/// The values that are the same in each call and take some computing, as far as others need them: tables
/// of positions and the like. Results are not among them.
pub(in crate::program) fn closed(program: &Program) -> Vec<usize> {
    let values: Vec<_> = program.values().collect();
    let mut known = vec![None; program.inputs.len()];
    let mut wanted = vec![false; values.len()];
    for step in &program.instructions {
        let work = work(step, &known, &values);
        if work.is_none() {
            for &input in &step.inputs {
                wanted[input] |= known[input] == Some(true);
            }
        }
        known.extend(step.outs.iter().map(|_| work));
    }
    let mut left = MOST_BYTES;
    let numbers = (0..values.len()).filter(|&number| wanted[number]);
    numbers
        .filter(|&number| {
            let rest = left.checked_sub(values[number].memory());
            left = rest.unwrap_or(left);
            rest.is_some()
        })
        .collect()
}

/// Whether the results of an instruction take some computing, if they depend on nothing.
fn work(step: &Instruction, known: &[Option<bool>], values: &[&TensorType]) -> Option<bool> {
    let inputs = step.inputs.iter().map(|&input| known[input]);
    let computed = inputs.collect::<Option<Vec<_>>>()?.contains(&true);
    let types: Vec<_> = step
        .inputs
        .iter()
        .map(|&input| values[input].clone())
        .collect();
    let cheap = matches!(
        step.op,
        Step::Op(
            Op::Constant { .. }
                | Op::Iota { .. }
                | Op::Eye
                | Op::Broadcast { .. }
                | Op::Reshape
                | Op::Squeeze
                | Op::Transpose { .. }
                | Op::Slice { .. }
        )
    );
    // A view of few elements may show them many times over.
    is_harmless(step, &types).then_some(computed || !cheap)
}

#[cfg(test)]
mod tests {
    use super::super::{Pass, samples::*};
    use std::sync::Arc;

    use super::*;
    use crate::{Executable, Tensor, program::passes::Split};

    fn table() -> Vec<Instruction> {
        vec![
            op(Op::Iota { axis: None }, "f32[8]", &[]),
            constant(0.5, "f32"),
            op(Op::Multiply, "f32[8]", &[1, 2]),
            op(Op::Cos, "f32[8]", &[3]),
            op(Op::Reshape, "f32[1][8]", &[4]),
        ]
    }

    #[test]
    fn what_takes_computing_and_depends_on_nothing_is_closed() {
        let mut steps = table();
        steps.push(op(Op::Add, "f32[1][8]", &[0, 5]));
        steps.push(op(Op::Multiply, "f32[1][8]", &[6, 2]));
        let program = program(&["f32[1][8]"], steps, &[7, 4]);
        assert_eq!(closed(&program), [5]);
        let split = Split::at(program.clone(), &[5]).unwrap().unwrap();
        assert!(split.sources.is_empty());
        assert_eq!(split.before.instructions().len(), 5);
        // The constant is needed still, and the result that nothing else needs.
        assert_eq!(split.rest.inputs().len(), 2);
        assert_eq!(split.rest.output_types(), program.output_types());
        let (same, _) = split.rest.clone().optimized(&[Pass::DeadCode]).unwrap();
        assert_eq!(same, split.rest);
    }

    #[test]
    fn it_is_computed_once() {
        let mut steps = table();
        steps.push(op(Op::Add, "f32[1][8]", &[0, 5]));
        let program = program(&["f32"], steps, &[6]);
        let stream = stream();
        let number = Tensor::from_bytes(&stream, &ty("f32"), &1.5_f32.to_ne_bytes()).unwrap();
        let inputs = [Arc::new(number)];
        let expected = bits(&program, &inputs, &stream);
        let executable = Executable::optimized(program, &Pass::EXACT).unwrap();
        let executable = Arc::new(executable);
        for _ in 0..2 {
            let (given, steps) = ran(&executable, &inputs, &stream);
            assert_eq!((given, steps), (expected.clone(), 1));
        }
        assert_eq!(executable.clear().len(), 1);
    }

    #[test]
    fn what_is_cheap_large_or_may_fail_is_not() {
        let cheap = vec![
            op(Op::Iota { axis: None }, "f32[8]", &[]),
            op(Op::Add, "f32[8]", &[0, 1]),
        ];
        assert!(closed(&program(&["f32"], cheap, &[2])).is_empty());
        let large = vec![
            op(Op::Iota { axis: None }, "f32[20000000]", &[]),
            op(Op::Cos, "f32[20000000]", &[1]),
            op(Op::Add, "f32[20000000]", &[0, 2]),
        ];
        assert!(closed(&program(&["f32"], large, &[3])).is_empty());
        let failing = vec![
            op(Op::Eye, "f32[2][2]", &[]),
            op(Op::Cholesky, "f32[2][2]", &[1]),
            op(Op::Add, "f32[2][2]", &[0, 2]),
        ];
        assert!(closed(&program(&["f32"], failing, &[3])).is_empty());
    }
}
