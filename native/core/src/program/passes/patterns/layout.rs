//! Types and shapes as kernels take them.

use super::{
    fusion::Fusion,
    graph::{Graph, is_float},
};
use crate::{Op, Type};

/// The value that becomes this one if it is made wider, or the value itself, if its type is `ty`.
///
/// Kernels compute in f32 whatever they are given, so that what is made wider for that need not be.
pub(super) fn as_it_came(graph: &Graph, value: usize, ty: Type) -> Option<usize> {
    let came = match graph.op(value) {
        Some((Op::AsType, &[x])) if graph.ty(value).ty == Type::F32 => x,
        _ => value,
    };
    [value, came].into_iter().find(|&x| graph.ty(x).ty == ty)
}

/// A value as another type that can tell all its numbers.
pub(super) fn widened(fusion: &mut Fusion, value: usize, ty: Type) -> Option<usize> {
    let from = fusion.ty(value).ty;
    let fits = from == ty || is_float(from) && ty == Type::F32;
    fits.then(|| fusion.as_type(value, ty))
}

/// What a value is along a last axis of this size, if it is the same along all others.
pub(super) fn vector(fusion: &mut Fusion, graph: &Graph, value: usize, size: i32) -> Option<usize> {
    let mut value = value;
    loop {
        let dims = graph.dims(value);
        let (&last, others) = dims.split_last()?;
        let plain = last == size && others.iter().all(|&dim| dim == 1);
        value = match graph.op(value) {
            Some((Op::Reshape | Op::Squeeze, &[x])) if plain && graph.dims(x) == [size] => x,
            Some((Op::Broadcast { axes }, &[x]))
                if axes.last() == Some(&others.len()) && graph.dims(x).last() == Some(&size) =>
            {
                x
            }
            _ if plain => return Some(fusion.reshape(value, &[size])),
            _ => return None,
        };
    }
}
