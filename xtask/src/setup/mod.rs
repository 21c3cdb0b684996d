//! `cargo xtask setup`: finds what Emily is built with, and installs what is missing.
//!
//! `facts` looks at the machine, `plan` decides from those facts alone what to do, `apt` knows
//! Debian's files, `changes` what apt would do. Nothing is changed on a machine that is ready, or without being agreed to.

mod apt;
mod changes;
mod facts;
mod plan;

use std::{
    env::consts::OS,
    io::{IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use facts::Facts;
pub use facts::Need;
use plan::Privilege;

use crate::{failure::Failure, flags};

/// The command to run next where something is missing.
const NEXT: &str = "cargo xtask setup";
/// The same where it is of what only a build of MLX takes.
const NEXT_FROM_SOURCE: &str = "cargo xtask setup --from-source";

/// Runs the command.
pub fn run(flags: &flags::Setup) -> Result<()> {
    let needs = if flags.from_source {
        Need::ALL.to_vec()
    } else {
        Need::everyday(OS)
    };
    if flags.check {
        let plan = plan::make(&Facts::gather_for(&needs), &needs);
        eprint!("{plan}");
        if plan.is_empty() {
            return Ok(());
        }
        bail!(Failure::new("this machine is not ready", next(&needs)));
    }
    provide(&needs, flags.yes)
}

/// The command that provides `needs`.
fn next(needs: &[Need]) -> &'static str {
    let everyday = Need::everyday(OS);
    if needs.iter().all(|need| everyday.contains(need)) {
        NEXT
    } else {
        NEXT_FROM_SOURCE
    }
}

/// Makes the machine ready for everyday work, or fails; `yes` agrees to the plan beforehand.
pub fn ensure(yes: bool) -> Result<()> {
    provide(&Need::everyday(OS), yes)
}

fn provide(needs: &[Need], yes: bool) -> Result<()> {
    let plan = plan::make(&Facts::gather_for(needs), needs);
    eprint!("{plan}");
    if plan.is_empty() {
        return Ok(());
    }
    if plan.steps.is_empty() {
        bail!(Failure::new(
            "nothing was installed: the plan is for you to carry out",
            next(needs)
        ));
    }
    if plan.privilege == Privilege::None {
        bail!(Failure::new(
            "the plan takes root's rights: expected to run as root or to find sudo",
            next(needs)
        ));
    }
    if !yes && !agreed("Carry this out?", plan.steps.len())? {
        bail!(Failure::new("nothing was changed", next(needs)));
    }
    for step in &plan.steps {
        eprintln!("→ {step}");
        // Only now do the lists of packages hold what the plan's own sources offer.
        if let Some(changes) = step.changes() {
            eprintln!("  packages: {changes}");
            if !yes && !changes.removed.is_empty() && !agreed("Remove them?", plan.steps.len())? {
                bail!(Failure::new("no package was removed", next(needs)));
            }
        }
        step.carry_out(plan.privilege)?;
    }
    let still = plan::make(&Facts::gather_for(needs), needs);
    if !still.is_empty() {
        let missing: Vec<_> = still.missing.iter().map(ToString::to_string).collect();
        bail!(
            Failure::new(
                "the plan was carried out, yet something is missing",
                "cargo xtask setup --check"
            )
            .fact("missing", missing.join("\n"))
        );
    }
    eprintln!("this machine is ready");
    Ok(())
}

/// Fails if one of `needs` is missing; changes nothing.
pub fn require(needs: &[Need]) -> Result<()> {
    let facts = Facts::gather_for(needs);
    let missing = plan::missing(&facts, needs);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    bail!(
        Failure::new("this machine is not ready", next(needs)).fact("missing", missing.join("\n"))
    );
}

/// A line of a `sources.list` for Debian's `suite`, which need not be this machine's.
pub fn debian_source(suite: &str) -> Result<String> {
    let sources = apt::sources(Path::new("/etc/apt"));
    apt::line(&sources, suite).context("expected apt on this machine to know a source of Debian's")
}

/// Asks at the terminal.
fn agreed(question: &str, steps: usize) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!(Failure::new(
            format!("{steps} steps wait for agreement, and there is no terminal to ask at"),
            "cargo xtask setup --yes"
        ));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_provides_what_is_missing() {
        assert_eq!(next(&Need::BUILD), NEXT);
        let from_source = if OS == "macos" {
            NEXT
        } else {
            NEXT_FROM_SOURCE
        };
        assert_eq!(next(&Need::SOURCE), from_source);
        assert_eq!(next(&Need::ALL), from_source);
    }
}
