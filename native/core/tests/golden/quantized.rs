//! Quantized numbers, held to those that they stand for. On GPUs MLX's kernels choose them otherwise than on a CPU:
//! zero is in the range of each affine group, and halves are rounded to another side.

use std::fmt::Write;

use emily_core::{Op, QuantizationMode, Result, Stream, Tensor, Type};

use crate::{
    case::Case,
    elements::{Element, elements},
};

/// The first numbers that are further from what was quantized than a group's steps are wide, if the case quantizes.
pub fn tell_distances(
    case: &Case,
    results: &[Vec<u8>],
    stream: &Stream,
    faults: &mut String,
) -> Result<()> {
    let Op::Quantize {
        mode,
        group_size,
        bits,
    } = case.op
    else {
        return Ok(());
    };
    let given = &case.inputs[0].tensor;
    let ty = given.tensor_type();
    let dequantize = Op::Dequantize {
        mode,
        group_size,
        bits,
    };
    let parts = case.outs.iter().zip(results);
    let parts = parts.map(|(out, bytes)| Tensor::from_bytes(stream, &out.tensor_type(), bytes));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let parts: Vec<&Tensor> = parts.iter().collect();
    let numbers = Tensor::apply(stream, &dequantize, Some(&ty), &parts)?;
    let numbers = numbers.readable()?;
    let numbers = floats(ty.ty, numbers.bytes().expect("a readable tensor has bytes"));
    let given = floats(ty.ty, &given.data);
    let rounding = if ty.ty == Type::Bf16 { -6 } else { -9 };
    let step = step(mode, bits) + 2_f64.powi(rounding);
    let groups = given.chunks(group_size).zip(numbers.chunks(group_size));
    for (index, (given, got)) in groups.enumerate() {
        let most = given.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let near = |(x, y): &(&f64, &f64)| (*x - *y).abs() <= most * step;
        if let Some((x, y)) = given.iter().zip(got).find(|pair| !near(pair)) {
            writeln!(
                faults,
                "    in group {index}, up to {most}: {x:?} became {y:?}"
            )
            .unwrap();
        }
    }
    Ok(())
}

/// How far numbers may lie apart, as a fraction of a group's greatest one.
fn step(mode: QuantizationMode, bits: usize) -> f64 {
    match (mode, bits) {
        (QuantizationMode::Affine, bits) => 2.0 / (2_f64.powi(bits as i32) - 1.0),
        // From 4 to 6, and the scale may be twice what it has to be.
        (_, 4) => 1.0 / 3.0,
        // Three bits behind the first one, likewise.
        (_, _) => 1.0 / 8.0,
    }
}

fn floats(ty: Type, bytes: &[u8]) -> Vec<f64> {
    let elements = elements(ty, bytes).into_iter();
    let floats = elements.map(|element| match element {
        Element::Float(x) => x,
        other => panic!("expected a float, got: {other}"),
    });
    floats.collect()
}
