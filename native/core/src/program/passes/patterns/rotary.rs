//! Positions told by turning pairs of features: `x * cos + turned(x) * sin`, where `turned` is the second half of
//! the last axis, negated, before the first. Or half by half: `first * cos - second * sin` before
//! `second * cos + first * sin`.

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    layout::widened,
};
use crate::Op;

pub(in crate::program::passes) const ROTARY_EMBEDDING: Pattern = Pattern {
    ends: |op| matches!(op, Op::Add | Op::Concatenate { .. }),
    find,
};

/// The same of what was normalized for that alone.
pub(in crate::program::passes) const NORMALIZED_ROTARY: Pattern = Pattern {
    ends: |op| *op == Op::RotaryEmbedding,
    find: normalized,
};

fn normalized<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let (Op::RotaryEmbedding, &[turned, cosines, sines]) = graph.op(value)? else {
        return None;
    };
    let (&Op::RmsNorm { epsilon }, &[x, gamma]) = graph.op(turned)? else {
        return None;
    };
    let op = Op::RmsNormRotaryEmbedding { epsilon };
    let mut fusion = Fusion::of(graph);
    fusion.add(op, &[x, gamma, cosines, sines])?;
    Some(fusion)
}

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let turn = whole(graph, value).or_else(|| by_halves(graph, value))?;
    let ty = graph.ty(value).ty;
    let mut fusion = Fusion::of(graph);
    let both = |fusion: &mut Fusion, half: usize| {
        let half = widened(fusion, half, ty)?;
        if turn.whole || graph.dims(half).last().is_none_or(|&last| last == 1) {
            return Some(half);
        }
        let axis = graph.dims(half).len() - 1;
        fusion.add(Op::Concatenate { axis }, &[half, half])
    };
    let cosines = both(&mut fusion, turn.cosines)?;
    let sines = both(&mut fusion, turn.sines)?;
    let x = widened(&mut fusion, turn.x, ty)?;
    let turned = fusion.add(Op::RotaryEmbedding, &[x, cosines, sines]);
    turned.filter(|_| is_float(ty))?;
    Some(fusion)
}

/// What is turned, and by which angles: of the whole last axis, or of one half, as of the other.
struct Turn {
    x: usize,
    cosines: usize,
    sines: usize,
    whole: bool,
}

fn products(graph: &Graph, value: usize) -> impl Iterator<Item = (usize, usize)> {
    graph.pairs(value, |op| *op == Op::Multiply).into_iter()
}

fn whole(graph: &Graph, value: usize) -> Option<Turn> {
    let sums = graph.pairs(value, |op| *op == Op::Add).into_iter();
    sums.into_iter().find_map(|(straight, turned)| {
        let (x, sines) = products(graph, turned)
            .find_map(|(turned, by)| Some((unturned(graph, turned)?, by)))?;
        let (_, cosines) = products(graph, straight).find(|&(y, _)| y == x)?;
        let whole = true;
        Some(Turn {
            x,
            cosines,
            sines,
            whole,
        })
    })
}

/// The tensor of which a value is the second half, negated, before the first.
fn unturned(graph: &Graph, value: usize) -> Option<usize> {
    let [second, first] = joined(graph, value)?;
    let (Op::Negate, &[second]) = graph.op(second)? else {
        return None;
    };
    let x = half(graph, first, false)?;
    (half(graph, second, true)? == x).then_some(x)
}

fn by_halves(graph: &Graph, value: usize) -> Option<Turn> {
    let [left, right] = joined(graph, value)?;
    let (Op::Subtract, &[plus, minus]) = graph.op(left)? else {
        return None;
    };
    products(graph, plus).find_map(|(first, cosines)| {
        let x = half(graph, first, false)?;
        let (second, sines) =
            products(graph, minus).find(|&(second, _)| half(graph, second, true) == Some(x))?;
        let is = |value, factors: [usize; 2]| {
            let same = |(a, b)| graph.same(a, factors[0]) && graph.same(b, factors[1]);
            products(graph, value).any(same)
        };
        let mut sums = graph.pairs(right, |op| *op == Op::Add).into_iter();
        let fits = sums.any(|(a, b)| is(a, [second, cosines]) && is(b, [first, sines]));
        let whole = false;
        fits.then_some(Turn {
            x,
            cosines,
            sines,
            whole,
        })
    })
}

/// Two tensors that lie beside each other along the last axis.
fn joined(graph: &Graph, value: usize) -> Option<[usize; 2]> {
    match graph.op(value)? {
        (Op::Concatenate { axis }, &[left, right]) if axis + 1 == graph.dims(value).len() => {
            Some([left, right])
        }
        _ => None,
    }
}

/// The tensor of which a value is the first half along the last axis, or the second.
fn half(graph: &Graph, value: usize, second: bool) -> Option<usize> {
    let (
        Op::Slice {
            starts, strides, ..
        },
        &[x],
    ) = graph.op(value)?
    else {
        return None;
    };
    let (&size, others) = graph.dims(x).split_last()?;
    let (&length, same) = graph.dims(value).split_last()?;
    let (&start, before) = starts.split_last()?;
    let from = if second { length } else { 0 };
    let fits = size == 2 * length
        && others == same
        && i32::try_from(start) == Ok(from)
        && before.iter().all(|&start| start == 0)
        && strides.iter().all(|&by| by == 1);
    fits.then_some(x)
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use crate::{Op, program::passes::Pass};

    fn slice(sketch: &mut Sketch, x: usize, start: usize, length: usize) -> usize {
        let mut lengths: Vec<_> = sketch.dims(x).iter().map(|&dim| dim as usize).collect();
        let mut starts = vec![0; lengths.len()];
        *lengths.last_mut().unwrap() = length;
        *starts.last_mut().unwrap() = start;
        let strides = vec![1; lengths.len()];
        sketch.op(
            Op::Slice {
                starts,
                lengths,
                strides,
            },
            &[x],
        )
    }

    fn turned(sketch: &mut Sketch, x: usize, half: usize) -> usize {
        let second = slice(sketch, x, half, half);
        let second = sketch.op(Op::Negate, &[second]);
        let first = slice(sketch, x, 0, half);
        let axis = sketch.dims(x).len() - 1;
        sketch.op(Op::Concatenate { axis }, &[second, first])
    }

    fn rotated(sketch: &mut Sketch, form: usize) -> usize {
        let turned = turned(sketch, 0, 4);
        let [straight, turned] = if form & 1 > 0 {
            [[0, 1], [turned, 2]]
        } else {
            [[1, 0], [2, turned]]
        };
        let straight = sketch.op(Op::Multiply, &straight);
        let turned = sketch.op(Op::Multiply, &turned);
        let terms = if form & 2 > 0 {
            [straight, turned]
        } else {
            [turned, straight]
        };
        sketch.op(Op::Add, &terms)
    }

    #[test]
    fn is_found_in_every_order() {
        for ty in ["f32", "bf16", "f16"] {
            for form in 0..4 {
                let table = format!("{ty}[1][3][1][8]");
                let mut sketch = Sketch::new(&[&format!("{ty}[2][3][4][8]"), &table, &table]);
                let result = rotated(&mut sketch, form);
                let left = sketch.fused(Pass::RotaryEmbedding, result);
                assert_eq!(left, ["rotary_embedding"], "{ty} {form}");
            }
        }
    }

    #[test]
    fn what_is_narrower_is_made_wider() {
        let mut sketch = Sketch::new(&["bf16[2][3][4][8]", "f32[3][1][8]", "f32[3][1][8]"]);
        let result = rotated(&mut sketch, 0);
        let left = sketch.fused(Pass::RotaryEmbedding, result);
        assert_eq!(left, ["as_type", "rotary_embedding"]);
    }

    #[test]
    fn a_norm_before_it_is_taken_in_if_nothing_else_needs_it() {
        for needed in [false, true] {
            let inputs = ["bf16[2][3][8]", "bf16[8]", "bf16[3][8]", "bf16[3][8]"];
            let mut sketch = Sketch::new(&inputs);
            let epsilon = 1e-6;
            let x = sketch.op(Op::RmsNorm { epsilon }, &[0, 1]);
            let turned = turned(&mut sketch, x, 4);
            let straight = sketch.op(Op::Multiply, &[x, 2]);
            let turned = sketch.op(Op::Multiply, &[turned, 3]);
            let mut result = sketch.op(Op::Add, &[straight, turned]);
            if needed {
                result = sketch.op(Op::Subtract, &[result, x]);
            }
            let left = sketch.fused(Pass::RotaryEmbedding, result);
            let expected: &[&str] = match needed {
                true => &["rms_norm", "rotary_embedding", "subtract"],
                false => &["rms_norm_rotary_embedding"],
            };
            assert_eq!(left, expected);
        }
    }

    /// With tables of half the size.
    #[test]
    fn is_found_half_by_half() {
        for table in ["f32[3][1][4]", "f32[3][1][1]"] {
            let mut sketch = Sketch::new(&["f32[2][3][4][8]", table, table]);
            let [first, second] = [0, 4].map(|start| slice(&mut sketch, 0, start, 4));
            let mut product = |x, by| sketch.op(Op::Multiply, &[x, by]);
            let terms = [[first, 1], [second, 2], [second, 1], [first, 2]];
            let [a, b, c, d] = terms.map(|[x, by]| product(x, by));
            let left = sketch.op(Op::Subtract, &[a, b]);
            let right = sketch.op(Op::Add, &[c, d]);
            let result = sketch.op(Op::Concatenate { axis: 3 }, &[left, right]);
            let left = sketch.fused(Pass::RotaryEmbedding, result);
            assert_eq!(left.last().unwrap(), "rotary_embedding", "{left:?}");
            assert!(left.len() <= 3, "{left:?}");
        }
    }

    #[test]
    fn almost_a_rotation_is_none() {
        let none = |sketch: Sketch, result: usize| {
            let left = sketch.left(Pass::RotaryEmbedding, result);
            assert!(!left.contains(&"rotary_embedding".into()), "{left:?}");
        };
        let inputs = ["f32[3][8]", "f32[8]", "f32[8]", "f32[3][8]"];
        // Halves of other sizes.
        let mut sketch = Sketch::new(&inputs);
        let second = slice(&mut sketch, 0, 2, 6);
        let second = sketch.op(Op::Negate, &[second]);
        let first = slice(&mut sketch, 0, 0, 2);
        let turned_ = sketch.op(Op::Concatenate { axis: 1 }, &[second, first]);
        let straight = sketch.op(Op::Multiply, &[0, 1]);
        let turned_ = sketch.op(Op::Multiply, &[turned_, 2]);
        let result = sketch.op(Op::Add, &[straight, turned_]);
        none(sketch, result);

        // The turned one is another tensor.
        let mut sketch = Sketch::new(&inputs);
        let other = turned(&mut sketch, 3, 4);
        let straight = sketch.op(Op::Multiply, &[0, 1]);
        let other = sketch.op(Op::Multiply, &[other, 2]);
        let result = sketch.op(Op::Add, &[straight, other]);
        none(sketch, result);

        // Not negated.
        let mut sketch = Sketch::new(&inputs);
        let [first, second] = [0, 4].map(|start| slice(&mut sketch, 0, start, 4));
        let swapped = sketch.op(Op::Concatenate { axis: 1 }, &[second, first]);
        let straight = sketch.op(Op::Multiply, &[0, 1]);
        let swapped = sketch.op(Op::Multiply, &[swapped, 2]);
        let result = sketch.op(Op::Add, &[straight, swapped]);
        none(sketch, result);

        // The turned one is needed, too.
        let mut sketch = Sketch::new(&inputs);
        let other = turned(&mut sketch, 0, 4);
        let straight = sketch.op(Op::Multiply, &[0, 1]);
        let product = sketch.op(Op::Multiply, &[other, 2]);
        let sum = sketch.op(Op::Add, &[straight, product]);
        let result = sketch.op(Op::Subtract, &[sum, other]);
        none(sketch, result);
    }
}
