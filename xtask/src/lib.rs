//! Emily's development and release tasks.
//!
//! `flags` declares the whole command line, each command lives in the module of its name, and
//! [`run`] only connects the two.

pub mod archive;
pub mod audit;
mod bench;
pub mod binary;
pub mod cache;
mod cross;
mod demo;
pub mod download;
pub mod failure;
mod flags;
pub mod host;
pub mod install;
pub mod keygen;
pub mod keyring;
pub mod lock;
pub mod manifest;
pub mod materials;
mod matrix;
mod mlx;
mod nif;
mod nowhere;
mod package;
mod pin;
pub mod placing;
mod process;
pub mod progress;
mod prove;
mod python;
pub mod release;
pub mod serve;
mod settings;
mod setup;
pub mod sidecar;
pub mod sign;
pub mod signing;
mod sizes;
pub mod tar_reader;
pub mod targets;
mod test;
mod tidy;
mod toolchain;
pub mod verify;
pub mod version;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;
use failure::Failure;
use flags::{Command, Flags};

/// Reads the command line, does what it asks, and prints an error with the command to run next.
pub fn run() -> ExitCode {
    let command = Flags::parse().command;
    let next = next(&command);
    match carry_out(command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {}", explain(&error, next));
            ExitCode::FAILURE
        }
    }
}

/// An error's text. A [`Failure`] names the way out itself; for any other it is `next`.
fn explain(error: &anyhow::Error, next: &str) -> String {
    if error.downcast_ref::<Failure>().is_some() {
        format!("{error:#}")
    } else {
        format!("{error:#}\n\nRun next: {next}")
    }
}

/// What to run when a command fails for a reason that it did not foresee: what finds the cause,
/// or does again what the command builds on.
fn next(command: &Command) -> &'static str {
    match command {
        Command::Bench(_) | Command::Release(_) => "cargo xtask nif",
        Command::Demo(_) => "cargo xtask demo --keep",
        Command::Install(_) => "cargo xtask install --help",
        Command::Matrix(_) => "cargo xtask tidy",
        Command::Prove(_) => "cargo xtask verify --help",
        Command::Sign(_) => "cargo xtask sign --help",
        Command::Keygen(_) => "cargo xtask keygen --help",
        Command::Mlx(_) => "cargo xtask mlx --force",
        Command::Nif(_) | Command::Test(_) => "cargo xtask setup",
        Command::Serve(_) => "cargo xtask serve --help",
        Command::Setup(_) | Command::Tidy => "cargo xtask setup --check",
        Command::Verify(_) => "cargo xtask verify --help",
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bench(flags) => return bench::run(&flags),
        Command::Demo(flags) => demo::run(&flags)?,
        Command::Install(flags) => install::run(&flags)?,
        Command::Keygen(flags) => keygen::run(&flags)?,
        Command::Matrix(flags) => matrix::run(&flags)?,
        Command::Mlx(flags) => mlx::run(&flags)?,
        Command::Nif(flags) => nif::run(&flags)?,
        Command::Prove(flags) => prove::run(&flags)?,
        Command::Release(flags) => release::run(&flags)?,
        Command::Serve(flags) => serve::run(&flags)?,
        Command::Setup(flags) => setup::run(&flags)?,
        Command::Sign(flags) => sign::run(&flags)?,
        Command::Test(flags) => return test::run(&flags),
        Command::Tidy => tidy::run()?,
        Command::Verify(flags) => verify::run(&flags)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn every_error_names_one_command_to_run_next() {
        let failure = || anyhow!(Failure::new("libemily did not build", "cargo xtask setup"));
        for (arguments, error, expected) in [
            (
                &["nif"][..],
                anyhow!("no space left").context("writing a.so"),
                "writing a.so: no space left\n\nRun next: cargo xtask setup",
            ),
            (
                &["mlx"],
                anyhow!("no space left"),
                "no space left\n\nRun next: cargo xtask mlx --force",
            ),
            (
                &["serve", "there"],
                anyhow!("expected a folder to serve, got: there"),
                "expected a folder to serve, got: there\n\nRun next: cargo xtask serve --help",
            ),
            (
                &["mlx"],
                failure(),
                "libemily did not build\n\nRun next: cargo xtask setup",
            ),
            (
                &["demo"],
                Err::<(), _>(failure()).context("release").unwrap_err(),
                "release: libemily did not build\n\nRun next: cargo xtask setup",
            ),
        ] {
            let line = ["cargo xtask"].iter().chain(arguments);
            let command = Flags::try_parse_from(line).unwrap().command;
            assert_eq!(explain(&error, next(&command)), expected, "{arguments:?}");
        }
    }

    #[test]
    fn what_to_run_next_can_be_run() {
        for line in [
            &["bench"][..],
            &["demo"],
            &["install"],
            &["keygen", "--secret-key", "a"],
            &["matrix"],
            &["mlx"],
            &["nif"],
            &["prove", "a"],
            &["release", "--out", "a"],
            &["serve", "a"],
            &["setup"],
            &["sign", "a"],
            &["test"],
            &["tidy"],
            &["verify", "a"],
        ] {
            let command = |words: &[&str]| {
                Flags::try_parse_from(["cargo xtask"].iter().chain(words))
                    .map(|flags| flags.command)
            };
            let next = next(&command(line).unwrap());
            let words: Vec<_> = next.split(' ').skip(2).collect();
            // Asking for help is an error to clap, yet no wrong command line.
            if let Err(error) = command(&words) {
                assert!(!error.use_stderr(), "{line:?} says: {next}: {error}");
            }
        }
    }
}
