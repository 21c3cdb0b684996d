//! `emily`: runs, inspects and measures program files, with no BEAM.

mod bench;
mod flags;
mod input;
mod inspect;
mod npy;
mod random;
mod run;
mod text;

use anyhow::{Context, Result};
use clap::Parser;
use emily_core::{
    Device, Stream,
    file::{Loaded, ProgramFile},
    leave,
};

use flags::{Command, Flags, On};

/// Runs the command line, and ends the process: with 1 after an error, and 2 if the command line is none.
pub fn main() -> ! {
    // Before anything else: MLX's own handler would end the process.
    emily_core::install_error_handler();
    let status = match command(Flags::parse().command) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    };
    leave(status)
}

/// What the command prints.
fn command(command: Command) -> Result<String> {
    match command {
        Command::Run(run) => run::run(&run),
        Command::Inspect(inspect) => inspect::inspect(&inspect),
        Command::Bench(bench) => bench::bench(&bench),
    }
}

/// The program of a command line, on the stream where it runs.
fn load(on: &On) -> Result<(Stream, Loaded)> {
    let file = ProgramFile::open(&on.program)?;
    let stream = Stream::new(on.device.unwrap_or_else(default_device))?;
    let loaded = file.load(&stream, on.max_steps).context("the program")?;
    Ok((stream, loaded))
}

/// The GPU where there is one.
fn default_device() -> Device {
    let devices = Device::available();
    devices.last().copied().unwrap_or(Device::Cpu)
}
