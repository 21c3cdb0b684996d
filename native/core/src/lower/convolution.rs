//! The shapes and options of `Nx.conv/3`.

use super::{axes, windows::Along};
use crate::{Error, Op, Result, Shape};

/// The options of `Nx.conv/3`.
#[derive(Clone, Copy)]
struct Options<'a> {
    padding: &'a [(i64, i64)],
    strides: &'a [usize],
    input_dilation: &'a [usize],
    kernel_dilation: &'a [usize],
    feature_group_size: usize,
    batch_group_size: usize,
    input_permutation: &'a [usize],
    kernel_permutation: &'a [usize],
    output_permutation: &'a [usize],
}

/// A convolution that fits its inputs.
pub(crate) struct Convolution {
    /// The axes of the input as [batch, channels, spatial…].
    pub input_order: Vec<i32>,
    /// The axes of the kernel as [outputs, channels of a group, spatial…].
    pub kernel_order: Vec<i32>,
    /// Of [batch, outputs, spatial…], the axes of the output.
    pub output_order: Vec<i32>,
    /// Parts of the batch, each with its own part of the outputs.
    pub batch_groups: i32,
    /// Parts of the channels, each with its own part of the outputs.
    pub feature_groups: i32,
    /// The input's batch and the kernel's outputs and channels.
    pub sizes: [i32; 3],
    /// How the kernel moves along each spatial axis of the dilated input.
    pub along: Vec<Along>,
    /// From an element of the input to the next one once it is dilated.
    pub input_dilation: Vec<i32>,
}

impl<'a> Options<'a> {
    fn of(op: &'a Op) -> Result<Self> {
        match op {
            Op::Conv {
                padding,
                strides,
                input_dilation,
                kernel_dilation,
                feature_group_size,
                batch_group_size,
                input_permutation,
                kernel_permutation,
                output_permutation,
            } => Ok(Self {
                padding,
                strides,
                input_dilation,
                kernel_dilation,
                feature_group_size: *feature_group_size,
                batch_group_size: *batch_group_size,
                input_permutation,
                kernel_permutation,
                output_permutation,
            }),
            other => Err(Error::argument(format!(
                "expected conv, got: {}",
                other.name()
            ))),
        }
    }
}

impl Convolution {
    /// The convolution that `op` asks for.
    pub(crate) fn of(op: &Op, input: &Shape, kernel: &Shape) -> Result<Self> {
        Self::new(input, kernel, Options::of(op)?)
    }

    fn new(input: &Shape, kernel: &Shape, options: Options<'_>) -> Result<Self> {
        check_lengths(input, kernel, options)?;
        let rank = input.rank();
        let input_order = axes::permutation(options.input_permutation, rank)?;
        let kernel_order = axes::permutation(options.kernel_permutation, rank)?;
        let positions = axes::permutation(options.output_permutation, rank)?;
        let mut output_order = vec![0; rank];
        for (axis, &position) in positions.iter().enumerate() {
            output_order[position as usize] = axis as i32;
        }
        let x = ordered(input, &input_order);
        let k = ordered(kernel, &kernel_order);
        let (feature_groups, batch_groups) = check_groups(&x, &k, options)?;
        let spatial = (0..rank - 2).map(|axis| {
            let dilated = dilated(x[axis + 2], options.input_dilation[axis])?;
            Along::new(
                axis,
                dilated,
                k[axis + 2] as usize,
                options.padding[axis],
                options.strides[axis],
                options.kernel_dilation[axis],
            )
        });
        let dilations = options.input_dilation.iter().zip(&x[2..]);
        Ok(Self {
            along: spatial.collect::<Result<_>>()?,
            // An axis of one element has none to be apart from.
            input_dilation: dilations
                .map(|(&dilation, &size)| if size < 2 { 1 } else { dilation as i32 })
                .collect(),
            sizes: [x[0], k[0], k[1]],
            input_order,
            kernel_order,
            output_order,
            batch_groups,
            feature_groups,
        })
    }

    /// The result's size as [batch, outputs, spatial…].
    pub(crate) fn dims(&self) -> Vec<i32> {
        let [batch, outputs, _] = self.sizes;
        let spatial = self.along.iter().map(|along| along.count);
        [batch / self.batch_groups, outputs]
            .into_iter()
            .chain(spatial)
            .collect()
    }

    /// The result's size along each of its axes.
    pub(crate) fn output_dims(&self) -> Vec<i32> {
        let dims = self.dims();
        self.output_order
            .iter()
            .map(|&axis| dims[axis as usize])
            .collect()
    }
}

fn ordered(shape: &Shape, order: &[i32]) -> Vec<i32> {
    order
        .iter()
        .map(|&axis| shape.dims()[axis as usize])
        .collect()
}

fn check_lengths(input: &Shape, kernel: &Shape, options: Options<'_>) -> Result<()> {
    let rank = input.rank();
    if rank < 3 || kernel.rank() != rank {
        return Err(Error::argument(format!(
            "expected an input and a kernel of one rank of at least 3, got: {:?} and {:?}",
            input.dims(),
            kernel.dims()
        )));
    }
    let lengths = [
        options.padding.len(),
        options.strides.len(),
        options.input_dilation.len(),
        options.kernel_dilation.len(),
    ];
    if lengths.iter().any(|&length| length != rank - 2) {
        return Err(Error::argument(format!(
            "expected :padding, :strides, :input_dilation and :kernel_dilation to have {} entries each, got: {lengths:?}",
            rank - 2
        )));
    }
    Ok(())
}

/// The feature and the batch groups, which divide what they must.
fn check_groups(x: &[i32], k: &[i32], options: Options<'_>) -> Result<(i32, i32)> {
    let (features, batches) = (options.feature_group_size, options.batch_group_size);
    let divides = |groups: usize, size: i32| groups > 0 && (size as usize).is_multiple_of(groups);
    let fit = (features == 1 || batches == 1)
        && divides(features, k[0])
        && divides(batches, k[0])
        && divides(batches, x[0])
        && (k[1] as usize).checked_mul(features) == Some(x[1] as usize);
    match (i32::try_from(features), i32::try_from(batches)) {
        (Ok(features), Ok(batches)) if fit => Ok((features, batches)),
        _ => Err(Error::argument(format!(
            "expected :feature_group_size or :batch_group_size to be 1, both to divide the {} outputs, the former to be {} channels over {}, the latter to divide the batch of {}, got: {features} and {batches}",
            k[0], x[1], k[1], x[0]
        ))),
    }
}

/// The size of an axis whose elements are moved apart.
fn dilated(size: i32, dilation: usize) -> Result<i32> {
    if size < 2 && dilation > 0 {
        return Ok(size);
    }
    let steps = i32::try_from(dilation).ok().filter(|&steps| steps > 0);
    let grown = steps.and_then(|steps| Some(size.checked_mul(steps)? - (steps - 1)));
    grown.ok_or_else(|| {
        Error::argument(format!(
            "expected :input_dilation to be at least 1 and to move {size} elements to at most 2147483647, got: {dilation}"
        ))
    })
}
