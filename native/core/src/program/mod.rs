//! Operations that run one after another, as data.

mod accumulation;
mod elementwise;
mod executable;
pub mod file;
mod fusion;
mod json;
mod known;
mod liveness;
mod passes;
mod prepared;
mod replay;
mod step;
mod trial;

use serde::{Deserialize, Serialize};

use crate::{Error, Op, Result, TensorType};

pub use executable::Executable;
pub use fusion::Kernels;
pub use passes::Pass;
pub use replay::{Call, Pause, Replay};
pub use step::{Clause, Instruction, Step};

/// A function of tensors: a flat list of operations.
///
/// Its values are numbered: the inputs come first, then what each instruction gives. An instruction
/// uses values with lower numbers only, so that there are no cycles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Program {
    inputs: Vec<TensorType>,
    instructions: Vec<Instruction>,
    outputs: Vec<usize>,
}

/// A program as it is written, before anyone looked whether it makes sense.
#[derive(Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub(crate) struct Unchecked {
    pub inputs: Vec<TensorType>,
    pub instructions: Vec<Instruction>,
    pub outputs: Vec<usize>,
}

impl TryFrom<Unchecked> for Program {
    type Error = Error;

    fn try_from(program: Unchecked) -> Result<Self> {
        Self::new(program.inputs, program.instructions, program.outputs)
    }
}

impl From<Program> for Unchecked {
    fn from(program: Program) -> Self {
        Self {
            inputs: program.inputs,
            instructions: program.instructions,
            outputs: program.outputs,
        }
    }
}

impl Program {
    /// A program of `inputs`, whose results are the values with the numbers `outputs`.
    ///
    /// # Errors
    ///
    /// If an instruction takes a value that is not there before it, another number of values than its
    /// operation does, or values of other types than the programs in it. What operations ask of types
    /// and shapes beyond that shows when a [`Replay`] gets there.
    pub fn new(
        inputs: Vec<TensorType>,
        instructions: Vec<Instruction>,
        outputs: Vec<usize>,
    ) -> Result<Self> {
        let mut values: Vec<&TensorType> = inputs.iter().collect();
        for (at, instruction) in instructions.iter().enumerate() {
            if let Step::Op(op) = &instruction.op {
                op.check_assertions()?;
            }
            instruction.check(&values).map_err(|problem| {
                Error::argument(format!(
                    "expected instruction {at}, {}, {problem}",
                    instruction.op.name()
                ))
            })?;
            values.extend(&instruction.outs);
        }
        if let Some(missing) = outputs.iter().find(|&&output| output >= values.len()) {
            return Err(Error::argument(format!(
                "expected the outputs to be values below {}, got: {missing}",
                values.len()
            )));
        }
        Ok(Self {
            inputs,
            instructions,
            outputs,
        })
    }

    /// The types and shapes that it takes.
    pub fn inputs(&self) -> &[TensorType] {
        &self.inputs
    }

    /// What it does, in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The types and shapes of its results.
    pub fn output_types(&self) -> Vec<&TensorType> {
        let values: Vec<_> = self.values().collect();
        self.outputs.iter().map(|&output| values[output]).collect()
    }

    /// The types and shapes of all values, in order of their numbers.
    fn values(&self) -> impl Iterator<Item = &TensorType> {
        let given = self.instructions.iter().flat_map(|step| &step.outs);
        self.inputs.iter().chain(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Shape, Type};

    fn scalar() -> TensorType {
        TensorType {
            ty: Type::F32,
            shape: Shape::default(),
        }
    }

    fn step(op: Op, inputs: &[usize]) -> Instruction {
        Instruction {
            op: op.into(),
            outs: vec![scalar()],
            inputs: inputs.to_vec(),
        }
    }

    fn refused(instructions: Vec<Instruction>, output: usize) -> String {
        let inputs = vec![scalar(), scalar()];
        Program::new(inputs, instructions, vec![output])
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
            "expected instruction 1, add, to take 2 inputs and give 1 outputs, got: 1 and 1"
        );
        assert_eq!(
            refused(vec![step(Op::Stack { axis: 0 }, &[])], 2),
            "expected instruction 0, stack, to take some inputs and give 1 outputs, got: 0 and 1"
        );
        assert_eq!(
            refused(vec![], 2),
            "expected the outputs to be values below 2, got: 2"
        );
    }

    #[test]
    fn a_file_is_checked_like_a_call() {
        let program = Program::new(
            vec![scalar(), scalar()],
            vec![step(Op::Add, &[0, 1]), step(Op::Exp, &[2])],
            vec![3],
        )
        .unwrap();
        let json = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
        let broken = json.replace("\"outputs\":[3]", "\"outputs\":[4]");
        let error = serde_json::from_str::<Program>(&broken).unwrap_err();
        assert!(error.to_string().contains("values below 4, got: 4"));
    }

    #[test]
    fn only_elementwise_programs_run_on_many_elements() {
        let sort = Op::Sort {
            axis: 0,
            direction: crate::Direction::Asc,
        };
        let program = Program::new(vec![scalar()], vec![step(sort, &[0])], vec![1]).unwrap();
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
