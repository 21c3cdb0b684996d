//! Programs recorded from Nx, and from models of Axon's and Bumblebee's, against what `Nx.BinaryBackend` computed.
//! `Emily.Golden.Programs` and `Emily.Golden.Models` in the recorder say what they are.

use std::{fs, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use emily_core::{
    Device, Stream, Tensor, TensorType, Type,
    file::{MOST_STEPS, ProgramFile, save},
    install_error_handler,
};
use serde::Deserialize;

use crate::folder::{Folder, one, place, recorded};

/// What results may differ by, of the value and below it: MLX rounds each step to f32, and Nx computes in
/// f64 and rounds each step once.
const TOLERANCE: f64 = 2e-5;
/// A GPU may take the first eleven bits of what it multiplies alone.
const GPU_TOLERANCE: f64 = 8e-3;

#[derive(Deserialize)]
pub struct Case {
    arguments: Vec<Recorded>,
    pub results: Vec<Recorded>,
}

#[derive(Deserialize)]
pub struct Recorded {
    #[serde(flatten)]
    tensor: TensorType,
    data: String,
}

impl Recorded {
    fn bytes(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.data).unwrap()
    }
}

pub fn case(name: &str) -> Case {
    let text = fs::read(place().join(name).join("case.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub fn arguments(case: &Case, stream: &Stream) -> Vec<Arc<Tensor>> {
    let tensors = case.arguments.iter().map(|argument| {
        Arc::new(Tensor::from_bytes(stream, &argument.tensor, &argument.bytes()).unwrap())
    });
    tensors.collect()
}

fn replay(folder: &Folder) {
    install_error_handler();
    for device in Device::available() {
        let stream = Stream::new(device).unwrap();
        let program = folder.read().unwrap().load(&stream, MOST_STEPS).unwrap();
        let case = case(&folder.name);
        // Twice: a run must leave nothing behind.
        for _ in 0..2 {
            let results = program.run(&stream, &arguments(&case, &stream)).unwrap();
            assert_eq!(results.len(), case.results.len(), "{}", folder.name);
            for (result, expected) in results.iter().zip(&case.results) {
                assert_near(&folder.name, result, expected);
            }
        }
    }
}

pub fn assert_near(name: &str, result: &Tensor, expected: &Recorded) {
    assert_eq!(result.tensor_type(), expected.tensor, "{name}");
    let readable = result.readable().unwrap();
    let (got, expected) = (readable.bytes().unwrap(), expected.bytes());
    if result.tensor_type().ty != Type::F32 {
        assert_eq!(got, expected, "{name}");
        return;
    }
    let floats = |bytes: &[u8]| -> Vec<f64> {
        let words = bytes.chunks_exact(4);
        words
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()).into())
            .collect()
    };
    let tolerance = match result.stream().device() {
        Device::Cpu => TOLERANCE,
        Device::Gpu => GPU_TOLERANCE,
    };
    for (got, expected) in floats(got).into_iter().zip(floats(&expected)) {
        let allowed = tolerance.mul_add(expected.abs(), tolerance);
        assert!(
            (got - expected).abs() <= allowed,
            "{name}: expected {expected}, got {got}"
        );
    }
}

macro_rules! programs {
    ($($name:ident)+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];

        $(
            #[test]
            fn $name() {
                replay(&one(stringify!($name)));
            }
        )+
    };
}

programs! {
    attention
    axon_lenet_training_step
    axon_mlp_training_step
    bumblebee_bert
    bumblebee_llama_step
    bumblebee_qwen3_step
    bumblebee_vit
    bumblebee_whisper
    control_flow
    fourier
    mlp
    mlp_training_step
    narrow
}

#[test]
fn every_recorded_program_is_tested() {
    let names: Vec<String> = recorded().into_iter().map(|folder| folder.name).collect();
    assert_eq!(names, TESTED);
}

#[test]
fn what_is_saved_is_what_was_read() {
    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let place = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("saved");
    for folder in recorded() {
        let file = folder.read().unwrap();
        let (interface, program) = (file.interface().clone(), file.program().clone());
        let names: Vec<String> = file
            .weights()
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let loaded = file.load(&stream, 1).unwrap();
        // No recorded program takes a weight twice, so that inputs and names are in the same order.
        let weights: Vec<(&str, &Tensor)> = names
            .iter()
            .map(String::as_str)
            .zip(loaded.weights().map(AsRef::as_ref))
            .collect();
        save(&stream, &place, interface, program, &weights).unwrap();
        let again = ProgramFile::open(&place).unwrap();
        assert_eq!(again.program(), folder.read().unwrap().program());
        let bytes = |name| fs::read(place.join(name)).unwrap();
        assert_eq!(bytes("program.json"), folder.graph);
        assert_eq!(bytes("weights.safetensors"), folder.weights);
    }
    fs::remove_dir_all(&place).unwrap();
}
