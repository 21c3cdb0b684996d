//! `Nx.dot/6`: contraction over any axes, batched over any axes, on every type.

use super::{axes, cast::cast};
use crate::{Array, Device, Error, Kind, Result, Shape, TensorType, Type, mlx::Mlx};

/// One side of the product.
pub(super) struct Side<'a> {
    pub array: &'a Array,
    pub contract: &'a [usize],
    pub batch: &'a [usize],
}

pub(super) fn dot(
    mlx: Mlx,
    device: Device,
    a: &Side<'_>,
    b: &Side<'_>,
    out: &TensorType,
) -> Result<Array> {
    check_axes(
        (&a.array.shape(), a.contract, a.batch),
        (&b.array.shape(), b.contract, b.batch),
    )?;
    // As matrices: [batch, free, contracted] times [batch, contracted, free].
    let (left, right) = (a.matrices(mlx, false)?, b.matrices(mlx, true)?);
    let product = if out.ty.is_integer() {
        integer_product(mlx, device, &left, &right, out.ty)?
    } else {
        let (left, right) = (cast(mlx, &left, out.ty)?, cast(mlx, &right, out.ty)?);
        if has_own_product(mlx, &left, out.ty) {
            mlx.matrix_product(&left, &right, None)?
        } else {
            mlx.matmul(&left, &right)?
        }
    };
    mlx.shaped(&product, &out.shape)
}

/// A product of floats, and `c` added to it.
pub(super) fn dot_add(
    mlx: Mlx,
    a: &Side<'_>,
    b: &Side<'_>,
    c: &Array,
    out: &TensorType,
) -> Result<Array> {
    let (left, right) = (a.matrices(mlx, false)?, b.matrices(mlx, true)?);
    let (rows, columns) = (left.shape(), right.shape());
    let (rank, last) = (rows.rank(), columns.dims()[columns.rank() - 1]);
    let product = [&rows.dims()[..rank - 1], &[last]].concat();
    // What is added to each row alike stays one row; MLX broadcasts it.
    let row = c.shape().rank() <= 1 && out.shape.dims().last() == Some(&last);
    let added = if row {
        c.clone()
    } else {
        mlx.reshape(&mlx.broadcast_to(c, out.shape.dims())?, &product)?
    };
    let sum = if has_own_product(mlx, &left, out.ty) {
        mlx.matrix_product(&left, &right, Some(&added))?
    } else {
        mlx.multiply_add(&left, &right, &added)?
    };
    mlx.shaped(&sum, &out.shape)
}

/// Whether MLX's product is the slower one.
///
/// Where it does not have Apple's libraries, MLX multiplies narrow floats one by one, and adds them up in
/// their own type's blocks; and BLAS is no quicker with a few rows than with several dozen.
fn has_own_product(mlx: Mlx, left: &Array, ty: Type) -> bool {
    /// More rows of f32 are better off with BLAS.
    const FEW_ROWS: i32 = 8;
    let dims = left.shape();
    let rows = dims.dims()[dims.rank() - 2];
    let narrow = matches!(ty, Type::F16 | Type::Bf16);
    let few = ty == Type::F32 && rows <= FEW_ROWS;
    mlx.device() == Device::Cpu && !cfg!(target_os = "macos") && (narrow || few)
}

/// That the axes of each side are distinct and below its rank, and their sizes agree.
pub(crate) fn check_axes(
    (a, contract_a, batch_a): (&Shape, &[usize], &[usize]),
    (b, contract_b, batch_b): (&Shape, &[usize], &[usize]),
) -> Result<()> {
    axes::checked(&[batch_a, contract_a].concat(), a.rank())?;
    axes::checked(&[batch_b, contract_b].concat(), b.rank())?;
    let sizes = |shape: &Shape, axes: &[usize]| -> Vec<i32> {
        axes.iter().map(|&axis| shape.dims()[axis]).collect()
    };
    for (what, left, right) in [
        ("contract", contract_a, contract_b),
        ("batch", batch_a, batch_b),
    ] {
        let (left, right) = (sizes(a, left), sizes(b, right));
        if left != right {
            return Err(Error::argument(format!(
                "expected the axes of :{what}_a and :{what}_b to have equal sizes, got: {left:?} and {right:?}"
            )));
        }
    }
    Ok(())
}

impl Side<'_> {
    /// The size of these axes as one.
    fn size(&self, axes: &[usize]) -> Result<i32> {
        let shape = self.array.shape();
        let mut sizes = axes.iter().map(|&axis| shape.dims()[axis]);
        sizes.try_fold(1_i32, i32::checked_mul).ok_or_else(|| {
            Error::argument(format!(
                "expected axes {axes:?} to have a product of sizes of at most 2147483647, got: {:?}",
                shape.dims()
            ))
        })
    }

    /// The array as a batch of matrices, with the contracted axes as rows or as columns.
    fn matrices(&self, mlx: Mlx, contracted_first: bool) -> Result<Array> {
        let shape = self.array.shape();
        let free = axes::remaining(shape.rank(), [self.batch, self.contract]);
        let order = match contracted_first {
            true => [self.batch, self.contract, &free],
            false => [self.batch, &free, self.contract],
        };
        let [first, second, third] = order;
        let dims = [self.size(first)?, self.size(second)?, self.size(third)?];
        let axes: Vec<i32> = order.concat().iter().map(|&axis| axis as i32).collect();
        let ordered = if axes.is_sorted() {
            self.array.clone()
        } else {
            mlx.transpose(self.array, &axes)?
        };
        // MLX is quicker with two axes than with a batch of one.
        let dims = if self.batch.is_empty() {
            &dims[1..]
        } else {
            &dims[..]
        };
        if ordered.shape().dims() == dims {
            return Ok(ordered);
        }
        mlx.reshape(&ordered, dims)
    }
}

/// MLX multiplies matrices of floats alone, but a float product of integers is exact while the sum
/// fits the mantissa. Wider integers are cut into digits that are small enough, and the products of
/// digits are added where they belong; what overflows the type is dropped, as everywhere.
fn integer_product(mlx: Mlx, device: Device, a: &Array, b: &Array, ty: Type) -> Result<Array> {
    let digits = Digits::of(device);
    let length = a.shape().dims().last().copied().unwrap_or(1);
    if a.ty().bits() + b.ty().bits() + u64::from(length.max(1).ilog2()) < digits.mantissa {
        let product = mlx.matmul(&mlx.convert(a, digits.ty)?, &mlx.convert(b, digits.ty)?)?;
        return whole(mlx, &product, ty);
    }
    // Two's complement: the unsigned product has the bits of the signed one.
    let word = if ty.bits() == 64 {
        Type::U64
    } else {
        Type::U32
    };
    let (a, b) = (cast(mlx, a, ty)?, cast(mlx, b, ty)?);
    let (a, b) = (mlx.convert(&a, word)?, mlx.convert(&b, word)?);
    let (a, b) = (digits.cut(mlx, &a, word)?, digits.cut(mlx, &b, word)?);
    let mut total: Option<Array> = None;
    for (i, left) in a.iter().enumerate() {
        for (j, right) in b.iter().enumerate().take(a.len() - i) {
            let partial = digits.product(mlx, left, right, length, word)?;
            let place = mlx.scalar(((i + j) as i64) * digits.bits as i64, word)?;
            let placed = mlx.left_shift(&partial, &place)?;
            total = Some(match total {
                Some(total) => mlx.add(&total, &placed)?,
                None => placed,
            });
        }
    }
    let total =
        total.ok_or_else(|| Error::argument(format!("expected an integer type, got: {ty}")))?;
    debug_assert!(matches!(ty.kind(), Kind::Signed | Kind::Unsigned));
    mlx.convert(&total, ty)
}

/// How integers are cut so that a device's widest float multiplies them exactly.
struct Digits {
    ty: Type,
    /// The bits that the float holds exactly.
    mantissa: u64,
    /// The bits of a digit.
    bits: u64,
}

impl Digits {
    const fn of(device: Device) -> Self {
        match device {
            Device::Cpu => Self {
                ty: Type::F64,
                mantissa: 53,
                bits: 16,
            },
            Device::Gpu => Self {
                ty: Type::F32,
                mantissa: 24,
                bits: 7,
            },
        }
    }

    /// The digits of each element, the least significant first, as floats.
    fn cut(&self, mlx: Mlx, x: &Array, word: Type) -> Result<Vec<Array>> {
        let mask = mlx.scalar((1_i64 << self.bits) - 1, word)?;
        (0..word.bits().div_ceil(self.bits))
            .map(|digit| {
                let shifted = mlx.right_shift(x, &mlx.scalar((digit * self.bits) as i64, word)?)?;
                mlx.convert(&mlx.bitwise_and(&shifted, &mask)?, self.ty)
            })
            .collect()
    }

    /// The matrix product of digits, in pieces short enough for every sum to be exact.
    fn product(&self, mlx: Mlx, a: &Array, b: &Array, length: i32, word: Type) -> Result<Array> {
        let most = 1_i32 << (self.mantissa - 2 * self.bits).min(30);
        if length <= most {
            return whole(mlx, &mlx.matmul(a, b)?, word);
        }
        let (columns, rows) = (a.shape().rank() - 1, b.shape().rank() - 2);
        let mut total: Option<Array> = None;
        for start in (0..length).step_by(most as usize) {
            let stop = length.min(start.saturating_add(most));
            let (a, b) = (
                range(mlx, a, columns, start, stop)?,
                range(mlx, b, rows, start, stop)?,
            );
            let partial = whole(mlx, &mlx.matmul(&a, &b)?, word)?;
            total = Some(match total {
                Some(total) => mlx.add(&total, &partial)?,
                None => partial,
            });
        }
        total.ok_or_else(|| Error::argument("expected a contraction of some length, got: 0"))
    }
}

/// Floats that hold integers below 2^63, as a type that may be too narrow: C++ leaves the conversion
/// of a float that does not fit undefined, while integers wrap.
fn whole(mlx: Mlx, x: &Array, ty: Type) -> Result<Array> {
    mlx.convert(&mlx.convert(x, Type::S64)?, ty)
}

/// The elements of one axis from `start` until `stop`.
fn range(mlx: Mlx, x: &Array, axis: usize, start: i32, stop: i32) -> Result<Array> {
    let shape = x.shape();
    let (mut starts, mut stops) = (vec![0; shape.rank()], shape.dims().to_vec());
    (starts[axis], stops[axis]) = (start, stop);
    mlx.slice(x, &starts, &stops, &vec![1; shape.rank()])
}
