//! Updates of the elements at indices.

use super::{
    Operand,
    cast::cast,
    indices::{Indexed, check_count},
};
use crate::{
    Array, Device, Op, Result, Stream, TensorType, Type, check::Checks, infer::indexed, mlx::Mlx,
};

/// `Nx.indexed_put/4` and `Nx.indexed_add/4`. Of several updates of one element, the last one stays,
/// or all are added.
pub(super) fn indexed(
    stream: &Stream,
    op: &Op,
    [x, indices, updates]: [&Operand<'_>; 3],
    axes: &[usize],
    out: &TensorType,
    checks: &mut Checks,
) -> Result<Array> {
    let ty = x.tensor_type();
    indexed::indexed(&ty, &indices.tensor_type(), &updates.tensor_type(), axes)?;
    let mlx = stream.mlx();
    let whole = cast(mlx, x.array, out.ty)?;
    let parts = updates.array.shape();
    if parts.size() == 0 || ty.shape.size() == 0 {
        return Ok(whole);
    }
    let (rows, parts) = parts.dims().split_at(1);
    check_count(op, "elements in each update", parts)?;
    let columns = Indexed { op, x: &ty, axes }.columns(mlx, indices, checks)?;
    // One size for each axis of `x`, 1 for those that are indexed.
    let mut sizes = parts.iter().copied();
    let sizes = (0..ty.shape.rank()).map(|axis| match axes.contains(&axis) {
        true => 1,
        false => sizes.next().unwrap_or(1),
    });
    let dims: Vec<i32> = rows.iter().copied().chain(sizes).collect();
    let scatter = Scatter {
        whole: &whole,
        columns: &columns,
        updates: &mlx.reshape(&cast(mlx, updates.array, out.ty)?, &dims)?,
        axes: &axes.iter().map(|&axis| axis as i32).collect::<Vec<_>>(),
    };
    match op {
        Op::IndexedAdd { .. } => scatter.add(stream),
        _ => scatter.put(mlx, stream.device()),
    }
}

/// What MLX's functions take.
struct Scatter<'a> {
    whole: &'a Array,
    columns: &'a [Array],
    updates: &'a Array,
    axes: &'a [i32],
}

impl Scatter<'_> {
    /// Half floats are added in f32, as many small updates would otherwise vanish.
    fn add(&self, stream: &Stream) -> Result<Array> {
        let ty = self.whole.ty();
        // MLX's GPU backends do not add to elements of 64 bits.
        let mlx = match stream.device() {
            Device::Gpu if ty.bits() == 64 && ty != Type::C64 => stream.host(),
            _ => stream.mlx(),
        };
        if !ty.is_half() {
            return mlx.scatter_add(self.whole, self.columns, self.updates, self.axes);
        }
        let whole = mlx.convert(self.whole, Type::F32)?;
        let updates = mlx.convert(self.updates, Type::F32)?;
        let total = mlx.scatter_add(&whole, self.columns, &updates, self.axes)?;
        mlx.convert(&total, ty)
    }

    /// On the CPU one update follows the other; a GPU has no order, nor does it write 64 bits at once.
    fn put(&self, mlx: Mlx, device: Device) -> Result<Array> {
        if device == Device::Cpu {
            return mlx.scatter(self.whole, self.columns, self.updates, self.axes);
        }
        let updates = self.last_updates(mlx)?;
        if self.whole.ty().bits() < 64 {
            return mlx.scatter(self.whole, self.columns, &updates, self.axes);
        }
        let (whole, updates) = (halves(mlx, self.whole)?, halves(mlx, &updates)?);
        let result = mlx.scatter(&whole, self.columns, &updates, self.axes)?;
        mlx.shaped(&mlx.view(&result, self.whole.ty())?, &self.whole.shape())
    }

    /// For each row the update that is the last one with the row's indices, so that no order matters.
    fn last_updates(&self, mlx: Mlx) -> Result<Array> {
        let dims = self.updates.shape();
        let rows = dims.dims()[0];
        if rows == 1 {
            return Ok(self.updates.clone());
        }
        let shape = self.whole.shape();
        let table: Vec<i32> = self
            .axes
            .iter()
            .map(|&axis| shape.dims()[axis as usize])
            .collect();
        let (axes, ones): (Vec<i32>, _) = ((0..table.len() as i32).collect(), vec![1; table.len()]);
        let first = mlx.broadcast_to(&mlx.scalar(0, Type::S32)?, &table)?;
        let numbers = mlx.arange(rows as usize, Type::S32)?;
        let numbers = mlx.reshape(&numbers, &[&[rows], &ones[..]].concat())?;
        let last = mlx.scatter_max(&first, self.columns, &numbers, &axes)?;
        let last = mlx.gather(&last, self.columns, &axes, &ones)?;
        let last = mlx.reshape(&last, &[rows])?;
        let mut sizes = dims.dims().to_vec();
        sizes[0] = 1;
        let chosen = mlx.gather(self.updates, &[last], &[0], &sizes)?;
        mlx.reshape(&chosen, dims.dims())
    }
}

/// Elements of 64 bits as two of 32 along a new last axis.
fn halves(mlx: Mlx, x: &Array) -> Result<Array> {
    let single = mlx.reshape(x, &[x.shape().dims(), &[1]].concat())?;
    mlx.view(&single, Type::U32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, eval::Tensor, install_error_handler};

    fn array(ty: Type, dims: &[i64], bytes: &[u8]) -> Array {
        let shape = Shape::new(dims).unwrap();
        Array::from_bytes(&TensorType { ty, shape }, bytes).unwrap()
    }

    fn bytes(stream: &Stream, array: Array) -> Vec<u8> {
        let ty = array.tensor_type();
        let tensor = Tensor::pending(stream, array, &ty, crate::check::Pending::default());
        tensor.readable().unwrap().bytes().unwrap().to_vec()
    }

    #[test]
    fn without_an_order_the_last_update_stays_too() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let mlx = stream.mlx();
        for ty in [Type::U8, Type::F32, Type::S64, Type::C64] {
            let element = |value: u8| {
                let mut element = vec![0; ty.bytes()];
                element[0] = value;
                element[ty.bytes() - 1] = value;
                element
            };
            let elements = |values: &[u8]| values.iter().copied().flat_map(element).collect();
            let (whole, updates): (Vec<_>, Vec<_>) =
                (elements(&[1; 12]), elements(&[2, 3, 4, 5, 6, 7, 8, 9]));
            let scatter = Scatter {
                whole: &array(ty, &[3, 2, 2], &whole),
                columns: &[
                    array(Type::U8, &[4], &[2, 0, 2, 2]),
                    array(Type::U8, &[4], &[1, 0, 1, 0]),
                ],
                updates: &array(ty, &[4, 1, 2, 1], &updates),
                axes: &[0, 2],
            };
            let expected = elements(&[4, 1, 5, 1, 1, 1, 1, 1, 8, 6, 9, 7]);
            for device in [Device::Cpu, Device::Gpu] {
                let result = scatter.put(mlx, device).unwrap();
                assert_eq!(bytes(&stream, result), expected, "{ty} on {device}");
            }
        }
    }
}
