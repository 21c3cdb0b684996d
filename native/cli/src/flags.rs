//! The command line of `emily`, declared in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser};
use emily_core::{Device, file::MOST_STEPS};

use crate::input::Given;

/// Runs programs that Emily.export/3 has written.
#[derive(Debug, Parser)]
#[command(
    name = "emily",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program and print what it gives
    Run(Run),
    /// Tell what a program takes, gives, holds and does
    Inspect(Inspect),
    /// Measure a program, on random inputs
    Bench(Bench),
}

/// Which program, and where it runs.
#[derive(Debug, Args)]
pub struct On {
    /// The program's folder
    pub program: PathBuf,
    /// Where to compute: cpu or gpu; the GPU where there is one, when absent
    #[arg(long, value_name = "DEVICE", value_parser = device())]
    pub device: Option<Device>,
    /// Fail after so many steps: operations, and rounds of loops
    #[arg(long, value_name = "N", default_value_t = MOST_STEPS)]
    pub max_steps: u64,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub on: On,
    /// A tensor that the program takes, from a .npy or a .safetensors file; of the latter the tensor of the same
    /// name, or the one that FILE:TENSOR names
    #[arg(long, value_name = "NAME=FILE")]
    pub input: Vec<Given>,
    /// Convert inputs to the program's types
    #[arg(long)]
    pub cast: bool,
    /// The .safetensors file that receives the results
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The program's folder
    pub program: PathBuf,
    /// Print one JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub on: On,
    /// How often to run it, after a tenth of that to warm up
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
    /// Print one JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

fn device() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(["cpu", "gpu"]).map(|name| match &name[..] {
        "gpu" => Device::Gpu,
        _ => Device::Cpu,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn inputs_are_names_with_files() {
        let refused = Flags::try_parse_from(["emily", "run", "p", "--input", "x"]).unwrap_err();
        assert!(
            refused.to_string().contains(
                "invalid value 'x' for '--input <NAME=FILE>': expected NAME=FILE, got: x"
            ),
            "{refused}"
        );
        let flags = Flags::try_parse_from(["emily", "run", "p", "--device", "tpu"]).unwrap_err();
        assert!(
            flags.to_string().contains("[possible values: cpu, gpu]"),
            "{flags}"
        );
    }
}
