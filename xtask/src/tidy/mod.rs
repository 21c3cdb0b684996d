//! `cargo xtask tidy`: the rules that this repository holds itself to, as tests.

mod rules;
mod tree;
mod workflows;

use std::fmt;

use anyhow::{Result, bail};
use tree::Tree;

use crate::failure::Failure;

/// What breaks a rule, each with its place and the way out.
pub type Breaks = Vec<String>;

/// A rule and whether the tree keeps it.
pub struct Verdict {
    pub rule: &'static str,
    pub outcome: Result<(), Breaks>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(()) => write!(formatter, "ok      {}", self.rule),
            Err(breaks) => {
                write!(formatter, "BROKEN  {}", self.rule)?;
                for place in breaks {
                    write!(formatter, "\n        {place}")?;
                }
                Ok(())
            }
        }
    }
}

/// Runs the command.
pub fn run() -> Result<()> {
    let verdicts = verdicts();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().any(|verdict| verdict.outcome.is_err()) {
        bail!(Failure::new(
            "the repository breaks its own rules",
            "cargo xtask tidy"
        ));
    }
    Ok(())
}

/// Every rule's verdict on this checkout.
pub fn verdicts() -> Vec<Verdict> {
    let tree = match Tree::of_checkout() {
        Ok(tree) => tree,
        Err(error) => {
            let outcome = Err(vec![format!("{error:#}")]);
            return vec![Verdict {
                rule: "git lists the files of the checkout",
                outcome,
            }];
        }
    };
    rules::ALL
        .iter()
        .map(|(rule, check)| {
            let breaks = check(&tree);
            let outcome = if breaks.is_empty() {
                Ok(())
            } else {
                Err(breaks)
            };
            Verdict { rule, outcome }
        })
        .collect()
}
