//! `cargo xtask test --sanitize`: the native tests under a detector.
//!
//! `detector` says what the compilers and the programs are told, and which mistakes have to be found;
//! `toolchain` finds what to build with, `core` and `nif` run the tests.

mod canary;
mod core;
mod detector;
mod nif;
mod toolchain;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use detector::Detector;

use super::{Report, check_names};
use crate::{
    flags::{self, Sanitizer},
    mlx, settings, setup,
    targets::Targets,
    toolchain::Toolchain,
    workspace,
};

/// What all of a run's builds and programs have in common.
struct Run {
    detector: Detector,
    toolchain: Toolchain,
    /// As rustc spells the host.
    triple: String,
    /// The MLX that the tests load.
    prefix: PathBuf,
    /// Cargo's target folder, apart from that of other builds.
    target_dir: PathBuf,
}

impl Run {
    /// Where Cargo puts what it builds for the host with the detector.
    fn built(&self) -> PathBuf {
        self.target_dir.join(&self.triple).join("debug")
    }
}

/// Runs the tests; the status says whether the detector found nothing.
pub fn run(sanitizer: Sanitizer, flags: &flags::Test) -> Result<ExitCode> {
    let detector = Detector::of(sanitizer, std::env::consts::OS);
    let mut suites = vec!["canary", "core"];
    // The VM is compiled without the detector. Of memory it need know nothing; what orders the VM's
    // threads ThreadSanitizer would have to see.
    if sanitizer == Sanitizer::Address && cfg!(target_os = "linux") {
        suites.push("nif");
    }
    check_names(&flags.only, &suites)?;
    let wanted =
        |name: &str| flags.only.is_empty() || flags.only.iter().any(|wanted| wanted == name);

    setup::ensure(flags.yes)?;
    let selection = Targets::load()?.select(&flags::Cell::default())?;
    let folder = workspace::target_dir().join("sanitize");
    let run = Run {
        toolchain: Toolchain::find(flags, &detector, &selection.target.triple, &folder)?,
        triple: selection.target.triple.clone(),
        prefix: match settings::mlx_prefix() {
            Some(prefix) => prefix,
            None => mlx::prefix(&selection, None)?,
        },
        target_dir: folder.join(detector.name),
        detector,
    };
    let mut report = Report::of(format!("cargo xtask test --sanitize {}", run.detector.name));
    for name in suites.into_iter().filter(|name| wanted(name)) {
        match name {
            "canary" => report.run(name, "mistakes on purpose are reported", || {
                canary::run(&run)
            }),
            "core" => report.run(name, "the Rust tests of the native code", || {
                core::run(&run)
            }),
            _ => report.run(name, "the bare Elixir tests of the native code", || {
                nif::run(&run)
            }),
        }
    }
    Ok(report.close())
}
