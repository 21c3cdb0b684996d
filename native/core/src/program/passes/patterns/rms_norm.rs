//! `x / sqrt(mean(x ** 2) + epsilon) * gamma` along the last axis, with gamma or without.

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    layout::{as_it_came, vector, widened},
    rows::Normalized,
};
use crate::{Op, Type};

pub(in crate::program::passes) const RMS_NORM: Pattern = Pattern {
    ends: |op| matches!(op, Op::Divide | Op::Multiply | Op::AsType),
    find,
};

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let ty = graph.ty(value).ty;
    let inner = uncast(graph, value);
    let normalized = Normalized::of(graph, inner)?;
    let x = as_it_came(graph, normalized.tensor, ty)?;
    let mut fusion = Fusion::of(graph);
    let mut inputs = vec![x];
    if let Some(factor) = normalized.factor {
        inputs.push(parameter(&mut fusion, graph, value, factor)?);
    }
    let epsilon = normalized.epsilon;
    fusion
        .add(Op::RmsNorm { epsilon }, &inputs)
        .filter(|_| is_float(ty))?;
    Some(fusion)
}

/// A value before it was made narrower.
pub(super) fn uncast(graph: &Graph, value: usize) -> usize {
    match graph.op(value) {
        Some((Op::AsType, &[wide])) if graph.ty(wide).ty == Type::F32 => wide,
        _ => value,
    }
}

/// What the elements of each row of `value` meet in turn, as a kernel takes it.
pub(super) fn parameter(
    fusion: &mut Fusion,
    graph: &Graph,
    value: usize,
    parameter: usize,
) -> Option<usize> {
    let of = graph.ty(value);
    let size = *of.shape.dims().last()?;
    let parameter = as_it_came(graph, parameter, of.ty).unwrap_or(parameter);
    let parameter = vector(fusion, graph, parameter, size)?;
    widened(fusion, parameter, of.ty)
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use crate::{Op, program::passes::Pass};

    const EPSILON: f64 = 1e-3;

    /// The spread of a tensor along `axis`: `sqrt(mean(x ** 2) + epsilon)`, or the inverse.
    pub(in super::super) fn spread(
        sketch: &mut Sketch,
        x: usize,
        axis: usize,
        square: bool,
        root: &Op,
    ) -> usize {
        let squares = if square {
            sketch.op(Op::Multiply, &[x, x])
        } else {
            let two = sketch.number(2.0, x);
            sketch.op(Op::Pow, &[x, two])
        };
        let mean = sketch.mean(squares, axis);
        let epsilon = sketch.number(EPSILON, x);
        let sum = sketch.op(Op::Add, &[epsilon, mean]);
        if *root == Op::Pow {
            let half = sketch.number(-0.5, x);
            return sketch.op(Op::Pow, &[sum, half]);
        }
        sketch.op(root.clone(), &[sum])
    }

    #[test]
    fn is_found_in_every_form() {
        for ty in ["f32", "bf16", "f16"] {
            for form in 0..8 {
                let mut sketch = Sketch::new(&[&format!("{ty}[2][3][8]"), &format!("{ty}[8]")]);
                let root = [Op::Sqrt, Op::Rsqrt, Op::Rsqrt, Op::Pow][form % 4].clone();
                let spread = spread(&mut sketch, 0, 2, form > 3, &root);
                let result = match form % 4 {
                    0 => {
                        let x = sketch.op(Op::Divide, &[0, spread]);
                        sketch.op(Op::Multiply, &[x, 1])
                    }
                    1 => {
                        let gamma = sketch.to(Op::Reshape, &format!("{ty}[1][1][8]"), &[1]);
                        let x = sketch.op(Op::Multiply, &[gamma, spread]);
                        sketch.op(Op::Multiply, &[x, 0])
                    }
                    2 => {
                        let x = sketch.op(Op::Multiply, &[0, 1]);
                        sketch.op(Op::Multiply, &[spread, x])
                    }
                    _ => sketch.op(Op::Multiply, &[0, spread]),
                };
                let left = sketch.fused(Pass::RmsNorm, result);
                assert_eq!(left, ["rms_norm"], "{ty} {form}");
            }
        }
    }

    /// As Bumblebee's layers make the input wider: for the normalization, or for gamma, too.
    #[test]
    fn casts_around_it_go() {
        let mut sketch = Sketch::new(&["bf16[2][3][8]", "bf16[8]"]);
        let wide = sketch.as_type(0, "f32");
        let by = spread(&mut sketch, wide, 2, false, &Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[wide, by]);
        let normalized = sketch.as_type(normalized, "bf16");
        let result = sketch.op(Op::Multiply, &[normalized, 1]);
        assert_eq!(sketch.fused(Pass::RmsNorm, result), ["rms_norm"]);

        let mut sketch = Sketch::new(&["bf16[2][3][8]", "bf16[8]"]);
        let (wide, gamma) = (sketch.as_type(0, "f32"), sketch.as_type(1, "f32"));
        let one = sketch.number(1.0, wide);
        let gamma = sketch.op(Op::Add, &[one, gamma]);
        let by = spread(&mut sketch, wide, 2, false, &Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[wide, by]);
        let result = sketch.op(Op::Multiply, &[normalized, gamma]);
        let left = sketch.fused(Pass::RmsNorm, result);
        assert_eq!(left[left.len() - 2..], ["add", "rms_norm"]);
        assert_eq!(left.len(), 5);
    }

    #[test]
    fn gamma_is_made_wider() {
        let mut sketch = Sketch::new(&["f32[3][8]", "bf16[8]"]);
        let by = spread(&mut sketch, 0, 1, false, &Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[0, by]);
        let result = sketch.op(Op::Multiply, &[normalized, 1]);
        assert_eq!(sketch.fused(Pass::RmsNorm, result), ["as_type", "rms_norm"]);
    }

    #[test]
    fn what_is_no_gamma_stays() {
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[3][8]"]);
        let by = spread(&mut sketch, 0, 1, true, &Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[0, by]);
        let result = sketch.op(Op::Multiply, &[normalized, 1]);
        assert_eq!(
            sketch.fused(Pass::RmsNorm, result),
            ["rms_norm", "multiply"]
        );
    }

    /// A result that is used before gamma, too, is made once.
    #[test]
    fn the_largest_that_nothing_else_needs_is_taken() {
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[8]"]);
        let by = spread(&mut sketch, 0, 1, true, &Op::Rsqrt);
        let normalized = sketch.op(Op::Multiply, &[0, by]);
        let scaled = sketch.op(Op::Multiply, &[normalized, 1]);
        let result = sketch.op(Op::Add, &[normalized, scaled]);
        let left = sketch.fused(Pass::RmsNorm, result);
        assert_eq!(left, ["rms_norm", "multiply", "add"]);
    }

    #[test]
    fn almost_a_norm_is_none() {
        let none = |sketch: Sketch, result: usize| {
            let left = sketch.left(Pass::RmsNorm, result);
            assert!(!left.contains(&"rms_norm".into()), "{left:?}");
        };
        // Along another axis.
        let mut sketch = Sketch::new(&["f32[8][8]"]);
        let by = spread(&mut sketch, 0, 0, true, &Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[0, by]);
        none(sketch, result);

        // Epsilon beside the root.
        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let squares = sketch.op(Op::Multiply, &[0, 0]);
        let mean = sketch.mean(squares, 1);
        let root = sketch.op(Op::Sqrt, &[mean]);
        let epsilon = sketch.number(EPSILON, root);
        let by = sketch.op(Op::Add, &[root, epsilon]);
        let result = sketch.op(Op::Divide, &[0, by]);
        none(sketch, result);

        // Of another tensor, or multiplied with the root, or of cubes.
        let mut sketch = Sketch::new(&["f32[3][8]", "f32[3][8]"]);
        let by = spread(&mut sketch, 0, 1, true, &Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[1, by]);
        none(sketch, result);

        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let by = spread(&mut sketch, 0, 1, true, &Op::Sqrt);
        let result = sketch.op(Op::Multiply, &[0, by]);
        none(sketch, result);

        // The sum over another number than there are elements.
        let mut sketch = Sketch::new(&["f32[3][8]"]);
        let squares = sketch.op(Op::Multiply, &[0, 0]);
        let sum = sketch.sum(squares, 1);
        let count = sketch.number(7.0, sum);
        let mean = sketch.op(Op::Divide, &[sum, count]);
        let epsilon = sketch.number(EPSILON, mean);
        let sum = sketch.op(Op::Add, &[mean, epsilon]);
        let by = sketch.op(Op::Rsqrt, &[sum]);
        let result = sketch.op(Op::Multiply, &[0, by]);
        none(sketch, result);

        let mut sketch = Sketch::new(&["f64[3][8]"]);
        let by = spread(&mut sketch, 0, 1, true, &Op::Rsqrt);
        let result = sketch.op(Op::Multiply, &[0, by]);
        none(sketch, result);
    }
}
