//! Programs of elementwise operations, which run on all elements at once: what reductions are given.

use smallvec::{SmallVec, smallvec};

use super::{Instruction, Program, Step};
use crate::{
    Array, Error, Op, Result, Shape, Stream, TensorType, Type,
    check::Checks,
    infer::broadcast_shape,
    lower::{Operand, lower},
};

impl Program {
    /// That the program says of its inputs what they are.
    pub(crate) fn check_types(&self, given: impl Iterator<Item = Type> + Clone) -> Result<()> {
        if self.inputs.iter().map(|input| input.ty).eq(given.clone()) {
            return Ok(());
        }
        let given: Vec<_> = given.map(|ty| ty.to_string()).collect();
        Err(Error::argument(format!(
            "expected :fun to take {}, got: one that takes {}",
            given.join(", "),
            crate::error::list(&self.inputs)
        )))
    }

    /// That the program can run on many elements at once: it takes `count` scalars, and all that it
    /// does is elementwise.
    pub(crate) fn check_elementwise(&self, count: usize) -> Result<()> {
        let scalars = self.inputs.iter().all(|input| input.shape.rank() == 0);
        if self.inputs.len() != count || !scalars {
            return Err(Error::argument(format!(
                "expected :fun to take {count} scalars, got: {}",
                crate::error::list(&self.inputs)
            )));
        }
        let other = self.instructions.iter().find(|step| !step.is_elementwise());
        if let Some(other) = other {
            return Err(Error::argument(format!(
                "expected :fun to consist of elementwise operations on scalars, got: {} to {}",
                other.op.name(),
                crate::error::list(&other.outs)
            )));
        }
        self.result().map(drop)
    }

    /// The type and shape of the only result.
    pub(crate) fn result(&self) -> Result<&TensorType> {
        match self.output_types()[..] {
            [only] => Ok(only),
            ref others => Err(Error::argument(format!(
                "expected :fun to give one result, got: {}",
                others.len()
            ))),
        }
    }

    /// The result for each element of `inputs`, which broadcast; see [`Self::check_elementwise`].
    pub(crate) fn map(
        &self,
        inputs: &[&Array],
        stream: &Stream,
        checks: &mut Checks,
    ) -> Result<Array> {
        let mut values: SmallVec<[Array; 8]> = smallvec![];
        values.extend(inputs.iter().map(|&input| input.clone()));
        let mut types: Vec<_> = self.inputs.iter().map(|input| input.ty).collect();
        for (op, instruction) in self.operations() {
            let given = instruction.inputs.iter();
            let operands: SmallVec<[Operand<'_>; 3]> = given
                .map(|&input| Operand {
                    array: &values[input],
                    ty: types[input],
                    ready: false,
                })
                .collect();
            let shapes: SmallVec<[Shape; 3]> = operands
                .iter()
                .map(|operand| operand.array.shape())
                .collect();
            let out = TensorType {
                ty: instruction.outs[0].ty,
                shape: broadcast_shape(&shapes)?,
            };
            let lowered = lower(op, &[out], &operands, stream)?;
            drop(operands);
            checks.extend(lowered.checks);
            values.extend(lowered.arrays);
            types.push(instruction.outs[0].ty);
        }
        Ok(values.swap_remove(self.outputs[0]))
    }

    /// The operations among the instructions, which are all of them if they are elementwise.
    pub(super) fn operations(&self) -> impl Iterator<Item = (&Op, &Instruction)> {
        self.instructions.iter().filter_map(|step| match &step.op {
            Step::Op(op) => Some((op, step)),
            _ => None,
        })
    }
}

impl Instruction {
    /// Whether it makes one scalar of others, and could do so for each element of tensors.
    fn is_elementwise(&self) -> bool {
        let elementwise = matches!(&self.op, Step::Op(op) if op.is_elementwise());
        elementwise && matches!(&self.outs[..], [out] if out.shape.rank() == 0)
    }
}
