//! `cargo xtask test`: every test that this machine can run, and a closing table.

mod cross;
mod outcome;
mod reproducible;
mod sanitize;
mod suites;

use std::process::ExitCode;

use anyhow::{Result, bail};
use outcome::{Outcome, Report};

use crate::{flags, nif, setup};

/// Runs the command; the status says whether every test passed.
///
/// The error is for what kept the tests from starting. A failing test is not one: the table has it,
/// and the closing line stays the last.
pub fn run(flags: &flags::Test) -> Result<ExitCode> {
    if let Some(sanitizer) = flags.sanitize {
        return sanitize::run(sanitizer, flags);
    }
    let suites = suites::chosen(&flags.only)?;
    setup::ensure(flags.yes)?;
    // The library that the Elixir tests load, and the prefix that the Rust tests link with.
    nif::run(&flags::Nif {
        cell: flags::Cell::default(),
        from: None,
    })?;

    let mut report = Report::of("cargo xtask test");
    for suite in suites {
        report.run(suite.name, suite.about, suite.run);
    }
    Ok(report.close())
}

/// Fails unless each of `names` is that of a suite.
fn check_names(names: &[String], known: &[&str]) -> Result<()> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => bail!(
            "expected a suite to be one of {}, got: {name}",
            known.join(", ")
        ),
    }
}

impl Report {
    /// Runs a suite and adds what it came to.
    fn run(&mut self, name: &'static str, about: &str, suite: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\n→ {name}: {about}");
        // A suite that cannot even start has failed; the others still run.
        let outcome = suite().unwrap_or_else(|error| Outcome::broken(&format!("{error:#}")));
        self.add(name, outcome);
    }

    /// Prints the table; the status says whether all passed.
    fn close(&self) -> ExitCode {
        println!("\n{self}");
        if self.failed() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
