//! Calls that make no sense get an error that says so, and none ends the process.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod arguments;
mod extremes;
mod finite;
mod indices;
mod parts;
mod quantized;
mod sliding;
mod sweep;

use std::sync::mpsc::channel;

use emily_core::{
    Device, Error, Number, Op, Shape, Stream, Tensor, TensorType, Type, install_error_handler,
};

fn ty(ty: Type, dims: &[i64]) -> TensorType {
    TensorType {
        ty,
        shape: Shape::new(dims).unwrap(),
    }
}

fn stream() -> Stream {
    install_error_handler();
    Stream::new(Device::Cpu).unwrap()
}

fn zeros(stream: &Stream, ty: &TensorType) -> Tensor {
    Tensor::from_bytes(stream, ty, &vec![0; ty.bytes()]).unwrap()
}

fn filled(stream: &Stream, value: impl Into<Number>, ty: &TensorType) -> Tensor {
    let value = value.into();
    Tensor::apply(stream, &Op::Constant { value }, Some(ty), &[]).unwrap()
}

/// Applies and evaluates on the stream's thread.
fn run(op: &Op, out: &TensorType, inputs: &[&Tensor], stream: &Stream) -> Result<Vec<u8>, Error> {
    let tensor = Tensor::apply(stream, op, Some(out), inputs)?;
    let (sender, receiver) = channel();
    let job = move || {
        let bytes = tensor
            .readable()
            .map(|tensor| tensor.bytes().unwrap().to_vec());
        sender.send(bytes).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().unwrap()
}

fn dot(contract_a: &[usize], batch_a: &[usize], contract_b: &[usize], batch_b: &[usize]) -> Op {
    Op::Dot {
        contract_a: contract_a.to_vec(),
        batch_a: batch_a.to_vec(),
        contract_b: contract_b.to_vec(),
        batch_b: batch_b.to_vec(),
    }
}

fn slice(starts: &[usize], lengths: &[usize], strides: &[usize]) -> Op {
    Op::Slice {
        starts: starts.to_vec(),
        lengths: lengths.to_vec(),
        strides: strides.to_vec(),
    }
}
