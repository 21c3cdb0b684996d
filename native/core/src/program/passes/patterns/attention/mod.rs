//! Attention: `softmax(query · key * scale + mask) · value`, of one head or several, in whatever order the axes lie.
//!
//! What is masked by choosing a number below [`HIDDEN`] has that added instead. A query that may look nowhere gets
//! some mean of the values then, as it does without the pattern, or NaN if the number is infinite.

mod scores;
mod side;

#[cfg(test)]
mod tests;

use scores::Scores;
use side::Side;

use super::{
    Pattern,
    fusion::Fusion,
    graph::{Graph, is_float},
    layout::widened,
    softmax,
};
use crate::{Op, Type};

pub(in crate::program::passes) const ATTENTION: Pattern = Pattern {
    ends: |op| matches!(op, Op::Dot { .. }),
    find,
};

/// What is this much below other scores has no weight beside them.
const HIDDEN: f64 = -1e4;

/// A product of two tensors along one axis of each, of which one more is left.
struct Contraction<'a> {
    sides: [usize; 2],
    batch: [&'a [usize]; 2],
    along: [usize; 2],
    left: [usize; 2],
}

impl<'a> Contraction<'a> {
    fn of(graph: &Graph<'a>, value: usize) -> Option<Self> {
        let (
            Op::Dot {
                contract_a,
                batch_a,
                contract_b,
                batch_b,
            },
            &[a, b],
        ) = graph.op(value)?
        else {
            return None;
        };
        let (&[along_a], &[along_b]) = (&contract_a[..], &contract_b[..]) else {
            return None;
        };
        let left = |side: usize, batch: &[usize], along| {
            let mut axes = 0..graph.dims(side).len();
            let left = axes.find(|axis| *axis != along && !batch.contains(axis))?;
            (graph.dims(side).len() == batch.len() + 2).then_some(left)
        };
        Some(Self {
            sides: [a, b],
            batch: [batch_a, batch_b],
            along: [along_a, along_b],
            left: [left(a, batch_a, along_a)?, left(b, batch_b, along_b)?],
        })
    }

    /// The order of a side's axes in which the batch comes first and its axis that is left last, or else
    /// that along which it is contracted.
    fn order(&self, side: usize, left_last: bool) -> Vec<usize> {
        let (left, along) = (self.left[side], self.along[side]);
        let last = if left_last {
            [along, left]
        } else {
            [left, along]
        };
        [self.batch[side], &last].concat()
    }
}

fn find<'g, 'a>(graph: &'g Graph<'a>, value: usize) -> Option<Fusion<'g, 'a>> {
    if !is_float(graph.ty(value).ty) {
        return None;
    }
    let outer = Contraction::of(graph, value)?;
    (0..2).find_map(|weights| {
        let straight = outer.order(weights, false);
        let scores = Scores::of(graph, outer.sides[weights])?;
        let in_order = straight.iter().copied().eq(0..straight.len());
        in_order.then(|| fused(graph, value, &outer, weights, &scores))?
    })
}

fn fused<'g, 'a>(
    graph: &'g Graph<'a>,
    value: usize,
    outer: &Contraction,
    weights: usize,
    scores: &Scores,
) -> Option<Fusion<'g, 'a>> {
    let inner = Contraction::of(graph, scores.product)?;
    let (ty, axes) = (graph.ty(value).ty, graph.dims(value).len());
    let mut fusion = Fusion::of(graph);
    let query = Side::scaled(&mut fusion, graph, inner.sides[0], inner.order(0, false));
    let key = Side::scaled(&mut fusion, graph, inner.sides[1], inner.order(1, false));
    let values = Side::of(
        graph,
        outer.sides[1 - weights],
        outer.order(1 - weights, true),
    );
    let scale = scores.scale * query.scale * key.scale;
    let [key, values] = side::unrepeated(&mut fusion, graph, [key, values]);
    let mut inputs = Vec::with_capacity(4);
    for side in [query, key, values] {
        // A mask of f32 makes everything after it one.
        let side = side.with_four_axes(&mut fusion)?;
        inputs.push(widened(&mut fusion, side, ty)?);
    }
    inputs.extend(scores.mask(&mut fusion, graph, ty)?.as_slice());
    let fits = axes <= 4 && scale.is_finite() && graph.dims(scores.product).len() == axes;
    let attention = fusion
        .add(
            Op::Attention {
                scale,
                sinks: false,
            },
            &inputs,
        )
        .filter(|_| fits)?;
    let mut dims = graph.dims(value).to_vec();
    if weights == 1 {
        dims.swap(axes - 2, axes - 1);
    }
    let attention = fusion.reshape(attention, &dims);
    if weights == 1 {
        let mut order: Vec<_> = (0..axes).collect();
        order.swap(axes - 2, axes - 1);
        fusion.transpose(attention, &order)?;
    }
    Some(fusion)
}

/// A value before it was made wider, or narrower.
fn uncast(graph: &Graph, value: usize) -> usize {
    match graph.op(value) {
        Some((Op::AsType, &[x])) if is_float(graph.ty(x).ty) && is_float(graph.ty(value).ty) => x,
        _ => value,
    }
}

/// What the weights of attention are the softmax of.
fn argument(graph: &Graph, weights: usize) -> Option<usize> {
    // Weights may be made narrower to meet the values, and scores wider for the softmax.
    softmax::argument(graph, weights).or_else(|| softmax::argument(graph, uncast(graph, weights)))
}

/// The least finite number of a type.
const fn least(ty: Type) -> f64 {
    match ty {
        Type::F16 => -65_504.0,
        Type::Bf16 => -3.389_531_389_251_535_5e38,
        _ => -3.402_823_466_385_288_6e38,
    }
}
