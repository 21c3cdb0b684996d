//! Products that can be made together.

use std::collections::HashMap;

use super::{Group, Joint};
use crate::{
    Op, Shape, TensorType,
    program::{Instruction, Program, Step},
};

/// The products that can be made together: of the same tensor along the same axes, with matrices that
/// stay the same, and of the same kind.
pub(super) fn groups(program: &Program, fixed: &[bool]) -> Vec<Group> {
    let values: Vec<_> = program.values().collect();
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (at, step) in program.instructions.iter().enumerate() {
        let Some((contract_a, contract_b)) = axes(step) else {
            continue;
        };
        let matrix = values[step.inputs[1]];
        let plain = matrix.shape.rank() == 2
            && step.inputs[1..].iter().all(|&input| fixed[input])
            && step.outs[0].ty.is_inexact()
            && step.inputs.iter().all(|&x| values[x].ty == step.outs[0].ty)
            && step
                .inputs
                .get(2)
                .is_none_or(|&c| values[c].shape.dims() == [size(step)]);
        if plain {
            let key = (step.inputs[0], contract_a, contract_b, step.inputs.len());
            let place = *places.entry(key).or_insert_with(|| {
                found.push(Vec::new());
                found.len() - 1
            });
            found[place].push(at);
        }
    }
    let several = found.into_iter().filter(|members| members.len() > 1);
    several
        .filter_map(|members| group(program, &values, members))
        .collect()
}

/// The axes that a product of two matrices or more contracts, one on each side.
fn axes(step: &Instruction) -> Option<(usize, usize)> {
    match &step.op {
        Step::Op(
            Op::Dot {
                contract_a,
                batch_a,
                contract_b,
                ..
            }
            | Op::DotAdd {
                contract_a,
                batch_a,
                contract_b,
                ..
            },
        ) if batch_a.is_empty() => match (&contract_a[..], &contract_b[..]) {
            (&[a], &[b]) => Some((a, b)),
            _ => None,
        },
        _ => None,
    }
}

/// The last axis' size.
pub(super) fn size(step: &Instruction) -> i32 {
    step.outs[0].shape.dims().last().copied().unwrap_or(1)
}

fn group(program: &Program, values: &[&TensorType], members: Vec<usize>) -> Option<Group> {
    let steps: Vec<_> = members
        .iter()
        .map(|&at| &program.instructions[at])
        .collect();
    let (_, contracted) = axes(steps[0])?;
    let total = steps
        .iter()
        .try_fold(0_i32, |sum, step| sum.checked_add(size(step)))?;
    let resized = |of: &TensorType, axis: usize, turned: bool| {
        let mut dims: Vec<i64> = of.shape.dims().iter().map(|&dim| dim.into()).collect();
        *dims.get_mut(axis)? = total.into();
        if turned {
            dims.reverse();
        }
        let shape = Shape::new(&dims).ok()?;
        Some(TensorType { ty: of.ty, shape })
    };
    let joint = |place: usize, axis: usize, turned: bool| {
        let parts: Vec<_> = steps.iter().map(|step| step.inputs[place]).collect();
        let out = resized(values[parts[0]], axis, turned)?;
        Some(Joint {
            parts,
            axis: if turned { 1 - axis } else { axis },
            turned,
            out,
        })
    };
    // A GPU is quicker with one row if each column of the matrix is in one piece.
    let row = steps[0].outs[0].shape.size() == size(steps[0]) as usize;
    let mut joints = vec![joint(1, 1 - contracted, row && contracted == 0)?];
    if steps[0].inputs.len() > 2 {
        joints.push(joint(2, 0, false)?);
    }
    let out = &steps[0].outs[0];
    let out = resized(out, out.shape.rank().checked_sub(1)?, false)?;
    Some(Group {
        members,
        joints,
        out,
    })
}
