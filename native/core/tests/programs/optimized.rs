//! What the passes make of recorded programs: layers as Axon and Bumblebee define them become single
//! operations, and results stay what they were.

use std::{collections::BTreeMap, sync::Arc};

use emily_core::{
    Device, Executable, Pass, Pause, Program, Replay, Stream, Tensor,
    file::{Loaded, MOST_STEPS, Source},
    install_error_handler,
};

use crate::{
    folder::{one, recorded},
    golden::{Case, arguments, assert_near, case},
};

/// What the program takes, of a recorded case.
fn inputs(loaded: &Loaded, case: &Case, stream: &Stream) -> Vec<Arc<Tensor>> {
    let arguments = arguments(case, stream);
    let mut weights = loaded.weights();
    let sources = loaded.interface().inputs.iter();
    let inputs = sources.map(|source| match source {
        Source::Parameter(number) => Arc::clone(&arguments[*number]),
        Source::Weight(_) => Arc::clone(weights.next().unwrap()),
    });
    inputs.collect()
}

fn run(executable: &Arc<Executable>, stream: &Stream, inputs: &[Arc<Tensor>]) -> Vec<Arc<Tensor>> {
    let mut replay = Replay::new(executable, stream, inputs.iter().cloned()).unwrap();
    loop {
        let (tensors, done) = match replay.advance(usize::MAX).unwrap() {
            Pause::Done(results) => (results, true),
            Pause::Compute(roots) | Pause::Begin(roots) => (roots, false),
            Pause::Busy => continue,
            Pause::Call(_) => panic!("no recorded program calls anyone"),
        };
        Tensor::eval_all(&tensors.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
        if done {
            return tensors;
        }
    }
}

#[test]
fn passes_keep_what_programs_give() {
    install_error_handler();
    for device in Device::available() {
        let stream = Stream::new(device).unwrap();
        for folder in recorded() {
            let program = folder.read().unwrap().program().clone();
            let loaded = folder.read().unwrap().load(&stream, MOST_STEPS).unwrap();
            let case = case(&folder.name);
            let executable = Arc::new(Executable::optimized(program, &Pass::ALL).unwrap());
            let results = run(&executable, &stream, &inputs(&loaded, &case, &stream));
            assert_eq!(results.len(), case.results.len(), "{}", folder.name);
            for (result, expected) in results.iter().zip(&case.results) {
                assert_near(&folder.name, result, expected);
            }
        }
    }
}

/// How many there are of each operation once all passes have run.
fn operations(name: &str) -> BTreeMap<String, usize> {
    let program: Program = one(name).read().unwrap().program().clone();
    let (optimized, _) = program.optimized(&Pass::ALL).unwrap();
    let mut counts = BTreeMap::new();
    for instruction in optimized.instructions() {
        *counts.entry(instruction.op.name()).or_default() += 1;
    }
    counts
}

/// Of the layers that have an operation of their own, how many each model has.
const LAYERS: [(&str, &[(&str, usize)]); 6] = [
    ("attention", &[("attention", 1), ("rms_norm", 1)]),
    (
        "bumblebee_bert",
        &[("attention", 1), ("layer_norm", 3), ("activation", 1)],
    ),
    (
        "bumblebee_llama_step",
        &[
            ("attention", 2),
            ("rms_norm", 5),
            ("rotary_embedding", 4),
            ("activation", 2),
        ],
    ),
    (
        "bumblebee_qwen3_step",
        &[
            ("attention", 2),
            ("rms_norm", 5),
            ("rms_norm_rotary_embedding", 4),
            ("activation", 2),
        ],
    ),
    (
        "bumblebee_vit",
        &[("attention", 1), ("layer_norm", 3), ("activation", 1)],
    ),
    (
        "bumblebee_whisper",
        &[("attention", 3), ("layer_norm", 7), ("activation", 4)],
    ),
];

#[test]
fn layers_become_single_operations() {
    for (name, layers) in LAYERS {
        let counts = operations(name);
        for (operation, count) in layers {
            assert_eq!(counts.get(*operation), Some(count), "{operation} of {name}");
        }
        for left in ["exp", "erf", "reduce_max", "rsqrt", "sigmoid", "sum"] {
            assert_eq!(counts.get(left), None, "{left} of {name}");
        }
    }
}
