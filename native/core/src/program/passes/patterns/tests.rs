//! What all patterns have in common.

use super::sketch::{Sketch, agree, names};
use crate::{
    Assertion, Clause, Op, Program, Step,
    program::passes::{Pass, samples::*},
};

fn silu(sketch: &mut Sketch, x: usize) -> usize {
    let sigmoid = sketch.op(Op::Sigmoid, &[x]);
    sketch.op(Op::Multiply, &[sigmoid, x])
}

fn after(program: &Program, passes: &[Pass]) -> Program {
    let (fused, _) = program.clone().optimized(passes).unwrap();
    agree(program, &fused);
    fused
}

/// Normalizes and rescales with numbers, which leave a loop with all that stays the same in it.
fn body(inputs: &[&str]) -> Program {
    let mut sketch = Sketch::new(inputs);
    let squares = sketch.op(Op::Multiply, &[1, 1]);
    let mean = sketch.mean(squares, 1);
    let epsilon = sketch.number(1e-3, mean);
    let sum = sketch.op(Op::Add, &[mean, epsilon]);
    let by = sketch.op(Op::Rsqrt, &[sum]);
    let normalized = sketch.op(Op::Multiply, &[1, by]);
    let gamma = sketch.to(Op::Reshape, "f32[1][8]", &[2]);
    let scaled = sketch.op(Op::Multiply, &[normalized, gamma]);
    let one = sketch.step(integer(1, "s32"));
    let next = sketch.op(Op::Add, &[0, one]);
    sketch.program(&[next, scaled])
}

#[test]
fn programs_in_programs_are_fused() {
    let inputs = ["s32", "f32[3][8]", "f32[8]"];
    let mut condition = Sketch::new(&inputs);
    let three = condition.step(integer(3, "s32"));
    let less = condition.op(Op::Less, &[0, three]);
    let looped = Step::While {
        condition: condition.program(&[less]),
        body: body(&inputs),
    };
    let mut sketch = Sketch::new(&["f32[3][8]", "f32[8]"]);
    let zero = sketch.step(integer(0, "s32"));
    sketch.step(step(looped, &["s32", "f32[3][8]"], &[zero, 0, 1]));
    let program = sketch.program(&[4]);
    // Numbers and gamma come from before the loop by then.
    let fused = after(&program, &Pass::ALL);
    let Some(Step::While { body, .. }) = fused.instructions().last().map(|step| &step.op) else {
        panic!("{fused:?}");
    };
    assert!(names(body).contains(&"rms_norm".into()), "{body:?}");
    assert!(!names(body).contains(&"rsqrt".into()), "{body:?}");
}

#[test]
fn branches_are_fused() {
    let branch = |twice: bool| {
        let mut sketch = Sketch::new(&["u8", "f32[3][8]"]);
        let once = silu(&mut sketch, 1);
        let result = if twice { silu(&mut sketch, once) } else { once };
        sketch.program(&[result])
    };
    let choice = Step::Cond {
        clauses: vec![Clause {
            predicate: Sketch::new(&["u8", "f32[3][8]"]).program(&[0]),
            body: branch(false),
        }],
        last: branch(true),
    };
    let steps = vec![step(choice, &["f32[3][8]"], &[0, 1])];
    let program = program(&["u8", "f32[3][8]"], steps, &[2]);
    let (_, found) = program.clone().optimized(&[Pass::Activation]).unwrap();
    assert_eq!(found, [(Pass::Activation, 3)]);
    after(&program, &Pass::ALL);
}

#[test]
fn what_is_checked_is_in_no_pattern() {
    let checked = |op: Op| Op::Checked {
        op: Box::new(op),
        of: vec![Assertion::Finite],
        at: None,
    };
    for at in 0..2 {
        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let [first, last] = [Op::Sigmoid, Op::Multiply];
        let first = if at == 0 { checked(first) } else { first };
        let last = if at == 1 { checked(last) } else { last };
        let sigmoid = sketch.op(first, &[0]);
        let result = sketch.op(last, &[0, sigmoid]);
        let left = sketch.left(Pass::Activation, result);
        assert_eq!(left, ["sigmoid", "multiply"]);
    }
}

/// Other values lie between those of a pattern, and keep their numbers' order.
#[test]
fn what_lies_between_stays() {
    let mut sketch = Sketch::new(&["f32[3][8]", "f32[3][8]"]);
    let sigmoid = sketch.op(Op::Sigmoid, &[0]);
    let sine = sketch.op(Op::Sin, &[1]);
    let other = silu(&mut sketch, sine);
    let product = sketch.op(Op::Multiply, &[sigmoid, 0]);
    let result = sketch.op(Op::Subtract, &[product, other]);
    let program = sketch.program(&[result, sine]);
    let fused = after(&program, &[Pass::Activation]);
    let expected = ["sin", "activation", "activation", "subtract"];
    assert_eq!(names(&fused), expected);
}

#[test]
fn each_pattern_works_alone() {
    let mut sketch = Sketch::new(&["f32[3][8]"]);
    let result = silu(&mut sketch, 0);
    let program = sketch.program(&[result]);
    for pass in Pass::PATTERNS {
        let (left, _) = program.clone().optimized(&[pass]).unwrap();
        let fused = left.instructions().len() == 1;
        assert_eq!(fused, pass == Pass::Activation, "{pass:?}");
    }
}
