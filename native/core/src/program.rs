//! Operations that run one after another, as data.

mod accumulation;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::{
    Array, Error, Op, Result, Shape, Stream, TensorType, Type,
    check::Checks,
    infer::broadcast_shape,
    lower::{Operand, lower},
};

/// A function of tensors: a flat list of operations.
///
/// Its values are numbered: the inputs come first, then what each instruction gives. An instruction
/// uses values with lower numbers only, so that there are no cycles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Program {
    inputs: Vec<TensorType>,
    instructions: Vec<Instruction>,
    output: usize,
}

/// One operation on values of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub struct Instruction {
    /// The operation.
    pub op: Op,
    /// The type and shape of what it gives.
    pub out: TensorType,
    /// The numbers of the values that it takes.
    pub inputs: Vec<usize>,
}

/// A program as it is written, before anyone looked whether it makes sense.
#[derive(Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub(crate) struct Unchecked {
    pub inputs: Vec<TensorType>,
    pub instructions: Vec<Instruction>,
    pub output: usize,
}

impl TryFrom<Unchecked> for Program {
    type Error = Error;

    fn try_from(program: Unchecked) -> Result<Self> {
        Self::new(program.inputs, program.instructions, program.output)
    }
}

impl From<Program> for Unchecked {
    fn from(program: Program) -> Self {
        Self {
            inputs: program.inputs,
            instructions: program.instructions,
            output: program.output,
        }
    }
}

impl Program {
    /// A program of `inputs`, whose result is the value with the number `output`.
    ///
    /// # Errors
    ///
    /// If an instruction takes a value that is not there before it, or another number of values than
    /// its operation does.
    pub fn new(
        inputs: Vec<TensorType>,
        instructions: Vec<Instruction>,
        output: usize,
    ) -> Result<Self> {
        for (at, instruction) in instructions.iter().enumerate() {
            let (op, values) = (&instruction.op, inputs.len() + at);
            op.check_assertions()?;
            if let Some(missing) = instruction.inputs.iter().find(|&&input| input >= values) {
                return Err(Error::argument(format!(
                    "expected instruction {at}, {}, to take values below {values}, got: {missing}",
                    op.name()
                )));
            }
            let given = instruction.inputs.len();
            if op.arity().map_or(given == 0, |arity| arity != given) || op.outputs() != 1 {
                return Err(Error::argument(format!(
                    "expected instruction {at}, {}, to take {} inputs and give one output, got: {given} and {}",
                    op.name(),
                    op.arity()
                        .map_or_else(|| "some".to_owned(), |arity| arity.to_string()),
                    op.outputs()
                )));
            }
        }
        let values = inputs.len() + instructions.len();
        if output >= values {
            return Err(Error::argument(format!(
                "expected the output to be a value below {values}, got: {output}"
            )));
        }
        Ok(Self {
            inputs,
            instructions,
            output,
        })
    }

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
        let other = self.instructions.iter().find(|instruction| {
            !instruction.op.is_elementwise() || instruction.out.shape.rank() > 0
        });
        other.map_or(Ok(()), |instruction| {
            Err(Error::argument(format!(
                "expected :fun to consist of elementwise operations on scalars, got: {} to {}",
                instruction.op.name(),
                instruction.out
            )))
        })
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
        for instruction in &self.instructions {
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
                ty: instruction.out.ty,
                shape: broadcast_shape(&shapes)?,
            };
            let lowered = lower(&instruction.op, &[out], &operands, stream)?;
            drop(operands);
            checks.extend(lowered.checks);
            values.extend(lowered.arrays);
            types.push(instruction.out.ty);
        }
        Ok(values.swap_remove(self.output))
    }

    /// The type of the result.
    pub(crate) fn output_type(&self) -> &TensorType {
        match self.output.checked_sub(self.inputs.len()) {
            Some(at) => &self.instructions[at].out,
            None => &self.inputs[self.output],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar() -> TensorType {
        TensorType {
            ty: Type::F32,
            shape: Shape::default(),
        }
    }

    fn step(op: Op, inputs: &[usize]) -> Instruction {
        Instruction {
            op,
            out: scalar(),
            inputs: inputs.to_vec(),
        }
    }

    fn refused(instructions: Vec<Instruction>, output: usize) -> String {
        let inputs = vec![scalar(), scalar()];
        Program::new(inputs, instructions, output)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn refuses_what_it_cannot_run() {
        assert_eq!(
            refused(vec![step(Op::Add, &[0, 2])], 2),
            "expected instruction 0, add, to take values below 2, got: 2"
        );
        assert_eq!(
            refused(vec![step(Op::Exp, &[0]), step(Op::Add, &[2])], 3),
            "expected instruction 1, add, to take 2 inputs and give one output, got: 1 and 1"
        );
        assert_eq!(
            refused(vec![step(Op::Stack { axis: 0 }, &[])], 2),
            "expected instruction 0, stack, to take some inputs and give one output, got: 0 and 1"
        );
        assert_eq!(
            refused(vec![], 2),
            "expected the output to be a value below 2, got: 2"
        );
    }

    #[test]
    fn a_file_is_checked_like_a_call() {
        let program = Program::new(
            vec![scalar(), scalar()],
            vec![step(Op::Add, &[0, 1]), step(Op::Exp, &[2])],
            3,
        )
        .unwrap();
        let json = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
        let broken = json.replace("\"output\":3", "\"output\":4");
        let error = serde_json::from_str::<Program>(&broken).unwrap_err();
        assert!(error.to_string().contains("a value below 4, got: 4"));
    }

    #[test]
    fn only_elementwise_programs_run_on_many_elements() {
        let sort = Op::Sort {
            axis: 0,
            direction: crate::Direction::Asc,
        };
        let program = Program::new(vec![scalar()], vec![step(sort, &[0])], 1).unwrap();
        assert_eq!(
            program.check_elementwise(1).unwrap_err().to_string(),
            "expected :fun to consist of elementwise operations on scalars, got: sort to f32"
        );
        assert_eq!(
            program.check_elementwise(2).unwrap_err().to_string(),
            "expected :fun to take 2 scalars, got: f32"
        );
    }
}
