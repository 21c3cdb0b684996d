//! Tensors from nothing.

use super::{axes, cast::cast};
use crate::{Array, Error, Number, Result, TensorType, Type, mlx::Mlx};

pub(super) fn constant(mlx: Mlx, value: Number, out: &TensorType) -> Result<Array> {
    mlx.broadcast_to(&mlx.scalar(value, out.ty)?, out.shape.dims())
}

pub(super) fn iota(mlx: Mlx, axis: Option<usize>, out: &TensorType) -> Result<Array> {
    let dims = out.shape.dims();
    let indices = match axis {
        None => mlx.reshape(&mlx.arange(out.shape.size(), Type::S64)?, dims)?,
        Some(axis) => {
            axes::checked_one(axis, dims.len())?;
            let mut along = vec![1; dims.len()];
            along[axis] = dims[axis];
            mlx.reshape(&mlx.arange(dims[axis] as usize, Type::S64)?, &along)?
        }
    };
    // Counted in 64 bits, so that narrow types wrap and floats are rounded once.
    mlx.broadcast_to(&cast(mlx, &indices, out.ty)?, dims)
}

pub(super) fn eye(mlx: Mlx, out: &TensorType) -> Result<Array> {
    let [.., rows, columns] = *out.shape.dims() else {
        return Err(Error::argument(format!(
            "expected eye to have a rank of at least 2, got: {out}"
        )));
    };
    // MLX's own scatters, which its GPUs cannot with 64 bits.
    let row = mlx.reshape(&mlx.arange(rows as usize, Type::S32)?, &[rows, 1])?;
    let diagonal = mlx.equal(&row, &mlx.arange(columns as usize, Type::S32)?)?;
    mlx.broadcast_to(&mlx.convert(&diagonal, out.ty)?, out.shape.dims())
}
