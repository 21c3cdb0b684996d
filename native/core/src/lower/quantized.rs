//! Quantized matrices.

use smallvec::smallvec;

use super::{
    Arrays, Operand,
    dot::{Side, dot},
    indices::Indexed,
};
use crate::{
    Array, Device, Error, Op, Result, Shape, Stream, TensorType, Type,
    check::Checks,
    infer::{
        infer_all,
        quantized::{Packing, dequantized, sides, transposed},
    },
    mlx::{Mlx, Quantized},
};

/// Whether products on a CPU are our own loops', which want as many matrices on each side.
const OWN_LOOPS: bool = cfg!(target_arch = "x86_64");

/// Rows of f32 for which a CPU does not dequantize a matrix: MLX's loops unpack each number again for each row.
const FEW_ROWS: usize = if OWN_LOOPS { 128 } else { 1 };

/// The results of `op` if it is of this family.
pub(super) fn family(
    op: &Op,
    outs: &[TensorType],
    operands: &[Operand<'_>],
    stream: &Stream,
    checks: &mut Checks,
) -> Result<Option<Arrays>> {
    let call = || Call::new(op, operands, stream);
    let array = match op {
        Op::Quantize { .. } => return call()?.quantized().map(Some),
        Op::Dequantize { .. } => call()?.dequantized(&outs[0])?,
        Op::QuantizedMatmul { .. } => call()?.product()?,
        Op::GatherQmm { .. } => call()?.gathered(checks)?,
        _ => return Ok(None),
    };
    Ok(Some(smallvec![array]))
}

/// An operation of this family on what it is given.
struct Call<'a> {
    mlx: Mlx,
    op: &'a Op,
    packing: Packing,
    operands: &'a [Operand<'a>],
    types: Vec<TensorType>,
}

impl<'a> Call<'a> {
    fn new(op: &'a Op, operands: &'a [Operand<'a>], stream: &Stream) -> Result<Self> {
        Ok(Self {
            mlx: stream.mlx(),
            op,
            packing: Packing::of(op)?,
            operands,
            types: operands.iter().map(Operand::tensor_type).collect(),
        })
    }

    fn quantized(&self) -> Result<Arrays> {
        let outs = infer_all(self.op, &self.types)?;
        if self.types[0].shape.size() == 0 {
            return outs.iter().map(|out| self.zeros(out)).collect();
        }
        if self.is_odd(self.types[0].shape.size() / self.packing.group_size) {
            return self.quantized_with_one_more(&outs);
        }
        let parts = self.mlx.quantize(self.operands[0].array, self.packing)?;
        Ok(parts.into_iter().collect())
    }

    /// Whether MLX's steps for the CPU, which take two groups of 16 at a time, go wrong.
    fn is_odd(&self, groups: usize) -> bool {
        self.mlx.device() == Device::Cpu && self.packing.group_size == 16 && groups % 2 == 1
    }

    fn quantized_with_one_more(&self, outs: &[TensorType]) -> Result<Arrays> {
        let groups = self.mlx.reshape(self.operands[0].array, &[-1, 16])?;
        let parts = self.mlx.quantize(&self.one_more(&groups)?, self.packing)?;
        let parts = parts.iter().zip(outs);
        let own = |(part, out): (&Array, &TensorType)| self.one_less(part, &out.shape);
        parts.map(own).collect()
    }

    /// The rows with another one of zeros.
    fn one_more(&self, rows: &Array) -> Result<Array> {
        let zero = self.mlx.scalar(0, rows.ty())?;
        let row = self.mlx.broadcast_to(&zero, &[1, rows.shape().dims()[1]])?;
        self.mlx.concatenate(&[rows.clone(), row], 0)
    }

    /// The rows without the last one, in another shape.
    fn one_less(&self, rows: &Array, shape: &Shape) -> Result<Array> {
        let mut stop = rows.shape().dims().to_vec();
        stop[0] -= 1;
        let rows = self.mlx.slice(rows, &[0, 0], &stop, &[1, 1])?;
        self.mlx.reshape(&rows, shape.dims())
    }

    fn dequantized(&self, out: &TensorType) -> Result<Array> {
        let own = self.packing.parts() == 3 && out.ty != self.types[1].ty;
        if own || !matches!(out.ty, Type::Bf16 | Type::F16 | Type::F32) {
            return Err(Error::argument(format!(
                "expected the result of {} to be bf16, f16 or f32, and the scales' type if they have one of these, got: {}",
                self.op.name(),
                out.ty
            )));
        }
        let out = TensorType {
            ty: out.ty,
            shape: Shape::trusted(&dequantized(self.op, &self.types)?),
        };
        if out.shape.size() == 0 {
            return self.zeros(&out);
        }
        self.numbers(0, &out)
    }

    /// What the quantized matrices from this input on stand for.
    fn numbers(&self, at: usize, out: &TensorType) -> Result<Array> {
        if !self.is_odd(self.types[at + 1].shape.size()) {
            return self.mlx.dequantize(self.matrices(at), out.ty);
        }
        let rows = |at: usize, width| {
            let rows = self.mlx.reshape(self.operands[at].array, &[-1, width])?;
            self.one_more(&rows)
        };
        let matrices = Quantized {
            packing: self.packing,
            packed: &rows(at, 2)?,
            scales: &rows(at + 1, 1)?,
            biases: None,
        };
        let numbers = self.mlx.dequantize(matrices, out.ty)?;
        self.one_less(&numbers, &out.shape)
    }

    /// MLX takes only the first of several matrices where the tensor has no axes beside the last two,
    /// and does not compute what has no elements.
    fn product(&self) -> Result<Array> {
        let out = &infer_all(self.op, &self.types)?[0];
        let (x, packed) = (&self.types[0].shape, &self.types[1].shape);
        if out.shape.size() == 0 || x.size() == 0 {
            return self.zeros(out);
        }
        if self.is_better_dequantized(out) {
            return self.plain_product(out);
        }
        let batched = packed.rank() > 2;
        let mut dims = x.dims().to_vec();
        while dims.len() < if batched { 3 } else { 2 } {
            dims.insert(0, 1);
        }
        let x = self
            .mlx
            .shaped(self.operands[0].array, &Shape::trusted(&dims))?;
        self.check_sizes(&[&out.shape, &x.shape(), packed])?;
        let matrices = self.matrices(1);
        let product = if batched && (OWN_LOOPS || self.mlx.device() == Device::Gpu) {
            self.stretched(&x, matrices, &out.shape)?
        } else {
            self.multiplied(&x, matrices)?
        };
        self.mlx.shaped(&product, &out.shape)
    }

    /// Exact sums of halves are rounded to halves at each step, and a matrix is dequantized once for many rows.
    fn is_better_dequantized(&self, out: &TensorType) -> bool {
        let exact = matches!(self.op, Op::QuantizedMatmul { exact: true, .. });
        let columns = out.shape.dims().last().map_or(1, |&size| size as usize);
        let few_rows = out.ty == Type::F32 && out.shape.size() / columns <= FEW_ROWS;
        let plain = self.types[1].shape.rank() == 2;
        self.mlx.device() == Device::Cpu && plain && !exact && !few_rows
    }

    fn plain_product(&self, out: &TensorType) -> Result<Array> {
        let matrix = self.numbers(
            1,
            &TensorType {
                ty: out.ty,
                shape: Shape::trusted(&dequantized(self.op, &self.types[1..])?),
            },
        )?;
        let last = self.types[0].shape.rank() - 1;
        let side = |array, contract| Side {
            array,
            contract,
            batch: &[],
        };
        dot(
            self.mlx,
            Device::Cpu,
            &side(self.operands[0].array, &[last]),
            &side(&matrix, &[usize::from(transposed(self.op))]),
            out,
        )
    }

    /// As many matrices on each side. CUDA's kernels want each in one piece, which MLX's own stretching does not
    /// give them.
    fn stretched(&self, x: &Array, matrices: Quantized<'_>, out: &Shape) -> Result<Array> {
        let rows = x.shape().dims()[x.shape().rank() - 2];
        let mut pairs = out.dims()[..out.rank() - 1].to_vec();
        if self.types[0].shape.rank() > 1 {
            pairs.pop();
        }
        let stretch = |part: &Array| {
            let shape = part.shape();
            let own = &shape.dims()[shape.rank() - 2..];
            let part = self.mlx.broadcast_to(part, &[&pairs[..], own].concat())?;
            match self.mlx.device() {
                Device::Cpu => Ok(part),
                Device::Gpu => self.mlx.contiguous(&part),
            }
        };
        let inner = x.shape().dims()[x.shape().rank() - 1];
        let x = self
            .mlx
            .broadcast_to(x, &[&pairs[..], &[rows, inner]].concat())?;
        let (packed, scales) = (stretch(matrices.packed)?, stretch(matrices.scales)?);
        let biases = matrices.biases.map(stretch).transpose()?;
        let matrices = Quantized {
            packing: matrices.packing,
            packed: &packed,
            scales: &scales,
            biases: biases.as_ref(),
        };
        self.multiplied(&x, matrices)
    }

    /// A product in our own loops or MLX's, which give the same bits.
    fn multiplied(&self, x: &Array, matrices: Quantized<'_>) -> Result<Array> {
        let transpose = transposed(self.op);
        #[cfg(target_arch = "x86_64")]
        if self.mlx.device() == Device::Cpu {
            return self.mlx.quantized_sums(x, matrices, transpose);
        }
        self.mlx.quantized_matmul(x, matrices, transpose)
    }

    fn gathered(&self, checks: &mut Checks) -> Result<Array> {
        let out = &infer_all(self.op, &self.types)?[0];
        let (x, packed) = (&self.types[0].shape, &self.types[1].shape);
        let (left, right) = sides(self.op);
        let indices = &self.operands[1 + self.packing.parts()..];
        let mut given = indices.iter();
        let left = self.within(left, &mut given, x, checks)?;
        let right = self.within(right, &mut given, packed, checks)?;
        if out.shape.size() == 0 || x.size() == 0 {
            return self.zeros(out);
        }
        self.check_sizes(&[&out.shape, x, packed])?;
        let sorted = matches!(self.op, Op::GatherQmm { sorted: true, .. });
        self.mlx.gather_qmm(
            self.operands[0].array,
            self.matrices(1),
            [left.as_ref(), right.as_ref()],
            (transposed(self.op), sorted),
        )
    }

    /// The next indices, if they are given, as MLX may follow them.
    fn within<'b>(
        &self,
        given: bool,
        indices: &mut impl Iterator<Item = &'b Operand<'b>>,
        side: &Shape,
        checks: &mut Checks,
    ) -> Result<Option<Array>> {
        if !given {
            return Ok(None);
        }
        let Some(indices) = indices.next() else {
            return Ok(None);
        };
        if indices.array.shape().size() == 0 {
            return Ok(Some(self.mlx.convert(indices.array, Type::U32)?));
        }
        let dims = side.dims();
        let count = Shape::trusted(&dims[..dims.len() - 2]).size();
        let matrices = TensorType {
            ty: Type::U32,
            shape: Shape::new(&[count as i64])?,
        };
        let indexed = Indexed {
            op: self.op,
            x: &matrices,
            axes: &[0],
        };
        let within = indexed.within(self.mlx, indices, checks)?;
        // MLX would convert them on a stream of its own choice.
        Ok(Some(self.mlx.convert(&within, Type::U32)?))
    }

    /// The quantized matrices, from the input at which they begin.
    fn matrices(&self, at: usize) -> Quantized<'a> {
        let biases = (self.packing.parts() == 3).then(|| self.operands[at + 2].array);
        Quantized {
            packing: self.packing,
            packed: self.operands[at].array,
            scales: self.operands[at + 1].array,
            biases,
        }
    }

    /// MLX's loops for the CPU count elements in 32 bits.
    fn check_sizes(&self, shapes: &[&Shape]) -> Result<()> {
        let vast = |shape: &&&Shape| shape.size() > i32::MAX as usize;
        match (self.mlx.device(), shapes.iter().find(vast)) {
            (Device::Cpu, Some(shape)) => Err(Error::argument(format!(
                "expected {} of at most 2147483647 elements each on a CPU, got: {:?}",
                self.op.name(),
                shape.dims()
            ))),
            _ => Ok(()),
        }
    }

    fn zeros(&self, out: &TensorType) -> Result<Array> {
        let zero = self.mlx.scalar(0, out.ty)?;
        self.mlx.broadcast_to(&zero, out.shape.dims())
    }
}
