//! A product with a matrix that is dequantized for it alone.

use super::{Pattern, fusion::Fusion, graph::Graph};
use crate::{Op, infer::quantized::Packing};

pub(in crate::program::passes) const QUANTIZED_MATMUL: Pattern = Pattern {
    ends: |op| matches!(op, Op::Dot { .. }),
    find,
};

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let (
        Op::Dot {
            contract_a,
            batch_a,
            contract_b,
            ..
        },
        &[x, matrix],
    ) = graph.op(value)?
    else {
        return None;
    };
    let (matrix, contracted) = turned(graph, matrix, *contract_b.first()?)?;
    let (dequantize, parts) = graph.op(matrix)?;
    let last = graph.dims(x).len().checked_sub(1)?;
    let fits = matches!(dequantize, Op::Dequantize { .. })
        && contract_a[..] == [last]
        && batch_a.is_empty()
        && graph.dims(matrix).len() == 2
        && graph.ty(x).ty == graph.ty(matrix).ty
        && graph.ty(value).ty == graph.ty(x).ty;
    let Packing {
        mode,
        group_size,
        bits,
    } = Packing::of(dequantize).ok().filter(|_| fits)?;
    let product = Op::QuantizedMatmul {
        mode,
        group_size,
        bits,
        transpose: contracted == 1,
        exact: false,
    };
    let mut fusion = Fusion::of(graph);
    fusion.add(product, &[&[x], parts].concat())?;
    Some(fusion)
}

/// A matrix before its axes were put into another order, and which one of them was this one.
fn turned(graph: &Graph, matrix: usize, axis: usize) -> Option<(usize, usize)> {
    match graph.op(matrix) {
        Some((Op::Transpose { axes }, &[x])) => turned(graph, x, *axes.get(axis)?),
        _ => Some((matrix, axis)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use crate::{Op, QuantizationMode, program::passes::Pass};

    const AFFINE: (QuantizationMode, usize, usize) = (QuantizationMode::Affine, 32, 4);
    const FLOATS: (QuantizationMode, usize, usize) = (QuantizationMode::Mxfp8, 32, 8);

    /// A tensor with a last axis of 64, and 4 rows as long that are dequantized.
    fn sketch(ty: &str, packing: (QuantizationMode, usize, usize)) -> (Sketch, usize) {
        let (mode, group_size, bits) = packing;
        let words = format!("u32[4][{}]", bits * 2);
        let scales = match mode {
            QuantizationMode::Affine => format!("{ty}[4][2]"),
            _ => "u8[4][2]".to_owned(),
        };
        let x = format!("{ty}[2][3][64]");
        let inputs = [&x[..], &words, &scales, &scales];
        let count = if mode == QuantizationMode::Affine {
            4
        } else {
            3
        };
        let mut sketch = Sketch::new(&inputs[..count]);
        let parts: Vec<usize> = (1..count).collect();
        let op = Op::Dequantize {
            mode,
            group_size,
            bits,
        };
        let matrix = sketch.to(op, &format!("{ty}[4][64]"), &parts);
        (sketch, matrix)
    }

    fn dot(sketch: &mut Sketch, x: usize, matrix: usize, axis: usize) -> usize {
        let product = Op::Dot {
            contract_a: vec![sketch.dims(x).len() - 1],
            batch_a: vec![],
            contract_b: vec![axis],
            batch_b: vec![],
        };
        sketch.op(product, &[x, matrix])
    }

    #[test]
    fn is_one_operation_whichever_way_the_matrix_lies() {
        for ty in ["f32", "bf16", "f16"] {
            for packing in [AFFINE, FLOATS] {
                let (mut plain, matrix) = sketch(ty, packing);
                let result = dot(&mut plain, 0, matrix, 1);
                assert_eq!(
                    plain.fused(Pass::QuantizedMatmul, result),
                    ["quantized_matmul"]
                );

                let (mut turned, matrix) = sketch(ty, packing);
                let axes = vec![1, 0];
                let matrix = turned.op(Op::Transpose { axes }, &[matrix]);
                let result = dot(&mut turned, 0, matrix, 0);
                let left = turned.fused(Pass::QuantizedMatmul, result);
                assert_eq!(left, ["quantized_matmul"], "{ty} {packing:?}");

                // As it is in the gradient.
                let (mut back, matrix) = sketch(ty, packing);
                let product = dot(&mut back, 0, matrix, 1);
                let axes = vec![0, 1, 2];
                let gradient = back.op(Op::Reverse { axes }, &[product]);
                let (mode, group_size, bits) = packing;
                let again = Op::Dequantize {
                    mode,
                    group_size,
                    bits,
                };
                let parts: Vec<usize> = (1..matrix).collect();
                let matrix = back.to(again, &format!("{ty}[4][64]"), &parts);
                let result = dot(&mut back, gradient, matrix, 0);
                let left = back.fused(Pass::QuantizedMatmul, result);
                assert_eq!(left, ["quantized_matmul", "reverse", "quantized_matmul"]);
            }
        }
    }

    #[test]
    fn a_bias_is_added_after() {
        let (mut sketch, matrix) = sketch("f32", AFFINE);
        let product = dot(&mut sketch, 0, matrix, 1);
        let one = sketch.number(1.0, product);
        let result = sketch.op(Op::Add, &[product, one]);
        let left = sketch.fused(Pass::QuantizedMatmul, result);
        assert_eq!(left, ["quantized_matmul", "constant", "add"]);
    }

    #[test]
    fn almost_such_a_product_is_none() {
        // Needed elsewhere, too.
        let (mut shared, matrix) = sketch("f32", AFFINE);
        let product = dot(&mut shared, 0, matrix, 1);
        let sum = shared.sum(matrix, 0);
        let sum = dot(&mut shared, 0, sum, 1);
        let result = shared.op(Op::Add, &[product, sum]);
        let left = shared.left(Pass::QuantizedMatmul, result);
        assert_eq!(left, ["dequantize", "dot", "sum", "dot", "add"]);

        // Another axis of the tensor.
        let (mut other, matrix) = sketch("f32", AFFINE);
        let axes = vec![2, 0, 1];
        let x = other.op(Op::Transpose { axes }, &[0]);
        let product = Op::Dot {
            contract_a: vec![0],
            batch_a: vec![],
            contract_b: vec![1],
            batch_b: vec![],
        };
        let result = other.op(product, &[x, matrix]);
        let left = other.left(Pass::QuantizedMatmul, result);
        assert_eq!(left, ["dequantize", "transpose", "dot"]);

        // A matrix that is changed before.
        let (mut changed, matrix) = sketch("f32", AFFINE);
        let matrix = changed.op(Op::Negate, &[matrix]);
        let result = dot(&mut changed, 0, matrix, 1);
        let left = changed.left(Pass::QuantizedMatmul, result);
        assert_eq!(left, ["dequantize", "negate", "dot"]);
    }
}
