//! Emily's development and release tasks.
//!
//! `flags` declares the whole command line, each command lives in the module of its name, and
//! [`run`] only connects the two.

pub mod archive;
pub mod audit;
mod bench;
pub mod binary;
pub mod cache;
mod demo;
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
mod package;
mod pin;
mod process;
pub mod progress;
mod python;
pub mod release;
pub mod serve;
mod settings;
mod setup;
pub mod sidecar;
pub mod signing;
pub mod targets;
mod test;
mod tidy;
pub mod verify;
pub mod version;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;
use flags::{Command, Flags};

/// Reads the command line, does what it asks, and prints an error as one sentence.
pub fn run() -> ExitCode {
    match carry_out(Flags::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bench(flags) => return bench::run(&flags),
        Command::Demo(flags) => demo::run(&flags)?,
        Command::Install(flags) => install::run(&flags)?,
        Command::Keygen(flags) => keygen::run(&flags)?,
        Command::Mlx(flags) => mlx::run(&flags)?,
        Command::Nif(flags) => nif::run(&flags)?,
        Command::Release(flags) => release::run(&flags)?,
        Command::Serve(flags) => serve::run(&flags)?,
        Command::Setup(flags) => setup::run(&flags)?,
        Command::Test(flags) => return test::run(&flags),
        Command::Tidy => tidy::run()?,
        Command::Verify(flags) => verify::run(&flags)?,
    }
    Ok(ExitCode::SUCCESS)
}
