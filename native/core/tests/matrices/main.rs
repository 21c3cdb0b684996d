//! Systems and factorizations of matrices against what defines them, at sizes that golden files would
//! be too large for, and on values that LAPACK must not see.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod dense;
mod factors;
mod faults;
mod values;

use std::sync::mpsc::channel;

use emily_core::{Device, Error, Op, Stream, Tensor, Type, install_error_handler};

use dense::Dense;

/// Below and above the sizes that are taken step by step.
const SIZES: [usize; 7] = [1, 2, 3, 5, 9, 17, 40];
/// The types that matrices are computed in, and how far off the results may be.
const TYPES: [(Type, f64); 3] = [(Type::F32, 2e-4), (Type::F64, 1e-10), (Type::C64, 4e-4)];

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

/// The results of `op`, each a batch of matrices.
fn run(op: &Op, inputs: &[&Tensor], stream: &Stream) -> Result<Vec<Vec<Dense>>, Error> {
    let results = Tensor::apply_all(stream, op, None, inputs)?;
    let (sender, receiver) = channel();
    let job = move || {
        let read = results.iter().map(dense::read).collect();
        sender.send(read).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap()
}

/// The results of `op` of one matrix each.
fn one(op: &Op, inputs: &[&Dense], ty: Type, stream: &Stream) -> Vec<Dense> {
    let tensors: Vec<_> = inputs
        .iter()
        .map(|input| dense::tensor(stream, ty, &[(*input).clone()]))
        .collect();
    let tensors: Vec<_> = tensors.iter().collect();
    let results = run(op, &tensors, stream).unwrap();
    results
        .into_iter()
        .map(|mut batch| batch.remove(0))
        .collect()
}
