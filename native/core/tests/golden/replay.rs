//! Running the cases of an operation, and telling what went wrong.

use std::{fmt::Write, sync::mpsc::channel};

use emily_core::{
    Device, Op, Result, Stream, Tensor, TensorType, Type, infer_all, install_error_handler,
};

use crate::{
    case::{Case, Input, Recorded, read},
    compare::differences,
    elements::elements,
    quantized::tell_distances,
    tolerance::{Tolerance, tolerance},
};

/// Failures that are told in full; the others are counted.
const TOLD: usize = 12;

/// Replays all cases of the operation on each device of this machine, and panics with all that failed.
pub fn operation(name: &str) {
    install_error_handler();
    let devices = Device::available();
    let told: String = devices.iter().map(|&device| on(device, name)).collect();
    assert!(told.is_empty(), "{told}");
}

/// What failed on a device, as text.
fn on(device: Device, name: &str) -> String {
    let stream = Stream::new(device).unwrap();
    let mut cases = read(name);
    if device == Device::Gpu {
        cases.retain(|case| !case.uses(Type::F64));
    }
    let count = cases.len();
    let (sender, receiver) = channel();
    let worker = stream.clone();
    let job = move || {
        let failures: Vec<String> = cases
            .iter()
            .filter_map(|case| replay(case, &worker).err())
            .collect();
        sender.send(failures).unwrap();
    };
    stream.submit(job).unwrap();
    let failures = receiver.recv().expect("the replay panicked");
    if failures.is_empty() {
        return String::new();
    }
    let told: String = failures.iter().take(TOLD).map(String::as_str).collect();
    format!(
        "{} of {count} cases of {name} failed on {device}\n{told}",
        failures.len()
    )
}

/// What is wrong with a case, if anything is.
fn replay(case: &Case, stream: &Stream) -> std::result::Result<(), String> {
    let outs: Vec<_> = case.outs.iter().map(Recorded::tensor_type).collect();
    let mut faults = String::new();
    if case.infer {
        let types: Vec<_> = case
            .inputs
            .iter()
            .map(|input| input.tensor.tensor_type())
            .collect();
        match infer_all(&case.op, &types) {
            Ok(inferred) if inferred[..] == outs[..] => {}
            Ok(inferred) => writeln!(faults, "    inferred {}", list(&inferred)).unwrap(),
            Err(error) => writeln!(faults, "    not inferred: {error}").unwrap(),
        }
    }
    match compute(case, &outs, stream) {
        Err(error) => writeln!(faults, "    {error}").unwrap(),
        Ok(results) => {
            if let Err(error) = tell_distances(case, &results, stream, &mut faults) {
                writeln!(faults, "    not dequantized: {error}").unwrap();
            }
            let same = !(matches!(case.op, Op::Quantize { .. }) && stream.device() == Device::Gpu);
            let compared = case.outs.iter().zip(&results).filter(|_| same);
            for (expected, got) in compared {
                let allowed = tolerance(&case.op, expected.tensor_type().ty, stream.device());
                tell_differences(case, expected, got, allowed, &mut faults);
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let op = serde_json::to_string(&case.op).unwrap();
    let inputs: Vec<String> = case.inputs.iter().map(describe).collect();
    Err(format!(
        "  {op} of {} to {}\n{faults}",
        inputs.join(", "),
        list(&outs)
    ))
}

fn list(types: &[TensorType]) -> String {
    let texts: Vec<_> = types.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn compute(case: &Case, outs: &[TensorType], stream: &Stream) -> Result<Vec<Vec<u8>>> {
    let inputs = case.inputs.iter().map(|input| tensor(input, stream));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let results = Tensor::apply_all(stream, &case.op, Some(outs), &inputs)?;
    let bytes = results.iter().map(|result| {
        let readable = result.readable()?;
        let bytes = readable.bytes().expect("a readable tensor has bytes");
        Ok(bytes.to_vec())
    });
    bytes.collect()
}

fn tensor(input: &Input, stream: &Stream) -> Result<Tensor> {
    let ty = input.tensor.tensor_type();
    let (Some(base), Some(view)) = (&input.base, &input.view) else {
        return Tensor::from_bytes(stream, &ty, &input.tensor.data);
    };
    let base = TensorType {
        ty: ty.ty,
        shape: base.clone(),
    };
    let base = Tensor::from_bytes(stream, &base, &input.tensor.data)?;
    Tensor::apply(stream, view, Some(&ty), &[&base])
}

fn describe(input: &Input) -> String {
    let ty = input.tensor.tensor_type();
    match &input.view {
        Some(view) => format!("{ty} (a {})", view.name()),
        None => ty.to_string(),
    }
}

/// The first elements that differ, each with the inputs' elements where those are its own.
fn tell_differences(
    case: &Case,
    expected: &Recorded,
    got: &[u8],
    allowed: Tolerance,
    faults: &mut String,
) {
    let out = expected.tensor_type();
    let differences = differences(out.ty, &expected.data, got, allowed);
    for difference in differences.iter().take(3) {
        let inputs = case.inputs.iter().filter_map(|input| {
            let ty = input.tensor.tensor_type();
            let own = input.view.is_none() && (ty.shape == out.shape || ty.shape.size() == 1);
            let at = difference.index % ty.shape.size();
            own.then(|| elements(ty.ty, &input.tensor.data)[at].to_string())
        });
        writeln!(
            faults,
            "    at {} of ({}): expected {}, got {}",
            difference.index,
            inputs.collect::<Vec<_>>().join(", "),
            difference.expected,
            difference.got
        )
        .unwrap();
    }
    if differences.len() > 3 {
        writeln!(faults, "    and {} more", differences.len() - 3).unwrap();
    }
}
