//! The results of operations on quantized matrices. What is checked here MLX does not check, or checks on
//! a thread of its own, where an exception ends the process.

#[cfg(test)]
mod tests;

use smallvec::smallvec;

use super::{Outputs, shapes::common};
use crate::{Error, Op, QuantizationMode, Result, Shape, TensorType, Type, error::list};

/// MLX counts the bits of a row in 32 bits.
const MOST_WORDS: i64 = (i32::MAX / 32) as i64;

/// How the numbers of a matrix are packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub mode: QuantizationMode,
    pub group_size: usize,
    pub bits: usize,
}

/// The axes of the matrices in the last two that packed numbers stand for, and those before.
pub(crate) struct Matrices {
    pub batch: Vec<i32>,
    pub rows: i32,
    pub columns: i32,
}

/// The types and shapes of all results of `op` if it is on quantized matrices and has one or more.
pub(super) fn outputs(op: &Op, inputs: &[TensorType]) -> Result<Option<Outputs>> {
    Ok(Some(match (op, inputs) {
        (Op::Quantize { .. }, [x]) => Packing::of(op)?.packed(op, x)?,
        (Op::Dequantize { .. }, [_, scales, ..]) => {
            let dims = dequantized(op, inputs)?;
            if scales.ty == Type::U8 {
                return Err(Error::argument(format!(
                    "expected the type of the result of {}, which its inputs do not tell",
                    op.name()
                )));
            }
            smallvec![tensor(scales.ty, &dims)?]
        }
        (Op::QuantizedMatmul { .. }, [x, ..]) => smallvec![tensor(x.ty, &product(op, inputs)?)?],
        (Op::GatherQmm { .. }, [x, ..]) => smallvec![tensor(x.ty, &gathered(op, inputs)?)?],
        (Op::Dequantize { .. } | Op::QuantizedMatmul { .. } | Op::GatherQmm { .. }, _) => {
            return Err(count(op, inputs));
        }
        _ => return Ok(None),
    }))
}

/// The sizes of what packed numbers, scales and biases stand for.
pub(crate) fn dequantized(op: &Op, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let packing = Packing::of(op)?;
    if inputs.len() != packing.parts() {
        return Err(count(op, inputs));
    }
    let matrices = packing.matrices(op, inputs)?;
    let last = [matrices.rows, matrices.columns];
    Ok([&matrices.batch[..], &last].concat())
}

/// The sizes of a product: axes before the last two broadcast.
fn product(op: &Op, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let packing = Packing::of(op)?;
    if inputs.len() != 1 + packing.parts() {
        return Err(count(op, inputs));
    }
    let (x, matrices) = (&inputs[0], packing.matrices(op, &inputs[1..])?);
    packing.check_activations(op, x, &inputs[2])?;
    let Some((&inner, before)) = x.shape.dims().split_last() else {
        return Err(misfit(op, inputs, "a tensor with at least one axis"));
    };
    let outer = contracted(op, inputs, inner, &matrices)?;
    let (batch, rows) = before.split_at(before.len().saturating_sub(1));
    let shapes = [Shape::trusted(batch), Shape::trusted(&matrices.batch)];
    let batch = common(shapes.iter())
        .ok_or_else(|| misfit(op, inputs, "matrices whose other axes broadcast"))?;
    Ok([&batch[..], rows, &[outer]].concat())
}

/// The sizes of the products of pairs: the indices' axes, then those of one product.
fn gathered(op: &Op, inputs: &[TensorType]) -> Result<Vec<i32>> {
    let packing = Packing::of(op)?;
    let (parts, (left, right)) = (packing.parts(), sides(op));
    if inputs.len() != 1 + parts + usize::from(left) + usize::from(right) {
        return Err(count(op, inputs));
    }
    let (x, matrices) = (&inputs[0], packing.matrices(op, &inputs[1..=parts])?);
    packing.check_activations(op, x, &inputs[2])?;
    let &[ref batch @ .., rows, inner] = x.shape.dims() else {
        return Err(misfit(op, inputs, "a tensor with at least two axes"));
    };
    let outer = contracted(op, inputs, inner, &matrices)?;
    let indices = &inputs[1 + parts..];
    if indices.is_empty() || indices.iter().any(|indices| !indices.ty.is_integer()) {
        return Err(misfit(op, inputs, "integer indices of one side or both"));
    }
    let own = |given: bool, at: usize, batch: &[i32]| match given {
        true => indices[at].shape.clone(),
        false => Shape::trusted(batch),
    };
    let shapes = [
        own(left, 0, batch),
        own(right, indices.len() - 1, &matrices.batch),
    ];
    let pairs = common(shapes.iter()).ok_or_else(|| {
        misfit(
            op,
            inputs,
            "indices that broadcast, or go with the other side",
        )
    })?;
    Ok([&pairs[..], &[rows, outer]].concat())
}

/// The axis of the product that comes from the quantized matrices.
fn contracted(op: &Op, inputs: &[TensorType], inner: i32, matrices: &Matrices) -> Result<i32> {
    let transpose = transposed(op);
    let (own, outer) = match transpose {
        true => (matrices.columns, matrices.rows),
        false => (matrices.rows, matrices.columns),
    };
    if own == inner {
        return Ok(outer);
    }
    let Matrices { rows, columns, .. } = matrices;
    let what = format!(
        "a last axis of {own} for matrices of {rows} by {columns}{}",
        if transpose { " transposed" } else { "" }
    );
    Err(misfit(op, inputs, &what))
}

/// Whether matrices are transposed before they are multiplied with.
pub(crate) const fn transposed(op: &Op) -> bool {
    matches!(
        op,
        Op::QuantizedMatmul {
            transpose: true,
            ..
        } | Op::GatherQmm {
            transpose: true,
            ..
        }
    )
}

/// Whether there are indices into the first and into the second side.
pub(crate) const fn sides(op: &Op) -> (bool, bool) {
    match op {
        Op::GatherQmm { left, right, .. } => (*left, *right),
        _ => (false, false),
    }
}

impl Packing {
    /// What the operation says of it, if MLX has that.
    pub(crate) fn of(op: &Op) -> Result<Self> {
        let (Op::Quantize {
            mode,
            group_size,
            bits,
        }
        | Op::Dequantize {
            mode,
            group_size,
            bits,
        }
        | Op::QuantizedMatmul {
            mode,
            group_size,
            bits,
            ..
        }
        | Op::GatherQmm {
            mode,
            group_size,
            bits,
            ..
        }) = *op
        else {
            return Err(Error::argument(format!(
                "expected an operation on quantized matrices, got: {}",
                op.name()
            )));
        };
        let (groups, sizes): (&[usize], &[usize]) = match mode {
            QuantizationMode::Affine => (&[32, 64, 128], &[2, 3, 4, 5, 6, 8]),
            QuantizationMode::Mxfp4 => (&[32], &[4]),
            QuantizationMode::Mxfp8 => (&[32], &[8]),
            QuantizationMode::Nvfp4 => (&[16], &[4]),
        };
        one_of(mode, ":group_size", group_size, groups)?;
        one_of(mode, ":bits", bits, sizes)?;
        Ok(Self {
            mode,
            group_size,
            bits,
        })
    }

    /// How many tensors a quantized matrix is.
    pub(crate) fn parts(self) -> usize {
        if self.mode == QuantizationMode::Affine {
            3
        } else {
            2
        }
    }

    /// The packed numbers, scales and biases of a tensor.
    fn packed(self, op: &Op, x: &TensorType) -> Result<Outputs> {
        let inputs = std::slice::from_ref(x);
        let &[ref before @ .., columns] = x.shape.dims() else {
            return Err(misfit(op, inputs, "a tensor with at least two axes"));
        };
        let words = i64::from(columns) * self.bits as i64 / 32;
        let whole = (columns as usize).is_multiple_of(self.group_size);
        if before.is_empty() || !whole || !is_float(x.ty) || words > MOST_WORDS {
            let what = format!(
                "a tensor of bf16, f16 or f32 with at least two axes, the last one a multiple of {} and \
                 of at most {MOST_WORDS} packed u32",
                self.group_size
            );
            return Err(misfit(op, inputs, &what));
        }
        let groups = columns / self.group_size as i32;
        let packed = tensor(Type::U32, &[before, &[words as i32]].concat())?;
        let shared = |ty| tensor(ty, &[before, &[groups]].concat());
        Ok(match self.mode {
            QuantizationMode::Affine => smallvec![packed, shared(x.ty)?, shared(x.ty)?],
            _ => smallvec![packed, shared(Type::U8)?],
        })
    }

    /// What packed numbers, scales and biases stand for.
    pub(crate) fn matrices(self, op: &Op, parts: &[TensorType]) -> Result<Matrices> {
        let Self {
            mode,
            group_size,
            bits,
        } = self;
        let (packed, scales) = (&parts[0], &parts[1]);
        let fit = packed.ty == Type::U32
            && match &parts[2..] {
                [] => scales.ty == Type::U8,
                biases => is_float(scales.ty) && biases.iter().all(|biases| biases == scales),
            };
        let what = || {
            let shared = match mode {
                QuantizationMode::Affine => "scales and biases of bf16, f16 or f32",
                _ => "scales of u8",
            };
            format!(
                "packed u32, and {shared} that go with them in groups of {group_size} numbers of {bits} bits"
            )
        };
        let (&[ref batch @ .., rows, words], &[ref others @ .., groups]) =
            (packed.shape.dims(), scales.shape.dims())
        else {
            return Err(misfit(op, parts, &what()));
        };
        let columns = i64::from(groups) * group_size as i64;
        let words = i64::from(words);
        let same = others.split_last() == Some((&rows, batch));
        if !fit || !same || words * 32 != columns * bits as i64 || words > MOST_WORDS {
            return Err(misfit(op, parts, &what()));
        }
        let columns = i32::try_from(columns).map_err(|_| misfit(op, parts, &what()))?;
        Ok(Matrices {
            batch: batch.to_vec(),
            rows,
            columns,
        })
    }

    fn check_activations(self, op: &Op, x: &TensorType, scales: &TensorType) -> Result<()> {
        let own = self.mode != QuantizationMode::Affine || x.ty == scales.ty;
        if is_float(x.ty) && own {
            return Ok(());
        }
        let what =
            "a tensor of bf16, f16 or f32, and scales and biases, if floats, of the same type";
        Err(misfit(op, &[x.clone(), scales.clone()], what))
    }
}

/// The types that MLX's kernels have.
const fn is_float(ty: Type) -> bool {
    matches!(ty, Type::Bf16 | Type::F16 | Type::F32)
}

fn one_of(mode: QuantizationMode, name: &str, given: usize, allowed: &[usize]) -> Result<()> {
    if allowed.contains(&given) {
        return Ok(());
    }
    let mode = format!("{mode:?}").to_lowercase();
    let texts: Vec<_> = allowed.iter().map(ToString::to_string).collect();
    let text = match &texts[..] {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => texts.concat(),
    };
    Err(Error::argument(format!(
        "expected {name} of {mode} to be {text}, got: {given}"
    )))
}

fn tensor(ty: Type, dims: &[i32]) -> Result<TensorType> {
    let shape = super::shape(dims.to_vec())?;
    Ok(TensorType { ty, shape })
}

fn count(op: &Op, inputs: &[TensorType]) -> Error {
    misfit(op, inputs, "as many tensors as its mode and indices need")
}

fn misfit(op: &Op, inputs: &[TensorType], what: &str) -> Error {
    let (name, given) = (op.name(), list(inputs));
    Error::argument(format!("expected {name} of {what}, got: {given}"))
}
