//! Types and shapes of what slides over a tensor, and of its Fourier transforms.

use crate::{
    Op, Result, TensorType, Type,
    lower::{
        conv,
        convolution::Convolution,
        fft,
        scatter_window::{check_source, ordered},
        window::check_ordered,
        windows::Windows,
    },
};

/// One element for each window.
pub(super) fn aggregated(op: &Op, x: &TensorType) -> Result<(Type, Vec<i32>)> {
    if matches!(op, Op::WindowMax { .. } | Op::WindowMin { .. }) {
        check_ordered(op, x.ty)?;
    }
    Ok((x.ty, Windows::of(op, &x.shape)?.counts()))
}

/// The tensor's shape, in the type of what is added.
pub(super) fn scattered(
    op: &Op,
    x: &TensorType,
    source: &TensorType,
    init: &TensorType,
) -> Result<(Type, Vec<i32>)> {
    ordered(op, x.ty, init.ty)?;
    check_source(&source.shape, &init.shape, &Windows::of(op, &x.shape)?)?;
    let ty = ordered(op, source.ty, init.ty)?;
    Ok((ty, x.shape.dims().to_vec()))
}

/// One element for each place of the kernel and each of its outputs.
pub(super) fn convolved(op: &Op, x: &TensorType, kernel: &TensorType) -> Result<(Type, Vec<i32>)> {
    let ty = conv::result_type(x.ty, kernel.ty)?;
    Ok((
        ty,
        Convolution::of(op, &x.shape, &kernel.shape)?.output_dims(),
    ))
}

/// The transform's lengths in place of the axes' own.
pub(super) fn transformed(op: &Op, x: &TensorType) -> Result<(Type, Vec<i32>)> {
    Ok((fft::result_type(op, x.ty)?, fft::result_dims(op, &x.shape)?))
}
