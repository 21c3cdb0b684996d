//! Inputs to measure with: they need not mean anything, and are the same each time.

use std::sync::Arc;

use anyhow::Result;
use emily_core::{Op, Stream, Tensor, TensorType, Type, file::Interface};

/// Random tensors of the parameters' types and shapes: floats from 0 to 1, and integers of 0 and 1, which
/// are indices of whatever has two elements.
pub fn arguments(interface: &Interface, stream: &Stream) -> Result<Vec<Arc<Tensor>>> {
    let parameters = interface.parameters.iter().enumerate();
    let tensors = parameters
        .map(|(at, parameter)| tensor(&parameter.tensor, at as u64, stream).map(Arc::new));
    let tensors: Vec<_> = tensors.collect::<Result<_>>()?;
    // What is measured with is at hand.
    Tensor::eval_all(&tensors.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    Ok(tensors)
}

fn tensor(ty: &TensorType, seed: u64, stream: &Stream) -> Result<Tensor> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let integer = ty.ty.is_integer();
    let elements = (0..ty.shape.size()).flat_map(|_| {
        let unit = (next() >> 40) as f32 / (1 << 24) as f32;
        let value = if integer { unit.round() } else { unit };
        value.to_ne_bytes()
    });
    let elements: Vec<u8> = elements.collect();
    let single = TensorType {
        ty: Type::F32,
        shape: ty.shape.clone(),
    };
    let floats = Tensor::from_bytes(stream, &single, &elements)?;
    Ok(Tensor::apply(stream, &Op::AsType, Some(ty), &[&floats])?)
}
