//! Windows, convolutions and transforms that do not fit their inputs.

use emily_core::{Op, Tensor, TensorType, Type, infer};

use crate::{filled, run, stream, ty, zeros};

fn window_sum(window: usize, padding: (i64, i64), stride: usize, dilation: usize) -> Op {
    Op::WindowSum {
        window: vec![window],
        padding: vec![padding],
        strides: vec![stride],
        window_dilations: vec![dilation],
    }
}

fn window_max(window: usize) -> Op {
    Op::WindowMax {
        window: vec![window],
        padding: vec![(0, 0)],
        strides: vec![1],
        window_dilations: vec![1],
    }
}

fn scatter(window: usize, stride: usize) -> Op {
    Op::WindowScatterMax {
        window: vec![window],
        padding: vec![(0, 0)],
        strides: vec![stride],
    }
}

/// A convolution along one axis.
fn conv(padding: (i64, i64), stride: usize, dilations: [usize; 2], groups: [usize; 2]) -> Op {
    Op::Conv {
        padding: vec![padding],
        strides: vec![stride],
        input_dilation: vec![dilations[0]],
        kernel_dilation: vec![dilations[1]],
        feature_group_size: groups[0],
        batch_group_size: groups[1],
        input_permutation: vec![0, 1, 2],
        kernel_permutation: vec![0, 1, 2],
        output_permutation: vec![0, 1, 2],
    }
}

fn fft(axis: usize, length: usize) -> Op {
    Op::Fft {
        axis,
        length,
        eps: 0.0,
    }
}

fn fft2(axes: &[usize], lengths: &[usize]) -> Op {
    Op::Fft2 {
        axes: axes.to_vec(),
        lengths: lengths.to_vec(),
        eps: 0.0,
    }
}

/// Each call fails with this text, and so does its inference.
fn assert_refused(calls: &[(Op, &[&TensorType], &str)]) {
    let stream = stream();
    for (op, types, text) in calls {
        let inputs: Vec<Tensor> = types.iter().map(|ty| zeros(&stream, ty)).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let out = ty(Type::F32, &[1]);
        let error = run(op, &out, &inputs, &stream).unwrap_err().to_string();
        assert_eq!(error, *text, "{op:?}");
        let types: Vec<TensorType> = types.iter().map(|&ty| ty.clone()).collect();
        assert_eq!(infer(op, &types).unwrap_err().to_string(), *text, "{op:?}");
    }
}

#[test]
fn windows_that_do_not_fit() {
    let five = ty(Type::F32, &[5]);
    let none = ty(Type::F32, &[0]);
    let scalar = ty(Type::F32, &[]);
    let two = ty(Type::F32, &[2]);
    let complex = ty(Type::C64, &[5]);
    assert_refused(&[
        (
            window_sum(0, (0, 0), 1, 1),
            &[&five],
            "expected the window on axis 0 to have a size, stride and dilation of at least 1, got: 0, 1 and 1",
        ),
        (
            window_sum(1, (0, 0), 0, 1),
            &[&five],
            "expected the window on axis 0 to have a size, stride and dilation of at least 1, got: 1, 0 and 1",
        ),
        (
            window_sum(1, (0, 0), 1, 0),
            &[&five],
            "expected the window on axis 0 to have a size, stride and dilation of at least 1, got: 1, 1 and 0",
        ),
        (
            window_sum(6, (0, 0), 2, 1),
            &[&five],
            "expected a window of 6 elements, 1 apart, to fit the 5 elements of axis 0 with padding of 0 and 0, which fit 32 bits",
        ),
        (
            window_sum(3, (0, 0), 1, 3),
            &[&five],
            "expected a window of 3 elements, 3 apart, to fit the 5 elements of axis 0 with padding of 0 and 0, which fit 32 bits",
        ),
        (
            window_sum(1, (-2, -3), 1, 1),
            &[&five],
            "expected a window of 1 elements, 1 apart, to fit the 5 elements of axis 0 with padding of -2 and -3, which fit 32 bits",
        ),
        (
            window_sum(1, (0, 0), 1, 1),
            &[&none],
            "expected a window of 1 elements, 1 apart, to fit the 0 elements of axis 0 with padding of 0 and 0, which fit 32 bits",
        ),
        (
            window_sum(1, (i64::MAX, i64::MAX), 1, 1),
            &[&five],
            "expected a window of 1 elements, 1 apart, to fit the 5 elements of axis 0 with padding of 9223372036854775807 and 9223372036854775807, which fit 32 bits",
        ),
        (
            window_sum(1, (i64::from(i32::MAX), 1), 1, 1),
            &[&five],
            "expected a window of 1 elements, 1 apart, to fit the 5 elements of axis 0 with padding of 2147483647 and 1, which fit 32 bits",
        ),
        (
            window_sum(2, (0, 0), 1, usize::MAX),
            &[&five],
            "expected a window of 2 elements, 18446744073709551615 apart, to fit the 5 elements of axis 0 with padding of 0 and 0, which fit 32 bits",
        ),
        (
            window_sum(2, (0, 0), 1, 1),
            &[&scalar],
            "expected :window, :padding, :strides and :window_dilations to have 0 entries each, got: [1, 1, 1, 1]",
        ),
        (
            window_max(2),
            &[&complex],
            "expected window_max of real numbers, got: c64",
        ),
        (
            scatter(2, 2),
            &[&five, &five, &scalar],
            "expected a source of one element for each of [2] windows and a scalar, got: [5] and []",
        ),
        (
            scatter(2, 2),
            &[&five, &two, &two],
            "expected a source of one element for each of [2] windows and a scalar, got: [2] and [2]",
        ),
        (
            scatter(2, 0),
            &[&five, &two, &scalar],
            "expected the window on axis 0 to have a size, stride and dilation of at least 1, got: 2, 0 and 1",
        ),
        (
            scatter(2, 2),
            &[&complex, &two, &scalar],
            "expected window_scatter_max of real numbers, got: c64",
        ),
    ]);
}

#[test]
fn convolutions_that_do_not_fit() {
    let input = ty(Type::F32, &[2, 4, 5]);
    let kernel = ty(Type::F32, &[6, 4, 2]);
    let halved = ty(Type::F32, &[6, 2, 2]);
    let matrix = ty(Type::F32, &[2, 4]);
    let complex = ty(Type::C64, &[6, 4, 2]);
    let double = ty(Type::F64, &[2, 4, 5]);
    let plain = conv((0, 0), 1, [1, 1], [1, 1]);
    let groups = |features: usize, batches: usize, channels: i32| {
        format!(
            "expected :feature_group_size or :batch_group_size to be 1, both to divide the 6 outputs, the former to be 4 channels over {channels}, the latter to divide the batch of 2, got: {features} and {batches}"
        )
    };
    let mut twice = plain.clone();
    if let Op::Conv {
        output_permutation, ..
    } = &mut twice
    {
        *output_permutation = vec![0, 1, 1];
    }
    assert_refused(&[
        (
            plain.clone(),
            &[&matrix, &matrix],
            "expected an input and a kernel of one rank of at least 3, got: [2, 4] and [2, 4]",
        ),
        (
            plain.clone(),
            &[&input, &matrix],
            "expected an input and a kernel of one rank of at least 3, got: [2, 4, 5] and [2, 4]",
        ),
        (
            plain.clone(),
            &[&double, &complex],
            "expected conv of types that MLX can hold together, got: f64 and c64",
        ),
        (
            twice,
            &[&input, &kernel],
            "expected :axes to be distinct and below the rank, 3, got: [0, 1, 1]",
        ),
        (plain, &[&input, &halved], &groups(1, 1, 2)),
        (
            conv((0, 0), 1, [1, 1], [0, 1]),
            &[&input, &kernel],
            &groups(0, 1, 4),
        ),
        (
            conv((0, 0), 1, [1, 1], [1, 0]),
            &[&input, &kernel],
            &groups(1, 0, 4),
        ),
        (
            conv((0, 0), 1, [1, 1], [1, 3]),
            &[&input, &kernel],
            &groups(1, 3, 4),
        ),
        (
            conv((0, 0), 1, [1, 1], [2, 2]),
            &[&input, &halved],
            &groups(2, 2, 2),
        ),
        (
            conv((0, 0), 1, [1, 1], [usize::MAX, 1]),
            &[&input, &kernel],
            &groups(usize::MAX, 1, 4),
        ),
        (
            conv((0, 0), 0, [1, 1], [1, 1]),
            &[&input, &kernel],
            "expected the window on axis 0 to have a size, stride and dilation of at least 1, got: 2, 0 and 1",
        ),
        (
            conv((-2, -2), 1, [1, 1], [1, 1]),
            &[&input, &kernel],
            "expected a window of 2 elements, 1 apart, to fit the 5 elements of axis 0 with padding of -2 and -2, which fit 32 bits",
        ),
        (
            conv((0, 0), 1, [0, 1], [1, 1]),
            &[&input, &kernel],
            "expected :input_dilation to be at least 1 and to move 5 elements to at most 2147483647, got: 0",
        ),
        (
            conv((0, 0), 1, [1 << 29, 1], [1, 1]),
            &[&input, &kernel],
            "expected :input_dilation to be at least 1 and to move 5 elements to at most 2147483647, got: 536870912",
        ),
        (
            conv((0, 0), 1, [1, 5], [1, 1]),
            &[&input, &kernel],
            "expected a window of 2 elements, 5 apart, to fit the 5 elements of axis 0 with padding of 0 and 0, which fit 32 bits",
        ),
    ]);
}

#[test]
fn transforms_that_do_not_fit() {
    let vector = ty(Type::F32, &[4]);
    let matrix = ty(Type::F32, &[2, 4]);
    let double = ty(Type::F64, &[4]);
    let complex = ty(Type::C64, &[4]);
    let rfft = Op::Rfft {
        axis: 0,
        length: 4,
        eps: 0.0,
    };
    let length = "expected a length from 1 to 2147483647 for each of the axes";
    assert_refused(&[
        (
            fft(1, 4),
            &[&vector],
            "expected :axes to be distinct and below the rank, 1, got: [1]",
        ),
        (fft(0, 0), &[&vector], &format!("{length} [0], got: [0]")),
        (
            fft(0, 1 << 31),
            &[&vector],
            &format!("{length} [0], got: [2147483648]"),
        ),
        (
            fft(0, 4),
            &[&double],
            "expected fft of a type whose complex numbers are c64, got: f64, for which Nx has c128",
        ),
        (rfft, &[&complex], "expected rfft of real numbers, got: c64"),
        (
            fft2(&[0, 0], &[2, 2]),
            &[&matrix],
            "expected :axes to be distinct and below the rank, 2, got: [0, 0]",
        ),
        (
            fft2(&[0, 1], &[2]),
            &[&matrix],
            &format!("{length} [0, 1], got: [2]"),
        ),
        (
            fft2(&[0], &[2]),
            &[&matrix],
            "expected fft2 to have 2 axes, got: axes: [0], lengths: [2], eps: 0.0",
        ),
    ]);
}

/// What fits 32 bits but no memory is refused before MLX asks for it.
#[test]
fn paddings_that_do_not_fit_in_memory() {
    let stream = stream();
    let vast = (1 << 30, 1 << 29);
    let x = filled(&stream, 1, &ty(Type::F64, &[64, 1, 1]));
    let out = ty(Type::F64, &[64, 1, 1]);
    let most = i64::from(i32::MAX);
    let sum = Op::WindowSum {
        window: vec![1, 1, 1],
        padding: vec![(0, 0), (0, 0), vast],
        strides: vec![1, 1, usize::MAX],
        window_dilations: vec![1, 1, 1],
    };
    assert_too_large(run(&sum, &out, &[&x], &stream));
    let wide = conv((most - 1, 0), 1 << 30, [1, 1], [1, 1]);
    for float in [Type::F32, Type::F64] {
        let x = filled(&stream, 1, &ty(float, &[64, 1, 1]));
        let kernel = filled(&stream, 1, &ty(float, &[1, 1, 1]));
        let out = ty(float, &[64, 1, 2]);
        assert_too_large(run(&wide, &out, &[&x, &kernel], &stream));
    }
    let out = ty(Type::C64, &[most, 1, 1]);
    let single = filled(&stream, 1, &ty(Type::F32, &[64, 1, 1]));
    assert_too_large(run(&fft(0, i32::MAX as usize), &out, &[&single], &stream));
}

fn assert_too_large(result: emily_core::Result<Vec<u8>>) {
    let error = result.unwrap_err().to_string();
    assert!(
        error.ends_with(" bytes") && error.contains("which is what memory allows"),
        "{error}"
    );
}

/// Views of windows have twice the axes of the tensor.
#[test]
fn as_many_axes_as_a_shape_may_have() {
    let stream = stream();
    let mut dims = vec![1; 128];
    (dims[0], dims[60], dims[127]) = (3, 2, 3);
    let input = ty(Type::S32, &dims);
    let x = filled(&stream, 2, &input);
    let mut window = vec![1; 128];
    (window[0], window[60], window[127]) = (2, 2, 2);
    let mut counts = dims.clone();
    (counts[0], counts[60], counts[127]) = (2, 1, 2);
    let (padding, strides) = (vec![(0, 0); 128], vec![1; 128]);
    let places = ty(Type::S32, &counts);
    let sum = Op::WindowSum {
        window: window.clone(),
        padding: padding.clone(),
        strides: strides.clone(),
        window_dilations: vec![1; 128],
    };
    let sixteen = 16_i32.to_le_bytes().repeat(4);
    assert_eq!(run(&sum, &places, &[&x], &stream).unwrap(), sixteen);
    let scatter = Op::WindowScatterMin {
        window,
        padding,
        strides,
    };
    let source = filled(&stream, 1, &places);
    let zero = filled(&stream, 0, &ty(Type::S32, &[]));
    // Of equal elements the last one counts: of the second half of each of the three axes.
    let sums = run(&scatter, &input, &[&x, &source, &zero], &stream).unwrap();
    let sums: Vec<u8> = sums.into_iter().step_by(4).collect();
    assert_eq!(sums, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]);

    let order: Vec<usize> = (0..128).collect();
    let conv = Op::Conv {
        padding: vec![(0, 0); 126],
        strides: vec![1; 126],
        input_dilation: vec![1; 126],
        kernel_dilation: vec![1; 126],
        feature_group_size: 1,
        batch_group_size: 1,
        input_permutation: order.clone(),
        kernel_permutation: order.clone(),
        output_permutation: order,
    };
    let kernel = filled(&stream, 3, &ty(Type::F32, &[1; 128]));
    let out = ty(Type::F32, &dims);
    let product = run(&conv, &out, &[&x, &kernel], &stream).unwrap();
    assert_eq!(product, 6_f32.to_le_bytes().repeat(18));
}
