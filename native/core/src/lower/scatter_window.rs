//! `Nx.window_scatter_max/5` and `Nx.window_scatter_min/5`.

use super::{
    cast::cast,
    pad::pad,
    window::{bounds, check_ordered, greatest, least},
    windows::Windows,
};
use crate::{Array, Device, Error, Op, Result, Shape, Stream, Type, mlx::Mlx};

/// The extreme of each window.
type Extreme = fn(Mlx, &Array, &Windows) -> Result<Array>;

/// Adds each of `source` to `init`, at the last place of the extreme in its window of `x`. What falls
/// on the padding, which is of `init` too, is dropped.
pub(super) fn scatter(
    stream: &Stream,
    op: &Op,
    x: &Array,
    source: &Array,
    init: &Array,
) -> Result<Array> {
    let mlx = stream.mlx();
    let out = ordered(op, source.ty(), init.ty())?;
    let windows = Windows::of(op, &x.shape())?;
    let ty = ordered(op, x.ty(), init.ty())?;
    check_source(&source.shape(), &init.shape(), &windows)?;
    let around = windows.pad(mlx, &cast(mlx, x, ty)?, &cast(mlx, init, ty)?)?;
    let places = chosen(mlx, op, &around, &windows)?;

    // Many small terms would otherwise vanish.
    let wide = if out.is_half() { Type::F32 } else { out };
    let count = source.shape().size() as i32;
    let updates = mlx.reshape(&cast(mlx, source, wide)?, &[count, 1])?;
    let zero = mlx.scalar(0, wide)?;
    let shape = around.shape();
    let nothing = mlx.broadcast_to(&zero, &[shape.size() as i32])?;
    // Metal adds no 64 bits at once.
    let adding = match stream.device() {
        Device::Gpu if wide.bits() == 64 => stream.host(),
        _ => mlx,
    };
    let sums = adding.scatter_add_rows(&nothing, &mlx.reshape(&places, &[count])?, &updates)?;
    let sums = mlx.reshape(&sums, shape.dims())?;

    let back = windows.padding().into_iter();
    let back: Vec<_> = back.map(|(low, high, _)| (-low, -high, 0)).collect();
    let sums = pad(mlx, &sums, &zero, &back, wide)?;
    mlx.convert(&mlx.add(&sums, &cast(mlx, init, wide)?)?, out)
}

/// The type that holds both, whose numbers have an order: of the tensor with what it is padded with,
/// and of the source with what it is added to.
pub(crate) fn ordered(op: &Op, left: Type, right: Type) -> Result<Type> {
    let ty = left.merge(right).ok_or_else(|| {
        Error::argument(format!(
            "expected {} of types that MLX can hold together, got: {left} and {right}",
            op.name()
        ))
    })?;
    check_ordered(op, ty)?;
    Ok(ty)
}

/// That there is one number for each window, and one scalar to start from.
pub(crate) fn check_source(source: &Shape, init: &Shape, windows: &Windows) -> Result<()> {
    if source.dims() == windows.counts() && init.rank() == 0 {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected a source of one element for each of {:?} windows and a scalar, got: {:?} and {:?}",
        windows.counts(),
        source.dims(),
        init.dims()
    )))
}

/// For each window of `x`, which has its edges already, the index into all of `x` of the last extreme.
/// NaN compares false: it is chosen where it comes first, and nowhere else.
fn chosen(mlx: Mlx, op: &Op, x: &Array, windows: &Windows) -> Result<Array> {
    let ty = x.ty();
    let (least_bound, greatest_bound) = bounds(ty);
    let (extreme, beaten): (Extreme, _) = match op {
        Op::WindowScatterMax { .. } => (greatest, least_bound),
        _ => (least, greatest_bound),
    };
    let nan = if ty.is_inexact() {
        Some(mlx.is_nan(x)?)
    } else {
        None
    };
    let numbers = match &nan {
        Some(nan) => mlx.select(nan, &mlx.scalar(beaten, ty)?, x)?,
        None => x.clone(),
    };
    let best = extreme(mlx, &numbers, windows)?;

    let indices = indices(mlx, x)?;
    windows.check_memory(indices.ty())?;
    let rank = windows.0.len();
    let sizes = windows.sizes().len();
    let one_each = [windows.counts(), vec![1; sizes]].concat();
    let hit = mlx.equal(&windows.view(mlx, x)?, &mlx.reshape(&best, &one_each)?)?;
    let places = mlx.select(
        &hit,
        &windows.view(mlx, &indices)?,
        &mlx.scalar(0, indices.ty())?,
    )?;
    let axes: Vec<i32> = (rank..rank + sizes).map(|axis| axis as i32).collect();
    let last = if axes.is_empty() {
        places
    } else {
        mlx.max(&places, &axes, false)?
    };

    let Some(nan) = nan else {
        return Ok(last);
    };
    let (first, nan) = (windows.first(mlx, &indices)?, windows.first(mlx, &nan)?);
    mlx.select(&nan, &first, &last)
}

/// Each element's index in row-major order.
fn indices(mlx: Mlx, x: &Array) -> Result<Array> {
    let shape = x.shape();
    if i32::try_from(shape.size()).is_err() {
        return Err(Error::argument(format!(
            "expected a padded tensor of at most 2147483647 elements, got: {:?}",
            shape.dims()
        )));
    }
    mlx.reshape(&mlx.arange(shape.size(), Type::S32)?, shape.dims())
}
