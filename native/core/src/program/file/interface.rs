//! What goes into a program and what comes out, with names.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, Program, Result, Tensor, TensorType};

/// A name longer than this is none.
const LONGEST_NAME: usize = 1024;

/// The names, types and shapes of what goes in and comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The tensors that a caller gives, in the order of `containers.arguments`.
    pub parameters: Vec<Parameter>,
    /// What each input of the program is.
    pub inputs: Vec<Source>,
    /// The names of the program's outputs.
    pub results: Vec<String>,
    /// How they are arranged, for callers that have such things.
    pub containers: Containers,
}

/// A tensor that a caller gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// What it is called.
    pub name: String,
    /// Its type and shape.
    #[serde(flatten)]
    pub tensor: TensorType,
}

/// Where an input of the program comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The parameter with this number.
    Parameter(usize),
    /// The tensor of this name in the file of the weights.
    Weight(String),
}

/// Elixir's arguments and result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// One for each argument; their tensors are the parameters.
    pub arguments: Vec<Container>,
    /// Its tensors are the results.
    pub result: Container,
}

/// Tensors, arranged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// The next tensor.
    Tensor {
        /// The names of the axes that are not vectorized.
        #[serde(default)]
        names: Vec<Option<String>>,
        /// The names and sizes of the vectorized axes, which come first.
        #[serde(default)]
        vectorized: Vec<(String, usize)>,
    },
    /// A tuple.
    Tuple(Vec<Self>),
    /// A map, in the order of its tensors.
    Map(Vec<(Key, Self)>),
}

/// The key of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// An atom.
    Atom(String),
    /// A binary.
    String(String),
    /// An integer.
    Integer(i64),
}

impl Interface {
    /// That this is the interface of the program.
    pub(super) fn check(&self, program: &Program) -> Result<()> {
        unique(
            "parameters",
            self.parameters.iter().map(|parameter| &parameter.name),
        )?;
        unique("results", self.results.iter())?;
        counted("inputs", program.inputs().len(), self.inputs.len())?;
        let outputs = program.output_types();
        counted("results", outputs.len(), self.results.len())?;
        for (at, (source, ty)) in self.inputs.iter().zip(program.inputs()).enumerate() {
            let Source::Parameter(number) = source else {
                continue;
            };
            let parameter = self.parameters.get(*number).ok_or_else(|| {
                Error::argument(format!(
                    "expected input {at} to be a parameter below {}, got: {number}",
                    self.parameters.len()
                ))
            })?;
            if parameter.tensor != *ty {
                return Err(Error::argument(format!(
                    "expected input {at}, parameter {}, to be {ty}, got: {}",
                    parameter.name, parameter.tensor
                )));
            }
        }
        let mut tensors = self.parameters.iter().map(|parameter| &parameter.tensor);
        for argument in &self.containers.arguments {
            argument.check(&mut tensors)?;
        }
        none_left("the arguments", "parameter", tensors.next())?;
        let mut tensors = outputs.into_iter();
        self.containers.result.check(&mut tensors)?;
        none_left("the result", "result", tensors.next())
    }

    /// That these are what the parameters ask for.
    pub(super) fn check_arguments(&self, arguments: &[Arc<Tensor>]) -> Result<()> {
        counted("parameters", self.parameters.len(), arguments.len())?;
        for (parameter, argument) in self.parameters.iter().zip(arguments) {
            let given = argument.tensor_type();
            if given != parameter.tensor {
                return Err(Error::argument(format!(
                    "expected parameter {} to be {}, got: {given}",
                    parameter.name, parameter.tensor
                )));
            }
        }
        Ok(())
    }
}

impl Container {
    /// That it takes the next tensors as they are.
    fn check<'a>(&self, tensors: &mut impl Iterator<Item = &'a TensorType>) -> Result<()> {
        match self {
            Self::Tuple(parts) => parts.iter().try_for_each(|part| part.check(tensors)),
            Self::Map(pairs) => {
                let keys: HashSet<&Key> = pairs.iter().map(|(key, _)| key).collect();
                counted("keys of a map", pairs.len(), keys.len())?;
                pairs.iter().try_for_each(|(_, part)| part.check(tensors))
            }
            Self::Tensor { names, vectorized } => {
                let tensor = tensors.next().ok_or_else(|| {
                    Error::argument(
                        "expected the containers to be of the program's tensors, got: more",
                    )
                })?;
                let dims = tensor.shape.dims().iter().map(|&dim| dim as usize);
                let sizes = vectorized.iter().map(|(_, size)| *size);
                let own = tensor.shape.rank().checked_sub(vectorized.len());
                if own == Some(names.len()) && dims.take(vectorized.len()).eq(sizes) {
                    return Ok(());
                }
                Err(Error::argument(format!(
                    "expected names and vectorized axes of {tensor}, got: {names:?} and {vectorized:?}"
                )))
            }
        }
    }
}

fn none_left(container: &str, what: &str, tensor: Option<&TensorType>) -> Result<()> {
    tensor.map_or(Ok(()), |tensor| {
        Err(Error::argument(format!(
            "expected {container} to hold each {what}, got: none for {tensor}"
        )))
    })
}

fn counted(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::argument(format!(
        "expected {expected} {what}, got: {got}"
    )))
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut known = HashSet::new();
    for name in names {
        let fit = !name.is_empty() && name.len() <= LONGEST_NAME;
        if !fit || !known.insert(name) {
            return Err(Error::argument(format!(
                "expected the {what} to have names of their own, got: {name:?}"
            )));
        }
    }
    Ok(())
}
