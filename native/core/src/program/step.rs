//! What a program can do in one step.

use serde::{Deserialize, Serialize};

use super::Program;
use crate::{Op, TensorType, error::list};

/// One step of a program, on its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub struct Instruction {
    /// What is done.
    pub op: Step,
    /// The types and shapes of what it gives.
    pub outs: Vec<TensorType>,
    /// The numbers of the values that it takes.
    pub inputs: Vec<usize>,
}

/// An operation, or what decides which operations come next.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The body of the first clause whose predicate is not zero, or `last`. All of them get the inputs.
    Cond {
        /// In the order in which they are tried.
        clauses: Vec<Clause>,
        /// What is computed if no clause is.
        last: Program,
    },
    /// `body` as often as `condition` is not zero.
    ///
    /// The first inputs are carried: `body` gives their next values, and those are the results. The
    /// inputs after them stay as they are. Both programs get them all.
    While {
        /// Gives a scalar.
        condition: Program,
        /// Gives the next values.
        body: Program,
    },
    /// A function of whoever runs the program.
    Call {
        /// Which one.
        number: usize,
    },
    /// An operation.
    #[serde(untagged)]
    Op(Op),
}

/// What a `cond` computes, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifMap))]
pub struct Clause {
    /// Gives a scalar.
    pub predicate: Program,
    /// Gives the results.
    pub body: Program,
}

impl From<Op> for Step {
    fn from(op: Op) -> Self {
        Self::Op(op)
    }
}

impl Step {
    /// The operation's name in Nx, or that of the construct in `Nx.Defn`.
    pub fn name(&self) -> String {
        match self {
            Self::Cond { .. } => "cond".to_owned(),
            Self::While { .. } => "while".to_owned(),
            Self::Call { .. } => "call".to_owned(),
            Self::Op(op) => op.name(),
        }
    }
}

impl Instruction {
    /// What is wrong with it after these values, as the end of a sentence that begins with `expected`.
    pub(super) fn check(&self, values: &[&TensorType]) -> Result<(), String> {
        if let Some(missing) = self.inputs.iter().find(|&&input| input >= values.len()) {
            let count = values.len();
            return Err(format!("to take values below {count}, got: {missing}"));
        }
        let inputs = self.inputs.iter().map(|&input| values[input].clone());
        let inputs: Vec<_> = inputs.collect();
        match &self.op {
            Step::Op(op) => self.check_op(op),
            Step::Cond { clauses, last } => self.check_cond(clauses, last, &inputs),
            Step::While { condition, body } => self.check_while(condition, body, &inputs),
            Step::Call { .. } => Ok(()),
        }
    }

    fn check_op(&self, op: &Op) -> Result<(), String> {
        let (taken, given) = (self.inputs.len(), self.outs.len());
        let fits = op.arity().map_or(taken > 0, |arity| arity == taken);
        if fits && op.outputs() == given {
            return Ok(());
        }
        let arity = op.arity().map_or("some".into(), |arity| arity.to_string());
        let outputs = op.outputs();
        Err(format!(
            "to take {arity} inputs and give {outputs} outputs, got: {taken} and {given}"
        ))
    }

    fn check_cond(
        &self,
        clauses: &[Clause],
        last: &Program,
        inputs: &[TensorType],
    ) -> Result<(), String> {
        for clause in clauses {
            takes("a predicate", &clause.predicate, inputs)?;
            gives_scalar("a predicate", &clause.predicate)?;
        }
        let bodies = clauses.iter().map(|clause| &clause.body).chain([last]);
        for body in bodies {
            takes("a body", body, inputs)?;
            gives("a body", body, &self.outs)?;
        }
        Ok(())
    }

    fn check_while(
        &self,
        condition: &Program,
        body: &Program,
        inputs: &[TensorType],
    ) -> Result<(), String> {
        let carried = inputs.get(..self.outs.len());
        if carried != Some(&self.outs[..]) {
            let (outs, inputs) = (list(&self.outs), list(inputs));
            return Err(format!("to begin with inputs of {outs}, got: {inputs}"));
        }
        takes("its condition", condition, inputs)?;
        gives_scalar("its condition", condition)?;
        takes("its body", body, inputs)?;
        gives("its body", body, &self.outs)
    }
}

fn takes(what: &str, program: &Program, inputs: &[TensorType]) -> Result<(), String> {
    if program.inputs() == inputs {
        return Ok(());
    }
    Err(format!(
        "to have {what} that takes {}, got: one that takes {}",
        list(inputs),
        list(program.inputs())
    ))
}

fn gives(what: &str, program: &Program, outs: &[TensorType]) -> Result<(), String> {
    let given: Vec<_> = program.output_types().into_iter().cloned().collect();
    if given == outs {
        return Ok(());
    }
    Err(format!(
        "to have {what} that gives {}, got: one that gives {}",
        list(outs),
        list(&given)
    ))
}

fn gives_scalar(what: &str, program: &Program) -> Result<(), String> {
    match program.output_types()[..] {
        [only] if only.shape.rank() == 0 => Ok(()),
        ref others => {
            let given: Vec<_> = others.iter().copied().cloned().collect();
            Err(format!(
                "to have {what} that gives a scalar, got: one that gives {}",
                list(&given)
            ))
        }
    }
}
