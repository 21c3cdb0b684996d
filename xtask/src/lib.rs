//! Emily's development and release tasks.
//!
//! `flags` declares the whole command line, each command lives in the module of its name, and
//! [`run`] only connects the two.

mod flags;
mod mlx;
mod pin;
mod process;
pub mod progress;
mod settings;
mod targets;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;
use flags::{Command, Flags};

/// Reads the command line, does what it asks, and prints an error as one sentence.
pub fn run() -> ExitCode {
    let flags = Flags::parse();
    let outcome: anyhow::Result<()> = match flags.command {
        Command::Mlx(flags) => mlx::run(&flags),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
