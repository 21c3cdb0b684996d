//! `Nx.conv/3`: on MLX's convolution where it has one, else as a product of matrices.

use super::{
    cast::cast,
    convolution::Convolution,
    depthwise::{depthwise, suits},
    dot::{Side, dot},
    pad::pad,
    windows::row_major,
};
use crate::{
    Array, Device, Error, Op, Result, Shape, TensorType, Type,
    mlx::{Mlx, Sliding, check_memory},
};

pub(super) fn conv(mlx: Mlx, device: Device, op: &Op, x: &Array, kernel: &Array) -> Result<Array> {
    let convolution = Convolution::of(op, &x.shape(), &kernel.shape())?;
    let ty = result_type(x.ty(), kernel.ty())?;
    if x.shape().size() == 0 || kernel.shape().size() == 0 {
        return mlx.broadcast_to(&mlx.scalar(0, ty)?, &convolution.output_dims());
    }
    let grouped = Grouped::new(mlx, device, x, kernel, &convolution)?;
    let result = if grouped.suits_mlx(device) {
        grouped.native(mlx, device)?
    } else if device == Device::Cpu && suits(&convolution, grouped.groups) {
        let x = grouped.spread(mlx)?;
        depthwise(mlx, &x, &grouped.kernel, &convolution, grouped.groups)?
    } else {
        grouped.unfolded(mlx, device)?
    };
    mlx.transpose(&mlx.convert(&result, ty)?, &convolution.output_order)
}

/// The type of the result, as Nx has it.
pub(crate) fn result_type(x: Type, kernel: Type) -> Result<Type> {
    let ty = x.merge(kernel).map(Type::to_floating);
    ty.ok_or_else(|| {
        Error::argument(format!(
            "expected conv of types that MLX can hold together, got: {x} and {kernel}"
        ))
    })
}

/// A convolution of [batch, groups · channels, spatial…] with [outputs, channels, spatial…], both of
/// the type to compute in.
struct Grouped<'a> {
    x: Array,
    kernel: Array,
    groups: i32,
    convolution: &'a Convolution,
}

impl<'a> Grouped<'a> {
    fn new(
        mlx: Mlx,
        device: Device,
        x: &Array,
        kernel: &Array,
        convolution: &'a Convolution,
    ) -> Result<Self> {
        let ty = computed_in(device, x, kernel)?;
        let x = mlx.transpose(&cast(mlx, x, ty)?, &convolution.input_order)?;
        let kernel = mlx.transpose(&cast(mlx, kernel, ty)?, &convolution.kernel_order)?;
        let batches = convolution.batch_groups;
        let x = if batches > 1 {
            batches_as_channels(mlx, &x, batches)?
        } else {
            x
        };
        let groups = convolution.feature_groups.max(batches);
        Ok(Self {
            x,
            kernel,
            groups,
            convolution,
        })
    }

    /// The input's batch, once groups of it are groups of channels.
    fn batch(&self) -> i32 {
        self.x.shape().dims()[0]
    }

    /// Whether MLX's own convolution takes this, and is quick and exact enough.
    ///
    /// It knows f32 and the half types alone: of f64 it would keep the digits of f32. On the CPU it
    /// goes through groups and dilated axes element by element.
    fn suits_mlx(&self, device: Device) -> bool {
        let spatial = self.convolution.along.len();
        let dilated = self
            .convolution
            .along
            .iter()
            .any(|along| along.dilation > 1)
            || self
                .convolution
                .input_dilation
                .iter()
                .any(|&dilation| dilation > 1);
        let known = matches!(self.x.ty(), Type::F16 | Type::Bf16 | Type::F32);
        let grouped = self.groups > 1;
        known
            && spatial <= 3
            && match device {
                Device::Cpu => !grouped && !dilated,
                Device::Gpu => !grouped || spatial <= 2,
            }
    }

    fn native(&self, mlx: Mlx, device: Device) -> Result<Array> {
        let spatial = self.convolution.along.len() as i32;
        let last: Vec<i32> = [0].into_iter().chain(2..spatial + 2).chain([1]).collect();
        let second: Vec<i32> = [0, spatial + 1].into_iter().chain(1..=spatial).collect();
        let along = &self.convolution.along;
        let mut sliding = Sliding {
            strides: along.iter().map(|along| along.stride).collect(),
            padding_low: along.iter().map(|along| along.edges.0).collect(),
            padding_high: along.iter().map(|along| along.edges.1).collect(),
            kernel_dilation: along.iter().map(|along| along.dilation).collect(),
            input_dilation: self.convolution.input_dilation.clone(),
            groups: self.groups,
        };
        // MLX drops elements before it moves them apart, and Nx after that.
        let drops = along
            .iter()
            .any(|along| along.edges.0 < 0 || along.edges.1 < 0);
        let x = if drops {
            sliding.padding_low.fill(0);
            sliding.padding_high.fill(0);
            sliding.input_dilation.fill(1);
            &self.spread(mlx)?
        } else {
            &self.x
        };
        let dims = self.matrices()?;
        if device == Device::Cpu {
            // MLX makes the same matrices, of the same input.
            check_memory(self.x.ty(), &dims)?;
            check_memory(self.x.ty(), &self.spread_dims())?;
        }
        let kernel = mlx.transpose(&self.kernel, &last)?;
        let result = mlx.convolve(&mlx.transpose(x, &last)?, &kernel, &sliding)?;
        mlx.transpose(&result, &second)
    }

    /// Each place of the kernel as a row of a matrix, times the kernel's outputs as columns; a batch of
    /// such for the groups.
    fn unfolded(&self, mlx: Mlx, device: Device) -> Result<Array> {
        let dims = self.matrices()?;
        let [groups, places, length] = dims;
        check_memory(self.x.ty(), &dims)?;
        let rows = self.rows(mlx, &self.spread(mlx)?, &dims)?;
        let outputs = self.convolution.sizes[1] / groups;
        let kernel = mlx.reshape(&self.kernel, &[groups, outputs, length])?;
        let product = TensorType {
            ty: self.x.ty(),
            shape: Shape::new(&[groups, places, outputs].map(i64::from))?,
        };
        let side = |array| Side {
            array,
            contract: &[2],
            batch: &[0],
        };
        let product = dot(mlx, device, &side(&rows), &side(&kernel), &product)?;
        self.folded(mlx, &product)
    }

    /// The groups, the places of the kernel in all of the batch, and the elements of one place in a
    /// group, all of which MLX counts in 32 bits.
    fn matrices(&self) -> Result<[i32; 3]> {
        let along = || self.convolution.along.iter();
        let places = along().try_fold(self.batch(), |all, along| all.checked_mul(along.count));
        let channels = self.convolution.sizes[2];
        let length = along().try_fold(channels, |all, along| all.checked_mul(along.window));
        let (Some(places), Some(length)) = (places, length) else {
            return Err(Error::argument(format!(
                "expected a kernel of at most 2147483647 elements in as many places, got: {:?} on {:?}",
                self.kernel.shape().dims(),
                self.x.shape().dims()
            )));
        };
        Ok([self.groups, places, length])
    }

    /// The input with zeros between its elements and around them.
    fn spread(&self, mlx: Mlx) -> Result<Array> {
        let along = self.convolution.along.iter();
        let spatial = along.zip(&self.convolution.input_dilation);
        let padding: Vec<_> = [(0, 0, 0); 2]
            .into_iter()
            .chain(spatial.map(|(along, dilation)| along.padding(dilation - 1)))
            .collect();
        let ty = self.x.ty();
        pad(mlx, &self.x, &mlx.scalar(0, ty)?, &padding, ty)
    }

    /// The size of [`Self::spread`].
    fn spread_dims(&self) -> Vec<i32> {
        let spatial = self.convolution.along.iter().map(|along| along.padded);
        let shape = self.x.shape();
        shape.dims()[..2].iter().copied().chain(spatial).collect()
    }

    /// `x`, which has its edges already, as [groups, batch · places, channels · window].
    fn rows(&self, mlx: Mlx, x: &Array, dims: &[i32; 3]) -> Result<Array> {
        let shape = x.shape();
        let [_, _, channels] = self.convolution.sizes;
        let steps = row_major(shape.dims());
        let along = &self.convolution.along;
        let spatial = || along.iter().zip(&steps[2..]);
        let sizes = [self.groups, shape.dims()[0]]
            .into_iter()
            .chain(along.iter().map(|along| along.count))
            .chain([channels])
            .chain(along.iter().map(|along| along.window));
        let strides = [steps[1] * i64::from(channels), steps[0]]
            .into_iter()
            .chain(spatial().map(|(along, step)| i64::from(along.stride) * step))
            .chain([steps[1]])
            .chain(spatial().map(|(along, step)| i64::from(along.dilation) * step));
        let (sizes, strides): (Vec<i32>, Vec<i64>) = (sizes.collect(), strides.collect());
        mlx.reshape(
            &mlx.as_strided(&mlx.contiguous(x)?, &sizes, &strides)?,
            dims,
        )
    }

    /// [groups, batch · places, outputs of a group] as [batch, outputs, places…].
    fn folded(&self, mlx: Mlx, product: &Array) -> Result<Array> {
        let along = &self.convolution.along;
        let places = || along.iter().map(|along| along.count);
        let [_, outputs, _] = self.convolution.sizes;
        let batch = self.batch();
        let apart: Vec<i32> = [self.groups, batch]
            .into_iter()
            .chain(places())
            .chain([outputs / self.groups])
            .collect();
        let last = apart.len() as i32 - 1;
        let order: Vec<i32> = [1, 0, last].into_iter().chain(2..last).collect();
        let dims: Vec<i32> = [batch, outputs].into_iter().chain(places()).collect();
        let apart = mlx.reshape(product, &apart)?;
        mlx.reshape(&mlx.transpose(&apart, &order)?, &dims)
    }
}

/// The result's type, or f32 for the half types on the CPU, which does not multiply them by itself; of
/// integers whose sums f32 might not hold exactly, a type that does.
fn computed_in(device: Device, x: &Array, kernel: &Array) -> Result<Type> {
    let (left, right) = (x.ty(), kernel.ty());
    let ty = result_type(left, right)?;
    // More terms than there are in any of the sums.
    let terms = u64::from(kernel.shape().size().max(1).ilog2()) + 1;
    if left.is_integer() && right.is_integer() && left.bits() + right.bits() + terms > 24 {
        return Ok(match device {
            Device::Cpu => Type::F64,
            Device::Gpu => Type::S64,
        });
    }
    if ty.is_half() && device == Device::Cpu {
        return Ok(Type::F32);
    }
    Ok(ty)
}

/// A batch in parts, each with its own outputs, is as many parts of the channels.
fn batches_as_channels(mlx: Mlx, x: &Array, groups: i32) -> Result<Array> {
    let shape = x.shape();
    let (batch, rest) = (shape.dims()[0] / groups, &shape.dims()[1..]);
    let apart = mlx.reshape(x, &[&[groups, batch], rest].concat())?;
    let order: Vec<i32> = [1, 0]
        .into_iter()
        .chain(2..shape.rank() as i32 + 1)
        .collect();
    let channels = groups * rest[0];
    mlx.reshape(
        &mlx.transpose(&apart, &order)?,
        &[&[batch, channels], &rest[1..]].concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stream, Tensor, install_error_handler};

    /// Whole numbers, different on each axis.
    fn counted(stream: &Stream, ty: Type, dims: &[i64], factor: i64) -> Array {
        let mlx = stream.mlx();
        let shape = Shape::new(dims).unwrap();
        let all = mlx.arange(shape.size(), Type::S64).unwrap();
        let all = mlx
            .remainder(&all, &mlx.scalar(7, Type::S64).unwrap())
            .unwrap();
        let all = mlx
            .subtract(&all, &mlx.scalar(2, Type::S64).unwrap())
            .unwrap();
        let all = mlx
            .multiply(&all, &mlx.scalar(factor, Type::S64).unwrap())
            .unwrap();
        mlx.reshape(&mlx.convert(&all, ty).unwrap(), shape.dims())
            .unwrap()
    }

    fn bytes(stream: &Stream, array: Array) -> Vec<u8> {
        let ty = array.tensor_type();
        let tensor = Tensor::pending(stream, array, &ty, Default::default());
        tensor.readable().unwrap().bytes().unwrap().to_vec()
    }

    fn op(padding: (i64, i64), input: usize, kernel: usize, groups: usize, rank: usize) -> Op {
        let order: Vec<usize> = (0..rank + 2).collect();
        Op::Conv {
            padding: vec![padding; rank],
            strides: vec![2; rank],
            input_dilation: vec![input; rank],
            kernel_dilation: vec![kernel; rank],
            feature_group_size: groups,
            batch_group_size: 1,
            input_permutation: order.clone(),
            kernel_permutation: order.clone(),
            output_permutation: order,
        }
    }

    /// What a GPU is given, MLX's convolution with every option or integers in pieces, gives on the CPU
    /// what the CPU is given.
    #[test]
    fn devices_compute_the_same_in_ways_of_their_own() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let forms = [
            op((0, 0), 1, 1, 1, 1),
            op((1, 2), 2, 3, 2, 1),
            op((-1, 2), 3, 2, 1, 1),
            op((2, -3), 1, 2, 4, 2),
            op((1, 0), 2, 1, 2, 2),
            op((1, 1), 1, 1, 2, 3),
            op((1, 0), 1, 2, 4, 3),
            op((0, 1), 2, 1, 1, 3),
        ];
        for (ty, factor) in [
            (Type::F32, 1),
            (Type::F16, 1),
            (Type::S32, 99_991),
            (Type::U8, 9),
        ] {
            for op in &forms {
                let Op::Conv {
                    feature_group_size: groups,
                    strides,
                    ..
                } = op
                else {
                    panic!("expected conv, got: {op:?}");
                };
                let spatial = |size| vec![size; strides.len()];
                let x = [vec![2, 4], spatial(5)].concat();
                let kernel = [vec![4, 4 / *groups as i64], spatial(2)].concat();
                let x = counted(&stream, ty, &x, factor);
                let kernel = counted(&stream, ty, &kernel, factor);
                let [cpu, gpu] = [Device::Cpu, Device::Gpu].map(|device| {
                    bytes(
                        &stream,
                        conv(stream.mlx(), device, op, &x, &kernel).unwrap(),
                    )
                });
                assert_eq!(cpu, gpu, "{op:?} of {ty}");
                assert!(cpu.iter().any(|&byte| byte != 0), "{op:?} of {ty}");
            }
        }
    }
}
