//! Parts of tensors, and operations along axes, whose attributes and inputs do not fit.

use emily_core::{Op, Tensor, TensorType, Type, infer_all};

use crate::{run, stream, ty, zeros};

/// The error of an operation on zeros of these types, which applying and inferring must agree on.
fn refusal(op: &Op, inputs: &[TensorType]) -> String {
    let stream = stream();
    let tensors: Vec<_> = inputs.iter().map(|input| zeros(&stream, input)).collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let outs = vec![inputs[0].clone(); op.outputs()];
    let applied = Tensor::apply_all(&stream, op, Some(&outs), &tensors);
    let applied = applied.map(|_| ()).unwrap_err().to_string();
    assert_eq!(infer_all(op, inputs).unwrap_err().to_string(), applied);
    applied
}

#[test]
fn are_refused_alike_by_inference_and_by_application() {
    let matrix = || ty(Type::F32, &[2, 3]);
    let scalar = || ty(Type::F32, &[]);
    let integers = |dims: &[i64]| ty(Type::S32, dims);
    let slice = |lengths: &[usize], strides: &[usize]| Op::DynamicSlice {
        lengths: lengths.to_vec(),
        strides: strides.to_vec(),
    };
    for (op, inputs, expected) in [
        (
            Op::Pad {
                padding: vec![(0, 0, 0)],
            },
            vec![matrix(), scalar()],
            "expected :padding to have an entry for each of the 2 axes, got: 1",
        ),
        (
            Op::Pad {
                padding: vec![(0, 0, 0), (0, 0, 0)],
            },
            vec![matrix(), ty(Type::F32, &[1])],
            "expected the value to pad with to be a scalar, got shape: [1]",
        ),
        (
            Op::Pad {
                padding: vec![(0, 0, 0), (-2, -2, 0)],
            },
            vec![matrix(), scalar()],
            "expected :padding to give axis 1 from 0 to 2147483647 elements with none or more between its 3, got: -2, -2 and 0",
        ),
        (
            Op::Pad {
                padding: vec![(0, 0, -1), (0, 0, 0)],
            },
            vec![matrix(), scalar()],
            "expected :padding to give axis 0 from 0 to 2147483647 elements with none or more between its 2, got: 0, 0 and -1",
        ),
        (
            Op::Pad {
                padding: vec![(i64::MAX, i64::MAX, i64::MAX), (0, 0, 0)],
            },
            vec![matrix(), scalar()],
            "expected :padding to give axis 0 from 0 to 2147483647 elements with none or more between its 2, got: 9223372036854775807, 9223372036854775807 and 9223372036854775807",
        ),
        (
            slice(&[1, 1], &[1, 1]),
            vec![matrix(), integers(&[])],
            "expected an integer scalar as the start of each of the 2 axes, got: s32",
        ),
        (
            slice(&[1, 1], &[1, 1]),
            vec![matrix(), integers(&[]), scalar()],
            "expected an integer scalar as the start of each of the 2 axes, got: s32, f32",
        ),
        (
            slice(&[1, 4], &[1, 1]),
            vec![matrix(), integers(&[]), integers(&[])],
            "expected the slice of axis 1 to lie within its 3 elements with a positive stride, got: 4 elements from 0 by 1",
        ),
        (
            slice(&[1, 1], &[1, 0]),
            vec![matrix(), integers(&[]), integers(&[])],
            "expected the slice of axis 1 to lie within its 3 elements with a positive stride, got: 1 elements from 0 by 0",
        ),
        (
            Op::PutSlice { starts: vec![0] },
            vec![matrix(), matrix()],
            "expected :starts to have an entry for each of the 2 axes, got: 1",
        ),
        (
            Op::PutSlice { starts: vec![0, 0] },
            vec![matrix(), ty(Type::F32, &[1, 4])],
            "expected a slice with the rank of the tensor, [2, 3], and no larger, got: [1, 4]",
        ),
        (
            Op::DynamicPutSlice,
            vec![matrix()],
            "expected a tensor, a slice and a start for each axis, got: f32[2][3]",
        ),
        (
            Op::DynamicPutSlice,
            vec![matrix(), matrix(), integers(&[])],
            "expected an integer scalar as the start of each of the 2 axes, got: s32",
        ),
        (
            Op::Gather { axes: vec![0] },
            vec![matrix(), ty(Type::F32, &[2, 1])],
            "expected indices of an integer type, got: f32[2][1]",
        ),
        (
            Op::Gather { axes: vec![1, 0] },
            vec![matrix(), integers(&[2, 2])],
            "expected :axes to be ascending and as many as the last axis of the indices is long, got: [1, 0] and s32[2][2]",
        ),
        (
            Op::Gather { axes: vec![0] },
            vec![matrix(), integers(&[])],
            "expected :axes to be ascending and as many as the last axis of the indices is long, got: [0] and s32",
        ),
        (
            Op::Gather { axes: vec![] },
            vec![matrix(), integers(&[2, 0])],
            "expected :axes to be ascending and as many as the last axis of the indices is long, got: [] and s32[2][0]",
        ),
        (
            Op::Gather { axes: vec![0, 2] },
            vec![matrix(), integers(&[2, 2])],
            "expected :axes to be distinct and below the rank, 2, got: [0, 2]",
        ),
        (
            Op::IndexedAdd { axes: vec![0] },
            vec![matrix(), integers(&[4, 1]), ty(Type::F32, &[3, 3])],
            "expected rows of indices and as many updates, each no larger than the axes of f32[2][3] but [0], got: s32[4][1] and f32[3][3]",
        ),
        (
            Op::IndexedPut { axes: vec![0] },
            vec![matrix(), integers(&[4, 1]), ty(Type::F32, &[4, 4])],
            "expected rows of indices and as many updates, each no larger than the axes of f32[2][3] but [0], got: s32[4][1] and f32[4][4]",
        ),
        (
            Op::IndexedPut { axes: vec![0, 1] },
            vec![matrix(), integers(&[2]), scalar()],
            "expected rows of indices and as many updates, each no larger than the axes of f32[2][3] but [0, 1], got: s32[2] and f32",
        ),
        (
            Op::Take { axis: 2 },
            vec![matrix(), integers(&[1])],
            "expected :axis to be below the rank, 2, got: 2",
        ),
        (
            Op::TakeAlongAxis { axis: 0 },
            vec![matrix(), integers(&[2, 2])],
            "expected indices that differ from f32[2][3] along axis 0 at most, got: s32[2][2]",
        ),
        (
            Op::TopK { k: 4 },
            vec![matrix()],
            "expected :k to be from 1 to the size of the last axis, got: 4 for shape [2, 3]",
        ),
        (
            Op::TopK { k: 0 },
            vec![matrix()],
            "expected :k to be from 1 to the size of the last axis, got: 0 for shape [2, 3]",
        ),
        (
            Op::TopK { k: 1 },
            vec![scalar()],
            "expected :k to be from 1 to the size of the last axis, got: 1 for shape []",
        ),
        (
            Op::CumulativeSum {
                axis: 0,
                reverse: false,
            },
            vec![scalar()],
            "expected :axis to be below the rank, 0, got: 0",
        ),
    ] {
        assert_eq!(refusal(&op, &inputs), expected, "{op:?}");
    }
}

#[test]
fn of_types_that_an_operation_does_not_take() {
    let stream = stream();
    let complex = ty(Type::C64, &[2]);
    let x = zeros(&stream, &complex);
    let least = Op::CumulativeMin {
        axis: 0,
        reverse: true,
    };
    let error = run(&least, &complex, &[&x], &stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected cumulative_min of real numbers, got: c64[2]"
    );
    let outs = [ty(Type::C64, &[1]), ty(Type::S32, &[1])];
    let error = Tensor::apply_all(&stream, &Op::TopK { k: 1 }, Some(&outs), &[&x]);
    assert_eq!(
        error.map(|_| ()).unwrap_err().to_string(),
        "expected top_k of real numbers, got: c64[2]"
    );
    for out in [ty(Type::F64, &[2]), ty(Type::U8, &[2])] {
        let error = run(&Op::Bitcast, &out, &[&x], &stream).unwrap_err();
        let expected = format!(
            "expected bitcast between real types of the same width, got: c64 to {}",
            out.ty
        );
        assert_eq!(error.to_string(), expected);
    }
    let double = zeros(&stream, &ty(Type::F64, &[2]));
    let close = Op::AllClose {
        equal_nan: false,
        rtol: 0.0,
        atol: 0.0,
    };
    let error = run(&close, &ty(Type::U8, &[]), &[&x, &double], &stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected all_close of types that MLX can hold together, got: c64 and f64"
    );
}

#[test]
fn of_more_than_mlx_counts() {
    let stream = stream();
    let wide = ty(Type::U8, &[2, 1 << 16, 1 << 15]);
    let one = zeros(&stream, &ty(Type::U8, &[]));
    let broadcast = Op::Broadcast { axes: vec![] };
    let x = Tensor::apply(&stream, &broadcast, Some(&wide), &[&one]).unwrap();
    let indices = zeros(&stream, &ty(Type::S32, &[1, 1]));
    let (scan, gather) = (
        Op::CumulativeSum {
            axis: 2,
            reverse: false,
        },
        Op::Gather { axes: vec![0] },
    );
    for (op, out, inputs, expected) in [
        (
            scan,
            &[2, 1 << 16, 1 << 15],
            vec![&x],
            "expected cumulative_sum of at most 2147483647 elements, got: u8[2][65536][32768]",
        ),
        (
            gather,
            &[1, 1 << 16, 1 << 15],
            vec![&x, &indices],
            "expected gather of at most 2147483647 elements each, got: [1, 65536, 32768]",
        ),
    ] {
        let error = run(&op, &ty(Type::U8, out), &inputs, &stream).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn without_elements_are_parts_too() {
    let stream = stream();
    let none = ty(Type::F32, &[0, 3]);
    let x = zeros(&stream, &none);
    let zero = zeros(&stream, &ty(Type::F32, &[]));
    let start = zeros(&stream, &ty(Type::S64, &[]));
    let rows = zeros(&stream, &ty(Type::S32, &[0, 1]));
    let slice = Op::DynamicSlice {
        lengths: vec![0, 2],
        strides: vec![1, 1],
    };
    let pad = |low| Op::Pad {
        padding: vec![(low, 0, 2), (0, 0, 0)],
    };
    for (op, out, inputs) in [
        (pad(0), none.clone(), vec![&x, &zero]),
        (pad(1), ty(Type::F32, &[1, 3]), vec![&x, &zero]),
        (slice, ty(Type::F32, &[0, 2]), vec![&x, &start, &start]),
        (
            Op::PutSlice { starts: vec![9, 0] },
            none.clone(),
            vec![&x, &x],
        ),
        (
            Op::DynamicPutSlice,
            none.clone(),
            vec![&x, &x, &start, &start],
        ),
        (Op::Gather { axes: vec![0] }, none.clone(), vec![&x, &rows]),
        (
            Op::IndexedAdd { axes: vec![0] },
            none.clone(),
            vec![&x, &rows, &x],
        ),
        (
            Op::IndexedPut { axes: vec![0] },
            none.clone(),
            vec![&x, &rows, &x],
        ),
        (
            Op::CumulativeSum {
                axis: 0,
                reverse: true,
            },
            none.clone(),
            vec![&x],
        ),
        (
            Op::CumulativeMax {
                axis: 1,
                reverse: false,
            },
            none.clone(),
            vec![&x],
        ),
        (Op::Bitcast, ty(Type::U32, &[0, 3]), vec![&x]),
    ] {
        let bytes = run(&op, &out, &inputs, &stream);
        assert_eq!(bytes.unwrap(), vec![0; out.bytes()], "{op:?}");
    }
    let close = Op::AllClose {
        equal_nan: false,
        rtol: 0.0,
        atol: 0.0,
    };
    assert_eq!(
        run(&close, &ty(Type::U8, &[]), &[&x, &x], &stream).unwrap(),
        [1]
    );
}
