//! `Nx.LinAlg.qr/2`: Householder's reflections, with the signs that Nx gives them.
//!
//! A real column is reflected onto the positive half of its axis, and left alone where nothing is
//! below the diagonal, so that R's diagonal is negative only there. A complex one is reflected to the
//! opposite of its first element's phase.

use super::{
    Call,
    matrix::{
        Finite, adjoint, batch, block, column_squares, columns, identity, refuse_vast, result,
        rows, sizes, working, zeros,
    },
};
use crate::{Array, Kind, QrMode, Result, TensorType, Type, mlx::Mlx};

/// The most reflections of real matrices that are made one by one; beyond, LAPACK makes them.
const UNROLLED: i32 = 8;

pub(super) fn qr(
    call: &Call<'_>,
    mode: QrMode,
    x: &Array,
    outs: &[TensorType],
) -> Result<Vec<Array>> {
    let x = batch(call.mlx, x, working(outs[0].ty))?;
    let (_, height, width) = sizes(&x);
    let complete = mode == QrMode::Complete;
    let (q, r) = if x.ty().kind() == Kind::Complex || height.min(width) <= UNROLLED {
        unrolled(call.mlx, &x, complete)?
    } else {
        lapack(call.mlx, &x, complete)?
    };
    // Negative zeros become positive.
    let zero = call.mlx.scalar(0, x.ty())?;
    Ok(vec![
        result(call.mlx, &call.mlx.add(&q, &zero)?, &outs[0])?,
        result(call.mlx, &call.mlx.add(&r, &zero)?, &outs[1])?,
    ])
}

/// I - scale v vH, where `v` has the rows from some index on.
struct Reflection {
    v: Array,
    scale: Array,
}

impl Reflection {
    /// `x` reflected.
    fn of(&self, mlx: Mlx, x: &Array) -> Result<Array> {
        let along = mlx.matmul(&adjoint(mlx, &self.v)?, x)?;
        let along = mlx.multiply(&self.scale, &along)?;
        mlx.subtract(x, &mlx.multiply(&self.v, &along)?)
    }
}

fn unrolled(mlx: Mlx, x: &Array, complete: bool) -> Result<(Array, Array)> {
    let (count, height, width) = sizes(x);
    let least = height.min(width);
    // The last row of a square has nothing below.
    let reflected = if height == width { least - 1 } else { least };
    let noise = noise(mlx, x)?;
    let mut left = x.clone();
    let mut reflections = Vec::with_capacity(reflected as usize);
    let mut r_rows = Vec::with_capacity(least as usize + 1);
    for index in 0..reflected {
        let reflection = reflection(mlx, &columns(mlx, &left, 0, 1)?, &noise)?;
        left = reflection.of(mlx, &left)?;
        reflections.push(reflection);
        let zeros = zeros(mlx, (count, 1, index), x.ty())?;
        r_rows.push(mlx.concatenate(&[zeros, rows(mlx, &left, 0, 1)?], 2)?);
        left = block(mlx, &left, (1, height - index), (1, width - index))?;
    }
    if reflected < least {
        let zeros = zeros(mlx, (count, 1, reflected), x.ty())?;
        r_rows.push(mlx.concatenate(&[zeros, left], 2)?);
    }
    if complete && height > least {
        r_rows.push(zeros(mlx, (count, height - least, width), x.ty())?);
    }
    let size = if complete { height } else { least };
    Ok((
        product(mlx, &reflections, (count, height, size), x.ty())?,
        mlx.concatenate(&r_rows, 1)?,
    ))
}

/// The first columns of the product of the reflections, from the last to the first.
fn product(
    mlx: Mlx,
    reflections: &[Reflection],
    (count, height, width): (i32, i32, i32),
    ty: Type,
) -> Result<Array> {
    let mut q = identity(mlx, (count, height, width), ty)?;
    for (index, reflection) in reflections.iter().enumerate().rev() {
        let index = index as i32;
        let reflected = reflection.of(mlx, &rows(mlx, &q, index, height)?)?;
        q = mlx.concatenate(&[rows(mlx, &q, 0, index)?, reflected], 1)?;
    }
    Ok(q)
}

/// The square of what rounding leaves where there should be nothing, for each matrix.
fn noise(mlx: Mlx, x: &Array) -> Result<Array> {
    let unit = if x.ty() == Type::F64 {
        2_f64.powi(-48)
    } else {
        2_f64.powi(-19)
    };
    let greatest = mlx.max(&mlx.abs(x)?, &[1, 2], true)?;
    mlx.square(&mlx.multiply(&greatest, &mlx.scalar(unit, greatest.ty())?)?)
}

fn reflection(mlx: Mlx, x: &Array, noise: &Array) -> Result<Reflection> {
    match x.ty().kind() {
        Kind::Complex => complex_reflection(mlx, x, noise),
        _ => real_reflection(mlx, x, noise),
    }
}

fn real_reflection(mlx: Mlx, x: &Array, noise: &Array) -> Result<Reflection> {
    let (zero, one, two) = (
        mlx.scalar(0, x.ty())?,
        mlx.scalar(1, x.ty())?,
        mlx.scalar(2, x.ty())?,
    );
    let (_, height, _) = sizes(x);
    let (first, below) = (rows(mlx, x, 0, 1)?, rows(mlx, x, 1, height)?);
    let below_squares = column_squares(mlx, &below)?;
    let nothing = mlx.less_equal(&below_squares, noise)?;
    let norm = mlx.sqrt(&mlx.add(&mlx.square(&first)?, &below_squares)?)?;
    // The same number by the way that does not cancel.
    let other = mlx.negative(&mlx.divide(&below_squares, &mlx.add(&first, &norm)?)?)?;
    let negative = mlx.less_equal(&first, &zero)?;
    let pivot = mlx.select(&negative, &mlx.subtract(&first, &norm)?, &other)?;
    let pivot = mlx.select(&nothing, &one, &pivot)?;
    let below = mlx.divide(&below, &pivot)?;
    let squares = mlx.add(&one, &column_squares(mlx, &below)?)?;
    Ok(Reflection {
        v: mlx.concatenate(&[mlx.broadcast_to(&one, first.shape().dims())?, below], 1)?,
        scale: mlx.select(&nothing, &zero, &mlx.divide(&two, &squares)?)?,
    })
}

fn complex_reflection(mlx: Mlx, x: &Array, noise: &Array) -> Result<Reflection> {
    let (_, height, _) = sizes(x);
    let (first, below) = (rows(mlx, x, 0, 1)?, rows(mlx, x, 1, height)?);
    let squares = column_squares(mlx, x)?;
    let nothing = mlx.less_equal(&squares, noise)?;
    let norm = mlx.convert(&mlx.sqrt(&squares)?, x.ty())?;
    let magnitude = mlx.convert(&mlx.abs(&first)?, x.ty())?;
    let (zero, one) = (mlx.scalar(0, x.ty())?, mlx.scalar(1, x.ty())?);
    let none = mlx.equal(&magnitude, &zero)?;
    let phase = mlx.divide(&first, &mlx.select(&none, &one, &magnitude)?)?;
    let phase = mlx.select(&none, &one, &phase)?;
    let moved = mlx.add(&first, &mlx.multiply(&phase, &norm)?)?;
    let v = mlx.concatenate(&[moved, below], 1)?;
    let length = column_squares(mlx, &v)?;
    let length = mlx.select(&nothing, &mlx.scalar(1, length.ty())?, &length)?;
    let scale = mlx.divide(&mlx.scalar(2, length.ty())?, &length)?;
    let scale = mlx.select(&nothing, &mlx.scalar(0, length.ty())?, &scale)?;
    Ok(Reflection {
        v,
        scale: mlx.convert(&scale, x.ty())?,
    })
}

/// With the missing columns as zeros, whose reflections change nothing, the complete Q is a reduced
/// one.
fn lapack(mlx: Mlx, x: &Array, complete: bool) -> Result<(Array, Array)> {
    let finite = Finite::of(mlx, x)?;
    let (count, height, width) = sizes(x);
    let matrices = if complete && height > width {
        refuse_vast((count, height, height), x.ty())?;
        let missing = zeros(mlx, (count, height, height - width), x.ty())?;
        mlx.concatenate(&[finite.matrices.clone(), missing], 2)?
    } else {
        finite.matrices.clone()
    };
    let (q, r) = mlx.qr(&matrices)?;
    let r = columns(mlx, &r, 0, width)?;
    let (signs, width_of_q) = (signs(mlx, &r, height <= width)?, sizes(&q).2);
    let least = height.min(width);
    let more = mlx.broadcast_to(&mlx.scalar(1, x.ty())?, &[count, 1, width_of_q - least])?;
    let all = mlx.concatenate(&[signs, more], 2)?;
    let q = mlx.multiply(&q, &all)?;
    let r = mlx.multiply(&r, &mlx.transpose(&all, &[0, 2, 1])?)?;
    Ok((finite.or_nan(mlx, &q)?, finite.or_nan(mlx, &r)?))
}

/// The signs of R's diagonal, as a row. LAPACK and Nx make as many reflections, none of them for the
/// last row where there is nothing below, so that Q's determinant stays: an odd number of changes
/// changes the last sign too.
fn signs(mlx: Mlx, r: &Array, natural_last: bool) -> Result<Array> {
    let diagonal = mlx.diagonal(r)?;
    let (count, size) = (sizes(r).0, diagonal.shape().dims()[1]);
    let negative = mlx.less(&diagonal, &mlx.scalar(0, r.ty())?)?;
    let (one, minus) = (mlx.scalar(1, r.ty())?, mlx.scalar(-1, r.ty())?);
    let signs = mlx.select(&negative, &minus, &one)?;
    let signs = mlx.reshape(&signs, &[count, 1, size])?;
    if !natural_last {
        return Ok(signs);
    }
    let others = columns(mlx, &signs, 0, size - 1)?;
    let last = mlx.product(&others, &[2], true)?;
    mlx.concatenate(&[others, last], 2)
}
