//! Products of several factors.

use smallvec::SmallVec;

use super::graph::{Graph, tolerance};
use crate::Op;

/// More than any pattern has.
const MOST_FACTORS: usize = 5;

/// How many products may lie in each other.
const DEEPEST: usize = 4;

/// A product in whatever order it is made: numbers, and values that are not known.
pub(super) struct Product {
    number: f64,
    tolerance: f64,
    pub factors: SmallVec<[usize; MOST_FACTORS]>,
}

impl Product {
    /// The factors of a value; `whole` is one, however it is made.
    pub(super) fn of(graph: &Graph, value: usize, whole: Option<usize>) -> Option<Self> {
        let mut product = Self {
            number: 1.0,
            tolerance: 1e-6,
            factors: SmallVec::new(),
        };
        product.take(graph, value, whole, DEEPEST);
        (product.factors.len() <= MOST_FACTORS).then_some(product)
    }

    fn take(&mut self, graph: &Graph, value: usize, whole: Option<usize>, depth: usize) {
        if let Some(number) = graph.number(value) {
            self.scale(graph, value, number);
            return;
        }
        match graph.op(value) {
            _ if depth == 0 || Some(value) == whole => self.factors.push(value),
            Some((Op::Multiply, &[x, y])) => {
                self.take(graph, x, whole, depth - 1);
                self.take(graph, y, whole, depth - 1);
            }
            Some((Op::Divide, &[x, by])) => match graph.number(by) {
                Some(number) => {
                    self.scale(graph, by, number.recip());
                    self.take(graph, x, whole, depth - 1);
                }
                None => self.factors.push(value),
            },
            _ => self.factors.push(value),
        }
    }

    fn scale(&mut self, graph: &Graph, value: usize, number: f64) {
        self.number *= number;
        self.tolerance = self.tolerance.max(tolerance(graph.ty(value).ty));
    }

    /// Whether this is the product of all numbers, as exactly as their types can tell.
    pub(super) fn is(&self, expected: f64) -> bool {
        (self.number - expected).abs() <= 2.0 * self.tolerance * expected.abs()
    }

    /// What is left without these factors, if they are among them.
    pub(super) fn without(&self, factors: &[usize]) -> Option<SmallVec<[usize; MOST_FACTORS]>> {
        let mut left = self.factors.clone();
        for factor in factors {
            let at = left.iter().position(|other| other == factor)?;
            left.remove(at);
        }
        Some(left)
    }
}
