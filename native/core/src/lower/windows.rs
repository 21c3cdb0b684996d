//! Where windows lie on a tensor, and the views of it that show them.

use super::pad::{Padding, pad};
use crate::{
    Array, Error, Op, Result, Shape, Type,
    mlx::{Mlx, check_memory},
};

/// The options of Nx's window operations.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    pub window: &'a [usize],
    pub padding: &'a [(i64, i64)],
    pub strides: &'a [usize],
    /// None where the elements of a window are neighbours.
    pub dilations: Option<&'a [usize]>,
}

impl<'a> Options<'a> {
    fn of(op: &'a Op) -> Result<Self> {
        match op {
            Op::WindowSum {
                window,
                padding,
                strides,
                window_dilations,
            }
            | Op::WindowProduct {
                window,
                padding,
                strides,
                window_dilations,
            }
            | Op::WindowMax {
                window,
                padding,
                strides,
                window_dilations,
            }
            | Op::WindowMin {
                window,
                padding,
                strides,
                window_dilations,
            }
            | Op::WindowReduce {
                window,
                padding,
                strides,
                window_dilations,
                ..
            } => Ok(Self {
                window,
                padding,
                strides,
                dilations: Some(window_dilations),
            }),
            Op::WindowScatterMax {
                window,
                padding,
                strides,
            }
            | Op::WindowScatterMin {
                window,
                padding,
                strides,
            } => Ok(Self {
                window,
                padding,
                strides,
                dilations: None,
            }),
            other => Err(Error::argument(format!(
                "expected an operation with windows, got: {}",
                other.name()
            ))),
        }
    }
}

/// Windows along one axis. All of it fits MLX, and so does what follows from it.
#[derive(Clone, Copy)]
pub(crate) struct Along {
    /// The elements added before and after the axis, or dropped where negative.
    pub edges: (i32, i32),
    /// The size with the edges.
    pub padded: i32,
    /// The elements of a window.
    pub window: i32,
    /// From an element of a window to the next one.
    pub dilation: i32,
    /// From a window to the next one.
    pub stride: i32,
    /// The number of windows.
    pub count: i32,
}

/// Windows on all axes of a tensor.
pub(crate) struct Windows(pub Vec<Along>);

impl Along {
    /// The windows on `axis`, which has `size` elements.
    pub(crate) fn new(
        axis: usize,
        size: i32,
        window: usize,
        padding: (i64, i64),
        stride: usize,
        dilation: usize,
    ) -> Result<Self> {
        if window == 0 || stride == 0 || dilation == 0 {
            return Err(Error::argument(format!(
                "expected the window on axis {axis} to have a size, stride and dilation of at least 1, got: {window}, {stride} and {dilation}"
            )));
        }
        Self::within(size, window, padding, stride, dilation).ok_or_else(|| {
            Error::argument(format!(
                "expected a window of {window} elements, {dilation} apart, to fit the {size} elements of axis {axis} with padding of {} and {}, which fit 32 bits",
                padding.0, padding.1
            ))
        })
    }

    fn within(
        size: i32,
        window: usize,
        (low, high): (i64, i64),
        stride: usize,
        dilation: usize,
    ) -> Option<Self> {
        let edges = (i32::try_from(low).ok()?, i32::try_from(high).ok()?);
        let padded = i32::try_from(i64::from(size) + low + high).ok()?;
        let window = i32::try_from(window).ok()?;
        // Steps of one window, or of one element, lead nowhere.
        let dilation = if window == 1 {
            1
        } else {
            i32::try_from(dilation).ok()?
        };
        let span = (window - 1).checked_mul(dilation)?.checked_add(1)?;
        let room = padded.checked_sub(span).filter(|&room| room >= 0)?;
        let stride = i32::try_from(stride).unwrap_or(i32::MAX).min(room + 1);
        Some(Self {
            edges,
            padded,
            window,
            dilation,
            stride,
            count: room / stride + 1,
        })
    }

    /// What is added around the axis, with `interior` elements between its own.
    pub(super) fn padding(&self, interior: i32) -> Padding {
        let (low, high) = self.edges;
        (low.into(), high.into(), interior.into())
    }

    /// Where the windows' elements at `offset` stop, given where they start.
    pub(super) const fn stop(&self, start: i32) -> i32 {
        start + (self.count - 1) * self.stride + 1
    }
}

impl Windows {
    /// The windows that `op` asks for on a tensor of `shape`.
    pub(crate) fn of(op: &Op, shape: &Shape) -> Result<Self> {
        Self::new(shape, Options::of(op)?)
    }

    /// The windows on a tensor of `shape`.
    pub(crate) fn new(shape: &Shape, options: Options<'_>) -> Result<Self> {
        let rank = shape.rank();
        let lengths = [
            options.window.len(),
            options.padding.len(),
            options.strides.len(),
            options.dilations.map_or(rank, <[usize]>::len),
        ];
        if lengths.iter().any(|&length| length != rank) {
            return Err(Error::argument(format!(
                "expected :window, :padding, :strides and :window_dilations to have {rank} entries each, got: {lengths:?}"
            )));
        }
        let sizes = shape.dims().iter().enumerate();
        let along = sizes.map(|(axis, &size)| {
            Along::new(
                axis,
                size,
                options.window[axis],
                options.padding[axis],
                options.strides[axis],
                options.dilations.map_or(1, |dilations| dilations[axis]),
            )
        });
        Ok(Self(along.collect::<Result<_>>()?))
    }

    /// The number of windows along each axis: the shape of what is made of one element a window.
    pub(crate) fn counts(&self) -> Vec<i32> {
        self.0.iter().map(|along| along.count).collect()
    }

    /// The sizes of a window, of the axes where it has more than one element.
    pub(super) fn sizes(&self) -> Vec<i32> {
        let sizes = self.0.iter().map(|along| along.window);
        sizes.filter(|&size| size > 1).collect()
    }

    pub(super) fn padding(&self) -> Vec<Padding> {
        self.0.iter().map(|along| along.padding(0)).collect()
    }

    /// `x` with `value`, a scalar of its type, around it as the options ask.
    pub(crate) fn pad(&self, mlx: Mlx, x: &Array, value: &Array) -> Result<Array> {
        pad(mlx, x, value, &self.padding(), x.ty())
    }

    /// All windows of `x`, which has its edges already, as [counts…, sizes…]. Elements are stored
    /// once, however many windows they are in.
    pub(crate) fn view(&self, mlx: Mlx, x: &Array) -> Result<Array> {
        let dims = [self.counts(), self.sizes()].concat();
        let steps = row_major(&self.0.iter().map(|along| along.padded).collect::<Vec<_>>());
        let axes = || self.0.iter().zip(&steps);
        let strides: Vec<i64> = axes()
            .map(|(along, step)| i64::from(along.stride) * step)
            .chain(
                axes()
                    .filter(|(along, _)| along.window > 1)
                    .map(|(along, step)| i64::from(along.dilation) * step),
            )
            .collect();
        mlx.as_strided(&mlx.contiguous(x)?, &dims, &strides)
    }

    /// That [`Self::view`] fits memory with all its elements stored, as elements of `ty`.
    pub(super) fn check_memory(&self, ty: Type) -> Result<()> {
        let dims = [self.counts(), self.sizes()].concat();
        // Axes of one element count for nothing but the number of axes that a shape may have.
        let dims: Vec<i32> = dims.into_iter().filter(|&size| size > 1).collect();
        check_memory(ty, &dims)
    }

    /// The first element of each window of `x`, which has its edges already.
    pub(super) fn first(&self, mlx: Mlx, x: &Array) -> Result<Array> {
        let stops: Vec<i32> = self.0.iter().map(|along| along.stop(0)).collect();
        let strides: Vec<i32> = self.0.iter().map(|along| along.stride).collect();
        mlx.slice(x, &vec![0; stops.len()], &stops, &strides)
    }
}

/// The distance between neighbours on each axis of a tensor in row-major order.
pub(super) fn row_major(dims: &[i32]) -> Vec<i64> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * i64::from(dims[axis]);
    }
    strides
}
