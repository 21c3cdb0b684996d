//! Every operation with inputs of every type and of awkward shapes: whatever comes of it, the
//! process goes on.

use std::sync::mpsc::channel;

use emily_core::{Op, Stream, Tensor, TensorType, Type, infer_all};
use serde_json::json;

use crate::{stream, ty, zeros};

const SHAPES: [&[i64]; 8] = [
    &[],
    &[0],
    &[1],
    &[3],
    &[2, 3],
    &[0, 3],
    &[2, 0, 1, 3, 1],
    &[2, 3, 3],
];

/// Each operation, with attributes that fit some of the shapes.
fn operations() -> Vec<Op> {
    let error = serde_json::from_str::<Op>("\"?\"").unwrap_err().to_string();
    let names = error.split('`').skip(3).step_by(2);
    names.flat_map(with_attributes).collect()
}

fn with_attributes(name: &str) -> Vec<Op> {
    if let Ok(op) = serde_json::from_value(json!(name)) {
        return vec![op];
    }
    let attributes = [
        json!({"value": -1}),
        json!({"axis": null, "keep_axis": true, "tie_break": "high"}),
        json!({"axis": 1, "keep_axis": false, "tie_break": "low"}),
        json!({"axis": 0, "direction": "desc"}),
        json!({"axes": [0], "keep_axes": true}),
        json!({"axes": null, "keep_axes": false}),
        json!({"axes": [0], "keep_axes": true, "fun": difference()}),
        json!({"axes": null, "keep_axes": false, "fun": difference()}),
        json!({"axes": [1, 0]}),
        json!({"axes": [0]}),
        json!({"starts": [0], "lengths": [1], "strides": [2]}),
        json!({"lower": false, "left_side": false, "transform_a": "conjugate"}),
        json!({"mode": "complete"}),
        json!({"full_matrices": true}),
        json!({"full_matrices": false}),
        json!({"contract_a": [0], "batch_a": [], "contract_b": [0], "batch_b": []}),
        json!({"padding": []}),
        json!({"padding": [[-1, 2, 1]]}),
        json!({"padding": [[1, -2, 0], [i64::MIN, i64::MAX, i64::MAX]]}),
        json!({"lengths": [1, 2], "strides": [1, usize::MAX]}),
        json!({"lengths": [0], "strides": [1]}),
        json!({"lengths": [], "strides": []}),
        json!({"starts": []}),
        json!({"starts": [usize::MAX]}),
        json!({"axis": 0}),
        json!({"axis": 1, "reverse": true}),
        json!({"axis": 0, "reverse": false}),
        json!({"k": 1}),
        json!({"k": 3}),
        json!({"equal_nan": true, "rtol": 1e-5, "atol": 1e-8}),
        json!({"contract_a": [], "batch_a": [0], "contract_b": [], "batch_b": [0]}),
        json!({"window": [2], "padding": [[0, 1]], "strides": [1], "window_dilations": [1], "fun": difference()}),
        json!({"window": [1, 2], "padding": [[1, 0], [-1, 2]], "strides": [2, 1], "window_dilations": [1, 2], "fun": difference()}),
        json!({"window": [], "padding": [], "strides": [], "window_dilations": []}),
        json!({"padding": [[1, 1]], "strides": [1], "input_dilation": [1], "kernel_dilation": [1],
            "feature_group_size": 1, "batch_group_size": 1, "input_permutation": [0, 1, 2],
            "kernel_permutation": [0, 1, 2], "output_permutation": [0, 1, 2]}),
        json!({"op": "divide", "of": ["finite"]}),
        json!({"op": {"take_along_axis": {"axis": 0}}, "of": ["bounds", "finite"]}),
        json!({"axis": 0, "length": 4, "eps": 1e-10}),
        json!({"axis": 1, "length": 2, "eps": 0.0}),
        json!({"axes": [0, 1], "lengths": [3, 2], "eps": 1e-10}),
        json!({"epsilon": 1e-5}),
        json!({"scale": 0.5}),
        json!({"function": "gelu"}),
        json!({"mode": "affine", "group_size": 32, "bits": 3}),
        json!({"mode": "nvfp4", "group_size": 16, "bits": 4}),
        json!({"mode": "affine", "group_size": 0, "bits": 0}),
        json!({"mode": "mxfp8", "group_size": 32, "bits": 8, "transpose": true, "exact": false}),
        json!({"mode": "mxfp4", "group_size": 32, "bits": 4, "transpose": true,
            "left": false, "right": true, "sorted": true}),
        json!({"dims": 2, "traditional": true, "base": 1e4, "scale": 1.0}),
        json!({"dims": 2, "traditional": false, "base": null, "scale": 1.0}),
    ];
    let ops = attributes
        .into_iter()
        .filter_map(|attributes| serde_json::from_value(json!({ name: attributes })).ok());
    let ops: Vec<Op> = ops.collect();
    assert!(
        !ops.is_empty(),
        "{name} has attributes that this test does not know"
    );
    ops
}

/// The program of a function of two numbers.
fn difference() -> serde_json::Value {
    let scalar = json!({"type": "f32", "shape": []});
    let subtract = json!({"op": "subtract", "outs": [scalar], "inputs": [0, 1]});
    json!({"inputs": [scalar, scalar], "instructions": [subtract], "outputs": [2]})
}

/// A first input of any type with a second and third one of another, in shapes that may not fit it.
fn try_all(op: &Op, stream: &Stream) {
    for first in Type::ALL {
        for second in [first, Type::S8, Type::U64, Type::C64] {
            for (at, shape) in SHAPES.iter().enumerate() {
                let other = if at % 2 == 0 {
                    SHAPES[(at + 4) % SHAPES.len()]
                } else {
                    shape
                };
                let x = zeros(stream, &ty(first, shape));
                let y = zeros(stream, &ty(second, other));
                let z = zeros(stream, &ty(second, shape));
                try_with(
                    op,
                    &[&x, &y, &z, &z][..op.arity().unwrap_or(2)],
                    &ty(second, shape),
                    stream,
                );
            }
        }
    }
}

fn try_with(op: &Op, inputs: &[&Tensor], out: &TensorType, stream: &Stream) {
    let types: Vec<_> = inputs.iter().map(|input| input.tensor_type()).collect();
    let inferred = infer_all(op, &types).ok();
    let told = vec![out.clone(); op.outputs()];
    for outs in inferred.iter().map(|outs| &outs[..]).chain([&told[..]]) {
        let results = Tensor::apply_all(stream, op, Some(outs), inputs);
        for (tensor, out) in results.iter().flatten().zip(outs) {
            let Ok(tensor) = tensor.readable() else {
                continue;
            };
            assert_eq!(tensor.tensor_type(), *out, "{op:?}");
            assert_eq!(
                tensor.bytes().unwrap().len(),
                out.bytes(),
                "{op:?} to {out}"
            );
        }
    }
}

#[test]
fn every_operation_survives_every_input() {
    let stream = stream();
    let (sender, receiver) = channel();
    let worker = stream.clone();
    let job = move || {
        operations().iter().for_each(|op| try_all(op, &worker));
        sender.send(()).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().expect("no operation panics");
}
