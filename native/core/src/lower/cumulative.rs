//! Sums, products and extremes up to and with each element.

use super::{axes, cast::cast};
use crate::{Array, Error, Kind, Op, Result, TensorType, Type, mlx::Mlx};

type Scan = fn(Mlx, &Array, i32, bool) -> Result<Array>;

/// One line of `axis` after the other, from its end where `reverse`.
pub(super) fn cumulative(
    mlx: Mlx,
    op: &Op,
    x: &Array,
    axis: usize,
    reverse: bool,
    out: &TensorType,
) -> Result<Array> {
    let (scan, ordered): (Scan, bool) = match op {
        Op::CumulativeSum { .. } => (Mlx::cumulative_sum, false),
        Op::CumulativeProduct { .. } => (Mlx::cumulative_product, false),
        Op::CumulativeMin { .. } => (Mlx::cumulative_min, true),
        _ => (Mlx::cumulative_max, true),
    };
    let shape = x.shape();
    let axis = axes::checked_one(axis, shape.rank())?;
    let x = cast(mlx, x, out.ty)?;
    // MLX divides by the axis's size.
    if shape.size() == 0 || shape.dims()[axis as usize] == 1 {
        return Ok(x);
    }
    if ordered && out.ty.kind() == Kind::Complex {
        return Err(Error::argument(format!(
            "expected {} of real numbers, got: {}",
            op.name(),
            x.tensor_type()
        )));
    }
    // It counts in 32 bits.
    if i32::try_from(shape.size()).is_err() {
        return Err(Error::argument(format!(
            "expected {} of at most 2147483647 elements, got: {}",
            op.name(),
            x.tensor_type()
        )));
    }
    if !out.ty.is_half() {
        return scan(mlx, &x, axis, reverse);
    }
    // Many small terms would otherwise vanish, and MLX knows no NaN of half floats.
    let total = scan(mlx, &mlx.convert(&x, Type::F32)?, axis, reverse)?;
    mlx.convert(&total, out.ty)
}
