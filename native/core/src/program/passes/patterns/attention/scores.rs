//! What queries and keys give together before the softmax.

use super::{HIDDEN, argument, least, uncast};
use crate::{
    Op, Type,
    program::passes::patterns::{
        fusion::Fusion,
        graph::{Graph, is_float},
        layout::as_it_came,
    },
};

/// How many masks and numbers may lie around the product.
const DEEPEST: usize = 6;

/// A product of queries and keys, times a number, with masks.
pub(super) struct Scores {
    pub product: usize,
    pub scale: f64,
    masks: Vec<Mask>,
}

/// What keeps a query from looking at a key.
#[derive(Clone, Copy)]
enum Mask {
    /// A value that is added.
    Added(usize),
    /// A number in place of the score where a predicate holds, or where it does not.
    Chosen {
        predicate: usize,
        number: f64,
        holds: bool,
    },
}

impl Scores {
    /// The scores that weights are made from.
    pub(super) fn of(graph: &Graph, weights: usize) -> Option<Self> {
        let argument = argument(graph, weights)?;
        let mut scores = Self {
            product: argument,
            scale: 1.0,
            masks: Vec::new(),
        };
        scores.peel(graph, argument, DEEPEST)?;
        Some(scores)
    }

    /// Goes on from a value that the product is in.
    fn peel(&mut self, graph: &Graph, value: usize, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match graph.op(value)? {
            (Op::Dot { .. }, _) => {
                self.product = value;
                Some(())
            }
            (Op::AsType, &[x]) if uncast(graph, value) == x => self.peel(graph, x, depth),
            (Op::Multiply, &[x, y]) if graph.number(x).is_some() => {
                self.scaled(graph, y, graph.number(x)?, depth)
            }
            (Op::Multiply, &[x, y]) => self.scaled(graph, x, graph.number(y)?, depth),
            (Op::Divide, &[x, y]) => self.scaled(graph, x, graph.number(y)?.recip(), depth),
            (Op::Add, &[x, y]) => [(x, y), (y, x)].into_iter().find_map(|(x, mask)| {
                let same = graph.dims(x) == graph.dims(value) && graph.number(mask).is_none();
                let count = self.masks.len();
                let inside = same.then(|| self.peel(graph, x, depth))?;
                if inside.is_none() {
                    self.masks.truncate(count);
                    self.scale = 1.0;
                }
                inside?;
                self.masks.push(Mask::Added(mask));
                Some(())
            }),
            (Op::Select, &[predicate, x, y]) => {
                let (x, number, holds) = match (graph.number(x), graph.number(y)) {
                    (None, Some(number)) => (x, number, false),
                    (Some(number), None) => (y, number, true),
                    _ => return None,
                };
                let hides = number <= HIDDEN && graph.dims(x) == graph.dims(value);
                hides.then(|| self.peel(graph, x, depth))??;
                self.masks.push(Mask::Chosen {
                    predicate,
                    number,
                    holds,
                });
                Some(())
            }
            _ => None,
        }
    }

    /// Goes on in what is multiplied with a number; what is masked in there would be multiplied, too.
    fn scaled(&mut self, graph: &Graph, value: usize, by: f64, depth: usize) -> Option<()> {
        let count = self.masks.len();
        self.peel(graph, value, depth)?;
        if self.masks.len() > count {
            return None;
        }
        self.scale *= by;
        Some(())
    }

    /// The sum of all masks as one of `ty`; an empty list if there is none.
    pub(super) fn mask(&self, fusion: &mut Fusion, graph: &Graph, ty: Type) -> Option<Vec<usize>> {
        let mut sum = None;
        for mask in &self.masks {
            let mask = mask.added(fusion, graph, ty)?;
            sum = Some(match sum {
                Some(sum) => fusion.add(Op::Add, &[sum, mask])?,
                None => mask,
            });
        }
        Some(sum.into_iter().collect())
    }
}

impl Mask {
    /// What is to be added to the scores.
    fn added(self, fusion: &mut Fusion, graph: &Graph, ty: Type) -> Option<usize> {
        match self {
            Self::Added(mask) => {
                if let Some(mask) = as_it_came(graph, mask, ty) {
                    return Some(mask);
                }
                let from = graph.ty(mask).ty;
                let narrower = ty != Type::F32;
                if !is_float(from) {
                    return None;
                }
                // What is finite must not become infinite, of which the softmax of a row would be NaN.
                let least = fusion.number(least(ty), from, &[]);
                let mask = if narrower {
                    fusion.add(Op::Max, &[mask, least])?
                } else {
                    mask
                };
                Some(fusion.as_type(mask, ty))
            }
            Self::Chosen {
                predicate,
                number,
                holds,
            } => {
                let number = if number.is_finite() {
                    number.max(least(ty))
                } else {
                    number
                };
                let (zero, hidden) = (fusion.number(0.0, ty, &[]), fusion.number(number, ty, &[]));
                let [x, y] = if holds {
                    [hidden, zero]
                } else {
                    [zero, hidden]
                };
                fusion.add(Op::Select, &[predicate, x, y])
            }
        }
    }
}
