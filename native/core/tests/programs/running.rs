//! Conditions, loops and calls: which are refused, and how they run.

use std::sync::Arc;

use emily_core::{
    Clause, Device, Executable, Instruction, Number, Op, Pause, Program, Replay, Result, Shape,
    Step, Stream, Tensor, TensorType, Type, install_error_handler,
};

fn scalar(ty: Type) -> TensorType {
    TensorType {
        ty,
        shape: Shape::default(),
    }
}

fn s32() -> TensorType {
    scalar(Type::S32)
}

fn step(op: impl Into<Step>, outs: &[TensorType], inputs: &[usize]) -> Instruction {
    Instruction {
        op: op.into(),
        outs: outs.to_vec(),
        inputs: inputs.to_vec(),
    }
}

fn number(value: i128) -> Instruction {
    let value = Number::Integer(value);
    step(Op::Constant { value }, &[s32()], &[])
}

fn program(inputs: &[TensorType], instructions: Vec<Instruction>, outputs: &[usize]) -> Program {
    Program::new(inputs.to_vec(), instructions, outputs.to_vec()).unwrap()
}

/// What is said of a program with this instruction, on an s32 and an f32.
fn refusal(op: Step, outs: &[TensorType], inputs: &[usize]) -> String {
    let types = vec![s32(), scalar(Type::F32)];
    let made = Program::new(types, vec![step(op, outs, inputs)], vec![]);
    made.unwrap_err().to_string()
}

/// A program that gives some of its inputs.
fn passes(inputs: &[TensorType], outputs: &[usize]) -> Program {
    program(inputs, vec![], outputs)
}

fn cond(predicate: Program, body: Program, last: Program) -> Step {
    let clauses = vec![Clause { predicate, body }];
    Step::Cond { clauses, last }
}

#[test]
fn conditions_that_do_not_fit_are_refused() {
    let (s, f) = (s32(), scalar(Type::F32));
    let one = || passes(&[s32()], &[0]);
    let vector = TensorType {
        ty: Type::U8,
        shape: Shape::new(&[2]).unwrap(),
    };
    let two = program(
        &[s32()],
        vec![step(
            Op::Broadcast { axes: vec![] },
            std::slice::from_ref(&vector),
            &[0],
        )],
        &[1],
    );
    let cases = [
        (
            cond(passes(&[], &[]), one(), one()),
            "to have a predicate that takes s32, got: one that takes none",
        ),
        (
            cond(passes(&[s32()], &[]), one(), one()),
            "to have a predicate that gives a scalar, got: one that gives none",
        ),
        (
            cond(two, one(), one()),
            "to have a predicate that gives a scalar, got: one that gives u8[2]",
        ),
        (
            cond(one(), passes(&[f], &[0]), one()),
            "to have a body that takes s32, got: one that takes f32",
        ),
        (
            cond(one(), one(), passes(&[s32()], &[0, 0])),
            "to have a body that gives s32, got: one that gives s32, s32",
        ),
    ];
    for (op, problem) in cases {
        let expected = format!("expected instruction 0, cond, {problem}");
        assert_eq!(refusal(op, std::slice::from_ref(&s), &[0]), expected);
    }
}

#[test]
fn loops_that_do_not_fit_are_refused() {
    let types = [s32(), scalar(Type::F32)];
    let cases = [
        (
            (passes(&types, &[0]), passes(&types, &[0])),
            vec![scalar(Type::F32)],
            "to begin with inputs of f32, got: s32, f32",
        ),
        (
            (passes(&types, &[0]), passes(&types, &[0])),
            vec![s32(), scalar(Type::F32), s32()],
            "to begin with inputs of s32, f32, s32, got: s32, f32",
        ),
        (
            (passes(&types[..1], &[0]), passes(&types, &[0])),
            vec![s32()],
            "to have its condition that takes s32, f32, got: one that takes s32",
        ),
        (
            (passes(&types, &[0, 1]), passes(&types, &[0])),
            vec![s32()],
            "to have its condition that gives a scalar, got: one that gives s32, f32",
        ),
        (
            (passes(&types, &[0]), passes(&types, &[1])),
            vec![s32()],
            "to have its body that gives s32, got: one that gives f32",
        ),
    ];
    for ((condition, body), outs, problem) in cases {
        let op = Step::While { condition, body };
        let expected = format!("expected instruction 0, while, {problem}");
        assert_eq!(refusal(op, &outs, &[0, 1]), expected);
    }
    assert_eq!(
        refusal(Step::Call { number: 0 }, &[], &[2]),
        "expected instruction 0, call, to take values below 2, got: 2"
    );
}

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn tensor(stream: &Stream, value: i32) -> Arc<Tensor> {
    Arc::new(Tensor::from_bytes(stream, &s32(), &value.to_ne_bytes()).unwrap())
}

fn value(tensor: &Tensor) -> i32 {
    let readable = tensor.readable().unwrap();
    i32::from_ne_bytes(readable.bytes().unwrap().try_into().unwrap())
}

fn start(program: Program, stream: &Stream, inputs: &[i32]) -> Replay {
    let executable: Arc<Executable> = Arc::new(program.into());
    let inputs = inputs.iter().map(|&input| tensor(stream, input));
    Replay::new(&executable, stream, inputs).unwrap()
}

/// The results, and how often something had to be computed on the way there.
fn finish(replay: &mut Replay, most: usize) -> Result<(Vec<i32>, usize)> {
    let mut waits = 0;
    loop {
        match replay.advance(most)? {
            Pause::Done(tensors) => {
                return Ok((tensors.iter().map(|tensor| value(tensor)).collect(), waits));
            }
            Pause::Compute(roots) | Pause::Begin(roots) => {
                let roots: Vec<&Tensor> = roots.iter().map(AsRef::as_ref).collect();
                Tensor::eval_all(&roots)?;
                waits += 1;
            }
            Pause::Busy => {}
            Pause::Call(_) => panic!("nobody is there to be called"),
        }
    }
}

/// Adds the second value to the first as often as `rounds` says, which is the loop's third one.
fn counting(condition: Vec<Instruction>, going: usize) -> Program {
    let types = [s32(), s32(), s32()];
    let body = vec![
        number(-1),
        step(Op::Add, &[s32()], &[2, 3]),
        step(Op::Add, &[s32()], &[0, 1]),
    ];
    let op = Step::While {
        condition: program(&types, condition, &[going]),
        body: program(&types, body, &[5, 1, 4]),
    };
    program(&types, vec![step(op, &types, &[0, 1, 2])], &[3, 5])
}

#[test]
fn a_known_counter_is_followed_with_no_wait() {
    let stream = stream();
    let mut replay = start(counting(vec![], 2), &stream, &[3, 2, 50]);
    assert_eq!(finish(&mut replay, usize::MAX).unwrap(), (vec![103, 0], 0));
    // A graph of many thousand nodes is computed in between.
    let mut replay = start(counting(vec![], 2), &stream, &[3, 2, 5000]);
    let (results, waits) = finish(&mut replay, usize::MAX).unwrap();
    assert_eq!(results, [10_003, 0]);
    assert!((1..100).contains(&waits), "{waits}");
}

#[test]
fn a_condition_of_data_is_waited_for_in_each_round() {
    let stream = stream();
    let condition = vec![step(Op::Sign, &[s32()], &[2])];
    let mut replay = start(counting(condition, 3), &stream, &[3, 2, 5]);
    let (results, waits) = finish(&mut replay, usize::MAX).unwrap();
    assert_eq!(results, [13, 0]);
    assert_eq!(waits, 6);
}

#[test]
fn a_run_in_small_parts_comes_to_the_same() {
    let stream = stream();
    for most in 1..12 {
        let mut replay = start(counting(vec![], 2), &stream, &[3, 2, 9]);
        assert_eq!(finish(&mut replay, most).unwrap().0, [21, 0]);
    }
}

/// The first clause whose predicate is not zero: the inputs are the predicates.
fn choosing() -> Program {
    let types = [s32(), s32()];
    let clause = |at, value| Clause {
        predicate: passes(&types, &[at]),
        body: program(&types, vec![number(value)], &[2]),
    };
    let op = Step::Cond {
        clauses: vec![clause(0, 10), clause(1, 20)],
        last: program(&types, vec![number(30)], &[2]),
    };
    program(&types, vec![step(op, &[s32()], &[0, 1])], &[2])
}

#[test]
fn the_first_clause_that_holds_is_taken() {
    let stream = stream();
    for (inputs, expected) in [([1, 1], 10), ([-5, 0], 10), ([0, 2], 20), ([0, 0], 30)] {
        let mut replay = start(choosing(), &stream, &inputs);
        assert_eq!(finish(&mut replay, usize::MAX).unwrap().0, [expected]);
    }
}

#[test]
fn a_predicate_may_be_of_any_type() {
    let stream = stream();
    for ty in Type::ALL {
        let types = [s32()];
        let predicate = program(&types, vec![step(Op::AsType, &[scalar(ty)], &[0])], &[1]);
        let body = program(&types, vec![number(1)], &[1]);
        let last = program(&types, vec![number(2)], &[1]);
        let whole = step(cond(predicate, body, last), &types, &[0]);
        let whole = program(&types, vec![whole], &[1]);
        for (input, expected) in [(1, 1), (0, 2)] {
            let mut replay = start(whole.clone(), &stream, &[input]);
            let (results, _waits) = finish(&mut replay, 1000).unwrap();
            assert_eq!(results, [expected], "{ty}");
        }
    }
}

#[test]
fn an_error_in_a_branch_ends_the_run_that_takes_it() {
    let stream = stream();
    let broken = step(
        Op::Reshape,
        &[TensorType {
            ty: Type::S32,
            shape: Shape::new(&[2]).unwrap(),
        }],
        &[0],
    );
    let types = [s32()];
    let body = program(&types, vec![broken], &[0]);
    let op = cond(passes(&types, &[0]), body, passes(&types, &[0]));
    let whole = program(&types, vec![step(op, &types, &[0])], &[1]);
    let mut replay = start(whole.clone(), &stream, &[0]);
    assert_eq!(finish(&mut replay, usize::MAX).unwrap().0, [0]);
    let mut replay = start(whole, &stream, &[1]);
    let error = finish(&mut replay, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("reshape"), "{error}");
}

#[test]
fn a_call_waits_for_results_that_fit_once() {
    let stream = stream();
    let call = step(Step::Call { number: 7 }, &[s32(), s32()], &[0]);
    let sum = step(Op::Subtract, &[s32()], &[1, 2]);
    let mut replay = start(program(&[s32()], vec![call, sum], &[3]), &stream, &[4]);
    let Pause::Call(call) = replay.advance(usize::MAX).unwrap() else {
        panic!("expected a call");
    };
    assert_eq!((call.number, value(&call.inputs[0])), (7, 4));
    assert_eq!(call.outs, [s32(), s32()]);
    let error = replay.resume(vec![tensor(&stream, 1)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected the function to give s32, s32, got: s32"
    );
    let results = [9, 2].map(|result| tensor(&stream, result));
    replay.resume(results.to_vec()).unwrap();
    let error = replay.resume(results.to_vec()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a program that waits for this, got: one that does not"
    );
    assert_eq!(finish(&mut replay, usize::MAX).unwrap().0, [7]);
}

#[test]
fn values_are_given_up_when_nothing_needs_them() {
    let stream = stream();
    let call = || step(Step::Call { number: 0 }, &[s32()], &[0]);
    let negated = step(Op::Negate, &[s32()], &[1]);
    let instructions = vec![call(), negated, call()];
    let whole = program(&[s32(), s32()], instructions, &[2, 3, 4]);
    let executable: Arc<Executable> = Arc::new(whole.into());
    let inputs = [tensor(&stream, 1), tensor(&stream, 2)];
    let [kept, used] = inputs.each_ref().map(Arc::downgrade);
    let mut replay = Replay::new(&executable, &stream, inputs).unwrap();
    assert!(matches!(replay.advance(usize::MAX), Ok(Pause::Call(_))));
    assert_eq!((kept.strong_count(), used.strong_count()), (1, 1));
    replay.resume(vec![tensor(&stream, 3)]).unwrap();
    let Ok(Pause::Call(call)) = replay.advance(usize::MAX) else {
        panic!("expected a call");
    };
    // The one that is called with is still held, the other one is behind it.
    assert_eq!((kept.strong_count(), used.strong_count()), (2, 0));
    drop(call);
    replay.resume(vec![tensor(&stream, 4)]).unwrap();
    assert_eq!(kept.strong_count(), 0);
    assert_eq!(finish(&mut replay, usize::MAX).unwrap().0, [3, -2, 4]);
}
