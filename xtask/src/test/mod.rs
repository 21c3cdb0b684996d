//! `cargo xtask test`: every test that this machine can run, and a closing table.

mod outcome;
mod suites;

use std::process::ExitCode;

use anyhow::Result;
use outcome::{Outcome, Report};

use crate::{flags, nif, setup};

/// Runs the command; the status says whether every test passed.
///
/// The error is for what kept the tests from starting. A failing test is not one: the table has it,
/// and the closing line stays the last.
pub fn run(flags: &flags::Test) -> Result<ExitCode> {
    let suites = suites::chosen(&flags.only)?;
    setup::ensure(flags.yes)?;
    // The library that the Elixir tests load, and the prefix that the Rust tests link with.
    nif::run(&flags::Nif {
        cell: flags::Cell::default(),
    })?;

    let mut report = Report::default();
    for suite in suites {
        eprintln!("\n→ {}: {}", suite.name, suite.about);
        // A suite that cannot even start has failed; the others still run.
        let outcome = (suite.run)().unwrap_or_else(|error| Outcome::broken(&format!("{error:#}")));
        report.add(suite.name, outcome);
    }
    println!("\n{report}");
    Ok(if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
