//! Calls that make no sense get an error that says so, and none ends the process.

#![allow(missing_docs)]

use std::sync::mpsc::channel;

use emily_core::{
    Device, Direction, Error, Number, Op, Shape, Stream, Tensor, TensorType, TieBreak, Type, infer,
    install_error_handler,
};

fn ty(ty: Type, dims: &[i64]) -> TensorType {
    TensorType {
        ty,
        shape: Shape::new(dims).unwrap(),
    }
}

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn zeros(stream: &Stream, ty: &TensorType) -> Tensor {
    Tensor::from_bytes(stream, ty, &vec![0; ty.bytes()]).unwrap()
}

fn filled(stream: &Stream, value: impl Into<Number>, ty: &TensorType) -> Tensor {
    let value = value.into();
    Tensor::apply(stream, &Op::Constant { value }, Some(ty), &[]).unwrap()
}

/// Applies and evaluates on the stream's thread.
fn run(op: &Op, out: &TensorType, inputs: &[&Tensor], stream: &Stream) -> Result<Vec<u8>, Error> {
    let tensor = Tensor::apply(stream, op, Some(out), inputs)?;
    let (sender, receiver) = channel();
    let job = move || {
        let bytes = tensor
            .readable()
            .map(|tensor| tensor.bytes().unwrap().to_vec());
        sender.send(bytes).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap()
}

fn dot(contract_a: &[usize], batch_a: &[usize], contract_b: &[usize], batch_b: &[usize]) -> Op {
    Op::Dot {
        contract_a: contract_a.to_vec(),
        batch_a: batch_a.to_vec(),
        contract_b: contract_b.to_vec(),
        batch_b: batch_b.to_vec(),
    }
}

fn slice(starts: &[usize], lengths: &[usize], strides: &[usize]) -> Op {
    Op::Slice {
        starts: starts.to_vec(),
        lengths: lengths.to_vec(),
        strides: strides.to_vec(),
    }
}

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
    let many = vec![&x; 4];
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

#[test]
fn shapes_that_do_not_fit_in_memory() {
    let stream = stream();
    let huge = ty(Type::F64, &[1 << 28, 1 << 28]);
    let one = filled(&stream, 1.0, &ty(Type::F64, &[]));
    let vast = Tensor::apply(
        &stream,
        &Op::Broadcast { axes: vec![] },
        Some(&huge),
        &[&one],
    );
    // A broadcast stores one element; what needs all of them fails when it is computed.
    if let Ok(vast) = vast {
        assert!(run(&Op::Exp, &huge, &[&vast], &stream).is_err());
    }
    assert!(run(&Op::Iota { axis: None }, &huge, &[], &stream).is_err());
    // The stream computes on.
    let small = ty(Type::F64, &[2]);
    assert!(run(&Op::Iota { axis: None }, &small, &[], &stream).is_ok());
}

#[test]
fn joined_shapes_that_overflow() {
    let side = ty(Type::U8, &[i64::from(i32::MAX)]);
    let twice = [side.clone(), side.clone()];
    assert!(infer(&Op::Concatenate { axis: 0 }, &twice).is_err());
    let flat = ty(Type::U8, &[1 << 30, 1]);
    let outer = dot(&[1], &[], &[1], &[]);
    let both = [flat.clone(), flat];
    assert!(infer(&outer, &both).is_err());
    let stream = stream();
    let one = zeros(&stream, &ty(Type::U8, &[]));
    let wide = |dims: &[i64]| {
        let out = ty(Type::U8, dims);
        Tensor::apply(
            &stream,
            &Op::Broadcast { axes: vec![] },
            Some(&out),
            &[&one],
        )
        .unwrap()
    };
    let long = wide(&[i64::from(i32::MAX)]);
    let concatenate = Op::Concatenate { axis: 0 };
    assert!(run(&concatenate, &side, &[&long, &long], &stream).is_err());
    // Contracting or flattening axes whose sizes multiply to more than an axis may have.
    let square = wide(&[1 << 16, 1 << 16]);
    let all = dot(&[0, 1], &[], &[0, 1], &[]);
    assert!(run(&all, &ty(Type::U8, &[]), &[&square, &square], &stream).is_err());
    let argmax = Op::Argmax {
        axis: None,
        keep_axis: false,
        tie_break: TieBreak::Low,
    };
    assert!(run(&argmax, &ty(Type::S32, &[]), &[&square], &stream).is_err());
}

#[test]
fn integers_that_processors_trap_on() {
    let stream = stream();
    for integer in Type::ALL.into_iter().filter(|ty| ty.is_integer()) {
        let out = ty(integer, &[2]);
        let least = if integer.nx().0 == "s" {
            -1_i64 << (integer.bits() - 1)
        } else {
            7
        };
        let x = filled(&stream, least, &out);
        let zero = filled(&stream, 0, &out);
        let minus_one = filled(&stream, -1, &out);
        for op in [Op::Quotient, Op::Remainder] {
            let by_zero = run(&op, &out, &[&x, &zero], &stream).unwrap();
            let expected = if op == Op::Quotient {
                vec![0xff; out.bytes()]
            } else {
                run(&Op::AsType, &out, &[&x], &stream).unwrap()
            };
            assert_eq!(by_zero, expected, "{op:?} of {out} by 0");
            run(&op, &out, &[&x, &minus_one], &stream).unwrap();
        }
        // Negative exponents and distances end, whatever they give.
        for op in [Op::Pow, Op::LeftShift, Op::RightShift] {
            run(&op, &out, &[&x, &minus_one], &stream).unwrap();
            run(&op, &out, &[&x, &x], &stream).unwrap();
        }
    }
}

#[test]
fn tensors_without_elements() {
    let stream = stream();
    let none = ty(Type::F32, &[0, 3]);
    let x = zeros(&stream, &none);
    let row = ty(Type::F32, &[3]);
    let sum = |axes: &[usize]| Op::Sum {
        axes: Some(axes.to_vec()),
        keep_axes: false,
    };
    for (op, out, expected) in [
        (Op::Exp, none.clone(), vec![]),
        (Op::Round, none.clone(), vec![]),
        (Op::Erfc, none.clone(), vec![]),
        (
            Op::Transpose { axes: vec![1, 0] },
            ty(Type::F32, &[3, 0]),
            vec![],
        ),
        (Op::Reverse { axes: vec![0] }, none.clone(), vec![]),
        (
            Op::Sort {
                axis: 0,
                direction: Direction::Desc,
            },
            none.clone(),
            vec![],
        ),
        (
            Op::Argsort {
                axis: 1,
                direction: Direction::Desc,
            },
            ty(Type::S32, &[0, 3]),
            vec![],
        ),
        (sum(&[0]), row.clone(), vec![0; row.bytes()]),
        (sum(&[1]), ty(Type::F32, &[0]), vec![]),
        (slice(&[0, 0], &[0, 3], &[1, 1]), none.clone(), vec![]),
        (Op::Reshape, ty(Type::F32, &[3, 0, 2]), vec![]),
        (Op::AsType, ty(Type::S8, &[0, 3]), vec![]),
        (Op::Iota { axis: None }, none.clone(), vec![]),
    ] {
        let inputs = if op.arity() == Some(0) {
            vec![]
        } else {
            vec![&x]
        };
        assert_eq!(
            run(&op, &out, &inputs, &stream).unwrap(),
            expected,
            "{op:?}"
        );
    }
    for op in [Op::Add, Op::Pow, Op::Remainder, Op::Atan2] {
        assert_eq!(run(&op, &none, &[&x, &x], &stream).unwrap(), [], "{op:?}");
    }
    for integer in [Type::S8, Type::U64, Type::F32] {
        let (a, b) = (ty(integer, &[2, 0]), ty(integer, &[0, 2]));
        let (a, b) = (zeros(&stream, &a), zeros(&stream, &b));
        let out = ty(integer, &[2, 2]);
        let product = run(&dot(&[1], &[], &[0], &[]), &out, &[&a, &b], &stream).unwrap();
        assert_eq!(product, vec![0; out.bytes()], "{integer}");
    }
    // There is no greatest of none, nor an index of it.
    let argmax = Op::Argmax {
        axis: Some(0),
        keep_axis: false,
        tie_break: TieBreak::High,
    };
    let max = Op::ReduceMax {
        axes: Some(vec![0]),
        keep_axes: false,
    };
    assert!(run(&max, &row, &[&x], &stream).is_err());
    assert!(run(&argmax, &ty(Type::S32, &[3]), &[&x], &stream).is_err());
}

#[test]
fn reductions_over_no_axes_keep_every_element() {
    let stream = stream();
    let input = ty(Type::U8, &[2]);
    let x = Tensor::from_bytes(&stream, &input, &[0, 9]).unwrap();
    let (axes, keep_axes) = (Some(vec![]), false);
    for (op, out, expected) in [
        (
            Op::Sum {
                axes: axes.clone(),
                keep_axes,
            },
            Type::U32,
            vec![0, 0, 0, 0, 9, 0, 0, 0],
        ),
        (
            Op::ReduceMin {
                axes: axes.clone(),
                keep_axes,
            },
            Type::U8,
            vec![0, 9],
        ),
        (Op::All { axes, keep_axes }, Type::U8, vec![0, 1]),
    ] {
        assert_eq!(
            run(&op, &ty(out, &[2]), &[&x], &stream).unwrap(),
            expected,
            "{op:?}"
        );
        assert_eq!(infer(&op, &[input.clone()]).unwrap(), ty(out, &[2]));
    }
}
