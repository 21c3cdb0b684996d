//! Stretches of a program that become one graph.

use std::{collections::HashMap, sync::Arc};

use super::graph::{Graph, placeholder};
use crate::{
    Instruction, Op, Program, Result, Step, Stream, Tensor, TensorType,
    program::known::{self, Known},
};

/// Longer ones would hold a scheduler up.
const MOST_INSTRUCTIONS: usize = 1024;

/// Operations that come one after another with nothing to decide in between.
pub(in crate::program) struct Segment {
    graph: Graph,
    /// How many instructions there are in it.
    length: usize,
    /// How many values they give.
    given: usize,
    /// What it takes, by the numbers of values.
    inputs: Vec<usize>,
    outputs: Vec<Output>,
    /// Instructions that give integers which may be known without computing them.
    counted: Vec<Counted>,
}

/// A value that is needed after the segment.
struct Output {
    value: usize,
    ty: TensorType,
    /// Which of the segment's inputs it depends on.
    depends: Vec<usize>,
}

struct Counted {
    op: Op,
    out: TensorType,
    value: usize,
    inputs: Vec<usize>,
}

/// A value that the segment gives.
pub(in crate::program) struct Given {
    pub value: usize,
    pub tensor: Arc<Tensor>,
    pub known: Option<Known>,
}

impl Segment {
    pub(in crate::program) const fn length(&self) -> usize {
        self.length
    }

    pub(in crate::program) const fn given(&self) -> usize {
        self.given
    }

    pub(in crate::program) fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(super) const fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// How many operations it adds to MLX's graph.
    pub(in crate::program) fn cost(&self) -> usize {
        self.graph.counts().1
    }

    /// Adds the graph, from these inputs on; `known` are numbers of values from before.
    pub(in crate::program) fn run(
        &self,
        stream: &Stream,
        inputs: &[Arc<Tensor>],
        known: impl Fn(usize) -> Option<Known>,
    ) -> Result<Vec<Given>> {
        let arrays = self.graph.apply(inputs.iter().map(|input| input.array()))?;
        let numbers = self.numbers(known);
        let cost = self.cost();
        let outputs = self.outputs.iter().enumerate();
        outputs
            .map(|(at, output)| {
                let depends = output.depends.iter().map(|&input| &*inputs[input]);
                let array = arrays.get(at)?;
                Ok(Given {
                    value: output.value,
                    tensor: Arc::new(Tensor::traced(stream, array, &output.ty, depends, cost)),
                    known: numbers.get(&output.value).copied(),
                })
            })
            .collect()
    }

    /// What is known of the integers that it gives.
    fn numbers(&self, before: impl Fn(usize) -> Option<Known>) -> HashMap<usize, Known> {
        let mut known = HashMap::new();
        for counted in &self.counted {
            let inputs = counted.inputs.iter();
            let inputs = inputs.map(|input| known.get(input).copied().or_else(|| before(*input)));
            let outs = std::slice::from_ref(&counted.out);
            if let Some(number) = known::fold(&counted.op, outs, inputs) {
                known.insert(counted.value, number);
            }
        }
        known
    }
}

/// A segment under construction.
pub(super) struct Draft<'a> {
    program: &'a Program,
    stream: &'a Stream,
    /// For each value the instruction that needs it last; results are needed at the end.
    last: Vec<usize>,
    types: Vec<&'a TensorType>,
    /// The first instruction, and the number of the first value that it gives.
    start: usize,
    first: usize,
    length: usize,
    given: usize,
    inputs: Vec<usize>,
    values: HashMap<usize, Traced>,
}

/// A value of a segment under construction.
struct Traced {
    tensor: Tensor,
    /// The inputs that it depends on, a bit each.
    depends: Vec<u64>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(program: &'a Program, stream: &'a Stream) -> Self {
        let types: Vec<_> = program.values().collect();
        let mut last = vec![0; types.len()];
        for (at, instruction) in program.instructions().iter().enumerate() {
            for &input in &instruction.inputs {
                last[input] = at;
            }
        }
        for &output in &program.outputs {
            last[output] = usize::MAX;
        }
        Self {
            program,
            stream,
            last,
            types,
            start: 0,
            first: program.inputs().len(),
            length: 0,
            given: 0,
            inputs: Vec::new(),
            values: HashMap::new(),
        }
    }

    /// Takes the next instruction in, if it can be part of a graph that is used again: what looks at
    /// values as they are cannot, nor what asks something of them.
    pub(super) fn take(&mut self, instruction: &Instruction) -> Result<bool> {
        let Step::Op(op) = &instruction.op else {
            return Ok(false);
        };
        if self.length == MOST_INSTRUCTIONS {
            return Ok(false);
        }
        let known = self.inputs.len();
        for &input in &instruction.inputs {
            self.input(input)?;
        }
        let inputs: Vec<_> = instruction
            .inputs
            .iter()
            .map(|input| &self.values[input])
            .collect();
        let tensors: Vec<_> = inputs.iter().map(|input| &input.tensor).collect();
        let results = Tensor::apply_all(self.stream, op, Some(&instruction.outs), &tensors);
        let Some(results) = results
            .ok()
            .filter(|all| !all.iter().any(Tensor::has_checks))
        else {
            // The instruction does not belong, nor what was taken for it alone.
            for input in self.inputs.drain(known..) {
                self.values.remove(&input);
            }
            return Ok(false);
        };
        let mut depends = Vec::new();
        for input in &inputs {
            depends.resize(depends.len().max(input.depends.len()), 0);
            depends
                .iter_mut()
                .zip(&input.depends)
                .for_each(|(all, own)| *all |= own);
        }
        let next = self.first + self.given;
        for (at, tensor) in results.into_iter().enumerate() {
            let depends = depends.clone();
            self.values.insert(next + at, Traced { tensor, depends });
        }
        self.length += 1;
        self.given += instruction.outs.len();
        Ok(true)
    }

    /// Has a value from before the segment among its inputs.
    fn input(&mut self, value: usize) -> Result<()> {
        if self.values.contains_key(&value) {
            return Ok(());
        }
        let ty = self.types[value];
        let number = self.inputs.len();
        let mut depends = vec![0; number / 64 + 1];
        depends[number / 64] = 1 << (number % 64);
        let tensor = Tensor::traced(self.stream, placeholder(ty)?, ty, [], 0);
        self.values.insert(value, Traced { tensor, depends });
        self.inputs.push(value);
        Ok(())
    }

    fn instructions(&self) -> &'a [Instruction] {
        &self.program.instructions()[self.start..self.start + self.length]
    }

    /// What there is so far, with the place of its first instruction, if it is worth it. The next one
    /// begins after `skipped` more instructions.
    pub(super) fn finish(&mut self, skipped: usize) -> Result<Option<(usize, Segment)>> {
        let segment = if self.length > 1 {
            Some((self.start, self.segment()?))
        } else {
            None
        };
        self.start += self.length;
        self.first += self.given;
        (self.length, self.given) = (0, 0);
        for instruction in self
            .program
            .instructions()
            .iter()
            .skip(self.start)
            .take(skipped)
        {
            self.first += instruction.outs.len();
            self.start += 1;
        }
        self.inputs.clear();
        self.values.clear();
        Ok(segment)
    }

    fn segment(&mut self) -> Result<Segment> {
        let (given, end) = (self.given, self.start + self.length);
        let needed = (self.first..self.first + given).filter(|&value| self.last[value] >= end);
        let outputs: Vec<_> = needed.collect();
        let graph = Graph::new(
            self.inputs
                .iter()
                .map(|input| self.values[input].tensor.array()),
            outputs
                .iter()
                .map(|output| self.values[output].tensor.array()),
        )?;
        let outputs = outputs.into_iter().map(|value| {
            let traced = &self.values[&value];
            let bit = |&at: &usize| {
                let word = traced.depends.get(at / 64).copied().unwrap_or(0);
                word >> (at % 64) & 1 == 1
            };
            Output {
                value,
                ty: traced.tensor.tensor_type(),
                depends: (0..self.inputs.len()).filter(bit).collect(),
            }
        });
        Ok(Segment {
            graph,
            length: self.length,
            given,
            outputs: outputs.collect(),
            counted: self.counted(),
            inputs: std::mem::take(&mut self.inputs),
        })
    }

    fn counted(&self) -> Vec<Counted> {
        let mut value = self.first;
        let mut counted = Vec::new();
        for instruction in self.instructions() {
            if let (Step::Op(op), [out]) = (&instruction.op, &instruction.outs[..])
                && out.shape.rank() == 0
                && known::is_counted(out.ty)
            {
                counted.push(Counted {
                    op: op.clone(),
                    out: out.clone(),
                    value,
                    inputs: instruction.inputs.clone(),
                });
            }
            value += instruction.outs.len();
        }
        counted
    }
}
