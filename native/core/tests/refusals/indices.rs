//! Indices that are not within their axes: MLX would read and write wherever they point.

use emily_core::{Assertion, Op, Stream, Tensor, TensorType, Type};

use crate::{run, stream, ty, zeros};

const INTEGERS: [Type; 8] = [
    Type::U8,
    Type::U16,
    Type::U32,
    Type::U64,
    Type::S8,
    Type::S16,
    Type::S32,
    Type::S64,
];

/// Integers of a type, of which each is cut to its width.
fn integers(stream: &Stream, ty: &TensorType, values: &[i64]) -> Tensor {
    let width = ty.ty.bytes();
    let bytes = values
        .iter()
        .flat_map(|value| value.to_le_bytes()[..width].to_vec());
    Tensor::from_bytes(stream, ty, &bytes.collect::<Vec<_>>()).unwrap()
}

/// The same integers, at which nobody can look yet.
fn computed(stream: &Stream, indices: &Tensor) -> Tensor {
    let ty = indices.tensor_type();
    let once = Tensor::apply(stream, &Op::BitwiseNot, Some(&ty), &[indices]).unwrap();
    Tensor::apply(stream, &Op::BitwiseNot, Some(&ty), &[&once]).unwrap()
}

struct Call {
    op: Op,
    indices: &'static [i64],
    values: &'static [i64],
    updates: Option<&'static [i64]>,
    out: &'static [i64],
    at_once: &'static str,
    later: &'static str,
}

const GATHERED: &str = "expected each index to be within its axis, [0, 1] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[2][2]";

fn calls() -> Vec<Call> {
    vec![
        Call {
            op: Op::Gather { axes: vec![0, 1] },
            indices: &[2, 2],
            values: &[1, 2, 0, 3],
            updates: None,
            out: &[2],
            at_once: "expected an index of gather to be from 0 and below 3 along axis 1 of f32[2][3], got: 3 at [1][1] in the indices, s64[2][2]",
            later: GATHERED,
        },
        Call {
            op: Op::Gather { axes: vec![1] },
            indices: &[2, 1],
            values: &[1, i64::MIN],
            updates: None,
            out: &[2, 2],
            at_once: "expected an index of gather to be from 0 and below 3 along axis 1 of f32[2][3], got: -9223372036854775808 at [1][0] in the indices, s64[2][1]",
            later: "expected each index to be within its axis, [1] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[2][1]",
        },
        Call {
            op: Op::IndexedAdd { axes: vec![0] },
            indices: &[2, 1],
            values: &[1, 2],
            updates: Some(&[2, 3]),
            out: &[2, 3],
            at_once: "expected an index of indexed_add to be from 0 and below 2 along axis 0 of f32[2][3], got: 2 at [1][0] in the indices, s64[2][1]",
            later: "expected each index to be within its axis, [0] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[2][1], f32[2][3]",
        },
        Call {
            op: Op::IndexedPut { axes: vec![0, 1] },
            indices: &[2, 2],
            values: &[-1, 0, 1, 1],
            updates: Some(&[2]),
            out: &[2, 3],
            at_once: "expected an index of indexed_put to be from 0 and below 2 along axis 0 of f32[2][3], got: -1 at [0][0] in the indices, s64[2][2]",
            later: "expected each index to be within its axis, [0, 1] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[2][2], f32[2]",
        },
        Call {
            op: Op::Take { axis: 1 },
            indices: &[3],
            values: &[0, i64::MAX, 2],
            updates: None,
            out: &[2, 3],
            at_once: "expected an index of take to be from 0 and below 3 along axis 1 of f32[2][3], got: 9223372036854775807 at [1] in the indices, s64[3]",
            later: "expected each index to be within its axis, [1] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[3]",
        },
        Call {
            op: Op::TakeAlongAxis { axis: 0 },
            indices: &[1, 3],
            values: &[0, 2, 1],
            updates: None,
            out: &[1, 3],
            at_once: "expected an index of take_along_axis to be from 0 and below 2 along axis 0 of f32[2][3], got: 2 at [0][1] in the indices, s64[1][3]",
            later: "expected each index to be within its axis, [0] of f32[2][3], got: one that is not\n  inputs: f32[2][3], s64[1][3]",
        },
    ]
}

#[test]
fn are_refused_at_once_where_they_are_there() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    for call in calls() {
        let indices = integers(&stream, &ty(Type::S64, call.indices), call.values);
        let error = apply(&stream, &call, &x, &indices).unwrap_err();
        assert_eq!(error, call.at_once);
    }
}

#[test]
fn are_refused_when_they_are_known() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    for call in calls() {
        let indices = integers(&stream, &ty(Type::S64, call.indices), call.values);
        let error = apply(&stream, &call, &x, &computed(&stream, &indices)).unwrap_err();
        let expected = format!("{} failed: {}", call.op.name(), call.later);
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn of_checked_operations_are_told_whenever_they_are_known() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    for call in calls() {
        let indices = integers(&stream, &ty(Type::S64, call.indices), call.values);
        let call = Call {
            op: within_bounds(call.op),
            ..call
        };
        let error = apply(&stream, &call, &x, &indices).unwrap_err();
        assert_eq!(error, call.at_once);
        let error = apply(&stream, &call, &x, &computed(&stream, &indices)).unwrap_err();
        let expected = format!("{} failed: {}\n  inputs: ", call.op.name(), call.at_once);
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn within_their_axes_change_nothing() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    for call in calls() {
        let bytes = 8 * call.indices.iter().product::<i64>() as usize;
        let first = Tensor::from_bytes(&stream, &ty(Type::S64, call.indices), &vec![0; bytes]);
        let first = first.unwrap();
        let call = Call {
            op: within_bounds(call.op),
            ..call
        };
        for indices in [&first, &computed(&stream, &first)] {
            assert_eq!(
                apply(&stream, &call, &x, indices),
                Ok(()),
                "{}",
                call.op.name()
            );
        }
    }
}

#[test]
fn that_are_none_are_within_bounds() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    let indices = zeros(&stream, &ty(Type::S64, &[0, 2]));
    let (none, updates) = (ty(Type::F32, &[0]), zeros(&stream, &ty(Type::F32, &[0])));
    for indices in [&indices, &computed(&stream, &indices)] {
        let gather = within_bounds(Op::Gather { axes: vec![0, 1] });
        assert!(
            run(&gather, &none, &[&x, indices], &stream)
                .unwrap()
                .is_empty()
        );
        let add = within_bounds(Op::IndexedAdd { axes: vec![0, 1] });
        let whole = ty(Type::F32, &[2, 3]);
        let same = run(&add, &whole, &[&x, indices, &updates], &stream);
        assert_eq!(same.unwrap(), [0; 24]);
    }
}

#[test]
fn of_checked_operations_are_told_in_full() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[4]));
    let take = within_bounds(Op::Take { axis: 0 });
    for (integer, dims, values, told) in [
        (
            Type::U64,
            &[][..],
            &[-1][..],
            "18446744073709551615 in the indices, u64",
        ),
        (
            Type::S8,
            &[2, 2],
            &[0, 3, -2, 7],
            "-2 at [1][0] in the indices, s8[2][2], the first of 2",
        ),
        (
            Type::U8,
            &[3],
            &[255, 4, 5],
            "255 at [0] in the indices, u8[3], the first of 3",
        ),
    ] {
        let indices = computed(&stream, &integers(&stream, &ty(integer, dims), values));
        let error = run(&take, &ty(Type::F32, dims), &[&x, &indices], &stream).unwrap_err();
        let expected = format!(
            "take failed: expected an index of take to be from 0 and below 4 along axis 0 of f32[4], got: {told}\n  inputs: f32[4], "
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn in_another_order_in_memory_are_told_where_they_stand() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    let rows = integers(&stream, &ty(Type::S64, &[2, 3]), &[0, 1, 0, 0, 2, 1]);
    let transpose = Op::Transpose { axes: vec![1, 0] };
    let indices = Tensor::apply(&stream, &transpose, None, &[&rows]).unwrap();
    let gather = within_bounds(Op::Gather { axes: vec![0, 1] });
    let out = ty(Type::F32, &[3]);
    assert!(run(&gather, &out, &[&x, &indices], &stream).is_ok());
    let swapped = within_bounds(Op::Gather { axes: vec![0, 1] });
    let wide = zeros(&stream, &ty(Type::F32, &[2, 2]));
    let error = run(&swapped, &out, &[&wide, &indices], &stream).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("got: 2 at [1][1] in the indices, s64[3][2]\n"),
        "{error}"
    );
}

fn within_bounds(op: Op) -> Op {
    Op::Checked {
        op: Box::new(op),
        of: vec![Assertion::Bounds],
        at: None,
    }
}

fn apply(stream: &Stream, call: &Call, x: &Tensor, indices: &Tensor) -> Result<(), String> {
    let updates = call.updates.map(|dims| zeros(stream, &ty(Type::F32, dims)));
    let inputs: Vec<_> = [x, indices].into_iter().chain(&updates).collect();
    let out = ty(Type::F32, call.out);
    let result = run(&call.op, &out, &inputs, stream);
    result.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn of_every_type_are_within_or_refused() {
    let stream = stream();
    let x = ty(Type::U8, &[300]);
    let bytes: Vec<u8> = (0..300).map(|at| (at % 251) as u8).collect();
    let x = Tensor::from_bytes(&stream, &x, &bytes).unwrap();
    for integer in INTEGERS {
        for value in [0, 1, 127, 299, 300, -1, i64::MIN, i64::MAX] {
            let indices = integers(&stream, &ty(integer, &[1]), &[value]);
            let expected = bytes.get(cut(value, integer));
            for indices in [&indices, &computed(&stream, &indices)] {
                let take = Op::Take { axis: 0 };
                let taken = run(&take, &ty(Type::U8, &[1]), &[&x, indices], &stream);
                match expected {
                    Some(&byte) => assert_eq!(taken.unwrap(), [byte], "{integer} {value}"),
                    None => assert!(taken.is_err(), "{integer} {value}"),
                }
            }
        }
    }
}

/// What the type's width leaves of a value; far beyond every axis if that is negative.
fn cut(value: i64, ty: Type) -> usize {
    let rest = 64 - ty.bits();
    match ty.nx().0 {
        "s" => ((value << rest) >> rest) as usize,
        _ => ((value as u64) << rest >> rest) as usize,
    }
}

#[test]
fn into_axes_without_elements_are_refused() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[0, 2]));
    let indices = integers(&stream, &ty(Type::S32, &[1]), &[0]);
    let out = ty(Type::F32, &[1, 2]);
    let take = Op::Take { axis: 0 };
    let error = run(&take, &out, &[&x, &indices], &stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected an index of take to be from 0 and below 0 along axis 0 of f32[0][2], got: 0 at [0] in the indices, s32[1]"
    );
    let error = run(&take, &out, &[&x, &computed(&stream, &indices)], &stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected take of axes that have elements, got: axes [0] of f32[0][2]"
    );
    let along = ty(Type::F32, &[0, 1]);
    let indices = zeros(&stream, &ty(Type::S32, &[0, 1]));
    let nothing = run(
        &Op::TakeAlongAxis { axis: 1 },
        &along,
        &[&x, &indices],
        &stream,
    );
    assert!(nothing.unwrap().is_empty());
}
