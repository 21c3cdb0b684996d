//! Numbers of rows: what is the same for all elements along a tensor's last axis.

use super::graph::Graph;
use crate::Op;

/// The rows of tensors of one shape.
#[derive(Clone, Copy)]
pub(super) struct Rows<'g, 'a> {
    graph: &'g Graph<'a>,
    dims: &'a [i32],
}

impl<'g, 'a> Rows<'g, 'a> {
    /// The rows of a tensor with at least one axis.
    pub(super) fn of(graph: &'g Graph<'a>, tensor: usize) -> Option<Self> {
        let dims = graph.dims(tensor);
        (!dims.is_empty()).then_some(Self { graph, dims })
    }

    fn axis(&self) -> usize {
        self.dims.len() - 1
    }

    /// How many elements a row has.
    pub(super) fn length(&self) -> i32 {
        self.dims[self.axis()]
    }

    /// Whether a value is one number a row where it meets the tensors: its last axis has size 1, or the
    /// tensors' size and the number as often.
    pub(super) fn meet(&self, value: usize) -> bool {
        self.is_column(value) || self.graph.dims(value) == self.dims
    }

    fn is_column(&self, value: usize) -> bool {
        match self.graph.dims(value).split_last() {
            Some((1, rows)) => *rows == self.dims[..self.axis()],
            Some(_) => false,
            None => self.axis() == 0,
        }
    }

    fn is_list(&self, value: usize) -> bool {
        *self.graph.dims(value) == self.dims[..self.axis()]
    }

    /// The value before it was laid out to meet the tensors.
    pub(super) fn bare(&self, mut value: usize) -> usize {
        let is_rows = |value| self.is_column(value) || self.is_list(value);
        loop {
            let source = match self.graph.op(value) {
                Some((Op::Reshape | Op::Squeeze, &[x])) if is_rows(value) && is_rows(x) => x,
                Some((Op::Broadcast { axes }, &[x]))
                    if is_rows(x)
                        && (is_rows(value) || self.graph.dims(value) == self.dims)
                        && axes.iter().copied().eq(0..axes.len()) =>
                {
                    x
                }
                _ => return value,
            };
            value = source;
        }
    }

    /// What is reduced to one number a row.
    fn reduced(&self, value: usize, is: fn(&Op) -> Option<&Option<Vec<usize>>>) -> Option<usize> {
        let (op, &[x]) = self.graph.op(self.bare(value))? else {
            return None;
        };
        let along = match is(op)? {
            Some(axes) => axes[..] == [self.axis()],
            None => self.axis() == 0,
        };
        (along && self.graph.dims(x) == self.dims).then_some(x)
    }

    /// What has this value as its sums.
    pub(super) fn summed(&self, value: usize) -> Option<usize> {
        self.reduced(value, |op| match op {
            Op::Sum { axes, .. } => Some(axes),
            _ => None,
        })
    }

    /// What has this value as its maxima.
    pub(super) fn greatest(&self, value: usize) -> Option<usize> {
        self.reduced(value, |op| match op {
            Op::ReduceMax { axes, .. } => Some(axes),
            _ => None,
        })
    }

    /// What has this value as its means.
    pub(super) fn averaged(&self, value: usize) -> Option<usize> {
        let length = f64::from(self.length());
        match self.graph.op(self.bare(value))? {
            (Op::Divide, &[sum, by]) if self.graph.is(by, length) => self.summed(sum),
            (Op::Multiply, &[x, y]) if self.graph.is(x, length.recip()) => self.summed(y),
            (Op::Multiply, &[x, y]) if self.graph.is(y, length.recip()) => self.summed(x),
            _ => None,
        }
    }

    /// What a value is less the means of its rows.
    pub(super) fn centered(&self, value: usize) -> Option<usize> {
        match self.graph.op(value)? {
            (Op::Subtract, &[x, mean]) => {
                let of = self.averaged(mean).filter(|_| self.meet(mean))?;
                self.graph.same(of, x).then_some(x)
            }
            _ => None,
        }
    }

    /// Whether two values are the same, or the same tensor less its means, however these were laid out.
    fn alike(&self, one: usize, other: usize) -> bool {
        let centered = || Some((self.centered(one)?, self.centered(other)?));
        self.graph.same(one, other) || centered().is_some_and(|(x, y)| x == y)
    }

    /// The spread, or its inverse, that a value is where it meets its tensor.
    fn met(&self, value: usize, inverse: bool) -> Option<Spread> {
        let spread = self.spread(value).filter(|_| self.meet(value))?;
        (spread.inverse == inverse).then_some(spread)
    }

    fn spread(&self, value: usize) -> Option<Spread> {
        let (sum, inverse) = self.root(value)?;
        let pairs = self.graph.pairs(self.bare(sum), |op| *op == Op::Add);
        let (mean, epsilon) = pairs
            .into_iter()
            .find_map(|(mean, by)| Some((mean, self.graph.number(by)?)))?;
        let tensor = match self.graph.op(self.averaged(mean)?)? {
            (Op::Multiply, &[x, y]) if self.graph.same(x, y) => x,
            (Op::Pow, &[x, by]) if self.graph.is(by, 2.0) => x,
            _ => return None,
        };
        (epsilon >= 0.0 && epsilon.is_finite()).then_some(Spread {
            tensor,
            epsilon,
            inverse,
        })
    }

    /// What a value is the root of, or the inverse of the root.
    fn root(&self, value: usize) -> Option<(usize, bool)> {
        match self.graph.op(self.bare(value))? {
            (Op::Sqrt, &[x]) => Some((x, false)),
            (Op::Rsqrt, &[x]) => Some((x, true)),
            (Op::Pow, &[x, by]) if self.graph.is(by, 0.5) => Some((x, false)),
            (Op::Pow, &[x, by]) if self.graph.is(by, -0.5) => Some((x, true)),
            (Op::Divide, &[one, root]) if self.graph.is(one, 1.0) => {
                let (x, inverse) = self.root(root)?;
                Some((x, !inverse))
            }
            _ => None,
        }
    }
}

/// `sqrt(mean(tensor ** 2) + epsilon)`, or 1 over that.
struct Spread {
    tensor: usize,
    epsilon: f64,
    inverse: bool,
}

/// A tensor over the root of the mean of its squares.
pub(super) struct Normalized {
    pub tensor: usize,
    pub epsilon: f64,
    /// What it is multiplied with, too.
    pub factor: Option<usize>,
}

impl Normalized {
    /// What a value is if it is that.
    pub(super) fn of(graph: &Graph, value: usize) -> Option<Self> {
        Self::plain(graph, value).or_else(|| {
            let pairs = graph.pairs(value, |op| *op == Op::Multiply);
            pairs.into_iter().find_map(|(x, factor)| {
                let normalized = match graph.op(x) {
                    Some((Op::AsType, &[wide])) => Self::plain(graph, wide),
                    _ => Self::plain(graph, x),
                };
                let normalized = normalized.filter(|plain| plain.factor.is_none())?;
                Some(Self {
                    factor: Some(factor),
                    ..normalized
                })
            })
        })
    }

    /// The same where the number of the row comes last, or the tensor after it.
    fn plain(graph: &Graph, value: usize) -> Option<Self> {
        let rows = Rows::of(graph, value)?;
        let (op, &[x, by]) = graph.op(value)? else {
            return None;
        };
        match op {
            Op::Divide => Self::scaled(graph, rows, rows.met(by, false)?, x),
            Op::Multiply => [(x, by), (by, x)].into_iter().find_map(|(x, by)| {
                if let Some(spread) = rows.met(by, true) {
                    return Self::scaled(graph, rows, spread, x);
                }
                let (spread, factor) = Self::met_first(graph, rows, x)?;
                let fits = rows.alike(spread.tensor, by);
                fits.then(|| Self::new(spread, Some(factor)))
            }),
            _ => None,
        }
    }

    /// A factor that has met the number of the row before the tensor does.
    fn met_first(graph: &Graph, rows: Rows, value: usize) -> Option<(Spread, usize)> {
        match graph.op(value)? {
            (Op::Divide, &[factor, by]) => Some((rows.met(by, false)?, factor)),
            (Op::Multiply, &[x, y]) => [(x, y), (y, x)]
                .into_iter()
                .find_map(|(factor, by)| Some((rows.met(by, true)?, factor))),
            _ => None,
        }
    }

    fn new(spread: Spread, factor: Option<usize>) -> Self {
        Self {
            tensor: spread.tensor,
            epsilon: spread.epsilon,
            factor,
        }
    }

    /// What the tensor, or its product with a factor, gives with its spread.
    fn scaled(graph: &Graph, rows: Rows, spread: Spread, x: usize) -> Option<Self> {
        if rows.alike(x, spread.tensor) {
            return Some(Self::new(spread, None));
        }
        let pairs = graph.pairs(x, |op| *op == Op::Multiply);
        let (_, factor) = pairs
            .into_iter()
            .find(|(tensor, _)| rows.alike(*tensor, spread.tensor))?;
        Some(Self::new(spread, Some(factor)))
    }
}
