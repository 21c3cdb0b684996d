//! `cargo xtask setup`: finds what Emily is built with, and installs what is missing.
//!
//! `facts` looks at the machine, `plan` decides from those facts alone what to do, `apt` knows
//! Debian's files. Nothing is changed on a machine that is ready, or without being agreed to.

mod apt;
mod facts;
mod plan;

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Result, bail};
use facts::Facts;
pub use facts::Need;
use plan::{Plan, Privilege};

use crate::{failure::Failure, flags};

/// The command to run next where something is missing.
const NEXT: &str = "cargo xtask setup";

/// Runs the command.
pub fn run(flags: &flags::Setup) -> Result<()> {
    if flags.check {
        let plan = plan::make(&Facts::gather());
        eprint!("{plan}");
        if plan.is_empty() {
            return Ok(());
        }
        bail!(Failure::new("this machine is not ready", NEXT));
    }
    ensure(flags.yes)
}

/// Makes the machine ready, or fails; `yes` agrees to the plan beforehand.
pub fn ensure(yes: bool) -> Result<()> {
    let plan = plan::make(&Facts::gather());
    eprint!("{plan}");
    if plan.is_empty() {
        return Ok(());
    }
    if plan.steps.is_empty() {
        bail!(Failure::new(
            "nothing was installed: the plan is for you to carry out",
            NEXT
        ));
    }
    if plan.privilege == Privilege::None {
        bail!(Failure::new(
            "the plan takes root's rights: expected to run as root or to find sudo",
            NEXT
        ));
    }
    if !yes && !agreed(&plan)? {
        bail!(Failure::new("nothing was changed", NEXT));
    }
    for step in &plan.steps {
        eprintln!("→ {step}");
        step.carry_out(plan.privilege)?;
    }
    let still = plan::make(&Facts::gather());
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
    bail!(Failure::new("this machine is not ready", NEXT).fact("missing", missing.join("\n")));
}

/// Asks at the terminal.
fn agreed(plan: &Plan) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!(Failure::new(
            format!(
                "{} steps wait for agreement, and there is no terminal to ask at",
                plan.steps.len()
            ),
            "cargo xtask setup --yes"
        ));
    }
    eprint!("Carry this out? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
