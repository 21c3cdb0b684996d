//! `emily inspect`

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use emily_core::{Program, Step, TensorType, file::ProgramFile};
use serde::Serialize;

use crate::{flags::Inspect, text};

/// What is told of a program.
#[derive(Serialize)]
struct Summary {
    inputs: Vec<Named>,
    outputs: Vec<Named>,
    weights: Vec<Named>,
    weight_bytes: usize,
    operations: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    tensor: TensorType,
    bytes: usize,
}

impl Named {
    fn new(name: &str, tensor: &TensorType) -> Self {
        Self {
            name: name.to_owned(),
            bytes: tensor.bytes(),
            tensor: tensor.clone(),
        }
    }
}

/// What the program takes, gives, holds and does, as text or as JSON.
pub fn inspect(flags: &Inspect) -> Result<String> {
    let file = ProgramFile::open(&flags.program)?;
    let summary = Summary::of(&file);
    if flags.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    Ok(summary.text())
}

impl Summary {
    fn of(file: &ProgramFile) -> Self {
        let interface = file.interface();
        let parameters = interface.parameters.iter();
        let results = interface.results.iter().zip(file.program().output_types());
        let weights = file.weights().into_iter();
        let weights: Vec<_> = weights.map(|(name, ty)| Named::new(name, ty)).collect();
        let mut operations = BTreeMap::new();
        count(file.program(), &mut operations);
        Self {
            inputs: parameters
                .map(|parameter| Named::new(&parameter.name, &parameter.tensor))
                .collect(),
            outputs: results.map(|(name, ty)| Named::new(name, ty)).collect(),
            weight_bytes: weights.iter().map(|weight| weight.bytes).sum(),
            weights,
            operations,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        section(&mut text, "inputs", &self.inputs);
        section(&mut text, "outputs", &self.outputs);
        let total = text::bytes(self.weight_bytes);
        section(&mut text, &format!("weights, {total}"), &self.weights);
        let count: usize = self.operations.values().sum();
        let mut operations: Vec<_> = self.operations.iter().collect();
        operations.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "operations, {count}");
        for (name, count) in operations {
            let _ = writeln!(text, "  {count:>6} {name}");
        }
        text
    }
}

fn section(text: &mut String, title: &str, tensors: &[Named]) {
    let width = tensors.iter().map(|tensor| tensor.name.chars().count());
    let width = width.max().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{title}");
    for tensor in tensors {
        let size = text::bytes(tensor.bytes);
        let _ = writeln!(text, "  {:width$}  {}  {size}", tensor.name, tensor.tensor);
    }
    if tensors.is_empty() {
        let _ = writeln!(text, "  none");
    }
}

/// How often each operation is in the program and those in it.
pub fn count(program: &Program, counts: &mut BTreeMap<String, usize>) {
    for instruction in program.instructions() {
        *counts.entry(instruction.op.name()).or_default() += 1;
        match &instruction.op {
            Step::Cond { clauses, last } => {
                for clause in clauses {
                    count(&clause.predicate, counts);
                    count(&clause.body, counts);
                }
                count(last, counts);
            }
            Step::While { condition, body } => {
                count(condition, counts);
                count(body, counts);
            }
            Step::Call { .. } | Step::Op(_) => {}
        }
    }
}
