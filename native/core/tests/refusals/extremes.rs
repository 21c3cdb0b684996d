//! Sizes and numbers at the edge of what there is.

use emily_core::{Direction, Op, Tensor, TensorType, TieBreak, Type, infer, infer_all};

use crate::{dot, filled, run, slice, stream, ty, zeros};

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

/// Whatever MLX would copy of a broadcast that no memory holds, on the way to a result that is small.
#[test]
fn broadcasts_that_do_not_fit_in_memory() {
    let stream = stream();
    let side = 1 << 26;
    let vast = ty(Type::F32, &[side, side]);
    let (row, one) = (
        ty(Type::F32, &[side]),
        filled(&stream, 1.0, &ty(Type::F32, &[])),
    );
    let across = |axes: &[usize], out: &TensorType| {
        let axes = axes.to_vec();
        Tensor::apply(&stream, &Op::Broadcast { axes }, Some(out), &[&one]).unwrap()
    };
    let (x, y) = (across(&[], &vast), across(&[], &row));
    let axis = Some(0);
    let (keep_axis, tie_break) = (false, TieBreak::High);
    let close = Op::AllClose {
        equal_nan: false,
        rtol: 0.0,
        atol: 0.0,
    };
    let window = Op::WindowSum {
        window: vec![1 << 26; 2],
        padding: vec![(0, 0); 2],
        strides: vec![1; 2],
        window_dilations: vec![1; 2],
    };
    let (axes, keep_axes) = (None, false);
    for (op, inputs) in [
        (dot(&[1], &[], &[0], &[]), vec![&x, &y]),
        (close, vec![&x, &x]),
        (window, vec![&x]),
        (
            Op::Argmax {
                axis,
                keep_axis,
                tie_break,
            },
            vec![&x],
        ),
        (Op::Sum { axes, keep_axes }, vec![&x]),
        (Op::Determinant, vec![&x]),
        (Op::TopK { k: 1 }, vec![&x]),
    ] {
        let types: Vec<_> = inputs.iter().map(|input| input.tensor_type()).collect();
        let outs = infer_all(&op, &types).unwrap();
        let error = Tensor::apply_all(&stream, &op, Some(&outs), &inputs).err();
        let text = error.unwrap().to_string();
        assert!(
            text.contains("which is what memory allows, got: f32[67108864][67108864]"),
            "{text}"
        );
    }
    let corner = slice(&[side as usize - 1; 2], &[1, 1], &[1, 1]);
    let corner = run(&corner, &ty(Type::F32, &[1, 1]), &[&x], &stream);
    assert_eq!(corner.unwrap(), 1.0_f32.to_ne_bytes());
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
        // As many as fill bytes, whatever the type.
        let out = ty(integer, &[4]);
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
        (
            slice(&[0, 0], &[0, 3], &[usize::MAX, usize::MAX]),
            ty(Type::F32, &[0, 1]),
            vec![],
        ),
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
        let bytes = run(&op, &none, &[&x, &x], &stream).unwrap();
        assert!(bytes.is_empty(), "{op:?}");
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
        assert_eq!(
            infer(&op, std::slice::from_ref(&input)).unwrap(),
            ty(out, &[2])
        );
    }
}

#[test]
fn strides_beyond_the_slice_leave_its_first_element() {
    let stream = stream();
    let input = ty(Type::U8, &[4]);
    let x = Tensor::from_bytes(&stream, &input, &[1, 2, 3, 4]).unwrap();
    let start = zeros(&stream, &ty(Type::S32, &[]));
    let (far, out) = (usize::MAX, ty(Type::U8, &[1]));
    let fixed = slice(&[1], &[3], &[far]);
    assert_eq!(run(&fixed, &out, &[&x], &stream).unwrap(), [2]);
    let lengths = vec![3];
    let strides = vec![far];
    let dynamic = Op::DynamicSlice { lengths, strides };
    assert_eq!(run(&dynamic, &out, &[&x, &start], &stream).unwrap(), [1]);
}
