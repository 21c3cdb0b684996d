use std::sync::Arc;

use super::super::{Pass, samples::*};
use super::*;
use crate::{Executable, Tensor};

fn dot(out: &str, inputs: &[usize]) -> Instruction {
    let (contract_a, contract_b) = (vec![1], vec![0]);
    let (batch_a, batch_b) = (vec![], vec![]);
    let operation = match inputs.len() {
        2 => Op::Dot {
            contract_a,
            batch_a,
            contract_b,
            batch_b,
        },
        _ => Op::DotAdd {
            contract_a,
            batch_a,
            contract_b,
            batch_b,
        },
    };
    op(operation, out, inputs)
}

fn names(program: &Program) -> Vec<String> {
    let steps = program.instructions().iter();
    steps.map(|step| step.op.name()).collect()
}

fn joined(program: &Program) -> Program {
    let (after, _) = program.clone().optimized(&[Pass::Projections]).unwrap();
    after
}

/// Query, key and value of `x`, and what comes of them; the weights are inputs 1, 2 and 3.
fn projections() -> Program {
    program(
        &["f32[2][4]", "f32[4][4]", "f32[4][2]", "f32[4][3]"],
        vec![
            op(Op::Exp, "f32[2][4]", &[0]),
            dot("f32[2][4]", &[4, 1]),
            dot("f32[2][2]", &[4, 2]),
            op(Op::Sin, "f32[2][4]", &[5]),
            dot("f32[2][3]", &[4, 3]),
        ],
        &[7, 6, 8],
    )
}

fn random(text: &str, seed: usize) -> Arc<Tensor> {
    let ty = ty(text);
    let numbers = (0..ty.shape.size()).map(|at| ((at * 7 + seed * 13) % 17) as f32 / 8.0 - 1.0);
    let bytes: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
    Arc::new(Tensor::from_bytes(&stream(), &ty, &bytes).unwrap())
}

fn inputs(program: &Program) -> Vec<Arc<Tensor>> {
    let types = program.inputs().iter().enumerate();
    types.map(|(at, ty)| random(&ty.to_string(), at)).collect()
}

fn agree(before: &Program, after: &Program) {
    let (inputs, stream) = (inputs(before), stream());
    let numbers = |program| {
        let bytes = bits(program, &inputs, &stream).concat();
        let chunks = bytes.chunks_exact(4);
        chunks
            .map(|chunk| f32::from_ne_bytes(chunk.try_into().unwrap()))
            .collect::<Vec<_>>()
    };
    let (before, after) = (numbers(before), numbers(after));
    assert_eq!(before.len(), after.len());
    for (x, y) in before.into_iter().zip(after) {
        assert!((x - y).abs() < 1e-5, "{x} {y}");
    }
}

#[test]
fn products_of_the_same_become_one() {
    let program = projections();
    let after = joined(&program);
    let expected = [
        "exp",
        "concatenate",
        "dot",
        "slice",
        "slice",
        "sin",
        "slice",
    ];
    let mut given = names(&after);
    given.sort();
    let mut sorted = expected.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(given, sorted);
    assert_eq!(after.output_types(), program.output_types());
    agree(&program, &after);
}

#[test]
fn what_is_added_is_joined_too_and_weights_may_be_cast() {
    let program = program(
        &["f32[2][4]", "f32[4][4]", "f32[4]", "f32[2][4]", "f32[2]"],
        vec![
            dot("f32[2][4]", &[0, 1, 2]),
            op(Op::Transpose { axes: vec![1, 0] }, "f32[4][2]", &[3]),
            dot("f32[2][2]", &[0, 6, 4]),
        ],
        &[5, 7],
    );
    let after = joined(&program);
    let count = |name: &str| names(&after).iter().filter(|&each| each == name).count();
    assert_eq!((count("dot_add"), count("concatenate")), (1, 2));
    agree(&program, &after);
}

#[test]
fn one_row_is_multiplied_with_columns() {
    let program = program(
        &["f32[1][4]", "f32[4][4]", "f32[4][2]"],
        vec![dot("f32[1][4]", &[0, 1]), dot("f32[1][2]", &[0, 2])],
        &[3, 4],
    );
    let after = joined(&program);
    let joint = after
        .instructions()
        .iter()
        .find(|step| step.op.name() == "concatenate");
    assert_eq!(joint.unwrap().outs, [ty("f32[6][4]")]);
    agree(&program, &after);
    let executable = Arc::new(Executable::optimized(program.clone(), &Pass::ALL).unwrap());
    let given = inputs(&program);
    let steps: Vec<_> = (0..2)
        .map(|_| ran(&executable, &given, &stream()).1)
        .collect();
    assert_eq!(steps, [2, 3]);
}

#[test]
fn matrices_that_are_computed_stay_apart() {
    let computed = program(
        &["f32[2][4]", "f32[4][4]"],
        vec![
            op(Op::Exp, "f32[4][4]", &[1]),
            dot("f32[2][4]", &[0, 1]),
            dot("f32[2][4]", &[0, 2]),
        ],
        &[3, 4],
    );
    assert_eq!(joined(&computed), computed);
    let others = program(
        &["f32[2][4]", "f32[2][4]", "f32[4][4]", "f32[4][4]"],
        vec![dot("f32[2][4]", &[0, 2]), dot("f32[2][4]", &[1, 3])],
        &[4, 5],
    );
    assert_eq!(joined(&others), others);
}

/// `x` becomes the product with two matrices, multiplied, three times over.
fn looping() -> Program {
    let types = ["s32", "f32[2][4]", "f32[4][4]", "f32[4][4]"];
    let condition = program(
        &types,
        vec![integer(3, "s32"), op(Op::Less, "u8", &[0, 4])],
        &[5],
    );
    let body = program(
        &types,
        vec![
            integer(1, "s32"),
            op(Op::Add, "s32", &[0, 4]),
            dot("f32[2][4]", &[1, 2]),
            dot("f32[2][4]", &[1, 3]),
            op(Op::Multiply, "f32[2][4]", &[6, 7]),
            op(Op::Sin, "f32[2][4]", &[8]),
        ],
        &[5, 9],
    );
    let op = Step::While { condition, body };
    program(
        &["f32[2][4]", "f32[4][4]", "f32[4][4]"],
        vec![
            integer(0, "s32"),
            step(op, &["s32", "f32[2][4]"], &[3, 0, 1, 2]),
        ],
        &[5],
    )
}

#[test]
fn loops_are_given_what_is_joined() {
    let program = looping();
    let after = joined(&program);
    assert_eq!(names(&after), ["constant", "concatenate", "while"]);
    agree(&program, &after);
    let nested = {
        let types = ["s32", "f32[2][4]", "f32[4][4]", "f32[4][4]"];
        let (zero, inner) = (integer(0, "s32"), program.instructions()[1].clone());
        let mut again = inner.clone();
        again.inputs = vec![6, 1, 2, 3];
        let body = super::super::samples::program(
            &types,
            vec![integer(1, "s32"), op(Op::Add, "s32", &[0, 4]), zero, again],
            &[5, 8],
        );
        let Step::While { condition, .. } = &inner.op else {
            panic!()
        };
        let op = Step::While {
            condition: condition.clone(),
            body,
        };
        super::super::samples::program(
            &["f32[2][4]", "f32[4][4]", "f32[4][4]"],
            vec![
                integer(0, "s32"),
                step(op, &["s32", "f32[2][4]"], &[3, 0, 1, 2]),
            ],
            &[5],
        )
    };
    let after = joined(&nested);
    assert_eq!(names(&after), ["constant", "concatenate", "while"]);
    agree(&nested, &after);
}

#[test]
fn the_same_matrices_are_joined_once() {
    let (program, stream) = (projections(), stream());
    let steps = |executable: &_, given: &[_]| ran(executable, given, &stream).1;
    let executable = Executable::optimized(program.clone(), &Pass::ALL).unwrap();
    let executable = Arc::new(executable);
    let mut given = inputs(&program);
    let plain = steps(&executable, &given);
    // Exp, one product, three slices, sin.
    let joined = steps(&executable, &given);
    assert_eq!((plain, joined), (5, 6));
    given[0] = random("f32[2][4]", 9);
    assert_eq!(steps(&executable, &given), joined);
    assert_eq!(executable.clear().len(), 1);
    assert_eq!(steps(&executable, &given), plain);
    // Other matrices each time, as in training.
    for seed in 0..3 {
        given[2] = random("f32[4][2]", seed);
        assert_eq!(steps(&executable, &given), plain);
    }
    assert!(executable.clear().is_empty());
    let off = Executable::optimized(program, &[Pass::DeadCode]).unwrap();
    let off = Arc::new(off);
    steps(&off, &given);
    assert_eq!(steps(&off, &given), plain);
}
