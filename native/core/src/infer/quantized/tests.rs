use super::*;
use crate::infer_all;

fn tensors(types: &[&str]) -> Vec<TensorType> {
    types.iter().map(|ty| TensorType::read(ty)).collect()
}

fn op(name: &str, more: &str) -> Op {
    let attributes = format!(r#"{{"{name}":{{"mode":{more}}}}}"#);
    serde_json::from_str(&attributes).unwrap()
}

fn outcome(op: &Op, inputs: &[&str]) -> String {
    match infer_all(op, &tensors(inputs)) {
        Ok(outs) => list(&outs),
        Err(error) => error.to_string(),
    }
}

#[test]
fn results_follow_from_packing() {
    let affine = r#""affine","group_size":32,"bits":3"#;
    let floats = r#""mxfp8","group_size":32,"bits":8"#;
    let product = format!(r#"{affine},"transpose":true,"exact":true"#);
    let plain = format!(r#"{floats},"transpose":false,"exact":false"#);
    let right = format!(r#"{affine},"transpose":true,"left":false,"right":true,"sorted":true"#);
    let both = format!(r#"{floats},"transpose":false,"left":true,"right":true,"sorted":false"#);
    let parts = ["u32[4][6]", "f16[4][2]", "f16[4][2]"];
    let with = |x, parts: &[&'static str]| [&[x], parts].concat();
    for (name, attributes, inputs, outs) in [
        (
            "quantize",
            affine,
            vec!["f16[4][64]"],
            "u32[4][6], f16[4][2], f16[4][2]",
        ),
        (
            "quantize",
            floats,
            vec!["bf16[2][4][32]"],
            "u32[2][4][8], u8[2][4][1]",
        ),
        ("dequantize", affine, parts.to_vec(), "f16[4][64]"),
        (
            "quantized_matmul",
            &product,
            with("f16[5][64]", &parts),
            "f16[5][4]",
        ),
        (
            "quantized_matmul",
            &product,
            with("f16[64]", &parts),
            "f16[4]",
        ),
        (
            "quantized_matmul",
            &plain,
            vec!["f32[3][1][5][4]", "u32[2][4][8]", "u8[2][4][1]"],
            "f32[3][2][5][32]",
        ),
        (
            "quantized_matmul",
            &plain,
            vec!["f32[4]", "u32[2][4][8]", "u8[2][4][1]"],
            "f32[2][32]",
        ),
        (
            "gather_qmm",
            &right,
            [&with("f16[7][1][64]", &parts)[..], &["u8[2][7]"]].concat(),
            "f16[2][7][1][4]",
        ),
        (
            "gather_qmm",
            &both,
            vec![
                "f32[7][5][4]",
                "u32[2][4][8]",
                "u8[2][4][1]",
                "s32[3][1]",
                "s64[6]",
            ],
            "f32[3][6][5][32]",
        ),
    ] {
        assert_eq!(
            outcome(&op(name, attributes), &inputs),
            outs,
            "{name} {inputs:?}"
        );
    }
}

#[test]
fn what_mlx_does_not_have_is_refused_in_words() {
    let affine = r#""affine","group_size":32,"bits":4"#;
    let product = r#""affine","group_size":32,"bits":4,"transpose":true,"exact":true"#;
    let gather = r#""affine","group_size":32,"bits":4,"transpose":true,"left":true,"right":false,"sorted":false"#;
    let fit = ["u32[4][8]", "f32[4][2]", "f32[4][2]"];
    for (name, attributes, inputs, problem) in [
        (
            "quantize",
            r#""affine","group_size":48,"bits":4"#,
            vec!["f32[4][48]"],
            ":group_size of affine to be 32, 64 or 128, got: 48",
        ),
        (
            "quantize",
            r#""affine","group_size":32,"bits":7"#,
            vec!["f32[4][32]"],
            ":bits of affine to be 2, 3, 4, 5, 6 or 8, got: 7",
        ),
        (
            "quantize",
            r#""nvfp4","group_size":32,"bits":4"#,
            vec!["f32[4][32]"],
            ":group_size of nvfp4 to be 16, got: 32",
        ),
        (
            "quantize",
            affine,
            vec!["f32[4][48]"],
            "the last one a multiple of 32",
        ),
        (
            "quantize",
            affine,
            vec!["f32[32]"],
            "with at least two axes",
        ),
        (
            "quantize",
            affine,
            vec!["f64[1][32]"],
            "a tensor of bf16, f16 or f32",
        ),
        ("quantize", affine, vec!["f32"], "with at least two axes"),
        (
            "quantize",
            affine,
            vec!["f32[1][2147483616]"],
            "at most 67108863 packed u32",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[4][8]", "f32[4][2]"],
            "as many tensors as its mode",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[4][8]", "f32[4][2]", "f32[4]"],
            "that go with them",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[4][8]", "f32[4][2]", "f16[4][2]"],
            "that go with them",
        ),
        (
            "dequantize",
            affine,
            vec!["s32[4][8]", "f32[4][2]", "f32[4][2]"],
            "packed u32",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[4][9]", "f32[4][2]", "f32[4][2]"],
            "that go with them",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[8]", "f32[2]", "f32[2]"],
            "that go with them",
        ),
        (
            "dequantize",
            affine,
            vec!["u32[5][8]", "f32[4][2]", "f32[4][2]"],
            "that go with them",
        ),
        (
            "dequantize",
            r#""mxfp4","group_size":32,"bits":4"#,
            vec!["u32[4][8]", "f32[4][2]"],
            "scales of u8",
        ),
        (
            "dequantize",
            r#""mxfp4","group_size":32,"bits":4"#,
            vec!["u32[4][8]", "u8[4][2]"],
            "which its inputs do not tell",
        ),
        (
            "quantized_matmul",
            product,
            [&["f32[2][32]"], &fit[..]].concat(),
            "a last axis of 64 for matrices of 4 by 64 transposed",
        ),
        (
            "quantized_matmul",
            product,
            [&["f32"], &fit[..]].concat(),
            "at least one axis",
        ),
        (
            "quantized_matmul",
            product,
            [&["bf16[2][64]"], &fit[..]].concat(),
            "of the same type",
        ),
        (
            "quantized_matmul",
            product,
            [&["u8[2][64]"], &fit[..]].concat(),
            "a tensor of bf16, f16 or f32",
        ),
        (
            "quantized_matmul",
            product,
            vec![
                "f32[3][2][64]",
                "u32[2][4][8]",
                "f32[2][4][2]",
                "f32[2][4][2]",
            ],
            "whose other axes broadcast",
        ),
        (
            "quantized_matmul",
            product,
            fit.to_vec(),
            "as many tensors as its mode",
        ),
        (
            "gather_qmm",
            gather,
            [&["f32[2][1][64]"], &fit[..], &["f32[2]"]].concat(),
            "integer indices",
        ),
        (
            "gather_qmm",
            gather,
            [&["f32[2][1][64]"], &fit[..]].concat(),
            "as many tensors as its mode",
        ),
        (
            "gather_qmm",
            gather,
            [&["f32[64]"], &fit[..], &["u8[2]"]].concat(),
            "at least two axes",
        ),
        (
            "gather_qmm",
            gather,
            vec![
                "f32[2][1][64]",
                "u32[3][4][8]",
                "f32[3][4][2]",
                "f32[3][4][2]",
                "u8[2]",
            ],
            "indices that broadcast",
        ),
    ] {
        let text = outcome(&op(name, attributes), &inputs);
        assert!(text.contains(problem), "{name} {inputs:?}: {text}");
    }
}
