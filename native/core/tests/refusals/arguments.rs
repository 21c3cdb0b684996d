//! Inputs, attributes and results that do not fit each other.

use emily_core::{Direction, Op, Tensor, TensorType, TieBreak, Type, infer};

use crate::{dot, run, slice, stream, ty, zeros};

const FAR: usize = usize::MAX;

#[test]
fn attributes_that_do_not_fit() {
    let stream = stream();
    let f32s = |dims: &[i64]| ty(Type::F32, dims);
    let (vector, matrix) = (zeros(&stream, &f32s(&[3])), zeros(&stream, &f32s(&[2, 3])));
    let (scalar, pair) = (zeros(&stream, &f32s(&[])), zeros(&stream, &f32s(&[2])));
    let calls: Vec<(Op, TensorType, Vec<&Tensor>)> = vec![
        (
            Op::Transpose { axes: vec![0, 2] },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (
            Op::Transpose { axes: vec![0, 0] },
            f32s(&[2, 2]),
            vec![&matrix],
        ),
        (Op::Transpose { axes: vec![0] }, f32s(&[2]), vec![&matrix]),
        (
            Op::Transpose { axes: vec![FAR, 0] },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (Op::Reverse { axes: vec![2] }, f32s(&[2, 3]), vec![&matrix]),
        (
            Op::Reverse { axes: vec![1, 1] },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (Op::Reverse { axes: vec![0] }, f32s(&[]), vec![&scalar]),
        (
            Op::Broadcast { axes: vec![1, 0] },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (
            Op::Broadcast { axes: vec![0] },
            f32s(&[2, 3]),
            vec![&vector],
        ),
        (
            Op::Broadcast { axes: vec![FAR] },
            f32s(&[2, 3]),
            vec![&vector],
        ),
        (Op::Broadcast { axes: vec![] }, f32s(&[2, 3]), vec![&vector]),
        (slice(&[0], &[2], &[1]), f32s(&[2]), vec![&matrix]),
        (slice(&[2], &[2], &[1]), f32s(&[2]), vec![&vector]),
        (slice(&[FAR], &[2], &[1]), f32s(&[2]), vec![&vector]),
        (slice(&[0], &[3], &[0]), f32s(&[3]), vec![&vector]),
        (
            Op::Concatenate { axis: 1 },
            f32s(&[6]),
            vec![&vector, &vector],
        ),
        (
            Op::Concatenate { axis: 0 },
            f32s(&[6]),
            vec![&vector, &matrix],
        ),
        (
            Op::Concatenate { axis: 0 },
            f32s(&[2]),
            vec![&scalar, &scalar],
        ),
        (
            Op::Concatenate { axis: 1 },
            f32s(&[4, 3]),
            vec![&matrix, &matrix],
        ),
        (Op::Stack { axis: 2 }, f32s(&[3, 2]), vec![&vector, &vector]),
        (Op::Stack { axis: 0 }, f32s(&[2, 3]), vec![&vector, &matrix]),
        (
            Op::Sum {
                axes: Some(vec![2]),
                keep_axes: false,
            },
            f32s(&[2]),
            vec![&matrix],
        ),
        (
            Op::Product {
                axes: Some(vec![0, 0]),
                keep_axes: false,
            },
            f32s(&[3]),
            vec![&matrix],
        ),
        (
            Op::All {
                axes: Some(vec![FAR]),
                keep_axes: true,
            },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (
            Op::Argmax {
                axis: Some(2),
                keep_axis: false,
                tie_break: TieBreak::High,
            },
            ty(Type::S32, &[2]),
            vec![&matrix],
        ),
        (
            Op::Sort {
                axis: 2,
                direction: Direction::Asc,
            },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (
            Op::Argsort {
                axis: FAR,
                direction: Direction::Desc,
            },
            f32s(&[2, 3]),
            vec![&matrix],
        ),
        (Op::Iota { axis: Some(1) }, f32s(&[3]), vec![]),
        (Op::Eye, f32s(&[3]), vec![]),
        (Op::Reshape, f32s(&[4]), vec![&vector]),
        (Op::Squeeze, f32s(&[2]), vec![&vector]),
        (Op::Squeeze, f32s(&[3, 2]), vec![&matrix]),
        (
            dot(&[2], &[], &[0], &[]),
            f32s(&[2]),
            vec![&matrix, &vector],
        ),
        (
            dot(&[0], &[], &[0], &[]),
            f32s(&[3]),
            vec![&matrix, &vector],
        ),
        (
            dot(&[1], &[1], &[0], &[]),
            f32s(&[2]),
            vec![&matrix, &vector],
        ),
        (
            dot(&[1, 0], &[], &[0], &[]),
            f32s(&[]),
            vec![&matrix, &vector],
        ),
        (
            dot(&[], &[0], &[], &[]),
            f32s(&[2, 3]),
            vec![&matrix, &vector],
        ),
        (Op::Add, f32s(&[2, 2]), vec![&matrix, &pair]),
        (Op::Select, f32s(&[2]), vec![&scalar, &vector, &pair]),
        (Op::Clip, f32s(&[2, 3]), vec![&vector, &matrix, &scalar]),
    ];
    for (op, out, inputs) in &calls {
        let result = run(op, out, inputs, &stream);
        assert!(
            result.is_err(),
            "{op:?} to {out} of {} inputs was done",
            inputs.len()
        );
        let types: Vec<_> = inputs.iter().map(|input| input.tensor_type()).collect();
        let inferred = infer(op, &types);
        assert!(
            inferred.is_err() || inferred.unwrap() != *out,
            "{op:?} was inferred"
        );
    }
}

#[test]
fn the_wrong_number_of_inputs() {
    let stream = stream();
    let out = ty(Type::F32, &[3]);
    let x = zeros(&stream, &out);
    let many = [&x; 4];
    for op in [Op::Exp, Op::Add, Op::Select, Op::Eye, Op::Stack { axis: 0 }] {
        for count in 0..=4 {
            let fits = op.arity().map_or(count > 0, |arity| arity == count);
            if !fits {
                let error = run(&op, &out, &many[..count], &stream)
                    .unwrap_err()
                    .to_string();
                assert!(error.ends_with(&format!("got: {count}")), "{error}");
                assert!(infer(&op, &vec![out.clone(); count]).is_err());
            }
        }
    }
}

#[test]
fn results_that_are_not_what_was_promised() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 3]));
    let sum = |axes| Op::Sum {
        axes,
        keep_axes: false,
    };
    for (op, out) in [
        (Op::Exp, ty(Type::F32, &[3, 2])),
        (Op::Exp, ty(Type::F32, &[])),
        (Op::Exp, ty(Type::S32, &[2, 3])),
        (Op::IsNan, ty(Type::F32, &[2, 3])),
        (Op::Negate, ty(Type::F32, &[6])),
        (Op::AsType, ty(Type::S8, &[6])),
        (sum(None), ty(Type::F32, &[3])),
        (sum(Some(vec![0])), ty(Type::F32, &[2])),
        (Op::BitwiseNot, ty(Type::F32, &[2, 3])),
        (Op::PopulationCount, ty(Type::F32, &[2, 3])),
        (Op::CountLeadingZeros, ty(Type::F32, &[2, 3])),
    ] {
        let result = run(&op, &out, &[&x], &stream);
        assert!(result.is_err(), "{op:?} to {out} was done");
    }
}

#[test]
fn types_that_an_operation_does_not_take() {
    let stream = stream();
    let complex = zeros(&stream, &ty(Type::C64, &[2]));
    let float = zeros(&stream, &ty(Type::F32, &[2]));
    let double = zeros(&stream, &ty(Type::F64, &[2]));
    let floats = ty(Type::F32, &[2]);
    let complexes = ty(Type::C64, &[2]);
    for (op, out, x, y) in [
        (Op::BitwiseAnd, &floats, &float, &float),
        (Op::LeftShift, &floats, &float, &float),
        (Op::RightShift, &floats, &float, &float),
        (Op::Quotient, &floats, &float, &float),
        (Op::Remainder, &complexes, &complex, &complex),
        (Op::Quotient, &complexes, &complex, &complex),
        (Op::BitwiseXor, &complexes, &complex, &complex),
        (Op::Greater, &ty(Type::U8, &[2]), &complex, &double),
    ] {
        let result = run(&op, out, &[x, y], &stream);
        assert!(result.is_err(), "{op:?} to {out} was done");
    }
    for op in [
        Op::Erf,
        Op::Erfc,
        Op::ErfInv,
        Op::Ceil,
        Op::Floor,
        Op::Round,
        Op::BitwiseNot,
    ] {
        let result = run(&op, &complexes, &[&complex], &stream);
        assert!(result.is_err(), "{op:?} of complex numbers was done");
    }
}
