//! Linux on another processor: GNU's cross compiler compiles and links, qemu runs.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    for_target, in_path, kit,
    rust::{self, Rust},
};
use crate::{
    failure::Failure,
    mlx::openblas,
    targets::{Selection, Target},
    workspace,
};

/// What a build takes.
#[derive(Debug)]
pub struct Tools {
    rust: Rust,
    gnu: Gnu,
}

/// GNU's compiler for the target, and the target's C and C++ libraries.
#[derive(Debug)]
struct Gnu {
    /// Where its programs are; in `PATH` when absent.
    folder: Option<PathBuf>,
    /// `aarch64-linux-gnu`, as their names begin.
    triple: String,
    /// The target's `include/` and `lib/`.
    system: PathBuf,
}

/// Finds the tools, or says which one is missing.
pub fn tools(selection: &Selection) -> Result<Tools> {
    let rust = rust::find(&selection.target.triple)?;
    let gnu = Gnu::find(&selection.target)?;
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

impl Gnu {
    /// The distribution's cross compiler, if it is installed, or else Debian's.
    fn find(target: &Target) -> Result<Self> {
        let triple = target.triple.replace("-unknown-", "-");
        if in_path(&format!("{triple}-g++")).is_some() {
            let system = Path::new("/usr").join(&triple);
            return Ok(Self {
                folder: None,
                triple,
                system,
            });
        }
        let package = format!("g++-{}", triple.replace('_', "-"));
        let absent = || {
            Failure::new(
                format!("there is no C++ compiler for {triple}"),
                format!("apt-get install {package}"),
            )
            .fact("looked for", format!("{triple}-g++ in PATH"))
        };
        if triple != kit::GNU_TRIPLE {
            return Err(absent().into());
        }
        let root = kit::gnu().map_err(|error| absent().because(&error))?;
        Ok(Self {
            folder: Some(root.join("bin")),
            system: root.join("usr").join(&triple),
            triple,
        })
    }

    /// `gcc`, `g++` or `ar`, as one calls it.
    fn program(&self, name: &str) -> PathBuf {
        let name = format!("{}-{name}", self.triple);
        self.folder.as_deref().unwrap_or(Path::new("")).join(name)
    }
}

/// The C compiler for another processor.
pub fn compiler(target: &Target) -> Result<PathBuf> {
    Ok(Gnu::find(target)?.program("gcc"))
}

/// Cargo's `command`, without its target.
pub fn cargo(selection: &Selection, command: &str) -> Result<Command> {
    let Tools { rust, gnu } = tools(selection)?;
    let triple = &selection.target.triple;
    let headers = headers(selection)?;
    let of_cargo = for_target("CARGO_TARGET", triple).to_uppercase();
    let mut cargo = Command::new(rust.toolchain.program("cargo"));
    cargo
        .arg(command)
        .env(for_target("CC", triple), gnu.program("gcc"))
        .env(for_target("CXX", triple), gnu.program("g++"))
        .env(for_target("AR", triple), gnu.program("ar"))
        .env(
            for_target("CXXFLAGS", triple),
            format!("-I{}", headers.display()),
        )
        .env(
            for_target("BINDGEN_EXTRA_CLANG_ARGS", triple),
            format!("-I{}", gnu.system.join("include").display()),
        )
        .env(format!("{of_cargo}_LINKER"), gnu.program("gcc"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if command == "test" {
        cargo.env(
            format!("{of_cargo}_RUNNER"),
            runner(&selection.target)?.join(" "),
        );
    }
    rust.apply(&mut cargo);
    Ok(cargo)
}

/// What runs a program of the target's here: qemu, if it is installed, or else Debian's.
pub fn runner(target: &Target) -> Result<Vec<String>> {
    let name = format!("qemu-{}", target.arch);
    let installed = in_path(&format!("{name}-static")).or_else(|| in_path(&name));
    let program = match installed {
        Some(program) => program,
        None => kit::qemu().map_err(|error| {
            Failure::new(
                format!("{name}, which runs programs for another processor, is missing"),
                "apt-get install qemu-user-static",
            )
            .because(&error)
        })?,
    };
    Ok(vec![
        program.display().to_string(),
        "-L".to_owned(),
        Gnu::find(target)?.system.display().to_string(),
    ])
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
