//! Results that are not finite, and where that comes from.

use std::sync::Arc;

use emily_core::{
    Assertion, Direction, Executable, Instruction, Op, Pause, Program, QrMode, Replay, Stream,
    Tensor, TensorType, Type,
};

use crate::{dot, run, stream, ty, zeros};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn finite(op: Op) -> Op {
    Op::Checked {
        op: Box::new(op),
        of: vec![Assertion::Finite],
        at: None,
    }
}

fn floats(stream: &Stream, dims: &[i64], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    Tensor::from_bytes(stream, &ty(Type::F32, dims), &bytes).unwrap()
}

fn converted(stream: &Stream, x: &Tensor, to: Type) -> Tensor {
    let out = TensorType {
        ty: to,
        ..x.tensor_type()
    };
    Tensor::apply(stream, &Op::AsType, Some(&out), &[x]).unwrap()
}

/// The reason that the operation gives for failing.
fn reason(op: Op, out: &TensorType, inputs: &[&Tensor], stream: &Stream) -> String {
    let text = run(&finite(op), out, inputs, stream)
        .unwrap_err()
        .to_string();
    text.lines().next().unwrap().to_owned()
}

fn product() -> Op {
    dot(&[1], &[], &[0], &[])
}

#[test]
fn numbers_are_left_as_they_are() {
    let stream = stream();
    let x = floats(&stream, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let out = ty(Type::F32, &[2, 2]);
    let plain = run(&product(), &out, &[&x, &x], &stream).unwrap();
    assert_eq!(
        run(&finite(product()), &out, &[&x, &x], &stream).unwrap(),
        plain
    );
    // Nothing is infinite that is not there.
    let empty = zeros(&stream, &ty(Type::F32, &[0, 2]));
    let out = ty(Type::F32, &[0, 2]);
    assert!(
        run(&finite(product()), &out, &[&empty, &x], &stream)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_the_operation_made_is_told_from_what_it_was_given() {
    let stream = stream();
    let out = ty(Type::F32, &[2, 2]);
    let good = floats(&stream, &[2, 2], &[1.0, 1.0, 1.0, 1.0]);
    let huge = floats(&stream, &[2, 2], &[1.0, 1.0, f32::MAX, f32::MAX]);
    let bad = floats(&stream, &[2, 2], &[1.0, -INF, NAN, -INF]);
    let made = "dot failed: expected dot of finite numbers to give finite numbers, got: \
                2 Infinity of 4 elements, the first one at [1][0] in the output, f32[2][2]";
    assert_eq!(reason(product(), &out, &[&huge, &good], &stream), made);
    let given = "dot failed: expected dot to be given finite numbers, got: \
                 1 NaN and 2 -Infinity of 4 elements, the first one, -Infinity, at [0][1] in the first input, f32[2][2]; \
                 which made 2 NaN and 2 -Infinity of 4 elements, the first one, -Infinity, at [0][0] in the output, f32[2][2]";
    assert_eq!(reason(product(), &out, &[&bad, &huge], &stream), given);
    let both = reason(product(), &out, &[&bad, &bad], &stream);
    assert!(
        both.contains("in the first input, f32[2][2], and 1 NaN"),
        "{both}"
    );
    assert!(
        both.contains("in the second input, f32[2][2]; which made "),
        "{both}"
    );
}

#[test]
fn the_first_operation_is_named_and_not_those_that_take_its_result() {
    let stream = stream();
    let (rows, out) = (ty(Type::F32, &[1, 1]), ty(Type::F32, &[1, 1]));
    let huge = floats(&stream, &[1, 1], &[f32::MAX]);
    let first = Tensor::apply(&stream, &finite(product()), Some(&rows), &[&huge, &huge]).unwrap();
    let zero = zeros(&stream, &rows);
    let hidden = Tensor::apply(&stream, &Op::Min, Some(&rows), &[&first, &zero]).unwrap();
    let error = run(&finite(product()), &out, &[&hidden, &first], &stream).unwrap_err();
    let expected = "dot failed: expected dot of finite numbers to give finite numbers, got: \
                    1 Infinity of 1 element, the first one at [0][0] in the output, f32[1][1]\n";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn every_type_that_has_such_is_looked_at() {
    let stream = stream();
    let source = floats(&stream, &[3, 1], &[1.0, NAN, INF]);
    let one = floats(&stream, &[1, 1], &[1.0]);
    for (float, infinity) in [
        (Type::F16, "1 Infinity"),
        (Type::Bf16, "1 Infinity"),
        (Type::F32, "1 Infinity"),
        (Type::F64, "1 Infinity"),
        // An infinity times 1 + 0i.
        (Type::C64, "NaN"),
        (Type::F8E5M2, "1 Infinity"),
    ] {
        let (x, one) = (
            converted(&stream, &source, float),
            converted(&stream, &one, float),
        );
        let text = reason(product(), &ty(float, &[3, 1]), &[&x, &one], &stream);
        let place = "of 3 elements, the first one, NaN, at [1][0] in the first input";
        assert!(text.contains("got: 1 NaN and 1 Infinity "), "{text}");
        assert!(text.contains(place), "{text}");
        assert!(
            text.rsplit_once("which made").unwrap().1.contains(infinity),
            "{text}"
        );
    }
    for integer in [Type::U8, Type::S64] {
        let (x, one) = (
            converted(&stream, &source, integer),
            converted(&stream, &one, integer),
        );
        let out = ty(integer, &[3, 1]);
        let plain = run(&product(), &out, &[&x, &one], &stream).unwrap();
        assert_eq!(
            run(&finite(product()), &out, &[&x, &one], &stream).unwrap(),
            plain
        );
    }
}

#[test]
fn one_element_among_many_is_found() {
    let stream = stream();
    for (bad, name) in [(NAN, "NaN"), (INF, "Infinity"), (-INF, "-Infinity")] {
        for at in [0, 17, 500, 1022] {
            let mut values = vec![-1.5; 1023];
            values[at] = bad;
            let source = floats(&stream, &[341, 3], &values);
            for float in [Type::F16, Type::Bf16, Type::F32, Type::F64, Type::C64] {
                let x = converted(&stream, &source, float);
                let text = reason(Op::Conjugate, &ty(Type::C64, &[341, 3]), &[&x], &stream);
                let name = if float == Type::C64 {
                    name.trim_start_matches('-')
                } else {
                    name
                };
                let (row, column) = (at / 3, at % 3);
                let told = format!(
                    "got: 1 {name} of 1023 elements, the first one at [{row}][{column}] in the input, {float}[341][3]; "
                );
                assert!(text.contains(&told), "{text}");
                let out = x.tensor_type();
                let text = reason(Op::Reverse { axes: vec![] }, &out, &[&x], &stream);
                assert!(text.contains(&told), "{text}");
            }
        }
    }
}

#[test]
fn each_of_several_results_is_looked_at() {
    let stream = stream();
    let x = floats(&stream, &[2, 2], &[1.0, NAN, 0.0, 1.0]);
    let qr = finite(Op::Qr {
        mode: QrMode::Reduced,
    });
    let results = Tensor::apply_all(&stream, &qr, None, &[&x]).unwrap();
    for result in results {
        let text = result.readable().err().unwrap().to_string();
        assert!(
            text.starts_with("qr failed: expected qr to be given finite numbers, got: "),
            "{text}"
        );
        assert!(
            text.contains(" output, f32[2][2]\n  inputs: f32[2][2]\n"),
            "{text}"
        );
    }
}

#[test]
fn programs_carry_what_must_hold() {
    let stream = stream();
    let scalar = ty(Type::F32, &[]);
    let steps = [(Op::Divide, vec![1, 0]), (Op::Add, vec![2, 1])];
    let steps = steps.map(|(op, inputs)| Instruction {
        op: finite(op).into(),
        outs: vec![scalar.clone()],
        inputs,
    });
    let program = Program::new(
        vec![scalar.clone(), scalar.clone()],
        steps.to_vec(),
        vec![3],
    )
    .unwrap();
    let json = serde_json::to_string(&program).unwrap();
    assert!(
        json.contains(r#"{"checked":{"op":"divide","of":["finite"]}}"#),
        "{json}"
    );
    let fun: Program = serde_json::from_str(&json).unwrap();
    assert_eq!(fun, program);

    let reduce = |fun| Op::Reduce {
        axes: None,
        keep_axes: false,
        fun,
    };
    let one = floats(&stream, &[], &[1.0]);
    let good = floats(&stream, &[2], &[1.0, 2.0]);
    let bad = floats(&stream, &[2], &[1.0, 0.0]);
    assert!(run(&reduce(fun.clone()), &scalar, &[&good, &one], &stream).is_ok());
    let error = run(&reduce(fun), &scalar, &[&bad, &one], &stream).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("reduce failed: expected divide of finite numbers"),
        "{text}"
    );
}

#[test]
fn programs_from_files_are_checked_as_calls_are() {
    let stream = stream();
    let file = r#"{
        "inputs": [{"type": "f32", "shape": [2, 2]}, {"type": "s32", "shape": [1]}],
        "instructions": [
            {"op": "bitwise_not", "outs": [{"type": "s32", "shape": [1]}], "inputs": [1]},
            {"op": {"checked": {"op": {"take": {"axis": 0}}, "of": ["bounds"]}},
             "outs": [{"type": "f32", "shape": [1, 2]}], "inputs": [0, 2]},
            {"op": {"checked": {
                "op": {"dot": {"contract_a": [1], "batch_a": [], "contract_b": [0], "batch_b": []}},
                "of": ["finite"], "at": "lib/model.ex:7"}},
             "outs": [{"type": "f32", "shape": [1, 2]}], "inputs": [3, 0]}
        ],
        "outputs": [4]
    }"#;
    let program: Program = serde_json::from_str(file).unwrap();
    let written = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&written).unwrap(), program);
    let program = Arc::new(Executable::from(program));
    let run = |x: [f32; 4], index: i32| {
        let x = floats(&stream, &[2, 2], &x);
        let index = Tensor::from_bytes(&stream, &ty(Type::S32, &[1]), &(!index).to_ne_bytes());
        let inputs = [x, index.unwrap()].map(Arc::new);
        let mut replay = Replay::new(&program, &stream, inputs).unwrap();
        let Pause::Done(results) = replay.advance(usize::MAX).unwrap() else {
            panic!("expected a program that waits for nothing");
        };
        let result = results[0].readable();
        result
            .map(|tensor| tensor.bytes().unwrap().to_vec())
            .map_err(|error| error.to_string())
    };
    let bytes: Vec<u8> = [7.0_f32, 10.0]
        .iter()
        .flat_map(|x| x.to_ne_bytes())
        .collect();
    assert_eq!(run([1.0, 2.0, 3.0, 4.0], 0), Ok(bytes));
    let error = run([1.0, 2.0, 3.0, 4.0], 2).unwrap_err();
    let expected = "take failed: expected an index of take to be from 0 and below 2 along axis 0 of \
                    f32[2][2], got: 2 at [0] in the indices, s32[1]\n";
    assert!(error.starts_with(expected), "{error}");
    let error = run([1.0, 2.0, f32::MAX, f32::MAX], 1).unwrap_err();
    let expected = "dot failed: expected dot of finite numbers to give finite numbers, got: \
                    2 Infinity of 2 elements, the first one at [0][0] in the output, f32[1][2]\n";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.contains(", at: lib/model.ex:7\n"), "{error}");
}

#[test]
fn errors_say_where_the_operation_comes_from() {
    let stream = stream();
    let x = floats(&stream, &[], &[-1.0]);
    let log =
        r#"{"checked": {"op": "log", "of": ["finite"], "at": "lib/model.ex:7: Model.loss/2"}}"#;
    let log: Op = serde_json::from_str(log).unwrap();
    let text = run(&log, &ty(Type::F32, &[]), &[&x], &stream)
        .unwrap_err()
        .to_string();
    let expected = "log failed: expected log of finite numbers to give finite numbers, got: \
                    1 NaN of 1 element in the output, f32\n  inputs: f32\n  output: f32\n  \
                    attributes: at: lib/model.ex:7: Model.loss/2\n  stream: ";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2]));
    let sort = Op::Sort {
        axis: 0,
        direction: Direction::Asc,
    };
    let bounds = Op::Checked {
        op: Box::new(sort),
        of: vec![Assertion::Finite, Assertion::Bounds],
        at: None,
    };
    let twice = finite(finite(Op::Negate));
    for (op, text) in [
        (
            bounds,
            "expected :bounds of an operation that takes indices, got: sort",
        ),
        (
            twice,
            "expected :checked of an operation that is not, got: a checked negate",
        ),
    ] {
        let error = Tensor::apply(&stream, &op, None, &[&x]).err().unwrap();
        assert_eq!(error.to_string(), text);
        let out = ty(Type::F32, &[]);
        let step = Instruction {
            op: op.into(),
            outs: vec![out.clone()],
            inputs: vec![0],
        };
        let error = Program::new(vec![out], vec![step], vec![1]).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    let error = Tensor::apply(&stream, &finite(Op::Add), None, &[&x])
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "expected add to take 2 inputs, got: 1");
}
