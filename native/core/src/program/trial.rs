//! Whether operations take what a program gives them, found out without computing anything.

use std::iter;

use super::{Program, Step};
use crate::{Error, Number, Op, Result, Stream, Tensor, TensorType};

impl Program {
    /// Adds each operation to MLX's graph once, on values of the types and shapes that the program says,
    /// and throws it away.
    ///
    /// # Errors
    ///
    /// If an operation refuses what it is given, or the program calls a function; the text names the
    /// instruction.
    pub fn try_out(&self, stream: &Stream) -> Result<()> {
        let values = self.values().map(|ty| placeholder(stream, ty));
        let values: Vec<Tensor> = values.collect::<Result<_>>()?;
        for (at, instruction) in self.instructions.iter().enumerate() {
            let outcome = match &instruction.op {
                Step::Op(op) => {
                    let inputs: Vec<&Tensor> = instruction
                        .inputs
                        .iter()
                        .map(|&input| &values[input])
                        .collect();
                    Tensor::apply_all(stream, op, Some(&instruction.outs), &inputs).map(drop)
                }
                Step::Call { .. } => Err(Error::argument(
                    "expected a program that runs alone, got: a call of a function",
                )),
                step => step
                    .parts()
                    .zip(step.part_names())
                    .try_for_each(|(part, name)| {
                        part.try_out(stream)
                            .map_err(|error| Error::argument(format!("{name}, {error}")))
                    }),
            };
            outcome.map_err(|error| {
                let name = instruction.op.name();
                Error::argument(format!("instruction {at}, {name}: {error}"))
            })?;
        }
        Ok(())
    }
}

/// A tensor that is never computed.
fn placeholder(stream: &Stream, ty: &TensorType) -> Result<Tensor> {
    let zero = Op::Constant {
        value: Number::Integer(0),
    };
    Tensor::apply(stream, &zero, Some(ty), &[])
}

impl Step {
    /// What each of its programs is, in their order.
    fn part_names(&self) -> Box<dyn Iterator<Item = String>> {
        match self {
            Self::While { .. } => Box::new(["condition", "body"].map(str::to_owned).into_iter()),
            Self::Cond { clauses, .. } => Box::new(
                (0..clauses.len())
                    .flat_map(|at| [format!("predicate {at}"), format!("body {at}")])
                    .chain(iter::once("last body".to_owned())),
            ),
            Self::Call { .. } | Self::Op(_) => Box::new(iter::empty()),
        }
    }
}
