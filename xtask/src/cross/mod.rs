//! Builds for other targets than this machine: for macOS from Linux, and for Linux on another processor.
//!
//! `rust` finds a toolchain with the target's standard library, or its sources; `macos` and `linux` say
//! what compiles and links C++; `stub` writes what stands in for macOS's own libraries. What this machine
//! lacks is Debian's: `kit` has tools in the cache, `debian` packages for another processor, and `apt`
//! fetches both. What is made for this lies in `target/cross/`.

mod apt;
pub mod debian;
mod kit;
mod linux;
mod macos;
mod rust;
mod stub;

pub use linux::{compiler, runner};

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{failure::Failure, targets::Selection, workspace};

/// Whether a build of `selection` is one for another machine.
pub fn is_needed(selection: &Selection) -> bool {
    let target = &selection.target;
    (target.os.as_str(), target.arch.as_str()) != (std::env::consts::OS, std::env::consts::ARCH)
}

/// What keeps this machine from building `selection`, if anything does; builds nothing.
pub fn obstacle(selection: &Selection) -> Option<String> {
    let found = match selection.target.os.as_str() {
        "macos" => macos::tools(selection).map(|_| ()),
        _ => linux::tools(selection).map(|_| ()),
    };
    found.err().map(|error| reason(&error))
}

/// What an error says in one line: what is missing, and why it could not be had.
pub fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let mut lines = text.lines();
    let what = lines.next().unwrap_or_default();
    // A cause may have a cause of its own, further to the right.
    let causes = lines.filter_map(|line| line.split_once("cause:"));
    let causes = causes.map(|(_, cause)| cause.trim());
    [what]
        .into_iter()
        .chain(causes)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Cargo's `command` for `selection` against `prefix`, up to the packages that it is for.
pub fn cargo(selection: &Selection, command: &str, prefix: &Path) -> Result<Command> {
    let mut cargo = match (std::env::consts::OS, selection.target.os.as_str()) {
        ("linux", "macos") => macos::cargo(selection, command, prefix)?,
        ("linux", "linux") => linux::cargo(selection, command)?,
        (host, _) => bail!(Failure::new(
            format!(
                "expected a host on Linux to build for {}, got: {host}",
                selection.target_name
            ),
            format!(
                "cargo xtask nif --target {}, on such a machine",
                selection.target_name
            )
        )),
    };
    cargo
        .args(["--target", &selection.target.triple])
        // They would win over what the target is given.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTC");
    Ok(cargo)
}

/// The folder for what is made of `name` alone.
fn folder(name: &str) -> PathBuf {
    workspace::target_dir().join("cross").join(name)
}

/// A variable that Cargo or a build script reads for this target alone, such as `CXXFLAGS_…`.
fn for_target(variable: &str, triple: &str) -> String {
    format!("{variable}_{}", triple.replace('-', "_"))
}

/// The program of this name, if a folder of `PATH` has it.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// `PATH` with `folders` before it.
fn path_after(folders: &[&Path]) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().map(|folder| folder.to_path_buf());
    Ok(std::env::join_paths(
        folders.chain(std::env::split_paths(&path)),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Targets;

    #[test]
    fn variables_for_one_target_have_its_name() {
        assert_eq!(
            for_target("CXXFLAGS", "aarch64-apple-darwin"),
            "CXXFLAGS_aarch64_apple_darwin"
        );
    }

    #[test]
    fn a_reason_is_one_line_with_its_causes() {
        let missing = || Failure::new("there is no qemu", "apt-get install qemu");
        assert_eq!(reason(&missing().into()), "there is no qemu");
        let cause = anyhow::anyhow!("no network\nat all");
        let fetched = Failure::new("it could not be had", "again").because(&cause);
        let missing = missing().fact("looked for", "it").because(&fetched.into());
        assert_eq!(
            reason(&missing.into()),
            "there is no qemu: it could not be had: no network"
        );
    }

    #[test]
    fn only_other_machines_are_built_for_in_another_way() {
        let targets = Targets::load().unwrap();
        let host = targets.host().unwrap().to_owned();
        for (variant, target) in [
            ("cpu", "linux-x86_64"),
            ("cpu", "linux-arm64"),
            ("aot", "macos-arm64"),
        ] {
            let selection = targets.selection(variant, target).unwrap();
            assert_eq!(is_needed(&selection), target != host);
        }
    }
}
