//! Indices from tensors. MLX reads and writes wherever they point, so it only sees such as lie within
//! their axes.

use super::Operand;
use crate::{
    Array, Device, Error, Kind, Number, Op, Result, Shape, TensorType, Type, check::Checks,
    mlx::Mlx,
};

/// The axes of `x` that `op` indexes.
pub(super) struct Indexed<'a> {
    pub op: &'a Op,
    pub x: &'a TensorType,
    /// One for each entry of the indices' last axis, or one for all indices.
    pub axes: &'a [usize],
}

impl Indexed<'_> {
    /// The indices that MLX may follow, as an integer type of its own.
    ///
    /// Indices that can be looked at are checked here and now. Others are moved into their axes, which
    /// a check will tell of.
    ///
    /// # Errors
    ///
    /// If an index is not within its axis.
    pub(super) fn within(
        &self,
        mlx: Mlx,
        indices: &Operand<'_>,
        checks: &mut Checks,
    ) -> Result<Array> {
        let size = |&axis: &usize| self.x.shape.dims()[axis];
        let sizes: Vec<i32> = self.axes.iter().map(size).collect();
        if let Some(elements) = indices.ready_elements() {
            let elements = elements.into_iter().map(i128::from);
            let outside = self.outside(&indices.tensor_type(), elements);
            return match outside {
                Some(text) => Err(Error::argument(text)),
                None => followed(mlx, indices.array),
            };
        }
        if sizes.contains(&0) {
            return Err(Error::argument(format!(
                "expected {} of axes that have elements, got: axes {:?} of {}",
                self.op.name(),
                self.axes,
                self.x
            )));
        }
        let given = unsigned(mlx, indices.array)?;
        let clamped = mlx.minimum(&given, &last(mlx, &sizes, given.ty())?)?;
        let same = mlx.equal(&clamped, &given)?;
        let axes: Vec<i32> = (0..same.shape().rank() as i32).collect();
        let all = if axes.is_empty() {
            same
        } else {
            mlx.all(&same, &axes, false)?
        };
        checks.require(
            all,
            format!(
                "expected each index to be within its axis, {:?} of {}, got: one that is not",
                self.axes, self.x
            ),
        );
        Ok(clamped)
    }

    /// What the error says if some of the `elements` of `indices` are not within their axes.
    pub(super) fn outside(
        &self,
        indices: &TensorType,
        elements: impl Iterator<Item = i128>,
    ) -> Option<String> {
        let size = |position: usize| {
            let axis = self.axes[position % self.axes.len()];
            (axis, self.x.shape.dims()[axis])
        };
        let mut outside = elements
            .enumerate()
            .filter(|&(position, index)| !(0..size(position).1.into()).contains(&index));
        let (position, index) = outside.next()?;
        let (axis, size) = size(position);
        let place = place(&indices.shape, position);
        let others = match outside.count() {
            0 => String::new(),
            others => format!(", the first of {}", others + 1),
        };
        Some(format!(
            "expected an index of {} to be from 0 and below {size} along axis {axis} of {}, got: {index}{place} in the indices, {indices}{others}",
            self.op.name(),
            self.x
        ))
    }

    /// As [`Self::within`], with an array for each entry of the last axis, which they do not have.
    pub(super) fn columns(
        &self,
        mlx: Mlx,
        indices: &Operand<'_>,
        checks: &mut Checks,
    ) -> Result<Vec<Array>> {
        let indices = self.within(mlx, indices, checks)?;
        let shape = indices.shape();
        let (outer, _) = shape.dims().split_at(shape.rank() - 1);
        let (mut start, mut stop) = (vec![0; shape.rank()], shape.dims().to_vec());
        let column = |entry| {
            (start[outer.len()], stop[outer.len()]) = (entry, entry + 1);
            let column = mlx.slice(&indices, &start, &stop, &vec![1; shape.rank()])?;
            mlx.reshape(&column, outer)
        };
        (0..self.axes.len() as i32).map(column).collect()
    }
}

/// Where an element is, from its position in row-major order: ` at [1][0]`; nothing for a scalar.
pub(super) fn place(shape: &Shape, position: usize) -> String {
    let mut rest = position;
    let mut entries: Vec<String> = Vec::new();
    for &size in shape.dims().iter().rev() {
        let size = (size as usize).max(1);
        entries.push(format!("[{}]", rest % size));
        rest /= size;
    }
    entries.reverse();
    match entries.is_empty() {
        true => String::new(),
        false => format!(" at {}", entries.concat()),
    }
}

/// What lies within its axes, for MLX to follow: GPUs compile kernels for each type of indices when it is first
/// met, so there they are of few.
fn followed(mlx: Mlx, x: &Array) -> Result<Array> {
    match (mlx.device(), x.ty().bits()) {
        (Device::Gpu, ..32) => mlx.convert(x, Type::U32),
        _ => Ok(x.clone()),
    }
}

/// As u32 or u64; what was negative is beyond every axis then.
fn unsigned(mlx: Mlx, x: &Array) -> Result<Array> {
    match (x.ty().kind(), x.ty().bits()) {
        (Kind::Signed, 64) => mlx.view(x, Type::U64),
        (Kind::Signed, _) => mlx.view(&mlx.convert(x, Type::S32)?, Type::U32),
        (_, 64) => Ok(x.clone()),
        _ => mlx.convert(x, Type::U32),
    }
}

/// The greatest index of each axis, or a scalar for one.
fn last(mlx: Mlx, sizes: &[i32], ty: Type) -> Result<Array> {
    if let [size] = sizes {
        return mlx.scalar(i64::from(*size) - 1, ty);
    }
    let list = TensorType {
        ty,
        shape: Shape::new(&[sizes.len() as i64])?,
    };
    let greatest = |&size: &i32| Number::from(i64::from(size) - 1).bytes(ty);
    let bytes: Vec<u8> = sizes.iter().flat_map(greatest).collect();
    Array::from_bytes(&list, &bytes)
}

/// That MLX, which counts how often it copies in 32 bits, can count that far.
pub(super) fn check_count(op: &Op, what: &str, sizes: &[i32]) -> Result<()> {
    let count = sizes
        .iter()
        .try_fold(1_i32, |count, &size| count.checked_mul(size));
    if count.is_some() {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected {} of at most 2147483647 {what}, got: {sizes:?}",
        op.name()
    )))
}
