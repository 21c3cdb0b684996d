//! `(x - mean(x)) / sqrt(variance(x) + epsilon) * gamma + beta` along the last axis, with gamma and beta or
//! without.

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    layout::as_it_came,
    rms_norm::{parameter, uncast},
    rows::{Normalized, Rows},
};
use crate::Op;

pub(in crate::program::passes) const LAYER_NORM: Pattern = Pattern {
    ends: |op| matches!(op, Op::Add | Op::Divide | Op::Multiply | Op::AsType),
    find,
};

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    if !is_float(graph.ty(value).ty) {
        return None;
    }
    let inner = uncast(graph, value);
    let shifted = graph.pairs(inner, |op| *op == Op::Add);
    let mut shifted = shifted.into_iter().filter_map(|(x, beta)| {
        let normalized = Normalized::of(graph, uncast(graph, x))?;
        fused(graph, value, &normalized, Some(beta))
    });
    match shifted.next() {
        Some(fusion) => Some(fusion),
        None => fused(graph, value, &Normalized::of(graph, inner)?, None),
    }
}

fn fused<'g, 'a>(
    graph: &'g Graph<'a>,
    value: usize,
    normalized: &Normalized,
    beta: Option<usize>,
) -> Option<Fusion<'g, 'a>> {
    let ty = graph.ty(value).ty;
    let centered = Rows::of(graph, value)?.centered(normalized.tensor)?;
    let x = as_it_came(graph, centered, ty)?;
    let size = *graph.dims(value).last()?;
    let mut fusion = Fusion::of(graph);
    let mut parameter_or = |given: Option<usize>, otherwise: f64| match given {
        Some(given) => parameter(&mut fusion, graph, value, given),
        None => Some(fusion.number(otherwise, ty, &[size])),
    };
    let gamma = parameter_or(normalized.factor, 1.0)?;
    let beta = parameter_or(beta, 0.0)?;
    let epsilon = normalized.epsilon;
    fusion.add(Op::LayerNorm { epsilon }, &[x, gamma, beta])?;
    Some(fusion)
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use crate::{Op, program::passes::Pass};

    /// A tensor less its means, and the inverse of its spread, or the spread.
    fn parts(sketch: &mut Sketch, x: usize, root: Op) -> (usize, usize) {
        let last = sketch.dims(x).len() - 1;
        let mean = sketch.mean(x, last);
        let centered = sketch.op(Op::Subtract, &[x, mean]);
        let two = sketch.number(2.0, x);
        let squares = sketch.op(Op::Pow, &[centered, two]);
        let variance = sketch.mean(squares, last);
        let epsilon = sketch.number(1e-3, x);
        let sum = sketch.op(Op::Add, &[variance, epsilon]);
        let spread = sketch.op(root, &[sum]);
        (centered, spread)
    }

    fn sketch(ty: &str) -> Sketch {
        Sketch::new(&[
            &format!("{ty}[2][3][8]"),
            &format!("{ty}[8]"),
            &format!("{ty}[8]"),
        ])
    }

    #[test]
    fn is_found_in_every_form() {
        for ty in ["f32", "bf16", "f16"] {
            // As Axon's layer has it.
            let mut axon = sketch(ty);
            let [gamma, beta] =
                [1, 2].map(|x| axon.to(Op::Reshape, &format!("{ty}[1][1][8]"), &[x]));
            let (centered, spread) = parts(&mut axon, 0, Op::Rsqrt);
            let scale = axon.op(Op::Multiply, &[gamma, spread]);
            let scaled = axon.op(Op::Multiply, &[scale, centered]);
            let result = axon.op(Op::Add, &[scaled, beta]);
            assert_eq!(axon.fused(Pass::LayerNorm, result), ["layer_norm"], "{ty}");

            let mut divided = sketch(ty);
            let (centered, spread) = parts(&mut divided, 0, Op::Sqrt);
            let normalized = divided.op(Op::Divide, &[centered, spread]);
            let scaled = divided.op(Op::Multiply, &[1, normalized]);
            let result = divided.op(Op::Add, &[2, scaled]);
            assert_eq!(
                divided.fused(Pass::LayerNorm, result),
                ["layer_norm"],
                "{ty}"
            );
        }
    }

    /// With neither gamma nor beta, or with one of them.
    #[test]
    fn what_is_not_there_is_one_or_zero() {
        for (gamma, beta) in [(false, false), (true, false), (false, true)] {
            let mut sketch = sketch("f32");
            let (centered, spread) = parts(&mut sketch, 0, Op::Rsqrt);
            let mut result = sketch.op(Op::Multiply, &[centered, spread]);
            if gamma {
                result = sketch.op(Op::Multiply, &[result, 1]);
            }
            if beta {
                result = sketch.op(Op::Add, &[result, 2]);
            }
            let left = sketch.fused(Pass::LayerNorm, result);
            let constants = 2 - usize::from(gamma) - usize::from(beta);
            assert_eq!(left.len(), constants + 1);
            assert_eq!(left.last().unwrap(), "layer_norm");
        }
    }

    /// As it comes before anyone looked for what is computed twice.
    #[test]
    fn means_may_be_computed_twice() {
        let mut sketch = sketch("f32");
        let mean = sketch.mean(0, 2);
        let centered = sketch.op(Op::Subtract, &[0, mean]);
        let (_, spread) = parts(&mut sketch, 0, Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[centered, spread]);
        let left = sketch.fused(Pass::LayerNorm, result);
        assert_eq!(left.last().unwrap(), "layer_norm");
        assert_eq!(left.len(), 3);
    }

    #[test]
    fn means_may_be_laid_out_in_two_ways() {
        let mut sketch = sketch("f32");
        let (axes, keep_axes) = (Some(vec![2]), false);
        let sum = sketch.op(Op::Sum { axes, keep_axes }, &[0]);
        let count = sketch.number(8.0, sum);
        let mean = sketch.op(Op::Divide, &[sum, count]);
        let mean = sketch.to(Op::Reshape, "f32[2][3][1]", &[mean]);
        let centered = sketch.op(Op::Subtract, &[0, mean]);
        let (_, spread) = parts(&mut sketch, 0, Op::Sqrt);
        let result = sketch.op(Op::Divide, &[centered, spread]);
        let left = sketch.fused(Pass::LayerNorm, result);
        assert_eq!(left, ["constant", "constant", "layer_norm"]);
    }

    #[test]
    fn casts_around_it_go() {
        let mut sketch = sketch("bf16");
        let [x, gamma, beta] = [0, 1, 2].map(|x| sketch.as_type(x, "f32"));
        let (centered, spread) = parts(&mut sketch, x, Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[centered, spread]);
        let scaled = sketch.op(Op::Multiply, &[normalized, gamma]);
        let shifted = sketch.op(Op::Add, &[scaled, beta]);
        let result = sketch.as_type(shifted, "bf16");
        assert_eq!(sketch.fused(Pass::LayerNorm, result), ["layer_norm"]);
    }

    #[test]
    fn what_goes_around_the_layer_is_no_beta() {
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[3][8]"]);
        let (centered, spread) = parts(&mut sketch, 0, Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[centered, spread]);
        let result = sketch.op(Op::Add, &[normalized, 1]);
        let left = sketch.fused(Pass::LayerNorm, result);
        assert_eq!(left[2..], ["layer_norm", "add"]);
    }

    #[test]
    fn almost_a_norm_is_none() {
        let none = |sketch: Sketch, result: usize| {
            let left = sketch.left(Pass::LayerNorm, result);
            assert!(!left.contains(&"layer_norm".into()), "{left:?}");
        };
        // Of another tensor than the one whose variance it is.
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[3][8]"]);
        let (_, spread) = parts(&mut sketch, 0, Op::Rsqrt);
        let (centered, _) = parts(&mut sketch, 1, Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[centered, spread]);
        none(sketch, result);

        // Not centered.
        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let (_, spread) = parts(&mut sketch, 0, Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[0, spread]);
        none(sketch, result);

        // The mean of columns.
        let mut sketch = Sketch::new(&["f32[8][8]"]);
        let mean = sketch.mean(0, 0);
        let centered = sketch.op(Op::Subtract, &[0, mean]);
        let squares = sketch.op(Op::Multiply, &[centered, centered]);
        let variance = sketch.mean(squares, 1);
        let epsilon = sketch.number(1e-3, 0);
        let sum = sketch.op(Op::Add, &[variance, epsilon]);
        let spread = sketch.op(Op::Rsqrt, &[sum]);
        let result = sketch.op(Op::Multiply, &[centered, spread]);
        none(sketch, result);

        // The variance is a result, too.
        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let (centered, spread) = parts(&mut sketch, 0, Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[centered, spread]);
        let program = sketch.program(&[spread, result]);
        let (_, found) = program.optimized(&[Pass::LayerNorm]).unwrap();
        assert_eq!(found[0].1, 0);
    }
}
