//! Queries, keys and values, as products of matrices take them.

use crate::{
    Op,
    program::passes::patterns::{fusion::Fusion, graph::Graph},
};

/// A tensor, and the order of its axes in which batch and heads, positions and features come.
pub(super) struct Side {
    source: usize,
    order: Vec<usize>,
    /// What it is to be multiplied with.
    pub scale: f64,
}

impl Side {
    /// A side from where its axes came into order.
    pub(super) fn of(graph: &Graph, value: usize, order: Vec<usize>) -> Self {
        let mut side = Self {
            source: value,
            order,
            scale: 1.0,
        };
        while let Some((Op::Transpose { axes }, &[source])) = graph.op(side.source) {
            for axis in &mut side.order {
                *axis = axes[*axis];
            }
            side.source = source;
        }
        side
    }

    /// The same without the number that it is multiplied with, if nothing else needs the product.
    pub(super) fn scaled(
        fusion: &mut Fusion,
        graph: &Graph,
        value: usize,
        order: Vec<usize>,
    ) -> Self {
        let mut side = Self::of(graph, value, order);
        let mut at = value;
        let mut alone = graph.is_used_once(at);
        while let Some((Op::Transpose { .. } | Op::Reshape, &[source])) = graph.op(at) {
            at = source;
            alone &= graph.is_used_once(at);
        }
        let (x, by) = match graph.op(at) {
            Some((Op::Multiply, &[by, x])) if graph.number(by).is_some() => (x, graph.number(by)),
            Some((Op::Multiply, &[x, by])) => (x, graph.number(by)),
            Some((Op::Divide, &[x, by])) => (x, graph.number(by).map(f64::recip)),
            _ => return side,
        };
        let ordered = Self::reshaped_once(graph, side.source, at);
        if let Some(by) = by.filter(|_| alone && ordered && graph.ty(x) == graph.ty(at)) {
            side.source = fusion.reshape(x, graph.dims(side.source));
            side.scale = by;
        }
        side
    }

    /// Whether nothing but reshapes lies between a product with a number and its user.
    fn reshaped_once(graph: &Graph, mut value: usize, product: usize) -> bool {
        while value != product {
            match graph.op(value) {
                Some((Op::Reshape, &[source])) => value = source,
                _ => return false,
            }
        }
        true
    }

    /// The tensor as batch, heads, positions and features, of which the first ones may be 1.
    pub(super) fn with_four_axes(self, fusion: &mut Fusion) -> Option<usize> {
        let value = fusion.transpose(self.source, &self.order)?;
        let dims = fusion.ty(value).shape.dims();
        let ones = 4_usize.checked_sub(dims.len())?;
        let dims: Vec<_> = vec![1; ones]
            .into_iter()
            .chain(dims.iter().copied())
            .collect();
        Some(fusion.reshape(value, &dims))
    }

    /// The axis of the heads, if there is one.
    fn heads(&self) -> Option<usize> {
        (self.order.len() == 4).then(|| self.order[1])
    }
}

/// Keys and values before each head was repeated for several of the query, if both were alike.
pub(super) fn unrepeated(fusion: &mut Fusion, graph: &Graph, [key, value]: [Side; 2]) -> [Side; 2] {
    let repeated = |side: &Side| Repeated::of(graph, side.source, side.heads()?);
    match (repeated(&key), repeated(&value)) {
        (Some(keys), Some(values)) if keys.times == values.times => [(key, keys), (value, values)]
            .map(|(side, repeated)| Side {
                source: fusion.reshape(repeated.source, &repeated.dims),
                ..side
            }),
        _ => [key, value],
    }
}

/// A tensor of which each part along an axis comes several times in a row.
struct Repeated {
    source: usize,
    dims: Vec<i32>,
    times: i32,
}

impl Repeated {
    fn of(graph: &Graph, value: usize, axis: usize) -> Option<Self> {
        // What the fusion itself has made is not repeated.
        let mut at = (value < graph.count()).then_some(value)?;
        while let (Op::Reshape | Op::Squeeze, &[source]) = graph.op(at)? {
            at = source;
        }
        let (Op::Broadcast { axes }, &[source]) = graph.op(at)? else {
            return None;
        };
        let wide = graph.dims(at);
        let mut narrow = vec![1; wide.len()];
        for (&axis, &dim) in axes.iter().zip(graph.dims(source)) {
            narrow[axis] = dim;
        }
        let mut repeats = (0..wide.len()).filter(|&axis| wide[axis] != narrow[axis]);
        let (repeat, None) = (repeats.next()?, repeats.next()) else {
            return None;
        };
        let times = wide[repeat];
        let size = |dims: &[i32]| dims.iter().map(|&dim| i64::from(dim)).product::<i64>();
        let mut dims = graph.dims(value).to_vec();
        // In memory, what comes before the repeated parts and what they consist of is the same.
        let fits = narrow[repeat] == 1
            && dims[axis] % times == 0
            && size(&dims[axis + 1..]) == size(&wide[repeat + 1..])
            && size(&dims[..=axis]) == size(&wide[..=repeat]);
        dims[axis] /= times;
        let source = original(graph, source, &dims);
        fits.then_some(Self {
            source,
            dims,
            times,
        })
    }
}

/// The value of this shape that another shape was made from, if there is one.
fn original(graph: &Graph, value: usize, dims: &[i32]) -> usize {
    let mut at = value;
    loop {
        match graph.op(at) {
            _ if graph.dims(at) == dims => return at,
            Some((Op::Reshape | Op::Squeeze, &[source])) => at = source,
            _ => return value,
        }
    }
}
