//! Elements around a tensor, or fewer of its own.

use crate::{
    Array, Result, Shape, TensorType,
    mlx::{Mlx, memory_limit, too_large},
};

/// What is added below and above each axis; where negative, so many elements are dropped.
pub(super) type Edges = Vec<(i32, i32)>;

/// `x` with edges of `value`, a scalar of the same type. They must not drop more than there is.
pub(super) fn padded(mlx: Mlx, x: &Array, value: &Array, edges: &Edges) -> Result<Array> {
    let grown = added(mlx, x, value, edges)?;
    if edges.iter().all(|&(low, high)| low >= 0 && high >= 0) {
        return Ok(grown);
    }
    let shape = grown.shape();
    let dims = shape.dims();
    let starts: Vec<i32> = edges.iter().map(|&(low, _)| -low.min(0)).collect();
    let stops = dims.iter().zip(edges);
    let stops: Vec<i32> = stops.map(|(dim, &(_, high))| dim + high.min(0)).collect();
    mlx.slice(&grown, &starts, &stops, &vec![1; dims.len()])
}

/// What is added comes before what is dropped, which may be some of it.
fn added(mlx: Mlx, x: &Array, value: &Array, edges: &Edges) -> Result<Array> {
    if edges.iter().all(|&(low, high)| low <= 0 && high <= 0) {
        return Ok(x.clone());
    }
    let (low, high): (Vec<i32>, Vec<i32>) = edges
        .iter()
        .map(|&(low, high)| (low.max(0), high.max(0)))
        .unzip();
    let shape = x.shape();
    let dims = shape.dims().iter().zip(low.iter().zip(&high));
    let dims: Vec<i64> = dims
        .map(|(&dim, (&low, &high))| i64::from(dim) + i64::from(low) + i64::from(high))
        .collect();
    let grown = TensorType {
        ty: x.ty(),
        shape: Shape::new(&dims)?,
    };
    if grown.bytes() > memory_limit() {
        return Err(too_large(&grown));
    }
    mlx.pad(x, &low, &high, value)
}
