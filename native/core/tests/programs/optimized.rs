//! What the passes make of recorded programs: results stay what they were.

use std::sync::Arc;

use emily_core::{
    Device, Executable, Pass, Pause, Replay, Stream, Tensor,
    file::{Loaded, MOST_STEPS, Source},
    install_error_handler,
};

use crate::{
    folder::recorded,
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
