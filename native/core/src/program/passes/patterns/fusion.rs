//! What takes the place of a pattern.

use super::graph::Graph;
use crate::{
    Number, Op, Shape, TensorType, Type, infer,
    program::{Instruction, Step},
};

/// Instructions in place of a pattern. Values of the program keep their numbers in them, and what they
/// give has the numbers after those.
pub(super) struct Fusion<'g, 'a> {
    graph: &'g Graph<'a>,
    steps: Vec<Instruction>,
}

impl<'g, 'a> Fusion<'g, 'a> {
    pub(super) fn of(graph: &'g Graph<'a>) -> Self {
        Self {
            graph,
            steps: Vec::new(),
        }
    }

    pub(super) fn ty(&self, value: usize) -> &TensorType {
        match value.checked_sub(self.graph.count()) {
            Some(new) => &self.steps[new].outs[0],
            None => self.graph.ty(value),
        }
    }

    /// Adds an operation, unless it does not take these inputs.
    pub(super) fn add(&mut self, op: Op, inputs: &[usize]) -> Option<usize> {
        let types: Vec<_> = inputs.iter().map(|&input| self.ty(input).clone()).collect();
        let out = infer(&op, &types).ok()?;
        Some(self.push(op, out, inputs))
    }

    fn push(&mut self, op: Op, out: TensorType, inputs: &[usize]) -> usize {
        self.steps.push(Instruction {
            op: Step::Op(op),
            outs: vec![out],
            inputs: inputs.to_vec(),
        });
        self.graph.count() + self.steps.len() - 1
    }

    /// The value as another type.
    pub(super) fn as_type(&mut self, value: usize, ty: Type) -> usize {
        let from = self.ty(value);
        if from.ty == ty {
            return value;
        }
        let shape = from.shape.clone();
        self.push(Op::AsType, TensorType { ty, shape }, &[value])
    }

    /// The value in another shape of as many elements.
    pub(super) fn reshape(&mut self, value: usize, dims: &[i32]) -> usize {
        let from = self.ty(value);
        if from.shape.dims() == dims {
            return value;
        }
        let (ty, shape) = (from.ty, Shape::trusted(dims));
        self.push(Op::Reshape, TensorType { ty, shape }, &[value])
    }

    /// The value with its axes in another order; where it comes from another order, from that at once.
    pub(super) fn transpose(&mut self, value: usize, axes: &[usize]) -> Option<usize> {
        if let Some((Op::Transpose { axes: before }, &[source])) = self.known(value) {
            let axes: Vec<_> = axes.iter().map(|&axis| before[axis]).collect();
            return self.transpose(source, &axes);
        }
        if axes.iter().copied().eq(0..axes.len()) {
            return Some(value);
        }
        self.add(
            Op::Transpose {
                axes: axes.to_vec(),
            },
            &[value],
        )
    }

    fn known(&self, value: usize) -> Option<(&'a Op, &'a [usize])> {
        (value < self.graph.count())
            .then(|| self.graph.op(value))
            .flatten()
    }

    /// A number of each element.
    pub(super) fn number(&mut self, value: f64, ty: Type, dims: &[i32]) -> usize {
        let value = Number::Float(value);
        let shape = Shape::trusted(dims);
        self.push(Op::Constant { value }, TensorType { ty, shape }, &[])
    }

    /// The values of the program that it is made from.
    pub(super) fn leaves(&self) -> Vec<usize> {
        let inputs = self.steps.iter().flat_map(|step| &step.inputs);
        let inputs = inputs.copied();
        inputs.filter(|&value| value < self.graph.count()).collect()
    }

    /// The instructions, if they give the same type and shape as the value that they stand for.
    pub(super) fn instead_of(self, value: usize) -> Option<Vec<Instruction>> {
        let last = self.steps.last()?;
        (last.outs[..] == [self.graph.ty(value).clone()]).then_some(self.steps)
    }
}
