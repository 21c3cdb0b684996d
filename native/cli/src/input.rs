//! Tensors from files.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use emily_core::{
    Op, Stream, Tensor,
    file::{Interface, Parameter, Tensors},
};

use crate::npy;

/// An input of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The parameter's name.
    pub name: String,
    /// Where its tensor is.
    pub file: PathBuf,
    /// What the tensor is called there, if not by the parameter's name.
    pub tensor: Option<String>,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken = || format!("expected NAME=FILE, got: {text}");
        let (name, file) = text.split_once('=').ok_or_else(broken)?;
        if name.is_empty() || file.is_empty() {
            return Err(broken());
        }
        let (file, tensor) = match file.rsplit_once(".safetensors:") {
            Some((stem, tensor)) => (format!("{stem}.safetensors"), Some(tensor.to_owned())),
            None => (file.to_owned(), None),
        };
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
            tensor,
        })
    }
}

/// The tensors that the program takes, in order.
pub fn arguments(
    interface: &Interface,
    given: &[Given],
    cast: bool,
    stream: &Stream,
) -> Result<Vec<Arc<Tensor>>> {
    let parameters = &interface.parameters;
    let known = |given: &&Given| !parameters.iter().any(|one| one.name == given.name);
    if let Some(unknown) = given.iter().find(known) {
        bail!(
            "expected inputs {}, got: {}",
            names(parameters),
            unknown.name
        );
    }
    let argument = |parameter: &Parameter| {
        let mut own = given.iter().filter(|given| given.name == parameter.name);
        match (own.next(), own.next()) {
            (Some(given), None) => read(parameter, given, cast, stream),
            (None, _) => Err(anyhow!(
                "expected --input {}=FILE, with {}, got: none",
                parameter.name,
                parameter.tensor
            )),
            (Some(_), Some(_)) => Err(anyhow!(
                "expected one --input {}=FILE, got: several",
                parameter.name
            )),
        }
    };
    parameters.iter().map(argument).collect()
}

fn names(parameters: &[Parameter]) -> String {
    if parameters.is_empty() {
        return "none".to_owned();
    }
    let names = parameters.iter().map(|parameter| &parameter.name[..]);
    names.collect::<Vec<_>>().join(", ")
}

fn read(parameter: &Parameter, given: &Given, cast: bool, stream: &Stream) -> Result<Arc<Tensor>> {
    let tensor =
        tensor(parameter, given, stream).with_context(|| format!("input {}", given.name))?;
    let ty = tensor.tensor_type();
    if ty == parameter.tensor {
        return Ok(Arc::new(tensor));
    }
    if ty.shape != parameter.tensor.shape || !cast {
        let hint = if ty.shape == parameter.tensor.shape {
            " (--cast converts it)"
        } else {
            ""
        };
        bail!(
            "expected input {} to be {}, got: {ty}{hint}",
            given.name,
            parameter.tensor
        );
    }
    let converted = Tensor::apply(stream, &Op::AsType, Some(&parameter.tensor), &[&tensor])?;
    Ok(Arc::new(converted))
}

fn tensor(parameter: &Parameter, given: &Given, stream: &Stream) -> Result<Tensor> {
    let extension = given.file.extension().and_then(|name| name.to_str());
    match extension {
        Some("npy") => {
            let bytes =
                std::fs::read(&given.file).with_context(|| given.file.display().to_string())?;
            let array = npy::read(&bytes).with_context(|| given.file.display().to_string())?;
            Ok(Tensor::from_bytes(stream, &array.ty, array.bytes)?)
        }
        Some("safetensors") => {
            let tensors = Tensors::open(&given.file)?;
            let name = given.tensor.as_ref().unwrap_or(&given.name);
            // Elements of less than a byte have no type of their own there.
            let ty = if parameter.tensor.ty.bits() < 8 {
                parameter.tensor.clone()
            } else {
                tensors.tensor_type(name)?
            };
            let mut read = tensors.read(stream, &[(&name[..], &ty)])?;
            read.pop().context("expected one tensor, got: none")
        }
        _ => bail!(
            "expected a .npy or a .safetensors file, got: {}",
            given.file.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_a_file_may_have_another_name() {
        for (text, name, file, tensor) in [
            ("x=a/b.npy", "x", "a/b.npy", None),
            ("arg0.x=b.safetensors", "arg0.x", "b.safetensors", None),
            ("x=b.safetensors:y.z", "x", "b.safetensors", Some("y.z")),
            ("x=c:b.npy", "x", "c:b.npy", None),
        ] {
            let given: Given = text.parse().unwrap();
            assert_eq!((&given.name[..], given.file), (name, PathBuf::from(file)));
            assert_eq!(given.tensor.as_deref(), tensor);
        }
        for text in ["x", "=a.npy", "x="] {
            let error = text.parse::<Given>().unwrap_err();
            assert_eq!(error, format!("expected NAME=FILE, got: {text}"));
        }
    }
}
