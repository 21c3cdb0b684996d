//! `exp(x - max(x)) / sum(exp(x - max(x)))` along the last axis, with the maximum or without.
//!
//! Where exponentials without a maximum overflow, the result is a number instead of NaN.

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    rows::Rows,
};
use crate::Op;

pub(in crate::program::passes) const SOFTMAX: Pattern = Pattern {
    ends: |op| matches!(op, Op::Divide | Op::Multiply | Op::AsType),
    find,
};

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    let ty = graph.ty(value).ty;
    let x = match graph.op(value)? {
        // A kernel computes in f32 whatever it is given.
        (Op::AsType, &[wide]) => match graph.op(argument(graph, wide)?)? {
            (Op::AsType, &[x]) => x,
            _ => return None,
        },
        _ => argument(graph, value)?,
    };
    let fits = is_float(ty) && graph.ty(x).ty == ty;
    let mut fusion = Fusion::of(graph);
    fusion.add(Op::Softmax, &[x]).filter(|_| fits)?;
    Some(fusion)
}

/// What a value is the softmax of, along the last axis.
pub(super) fn argument(graph: &Graph, value: usize) -> Option<usize> {
    let rows = Rows::of(graph, value)?;
    let exponential = match graph.op(value)? {
        (Op::Softmax, &[x]) => return Some(x),
        (Op::Divide, &[exponential, sum]) => {
            quotient(graph, rows, exponential, sum).then_some(exponential)?
        }
        (Op::Multiply, &[x, y]) => {
            let inverse = |exponential, of| match graph.op(rows.bare(of)) {
                Some((Op::Divide, &[one, sum])) if graph.is(one, 1.0) => {
                    rows.meet(of) && is_sum(graph, rows, exponential, sum)
                }
                _ => false,
            };
            let pair = [(x, y), (y, x)];
            pair.into_iter().find(|&(x, of)| inverse(x, of))?.0
        }
        _ => return None,
    };
    let (Op::Exp, &[shifted]) = graph.op(exponential)? else {
        return None;
    };
    let same_type = graph.ty(shifted) == graph.ty(value);
    let x = match graph.op(shifted) {
        Some((Op::Subtract, &[x, most]))
            if rows.meet(most) && rows.greatest(most).is_some_and(|of| graph.same(of, x)) =>
        {
            x
        }
        _ => shifted,
    };
    same_type.then_some(x)
}

fn quotient(graph: &Graph, rows: Rows, exponential: usize, sum: usize) -> bool {
    rows.meet(sum) && is_sum(graph, rows, exponential, sum)
}

fn is_sum(graph: &Graph, rows: Rows, exponential: usize, sum: usize) -> bool {
    let summed = rows.summed(sum);
    summed.is_some_and(|summed| graph.same(summed, exponential))
}

#[cfg(test)]
mod tests {
    use super::super::sketch::{Sketch, agree, names};
    use crate::{Op, program::passes::Pass};

    const X: &str = "f32[2][3][8]";

    /// How the sum becomes a number a row again, and how it is divided by.
    fn softmax(sketch: &mut Sketch, x: usize, keep: bool, inverse: bool, most: bool) -> usize {
        let last = sketch.dims(x).len() - 1;
        let axes = Some(vec![last]);
        let rows = |sketch: &mut Sketch, value: usize| {
            let mut dims = sketch.dims(x);
            dims[last] = 1;
            let dims: String = dims.iter().map(|dim| format!("[{dim}]")).collect();
            let ty = sketch.ty(x);
            sketch.to(Op::Reshape, &format!("{ty}{dims}"), &[value])
        };
        let mut shifted = x;
        if most {
            let max = Op::ReduceMax {
                axes: axes.clone(),
                keep_axes: keep,
            };
            let max = sketch.op(max, &[x]);
            let max = if keep { max } else { rows(sketch, max) };
            shifted = sketch.op(Op::Subtract, &[x, max]);
        }
        let exp = sketch.op(Op::Exp, &[shifted]);
        let sum = Op::Sum {
            axes,
            keep_axes: keep,
        };
        let sum = sketch.op(sum, &[exp]);
        let sum = if keep { sum } else { rows(sketch, sum) };
        if inverse {
            let one = sketch.number(1.0, x);
            let inverse = sketch.op(Op::Divide, &[one, sum]);
            return sketch.op(Op::Multiply, &[inverse, exp]);
        }
        sketch.op(Op::Divide, &[exp, sum])
    }

    #[test]
    fn is_found_in_every_form() {
        for ty in ["f32", "bf16", "f16"] {
            for form in 0..8 {
                let mut sketch = Sketch::new(&[&X.replace("f32", ty)]);
                let (keep, inverse, most) = (form & 1 > 0, form & 2 > 0, form & 4 > 0);
                let result = softmax(&mut sketch, 0, keep, inverse, most);
                let left = sketch.fused(Pass::Softmax, result);
                assert_eq!(left, ["softmax"], "{ty} {form}");
            }
        }
    }

    #[test]
    fn along_the_only_axis_the_sum_may_be_a_scalar() {
        let mut sketch = Sketch::new(&["f32[8]"]);
        let exp = sketch.op(Op::Exp, &[0]);
        let all = Op::Sum {
            axes: None,
            keep_axes: false,
        };
        let sum = sketch.op(all, &[exp]);
        let result = sketch.op(Op::Divide, &[exp, sum]);
        assert_eq!(sketch.fused(Pass::Softmax, result), ["softmax"]);
    }

    #[test]
    fn casts_around_it_go() {
        let mut sketch = Sketch::new(&["bf16[2][8]"]);
        let wide = sketch.as_type(0, "f32");
        let result = softmax(&mut sketch, wide, true, false, true);
        let result = sketch.as_type(result, "bf16");
        assert_eq!(sketch.fused(Pass::Softmax, result), ["softmax"]);

        // What was made wider is another type than the result.
        let mut sketch = Sketch::new(&["f16[2][8]"]);
        let wide = sketch.as_type(0, "f32");
        let result = softmax(&mut sketch, wide, true, false, true);
        let result = sketch.as_type(result, "bf16");
        let left = sketch.fused(Pass::Softmax, result);
        assert_eq!(left, ["as_type", "softmax", "as_type"]);
    }

    #[test]
    fn another_shift_stays() {
        let mut sketch = Sketch::new(&["f32[4][8]", "f32[8]"]);
        let shifted = sketch.op(Op::Subtract, &[0, 1]);
        let result = softmax(&mut sketch, shifted, true, true, false);
        let left = sketch.fused(Pass::Softmax, result);
        assert_eq!(left, ["subtract", "softmax"]);
    }

    #[test]
    fn what_is_used_elsewhere_stays_computed_once() {
        for part in 0..3 {
            let mut sketch = Sketch::new(&["f32[4][8]"]);
            let result = softmax(&mut sketch, 0, true, true, true);
            // Maximum, exponential, sum; the result may be used as often as one likes.
            let other = [1, 3, 4][part];
            let count = sketch.count();
            let program = sketch.program(&[other, result]);
            let (same, found) = program.clone().optimized(&[Pass::Softmax]).unwrap();
            assert_eq!(
                (same.instructions().len(), found[0].1),
                (count, 0),
                "{part}"
            );
        }
        let mut sketch = Sketch::new(&["f32[4][8]"]);
        let result = softmax(&mut sketch, 0, true, true, true);
        let other = sketch.op(Op::Sin, &[result]);
        let program = sketch.program(&[other, result]);
        let (fused, _) = program.clone().optimized(&[Pass::Softmax]).unwrap();
        agree(&program, &fused);
        assert_eq!(names(&fused), ["softmax", "sin"]);
    }

    #[test]
    fn almost_a_softmax_is_none() {
        // Sums along another axis, or of other exponentials.
        let mut sketch = Sketch::new(&["f32[4][8]"]);
        let exp = sketch.op(Op::Exp, &[0]);
        let sum = sketch.sum(exp, 0);
        let result = sketch.op(Op::Divide, &[exp, sum]);
        assert!(
            !sketch
                .left(Pass::Softmax, result)
                .contains(&"softmax".into())
        );

        let mut sketch = Sketch::new(&["f32[4][8]", "f32[4][8]"]);
        let exp = sketch.op(Op::Exp, &[0]);
        let other = sketch.op(Op::Exp, &[1]);
        let sum = sketch.sum(other, 1);
        let result = sketch.op(Op::Divide, &[exp, sum]);
        assert!(
            !sketch
                .left(Pass::Softmax, result)
                .contains(&"softmax".into())
        );

        // A list of sums that meets the columns, not the rows.
        let mut sketch = Sketch::new(&["f32[8][8]"]);
        let exp = sketch.op(Op::Exp, &[0]);
        let sum = Op::Sum {
            axes: Some(vec![1]),
            keep_axes: false,
        };
        let sum = sketch.op(sum, &[exp]);
        let result = sketch.op(Op::Divide, &[exp, sum]);
        assert!(
            !sketch
                .left(Pass::Softmax, result)
                .contains(&"softmax".into())
        );

        for ty in ["f64", "c64"] {
            let mut sketch = Sketch::new(&[&format!("{ty}[4][8]")]);
            let result = softmax(&mut sketch, 0, true, true, false);
            assert!(
                !sketch
                    .left(Pass::Softmax, result)
                    .contains(&"softmax".into())
            );
        }
    }
}
