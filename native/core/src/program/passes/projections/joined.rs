//! Which values of a program are joined matrices.

use super::is_moved;
use crate::{
    Op,
    program::{Program, Step},
};

/// Matrices beside each other, made of inputs alone, that are the right side of a product or are given to
/// a loop.
pub(in crate::program) fn joined(program: &Program) -> Vec<usize> {
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
