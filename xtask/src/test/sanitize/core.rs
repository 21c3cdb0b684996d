//! Cargo with the detector, and the Rust tests under it.

use std::process::Command;

use anyhow::Result;

use super::Run;
use crate::{
    settings,
    test::{outcome::Outcome, suites},
    workspace,
};

/// Runs emily-core's tests.
pub fn run(run: &Run) -> Result<Outcome> {
    let mut tests = cargo(run, "test");
    // Examples in documentation are compiled by another program, with flags of its own.
    tests.args(["--package", "emily-core", "--tests", "--no-fail-fast"]);
    suites::cargo_summary(tests)
}

/// A Cargo command that builds with the detector, and runs programs with its options.
pub fn cargo(run: &Run, command: &str) -> Command {
    let mut cargo = Command::new(run.toolchain.program("cargo"));
    cargo
        .current_dir(workspace::root())
        .args([command, "--target", &run.triple, "--target-dir"])
        .arg(&run.target_dir)
        .env("RUSTC", run.toolchain.program("rustc"))
        .env("RUSTFLAGS", run.detector.rust_flags())
        .env(cpp_variable(&run.triple), run.detector.cpp_flags())
        .env(run.detector.options.0, &run.detector.options.1)
        .env(settings::MLX_PREFIX, &run.prefix)
        // They would win over what is set above.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTC");
    if run.detector.rebuilds_std {
        cargo.arg("-Zbuild-std");
    }
    cargo
}

/// What the crate `cc` reads flags for this target alone from: build scripts run without the detector.
fn cpp_variable(triple: &str) -> String {
    format!("CXXFLAGS_{}", triple.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::{flags::Sanitizer, test::sanitize::detector::Detector, toolchain::Toolchain};

    fn command(sanitizer: Sanitizer) -> (Vec<String>, BTreeMap<String, Option<String>>) {
        let run = Run {
            detector: Detector::of(sanitizer, "linux"),
            toolchain: Toolchain::at(Path::new("/tools")),
            triple: "x86_64-unknown-linux-gnu".into(),
            prefix: "/mlx".into(),
            target_dir: "/target".into(),
        };
        let cargo = cargo(&run, "test");
        assert_eq!(cargo.get_program(), "/tools/bin/cargo");
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        (
            cargo.get_args().map(text).collect(),
            cargo
                .get_envs()
                .map(|(name, value)| (text(name), value.map(text)))
                .collect(),
        )
    }

    #[test]
    fn only_what_is_built_for_the_target_has_the_detector() {
        let (arguments, variables) = command(Sanitizer::Address);
        assert_eq!(
            arguments,
            [
                "test",
                "--target",
                "x86_64-unknown-linux-gnu",
                "--target-dir",
                "/target"
            ]
        );
        let variable = |name: &str| variables[name].as_deref();
        assert_eq!(variable("RUSTFLAGS"), Some("-Zsanitizer=address"));
        assert_eq!(variable("RUSTC"), Some("/tools/bin/rustc"));
        assert_eq!(variable("EMILY_MLX_PREFIX"), Some("/mlx"));
        assert_eq!(variable("CARGO_ENCODED_RUSTFLAGS"), None);
        assert!(variables.contains_key("CXXFLAGS_x86_64_unknown_linux_gnu"));
        assert!(!variables.contains_key("CXXFLAGS"));
    }

    #[test]
    fn races_are_looked_for_in_the_standard_library_too() {
        let (arguments, variables) = command(Sanitizer::Thread);
        assert!(arguments.contains(&"-Zbuild-std".to_owned()));
        assert!(variables.contains_key("TSAN_OPTIONS"));
    }
}
