//! Mistakes on purpose: of a detector that misses one, silence means nothing.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Run, core};
use crate::{process, test::outcome::Outcome};

/// Makes each of the detector's mistakes in a process of its own.
pub fn run(run: &Run) -> Result<Outcome> {
    let package = ["--package", "emily-core", "--example", "canary"];
    process::run(core::cargo(run, "build").args(package))?;
    let program = run.built().join("examples/canary");
    let mut missed = Vec::new();
    for (mistake, report) in &run.detector.canaries {
        let mut canary = Command::new(&program);
        canary
            .arg(mistake)
            .env(run.detector.options.0, &run.detector.options.1);
        let found = is_reported(&mut canary, report)?;
        println!("{mistake}: {}", if found { "reported" } else { "MISSED" });
        if !found {
            missed.push(*mistake);
        }
    }
    outcome(run.detector.canaries.len(), &missed)
}

/// Whether the program fails with a report that says `report`.
pub fn is_reported(program: &mut Command, report: &str) -> Result<bool> {
    let output = program
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {program:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(!output.status.success() && said.contains(report))
}

fn outcome(made: usize, missed: &[&str]) -> Result<Outcome> {
    Ok(Outcome {
        passed: u64::try_from(made - missed.len())?,
        failed: u64::try_from(missed.len())?,
        reason: if missed.is_empty() {
            String::new()
        } else {
            format!("no report of {}", missed.join(", "))
        },
        ..Outcome::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", text]);
        shell
    }

    #[test]
    fn a_report_is_a_text_and_a_failure() {
        for (text, expected) in [
            ("echo 'SUMMARY: data race' >&2; exit 66", true),
            ("echo 'SUMMARY: data race' >&2", false),
            ("echo 'SUMMARY: data race'; exit 66", false),
            ("echo 'no such device' >&2; exit 66", false),
        ] {
            assert_eq!(
                is_reported(&mut shell(text), "data race").unwrap(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_missed_is_named() {
        assert_eq!(outcome(3, &[]).unwrap().passed, 3);
        let outcome = outcome(3, &["leak"]).unwrap();
        assert_eq!((outcome.passed, outcome.failed), (2, 1));
        assert_eq!(outcome.reason, "no report of leak");
    }
}
