//! Types that MLX does not have: their bytes, and what operations do where the type ends.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::mpsc::channel;

use emily_core::{
    Device, NonFinite, Number, Op, Shape, Stream, Tensor, TensorType, Type, install_error_handler,
};

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn ty(ty: Type, size: usize) -> TensorType {
    let shape = Shape::new(&[size as i64]).unwrap();
    TensorType { ty, shape }
}

/// Evaluates on the stream's thread, as the NIF does, and waits.
fn read(stream: &Stream, tensor: Tensor) -> Vec<u8> {
    let (sender, receiver) = channel();
    let job = move || {
        let readable = tensor.readable().unwrap();
        sender.send(readable.bytes().unwrap().to_vec()).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap()
}

fn unary(op: &Op, from: (Type, usize, &[u8]), to: Type) -> Vec<u8> {
    let stream = stream();
    let (input, size, bytes) = from;
    let x = Tensor::from_bytes(&stream, &ty(input, size), bytes).unwrap();
    let result = Tensor::apply(&stream, op, Some(&ty(to, size)), &[&x]).unwrap();
    read(&stream, result)
}

fn binary(op: &Op, of: Type, size: usize, x: &[u8], y: &[u8]) -> Vec<u8> {
    let stream = stream();
    let tensor = |bytes| Tensor::from_bytes(&stream, &ty(of, size), bytes).unwrap();
    let result = Tensor::apply(&stream, op, None, &[&tensor(x), &tensor(y)]).unwrap();
    assert_eq!(result.tensor_type(), ty(of, size));
    read(&stream, result)
}

/// Which NaN came out is the device's own.
fn one_nan(codes: Vec<u8>) -> Vec<u8> {
    let is_nan = |code: u8| code & 0x7f > 0x7c;
    let codes = codes.into_iter();
    codes
        .map(|code| if is_nan(code) { 0x7e } else { code })
        .collect()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn constant(value: Number, of: Type, size: usize) -> Vec<u8> {
    let stream = stream();
    let constant = Op::Constant { value };
    let result = Tensor::apply(&stream, &constant, Some(&ty(of, size)), &[]).unwrap();
    read(&stream, result)
}

#[test]
fn bits_of_a_type_are_all_that_count() {
    let s4 = [0x01, 0x7f, 0x80];
    for (op, expected) in [
        (Op::BitwiseNot, [0xfe, 0x80, 0x7f]),
        (Op::PopulationCount, [0x01, 0x34, 0x10]),
        (Op::CountLeadingZeros, [0x43, 0x10, 0x04]),
        (Op::Negate, [0x0f, 0x91, 0x80]),
        (Op::Abs, [0x01, 0x71, 0x80]),
    ] {
        assert_eq!(unary(&op, (Type::S4, 6, &s4), Type::S4), expected, "{op:?}");
    }
    let zeros = unary(
        &Op::CountLeadingZeros,
        (Type::U2, 4, &[0b00_01_10_11]),
        Type::U2,
    );
    assert_eq!(zeros, [0b10_01_00_00]);
    let ones = unary(
        &Op::PopulationCount,
        (Type::S2, 4, &[0b00_01_10_11]),
        Type::S2,
    );
    assert_eq!(ones, [0b00_01_01_10]);
    let inverse = unary(&Op::BitwiseNot, (Type::U4, 3, &[0x0f, 0x50]), Type::U4);
    assert_eq!(inverse, [0xf0, 0xa0]);
}

#[test]
fn integers_wrap() {
    for (op, of, x, y, expected) in [
        (Op::Add, Type::U4, [0xf8], [0x1f], [0x07]),
        (Op::Add, Type::S4, [0x78], [0x1f], [0x87]),
        (Op::Multiply, Type::U4, [0xf3], [0xf5], [0x1f]),
        (
            Op::Subtract,
            Type::U2,
            [0b00_01_10_11],
            [0b01_10_11_11],
            [0b11_11_11_00],
        ),
        (Op::LeftShift, Type::S4, [0x1f], [0x33], [0x88]),
        (Op::LeftShift, Type::U4, [0x1f], [0x47], [0x00]),
        (Op::RightShift, Type::S4, [0x8f], [0x17], [0xcf]),
        (Op::Quotient, Type::S4, [0x87], [0xf2], [0x83]),
        (Op::Pow, Type::U4, [0x23], [0x43], [0x0b]),
    ] {
        let size = 8 / of.bits() as usize;
        assert_eq!(binary(&op, of, size, &x, &y), expected, "{op:?} of {of}");
    }
    // A sum has room.
    let stream = stream();
    let x = Tensor::from_bytes(&stream, &ty(Type::U4, 4), &[0xff, 0xff]).unwrap();
    let sum = Op::Sum {
        axes: None,
        keep_axes: false,
    };
    let total = Tensor::apply(&stream, &sum, None, &[&x]).unwrap();
    assert_eq!(total.tensor_type().ty, Type::U32);
    assert_eq!(read(&stream, total), 60_u32.to_le_bytes());
}

#[test]
fn floats_that_do_not_fit_an_integer_type() {
    let numbers = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 300.7, -9.9, 2.0]);
    for (to, expected) in [
        (Type::S4, vec![0x07, 0x8c, 0x72]),
        (Type::U4, vec![0x0f, 0x0c, 0x72]),
        (Type::S2, vec![0b00_01_10_00, 0b11_10_00_00]),
        (Type::U2, vec![0b00_11_00_00, 0b11_10_00_00]),
    ] {
        assert_eq!(
            unary(&Op::AsType, (Type::F32, 6, &numbers), to),
            expected,
            "{to}"
        );
    }
    let codes = [0x7c, 0xfc, 0x7e, 0xc5];
    let integers = unary(&Op::AsType, (Type::F8E5M2, 4, &codes), Type::S4);
    assert_eq!(integers, [0x78, 0x0b]);
}

#[test]
fn each_f8_survives_f32_and_everything_between_goes_to_the_nearest() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for format in [Type::F8E5M2, Type::F8E4M3FN] {
        let wide = unary(&Op::AsType, (format, 256, &all), Type::F32);
        let numbers: Vec<f32> = wide
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let back = unary(&Op::AsType, (Type::F32, 256, &wide), format);
        let number = |code: u8| !numbers[usize::from(code)].is_nan();
        assert!(
            all.iter()
                .all(|&code| back[usize::from(code)] == code || !number(code))
        );

        // Codes of positive numbers are in the order of these. Between each and the next one: just
        // below the middle, the middle, and just above it.
        let finite = all[..127]
            .iter()
            .filter(|&&code| numbers[usize::from(code)].is_finite());
        let codes: Vec<u8> = finite.copied().collect();
        let mut inputs = Vec::new();
        let mut expected = Vec::new();
        for pair in codes.windows(2) {
            let [low, high] = [numbers[usize::from(pair[0])], numbers[usize::from(pair[1])]];
            let middle = (low + high) / 2.0;
            let even = if pair[0] % 2 == 0 { pair[0] } else { pair[1] };
            for sign in [1.0_f32, -1.0] {
                let bit = if sign < 0.0 { 0x80 } else { 0 };
                inputs.extend([middle.next_down(), middle, middle.next_up()].map(|x| x * sign));
                expected.extend([pair[0], even, pair[1]].map(|code| code | bit));
            }
        }
        let size = inputs.len();
        let rounded = unary(&Op::AsType, (Type::F32, size, &floats(&inputs)), format);
        assert_eq!(rounded, expected, "{format}");
    }
}

#[test]
fn f8_ends_in_infinity_or_its_greatest_number() {
    let numbers = floats(&[
        f32::NAN,
        f32::INFINITY,
        -f32::INFINITY,
        1e9,
        -61440.0,
        61439.0,
        -0.0,
    ]);
    let e5m2 = unary(&Op::AsType, (Type::F32, 7, &numbers), Type::F8E5M2);
    assert_eq!(one_nan(e5m2), [0x7e, 0x7c, 0xfc, 0x7c, 0xfc, 0x7b, 0x80]);
    let e4m3fn = unary(&Op::AsType, (Type::F32, 7, &numbers), Type::F8E4M3FN);
    assert_eq!(e4m3fn, [0x7f, 0x7e, 0xfe, 0x7e, 0xfe, 0x7e, 0x80]);

    // 57344 + 57344, inf - inf, NaN + 1; 448 * 448, 448 * -448, NaN * 1.
    let sums = binary(
        &Op::Add,
        Type::F8E5M2,
        3,
        &[0x7b, 0x7c, 0x7d],
        &[0x7b, 0xfc, 0x3c],
    );
    assert_eq!(one_nan(sums), [0x7c, 0x7e, 0x7e]);
    let products = binary(
        &Op::Multiply,
        Type::F8E4M3FN,
        3,
        &[0x7e, 0x7e, 0x7f],
        &[0x7e, 0xfe, 0x38],
    );
    assert_eq!(products, [0x7e, 0xfe, 0x7f]);
}

#[test]
fn constants_wrap_and_are_rounded() {
    assert_eq!(constant(Number::Integer(-1), Type::U4, 3), [0xff, 0xf0]);
    assert_eq!(constant(Number::Integer(9), Type::S4, 2), [0x99]);
    assert_eq!(constant(Number::Float(1.2), Type::F8E5M2, 2), [0x3d, 0x3d]);
    let infinity = Number::NonFinite(NonFinite::Infinity);
    assert_eq!(constant(infinity, Type::F8E4M3FN, 1), [0x7e]);
}

#[test]
fn indices_may_be_narrow() {
    let stream = stream();
    let x = Tensor::from_bytes(&stream, &ty(Type::S4, 5), &[0x9a, 0xbc, 0xd0]).unwrap();
    for (of, bytes) in [(Type::U4, [0x42, 0x30]), (Type::S4, [0x42, 0x30])] {
        let indices = Tensor::from_bytes(&stream, &ty(of, 3), &bytes).unwrap();
        let take = Op::Take { axis: 0 };
        let taken = Tensor::apply(&stream, &take, None, &[&x, &indices]).unwrap();
        assert_eq!(read(&stream, taken), [0xdb, 0xc0], "{of}");
    }
}

#[test]
fn bits_are_read_as_another_type_of_their_width() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for format in [Type::F8E5M2, Type::F8E4M3FN] {
        let number = unary(&Op::Bitcast, (Type::U8, 256, &all), format);
        let again = unary(&Op::Bitcast, (format, 256, &all), Type::S8);
        for (code, (there, back)) in all.iter().zip(number.iter().zip(&again)) {
            assert_eq!((there, back), (code, code), "{format}");
        }
    }
    let swapped = unary(&Op::Bitcast, (Type::S4, 3, &[0x7f, 0x80]), Type::U4);
    assert_eq!(swapped, [0x7f, 0x80]);
}

#[test]
fn large_tensors_are_packed_off_the_scheduler() {
    let stream = stream();
    let size = 200_001;
    let bytes: Vec<u8> = (0..ty(Type::U4, size).bytes())
        .map(|at| (at % 251) as u8 & 0xf0)
        .collect();
    let x = Tensor::from_bytes(&stream, &ty(Type::U4, size), &bytes).unwrap();
    assert!(x.bytes().is_none());
    let reversed = Op::Reverse { axes: vec![0] };
    let once = Tensor::apply(&stream, &reversed, None, &[&x]).unwrap();
    let twice = Tensor::apply(&stream, &reversed, None, &[&once]).unwrap();
    assert_eq!(read(&stream, x), bytes);
    assert_eq!(read(&stream, twice), bytes);
}

#[test]
fn views_of_more_than_memory_holds_are_still_views() {
    let stream = stream();
    let one = Tensor::from_bytes(&stream, &ty(Type::S2, 1), &[0x40]).unwrap();
    let shape = Shape::new(&[1 << 20, 1 << 20, 1]).unwrap();
    let vast = TensorType {
        ty: Type::S2,
        shape,
    };
    let broadcast = Op::Broadcast { axes: vec![2] };
    let vast = Tensor::apply(&stream, &broadcast, Some(&vast), &[&one]).unwrap();
    let corner = Op::Slice {
        starts: vec![7, 7, 0],
        lengths: vec![1, 2, 1],
        strides: vec![1, 1, 1],
    };
    let corner = Tensor::apply(&stream, &corner, None, &[&vast]).unwrap();
    assert_eq!(read(&stream, corner), [0x50]);
}
