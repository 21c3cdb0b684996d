//! Convolutions whose groups have one channel each, on the CPU.

use super::convolution::Convolution;
use crate::{Array, Error, Result, mlx::Mlx};

/// Beyond this many elements of a kernel, a product of matrices takes fewer steps.
const MOST_TAPS: i32 = 64;

/// Whether each group has one channel and a small kernel.
pub(super) fn suits(convolution: &Convolution, groups: i32) -> bool {
    let mut sizes = convolution.along.iter().map(|along| along.window);
    let taps = sizes.try_fold(1_i32, i32::checked_mul);
    groups > 1 && convolution.sizes[2] == 1 && taps.is_some_and(|taps| taps <= MOST_TAPS)
}

/// `x`, [batch, groups, spatial…] with its edges already, times each element of `kernel`, [outputs, 1,
/// spatial…], where that comes to lie: a matrix of places would have as many rows of next to nothing.
pub(super) fn depthwise(
    mlx: Mlx,
    x: &Array,
    kernel: &Array,
    convolution: &Convolution,
    groups: i32,
) -> Result<Array> {
    let shape = x.shape();
    let batch = shape.dims()[0];
    let outputs = convolution.sizes[1];
    let counts: Vec<i32> = convolution.along.iter().map(|along| along.count).collect();
    let sizes: Vec<i32> = convolution.along.iter().map(|along| along.window).collect();
    let taps = sizes.iter().product();
    let kernel = mlx.reshape(kernel, &[groups, outputs / groups, taps])?;
    let each = [vec![groups, outputs / groups], vec![1; counts.len()]].concat();
    let alone = [vec![batch, groups, 1], counts.clone()].concat();

    let mut total: Option<Array> = None;
    for tap in 0..taps {
        let factor = mlx.slice(
            &kernel,
            &[0, 0, tap],
            &[groups, outputs / groups, tap + 1],
            &[1; 3],
        )?;
        let factor = mlx.reshape(&factor, &each)?;
        let elements = mlx.reshape(&reached(mlx, x, convolution, place(tap, &sizes))?, &alone)?;
        let product = mlx.multiply(&elements, &factor)?;
        total = Some(match total {
            Some(total) => mlx.add(&total, &product)?,
            None => product,
        });
    }
    let total =
        total.ok_or_else(|| Error::argument("expected a kernel of some elements, got: 0"))?;
    mlx.reshape(&total, &[vec![batch, outputs], counts].concat())
}

/// Where the element with this index in row-major order is.
fn place(index: i32, sizes: &[i32]) -> Vec<i32> {
    let mut rest = index;
    let mut place: Vec<i32> = sizes
        .iter()
        .rev()
        .map(|size| {
            let at = rest % size;
            rest /= size;
            at
        })
        .collect();
    place.reverse();
    place
}

/// What the kernel's element at `place` meets as the kernel moves.
fn reached(mlx: Mlx, x: &Array, convolution: &Convolution, place: Vec<i32>) -> Result<Array> {
    let shape = x.shape();
    let (mut starts, mut stops) = (vec![0; 2], shape.dims()[..2].to_vec());
    let mut strides = vec![1; 2];
    for (along, at) in convolution.along.iter().zip(place) {
        let start = at * along.dilation;
        starts.push(start);
        stops.push(along.stop(start));
        strides.push(along.stride);
    }
    mlx.slice(x, &starts, &stops, &strides)
}
