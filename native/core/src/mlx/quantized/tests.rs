//! Our own loops beside MLX's.

#![cfg(target_arch = "x86_64")]

use super::*;
use crate::{
    Device, Shape, Stream, TensorType, check::Pending, eval::Tensor, install_error_handler,
};

const PACKINGS: [(QuantizationMode, usize, usize); 9] = [
    (QuantizationMode::Affine, 32, 2),
    (QuantizationMode::Affine, 128, 3),
    (QuantizationMode::Affine, 64, 4),
    (QuantizationMode::Affine, 32, 5),
    (QuantizationMode::Affine, 64, 6),
    (QuantizationMode::Affine, 128, 8),
    (QuantizationMode::Mxfp4, 32, 4),
    (QuantizationMode::Mxfp8, 32, 8),
    (QuantizationMode::Nvfp4, 16, 4),
];

/// Numbers of both signs and sizes that halves can sum.
fn numbers(mlx: Mlx, ty: Type, dims: &[i64], seed: u64) -> Array {
    let shape = Shape::new(dims).unwrap();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..shape.size())
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let fraction = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let size = [1e-3, 1.0, 1.0, 1.0, 3.0, 8.0][state as usize % 6];
            (fraction * size).to_ne_bytes()
        })
        .collect();
    let wide = TensorType {
        ty: Type::F32,
        shape,
    };
    let wide = Array::from_bytes(&wide, &bytes).unwrap();
    mlx.convert(&wide, ty).unwrap()
}

fn bits(stream: &Stream, array: Array) -> Vec<u8> {
    let ty = array.tensor_type();
    let tensor = Tensor::pending(stream, array, &ty, Pending::default());
    let readable = tensor.readable().unwrap();
    readable.bytes().unwrap().to_vec()
}

#[test]
fn sums_side_by_side_have_the_bits_of_mlx() {
    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let mlx = stream.mlx();
    for (mode, group_size, bits_) in PACKINGS {
        let packing = Packing {
            mode,
            group_size,
            bits: bits_,
        };
        for ty in [Type::F32, Type::F16, Type::Bf16] {
            let parts = numbers(mlx, ty, &[35, 128], 3);
            let parts = mlx.quantize(&parts, packing).unwrap();
            let matrix = Quantized {
                packing,
                packed: &parts[0],
                scales: &parts[1],
                biases: parts.get(2),
            };
            for (transpose, rows) in [(true, 1), (true, 259), (false, 1), (false, 259)] {
                let inner = if transpose { 128 } else { 35 };
                let x = numbers(mlx, ty, &[rows, inner], 5);
                let own = mlx.quantized_sums(&x, matrix, transpose).unwrap();
                let expected = mlx.quantized_matmul(&x, matrix, transpose).unwrap();
                let equal = bits(&stream, own) == bits(&stream, expected);
                assert!(equal, "{packing:?} {ty} {transpose} {rows}");
            }
        }
    }
}

#[test]
fn views_are_read_where_they_lie() {
    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let mlx = stream.mlx();
    let (mode, group_size, bits_) = PACKINGS[2];
    let packing = Packing {
        mode,
        group_size,
        bits: bits_,
    };
    let parts = numbers(mlx, Type::F32, &[10, 128], 3);
    let parts = mlx.quantize(&parts, packing).unwrap();
    let every_other = |part: &Array| {
        let columns = part.shape().dims()[1];
        mlx.slice(part, &[1, 0], &[10, columns], &[2, 1]).unwrap()
    };
    let [packed, scales, biases] = [0, 1, 2].map(|at| every_other(&parts[at]));
    let matrix = Quantized {
        packing,
        packed: &packed,
        scales: &scales,
        biases: Some(&biases),
    };
    let x = numbers(mlx, Type::F32, &[128, 3, 2], 5);
    let x = mlx.transpose(&x, &[2, 1, 0]).unwrap();
    let own = mlx.quantized_sums(&x, matrix, true).unwrap();
    assert_eq!(own.shape().dims(), [2, 3, 5]);
    let expected = mlx.quantized_matmul(&x, matrix, true).unwrap();
    assert_eq!(bits(&stream, own), bits(&stream, expected));
}

#[test]
fn each_matrix_has_its_own() {
    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let mlx = stream.mlx();
    for (mode, group_size, bits_) in [PACKINGS[3], PACKINGS[8]] {
        let packing = Packing {
            mode,
            group_size,
            bits: bits_,
        };
        let parts = numbers(mlx, Type::Bf16, &[2, 7, 64], 3);
        let parts = mlx.quantize(&parts, packing).unwrap();
        // The same for each of three.
        let stretched: Vec<Array> = parts
            .iter()
            .map(|part| {
                let dims = [&[3], part.shape().dims()].concat();
                mlx.broadcast_to(part, &dims).unwrap()
            })
            .collect();
        let matrix = Quantized {
            packing,
            packed: &stretched[0],
            scales: &stretched[1],
            biases: stretched.get(2),
        };
        for (transpose, inner) in [(true, 64), (false, 7)] {
            let x = numbers(mlx, Type::Bf16, &[3, 2, 5, inner], 5);
            let own = mlx.quantized_sums(&x, matrix, transpose).unwrap();
            let expected = mlx.quantized_matmul(&x, matrix, transpose).unwrap();
            assert_eq!(bits(&stream, own), bits(&stream, expected), "{packing:?}");
        }
    }
}
