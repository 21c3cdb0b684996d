//! Results without NaN and infinities, and where such come from.

use super::{Lowered, Operand, checked::bytes, indices::place};
use crate::{Array, Kind, Op, Result, Shape, Stream, TensorType, Type, mlx::Mlx};

/// Asks that all results are finite; integers always are.
pub(super) fn require(
    op: &Op,
    outs: &[TensorType],
    inputs: &[Operand<'_>],
    stream: &Stream,
    lowered: &mut Lowered,
) -> Result<()> {
    let mlx = stream.mlx();
    let looked_at = |array: &&Array| array.ty().is_inexact() && array.shape().size() > 0;
    for array in lowered.arrays.iter().filter(looked_at) {
        let text = format!(
            "expected {} to give finite numbers, got: some that are not",
            op.name()
        );
        lowered.checks.require(all_finite(mlx, array)?, text);
        lowered.checks.explain_last(|| {
            let (name, stream) = (op.name(), stream.clone());
            let inputs = inputs
                .iter()
                .map(|input| (input.array.clone(), input.tensor_type()));
            let results = lowered.arrays.iter().cloned().zip(outs.iter().cloned());
            let (inputs, results) = (Values(inputs.collect()), Values(results.collect()));
            Box::new(move || {
                let made = results.not_finite(&stream, "output")?;
                let given = inputs.not_finite(&stream, "input")?;
                Ok(explanation(&name, &made, &given))
            })
        });
    }
    Ok(())
}

/// Whether NaN and infinities came with the inputs or are the operation's own.
fn explanation(name: &str, made: &[String], given: &[String]) -> String {
    let made = made.join(", and ");
    if given.is_empty() {
        return format!("expected {name} of finite numbers to give finite numbers, got: {made}");
    }
    format!(
        "expected {name} to be given finite numbers, got: {}; which made {made}",
        given.join(", and ")
    )
}

/// Whether all elements are, a scalar of MLX's bool.
///
/// The extremes tell it, which NaN is among if there is one, and take no memory, as asking each element
/// would. A number less itself is zero if it is finite, and else NaN, which equals nothing.
fn all_finite(mlx: Mlx, x: &Array) -> Result<Array> {
    let nothing = |x: &Array| mlx.subtract(x, x);
    let axes: Vec<i32> = (0..x.shape().rank() as i32).collect();
    if axes.is_empty() {
        return mlx.equal(&nothing(x)?, &nothing(x)?);
    }
    // Complex numbers have no extremes.
    if x.ty().kind() == Kind::Complex {
        let nothing = nothing(x)?;
        return mlx.all(&mlx.equal(&nothing, &nothing)?, &axes, false);
    }
    let (most, least) = (mlx.max(x, &axes, false)?, mlx.min(x, &axes, false)?);
    mlx.equal(&nothing(&most)?, &nothing(&least)?)
}

/// An operation's inputs or results.
struct Values(Vec<(Array, TensorType)>);

impl Values {
    /// Of each that has NaN or infinities: how many, and where the first one is.
    fn not_finite(&self, stream: &Stream, role: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (at, (array, ty)) in self.0.iter().enumerate() {
            if let Some(text) = not_finite(stream, array, &ty.shape)? {
                let which = match self.0.len() {
                    1 => format!("the {role}"),
                    _ => format!("the {} {role}", ORDINALS.get(at).unwrap_or(&"last")),
                };
                found.push(format!("{text} in {which}, {ty}"));
            }
        }
        Ok(found)
    }
}

/// No operation that gives or takes numbers has more.
const ORDINALS: [&str; 3] = ["first", "second", "third"];

/// What an element may be instead of finite.
const KINDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// `2 NaN and 1 Infinity of 12 elements, the first one, NaN, at [0][3]`; none if all are finite.
fn not_finite(stream: &Stream, array: &Array, shape: &Shape) -> Result<Option<String>> {
    if !array.ty().is_inexact() {
        return Ok(None);
    }
    let codes = bytes(stream, codes(stream.mlx(), array)?)?;
    let Some(first) = codes.iter().position(|&code| code > 0) else {
        return Ok(None);
    };
    let mut counts = [0_usize; KINDS.len()];
    for &code in codes.iter().filter(|&&code| code > 0) {
        counts[usize::from(code - 1)] += 1;
    }
    let counts = counts.iter().zip(KINDS).filter(|(count, _)| **count > 0);
    let counts: Vec<_> = counts
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    let elements = match codes.len() {
        1 => "1 element".to_owned(),
        size => format!("{size} elements"),
    };
    let first = match (counts.len(), place(shape, first)) {
        (_, place) if place.is_empty() => String::new(),
        (1, place) => format!(", the first one{place}"),
        (_, place) => format!(
            ", the first one, {},{place}",
            KINDS[usize::from(codes[first] - 1)]
        ),
    };
    Ok(Some(format!(
        "{} of {elements}{first}",
        counts.join(" and ")
    )))
}

/// 0 for each element that is finite, else one more than its number in [`KINDS`]. A complex number is
/// NaN if one of its parts is, and else infinite without a sign.
fn codes(mlx: Mlx, x: &Array) -> Result<Array> {
    let code = |code: i64| mlx.scalar(code, Type::U8);
    let infinite = match x.ty().kind() {
        Kind::Complex => code(2)?,
        _ => mlx.select(&mlx.less(x, &mlx.scalar(0, x.ty())?)?, &code(3)?, &code(2)?)?,
    };
    let infinite = mlx.select(&mlx.is_inf(x)?, &infinite, &code(0)?)?;
    mlx.select(&mlx.is_nan(x)?, &code(1)?, &infinite)
}
