//! LU factorization with partial pivoting, and what Nx makes of it: systems and determinants.

use super::{
    Call,
    matrix::{Finite, batch, block, columns, identity, result, right_side, rows, sizes, working},
    triangular::{backward, forward, precise, require_regular},
};
use crate::{
    Array, Kind, Result, TensorType, Type, infer::linalg::is_vector, lower::cast::cast, mlx::Mlx,
};

/// The largest real matrix that is factorized step by step, as Nx does it; larger ones are LAPACK's.
const UNROLLED: i32 = 8;

/// `a[order] = lower upper`.
pub(super) struct Factors {
    pub lower: Array,
    pub upper: Array,
    /// As s32, the row of `a` that each row of the product is, with a column for each batch.
    pub order: Array,
}

impl Factors {
    pub(super) fn of(call: &Call<'_>, a: &Array) -> Result<Self> {
        if a.ty().kind() == Kind::Complex || sizes(a).1 <= UNROLLED {
            unrolled(call.mlx, a)
        } else {
            lapack(call.mlx, a)
        }
    }
}

/// `Nx.LinAlg.lu/1`: the permutation, in the input's own type, and the factors.
pub(super) fn lu(call: &Call<'_>, x: &Array, outs: &[TensorType]) -> Result<Vec<Array>> {
    let mlx = call.mlx;
    let factors = Factors::of(call, &batch(mlx, x, working(outs[1].ty))?)?;
    let (_, size, _) = sizes(&factors.lower);
    let index = mlx.reshape(&mlx.arange(size as usize, Type::S32)?, &[1, size, 1])?;
    let order = mlx.transpose(&factors.order, &[0, 2, 1])?;
    let permutation = mlx.boolean(&mlx.equal(&index, &order)?)?;
    Ok(vec![
        result(mlx, &permutation, &outs[0])?,
        result(mlx, &factors.lower, &outs[1])?,
        result(mlx, &factors.upper, &outs[2])?,
    ])
}

/// `Nx.LinAlg.solve/2`.
pub(super) fn solve(call: &mut Call<'_>, a: &Array, b: &Array, out: &TensorType) -> Result<Array> {
    let (mlx, ty) = (call.mlx, working(out.ty));
    let vector = is_vector(&a.shape(), &b.shape());
    let a = batch(mlx, a, ty)?;
    let b = right_side(mlx, b, sizes(&a).0, vector, ty)?;
    let factors = Factors::of(call, &a)?;
    require_regular(call, &factors.upper)?;
    let wide = precise(&a, ty);
    let ordered = mlx.take_along_axis(&b, &factors.order, 1)?;
    let [lower, upper, ordered] =
        [&factors.lower, &factors.upper, &ordered].map(|x| mlx.convert(x, wide));
    // Rounded between the two, as Nx does.
    let y = mlx.convert(&forward(mlx, &lower?, &ordered?)?, ty)?;
    let x = backward(mlx, &upper?, &mlx.convert(&y, wide)?)?;
    result(mlx, &x, out)
}

/// Row by row from the top, each with the greatest element left in its column, as Nx chooses it.
/// One more column holds the index that each row had at first.
fn unrolled(mlx: Mlx, a: &Array) -> Result<Factors> {
    let ty = a.ty();
    let (count, size, _) = sizes(a);
    let index = mlx.reshape(&mlx.arange(size as usize, Type::F32)?, &[1, size, 1])?;
    let index = mlx.broadcast_to(&mlx.convert(&index, ty)?, &[count, size, 1])?;
    let mut left = mlx.concatenate(&[a.clone(), index], 2)?;
    let mut done = Vec::with_capacity(size as usize);
    for column in 0..size - 1 {
        left = pivoted(mlx, &left, column)?;
        let top = rows(mlx, &left, 0, 1)?;
        left = eliminated(mlx, &top, &rows(mlx, &left, 1, size - column)?, column)?;
        done.push(top);
    }
    done.push(left);
    let packed = mlx.concatenate(&done, 1)?;
    let order = cast(mlx, &columns(mlx, &packed, size, size + 1)?, Type::S32)?;
    let packed = columns(mlx, &packed, 0, size)?;
    let unit = identity(mlx, (count, size, size), ty)?;
    Ok(Factors {
        lower: mlx.add(&mlx.tril(&packed, -1)?, &unit)?,
        upper: mlx.triu(&packed, 0)?,
        order,
    })
}

/// The rows with the one whose element of `column` is greatest exchanged with the first.
fn pivoted(mlx: Mlx, x: &Array, column: i32) -> Result<Array> {
    let (_, height, _) = sizes(x);
    let magnitude = mlx.abs(&columns(mlx, x, column, column + 1)?)?;
    let pivot = mlx.argmax(&magnitude, 1, true)?;
    let index = mlx.reshape(&mlx.arange(height as usize, Type::U32)?, &[1, height, 1])?;
    let zero = mlx.scalar(0, Type::U32)?;
    let others = mlx.select(&mlx.equal(&index, &pivot)?, &zero, &index)?;
    let exchanged = mlx.select(&mlx.equal(&index, &zero)?, &pivot, &others)?;
    mlx.take_along_axis(x, &exchanged, 1)
}

/// The rows below `top` without what they have of it in `column`, where its multiple is kept.
fn eliminated(mlx: Mlx, top: &Array, below: &Array, column: i32) -> Result<Array> {
    let (_, height, width) = sizes(below);
    let zero = mlx.scalar(0, top.ty())?;
    let pivot = columns(mlx, top, column, column + 1)?;
    let under = columns(mlx, below, column, column + 1)?;
    // Where the pivot is zero, so is all that is under it.
    let singular = mlx.equal(&pivot, &zero)?;
    let multiple = mlx.select(&singular, &under, &mlx.divide(&under, &pivot)?)?;
    let right = block(mlx, top, (0, 1), (column + 1, width - 1))?;
    let trailing = block(mlx, below, (0, height), (column + 1, width - 1))?;
    let trailing = mlx.subtract(&trailing, &mlx.multiply(&multiple, &right)?)?;
    let parts = [
        columns(mlx, below, 0, column)?,
        multiple,
        trailing,
        columns(mlx, below, width - 1, width)?,
    ];
    mlx.concatenate(&parts, 2)
}

fn lapack(mlx: Mlx, a: &Array) -> Result<Factors> {
    let finite = Finite::of(mlx, a)?;
    let [places, lower, upper] = mlx.lu(&finite.matrices)?;
    let (count, size, _) = sizes(a);
    // Where each row went, turned into which row came.
    let order = mlx.convert(&mlx.argsort(&places, 1)?, Type::S32)?;
    Ok(Factors {
        lower: finite.or_nan(mlx, &lower)?,
        upper: finite.or_nan(mlx, &upper)?,
        order: mlx.reshape(&order, &[count, size, 1])?,
    })
}
