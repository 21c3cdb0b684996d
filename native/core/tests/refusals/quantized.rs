//! Quantized matrices with axes of no elements and indices that point elsewhere, of which MLX makes exceptions on threads
//! of its own, or reads what is not there.

use emily_core::{Error, Op, QuantizationMode, Stream, Tensor, TensorType, Type, infer_all};

use crate::{filled, run, stream, ty, zeros};

const AFFINE: (QuantizationMode, usize, usize) = (QuantizationMode::Affine, 32, 4);
const ALL: [(QuantizationMode, usize, usize); 5] = [
    AFFINE,
    (QuantizationMode::Affine, 128, 3),
    (QuantizationMode::Mxfp4, 32, 4),
    (QuantizationMode::Mxfp8, 32, 8),
    (QuantizationMode::Nvfp4, 16, 4),
];

/// A quantized matrix of zeros, as its tensors.
fn matrices(
    stream: &Stream,
    packing: (QuantizationMode, usize, usize),
    dims: &[i64],
) -> Vec<Tensor> {
    let (mode, group_size, bits) = packing;
    let (columns, before) = dims.split_last().unwrap();
    let with = |ty_: Type, last: i64| zeros(stream, &ty(ty_, &[before, &[last]].concat()));
    let packed = with(Type::U32, columns * bits as i64 / 32);
    let groups = columns / group_size as i64;
    match mode {
        QuantizationMode::Affine => vec![packed, with(Type::F32, groups), with(Type::F32, groups)],
        _ => vec![packed, with(Type::U8, groups)],
    }
}

fn call(op: &Op, inputs: &[&Tensor], stream: &Stream) -> Result<Vec<Vec<u8>>, Error> {
    let types: Vec<TensorType> = inputs.iter().map(|input| input.tensor_type()).collect();
    let outs = infer_all(op, &types)?;
    let results = Tensor::apply_all(stream, op, Some(&outs), inputs)?;
    let same = |(result, out): (&Tensor, &TensorType)| run(&Op::Reshape, out, &[result], stream);
    results.iter().zip(&outs).map(same).collect()
}

#[test]
fn axes_without_elements_give_what_sums_of_nothing_are() {
    let stream = stream();
    for packing in ALL {
        let (mode, group_size, bits) = packing;
        for dims in [[0, 128], [3, 0], [0, 0]] {
            let x = zeros(&stream, &ty(Type::F32, &dims));
            let quantize = Op::Quantize {
                mode,
                group_size,
                bits,
            };
            let parts = call(&quantize, &[&x], &stream).unwrap();
            assert!(parts.iter().all(Vec::is_empty), "{packing:?}");

            let parts = matrices(&stream, packing, &dims);
            let parts: Vec<&Tensor> = parts.iter().collect();
            let numbers = ty(Type::F32, &dims);
            let dequantize = Op::Dequantize {
                mode,
                group_size,
                bits,
            };
            assert!(
                run(&dequantize, &numbers, &parts, &stream)
                    .unwrap()
                    .is_empty()
            );
        }
        for (dims, matrix, zeros_) in [
            (&[2, 128][..], &[0, 128][..], 0),
            (&[0, 128], &[3, 128], 0),
            (&[2, 0], &[3, 0], 6),
            (&[0], &[3, 0], 3),
            (&[2, 0], &[4, 3, 0], 24),
            (&[4, 2, 128], &[0, 3, 128], usize::MAX),
            (&[1, 2, 128], &[0, 3, 128], 0),
        ] {
            let x = zeros(&stream, &ty(Type::F32, dims));
            let parts = matrices(&stream, packing, matrix);
            let inputs: Vec<&Tensor> = [&x].into_iter().chain(&parts).collect();
            let product = Op::QuantizedMatmul {
                mode,
                group_size,
                bits,
                transpose: true,
                exact: group_size == 32,
            };
            let result = call(&product, &inputs, &stream);
            if zeros_ == usize::MAX {
                assert!(result.is_err(), "{dims:?} {matrix:?}");
            } else {
                assert_eq!(
                    result.unwrap(),
                    [vec![0; 4 * zeros_]],
                    "{dims:?} {matrix:?}"
                );
            }
        }
    }
}

fn gather(left: bool, right: bool) -> Op {
    let (mode, group_size, bits) = AFFINE;
    Op::GatherQmm {
        mode,
        group_size,
        bits,
        transpose: true,
        left,
        right,
        sorted: false,
    }
}

#[test]
fn indices_of_pairs_lie_within_their_sides() {
    let stream = stream();
    let x = zeros(&stream, &ty(Type::F32, &[2, 1, 32]));
    let parts = matrices(&stream, AFFINE, &[3, 4, 32]);
    let inputs: Vec<&Tensor> = [&x].into_iter().chain(&parts).collect();
    for (side, ty_, index, fits) in [
        (0, Type::S32, 1, true),
        (0, Type::U8, 2, false),
        (1, Type::S64, 2, true),
        (1, Type::S32, 3, false),
        (1, Type::S8, -1, false),
        (0, Type::S64, i64::MIN, false),
        (1, Type::U64, i64::MAX, false),
    ] {
        // The other side's matrices go in order.
        let count = 3 - side;
        let indices = filled(&stream, index, &ty(ty_, &[count]));
        let inputs: Vec<&Tensor> = inputs.iter().copied().chain([&indices]).collect();
        let result = call(&gather(side == 0, side == 1), &inputs, &stream);
        match (result, fits) {
            (Ok(result), true) => assert_eq!(result, [vec![0; 4 * 4 * count as usize]]),
            (Err(error), false) => {
                let text = error.to_string();
                assert!(text.contains("index"), "{text}");
            }
            (other, _) => panic!("{index} of side {side}: {other:?}"),
        }
    }

    let none = zeros(&stream, &ty(Type::S32, &[0]));
    let pair = filled(&stream, 1, &ty(Type::S32, &[2]));
    // Two or three matrices in order do not go with no indices.
    for (op, indices, fits) in [
        (gather(true, true), vec![&none, &none], true),
        (gather(true, true), vec![&none, &pair], false),
        (gather(true, false), vec![&none], false),
        (gather(false, true), vec![&none], false),
        (gather(false, false), vec![], false),
        (gather(false, true), vec![&pair, &pair], false),
    ] {
        let inputs: Vec<&Tensor> = inputs.iter().copied().chain(indices).collect();
        let result = call(&op, &inputs, &stream);
        assert_eq!(result.is_ok(), fits, "{op:?} {result:?}");
    }

    let no_experts = matrices(&stream, AFFINE, &[0, 4, 32]);
    let inputs: Vec<&Tensor> = [&x].into_iter().chain(&no_experts).chain([&pair]).collect();
    let error = call(&gather(false, true), &inputs, &stream).unwrap_err();
    assert!(
        error.to_string().contains("axes that have elements"),
        "{error}"
    );
}
