//! Linux on another processor: the distribution's cross compiler compiles and links, qemu runs.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    for_target, in_path,
    rust::{self, Rust},
};
use crate::{failure::Failure, mlx::openblas, targets::Selection, workspace};

/// What of the machine's a build takes.
#[derive(Debug)]
pub struct Tools {
    rust: Rust,
    /// `aarch64-linux-gnu`, as the compiler's name begins.
    gnu: String,
}

/// Finds the tools, or says which one is missing.
pub fn tools(selection: &Selection) -> Result<Tools> {
    let rust = rust::find(&selection.target.triple)?;
    let gnu = gnu(selection);
    if in_path(&format!("{gnu}-g++")).is_none() {
        let package = format!("g++-{}", gnu.replace('_', "-"));
        return Err(Failure::new(
            format!("there is no C++ compiler for {}", selection.target_name),
            format!("apt-get install {package}"),
        )
        .fact("looked for", format!("{gnu}-g++ in PATH"))
        .into());
    }
    if !openblas::found(&selection.target) && in_path("apt-get").is_none() {
        return Err(Failure::new(
            format!("there is no OpenBLAS for {}", selection.target_name),
            "cargo xtask setup",
        )
        .fact("or", "apt-get, which fetches it")
        .into());
    }
    Ok(Tools { rust, gnu })
}

/// Cargo's `command`, without its target.
pub fn cargo(selection: &Selection, command: &str) -> Result<Command> {
    let Tools { rust, gnu } = tools(selection)?;
    let triple = &selection.target.triple;
    let system = system(&gnu);
    let headers = headers(selection)?;
    let of_cargo = for_target("CARGO_TARGET", triple).to_uppercase();
    let mut cargo = Command::new(rust.toolchain.program("cargo"));
    cargo
        .arg(command)
        .env(for_target("CC", triple), format!("{gnu}-gcc"))
        .env(for_target("CXX", triple), format!("{gnu}-g++"))
        .env(for_target("AR", triple), format!("{gnu}-ar"))
        .env(
            for_target("CXXFLAGS", triple),
            format!("-I{}", headers.display()),
        )
        .env(
            for_target("BINDGEN_EXTRA_CLANG_ARGS", triple),
            format!("-I{}", system.join("include").display()),
        )
        .env(format!("{of_cargo}_LINKER"), format!("{gnu}-gcc"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(runner) = runner(selection) {
        cargo.env(format!("{of_cargo}_RUNNER"), runner.join(" "));
    }
    rust.apply(&mut cargo);
    Ok(cargo)
}

/// What runs a program of the target's here, if it is installed.
pub fn runner(selection: &Selection) -> Option<Vec<String>> {
    let name = format!("qemu-{}", selection.target.arch);
    let program = in_path(&format!("{name}-static")).or_else(|| in_path(&name))?;
    let system = system(&gnu(selection));
    Some(vec![
        program.display().to_string(),
        "-L".to_owned(),
        system.display().to_string(),
    ])
}

fn gnu(selection: &Selection) -> String {
    selection.target.triple.replace("-unknown-", "-")
}

/// Where the distribution puts the target's C and C++ libraries.
fn system(gnu: &str) -> PathBuf {
    Path::new("/usr").join(gnu)
}

/// A folder with {fmt}'s headers alone, which know nothing of the processor: a g++ that lacks `<format>`
/// takes them, and the others in their folder are this machine's.
fn headers(selection: &Selection) -> Result<PathBuf> {
    let folder = super::folder(&selection.target_name).join("include");
    let place = folder.join("fmt");
    let found = ["/usr/include/fmt", "/usr/local/include/fmt"]
        .iter()
        .find(|path| Path::new(path).is_dir());
    if let Some(found) = found
        && !place.exists()
    {
        workspace::folder_of(&place)?;
        symlink(found, &place).with_context(|| format!("linking {}", place.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Targets;

    #[test]
    fn the_compilers_name_begins_as_the_distribution_has_it() {
        let targets = Targets::load().unwrap();
        let selection = targets.selection("cpu", "linux-arm64").unwrap();
        assert_eq!(gnu(&selection), "aarch64-linux-gnu");
        assert_eq!(
            system(&gnu(&selection)),
            Path::new("/usr/aarch64-linux-gnu")
        );
    }
}
