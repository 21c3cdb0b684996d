//! Emily's development and release tasks.
//!
//! `flags` declares the whole command line, each command lives in the module of its name, and
//! [`run`] only connects the two.

pub mod archive;
pub mod audit;
pub mod binary;
pub mod cache;
pub mod download;
pub mod failure;
mod flags;
pub mod host;
pub mod install;
pub mod keygen;
pub mod lock;
pub mod manifest;
mod mlx;
mod nif;
mod pin;
mod process;
pub mod progress;
mod settings;
pub mod serve;
mod setup;
pub mod release;
pub mod sidecar;
pub mod signing;
pub mod targets;
pub mod verify;
pub mod version;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;
use flags::{Command, Flags};

/// Reads the command line, does what it asks, and prints an error as one sentence.
pub fn run() -> ExitCode {
    let flags = Flags::parse();
    let outcome: anyhow::Result<()> = match flags.command {
        Command::Install(flags) => install::run(&flags),
        Command::Keygen(flags) => keygen::run(&flags),
        Command::Mlx(flags) => mlx::run(&flags),
        Command::Nif(flags) => nif::run(&flags),
        Command::Release(flags) => release::run(&flags),
        Command::Serve(flags) => serve::run(&flags),
        Command::Setup(flags) => setup::run(&flags),
        Command::Verify(flags) => verify::run(&flags),
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
