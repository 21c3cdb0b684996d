//! Rust's toolchains: those that are installed, and one put together with the standard library's sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{failure::Failure, process, workspace};

/// Where a toolchain has the standard library's sources.
pub const SOURCES: &str = "lib/rustlib/src/rust/library";

/// A folder with `bin/` and `lib/`.
#[derive(Debug)]
pub struct Toolchain(PathBuf);

impl Toolchain {
    /// The toolchain in this folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The toolchain with this name, which may be the folder itself; the one in use when absent.
    pub fn named(name: Option<&str>) -> Result<Self> {
        sysroot(name).map(Self)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// What it has for `triple`, the standard library first of all.
    pub fn libraries(&self, triple: &str) -> PathBuf {
        self.0.join("lib/rustlib").join(triple)
    }

    /// Whether it has the standard library for `triple`.
    pub fn has_std(&self, triple: &str) -> bool {
        let entries = fs::read_dir(self.libraries(triple).join("lib"));
        entries.is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
            })
        })
    }

    /// Whether it has the standard library's sources.
    pub fn has_sources(&self) -> bool {
        self.0.join(SOURCES).join("Cargo.lock").is_file()
    }

    /// This toolchain with sources, in `place`.
    pub fn with_sources(&self, sources: &Path, place: &Path) -> Result<Self> {
        if !sources.join("Cargo.lock").is_file() || !sources.join("std").is_dir() {
            bail!(
                "expected the `library` folder of Rust's sources, got: {}",
                sources.display()
            );
        }
        let draft = tempfile::tempdir_in(workspace::folder_of(place)?)?;
        link_folder(&self.0, draft.path())?;
        let library = draft.path().join(SOURCES);
        fs::create_dir_all(&library)?;
        link_folder(sources, &library)?;
        workspace::replace_folder(draft, place)?;
        Ok(Self::at(place))
    }
}

/// The folder of the toolchain with this name.
fn sysroot(name: Option<&str>) -> Result<PathBuf> {
    if let Some(folder) = name.filter(|name| name.contains('/')) {
        return Ok(PathBuf::from(folder));
    }
    let mut rustc = Command::new("rustc");
    if let Some(name) = name {
        rustc.env("RUSTUP_TOOLCHAIN", name);
    }
    rustc
        .args(["--print", "sysroot"])
        // Nothing is installed behind the user's back.
        .env("RUSTUP_AUTO_INSTALL", "0")
        // rustup's own would only bury what it says.
        .env_remove("RUST_BACKTRACE");
    let sysroot = process::output(&mut rustc).map_err(|error| {
        Failure::new(
            format!("there is no toolchain {}", name.unwrap_or("in use")),
            format!("rustup toolchain install {}", name.unwrap_or("stable")),
        )
        .because(&error)
    })?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Makes `into` hold the same files as `from`: rustc looks for its own where it is itself, past any
/// symbolic link.
fn link_folder(from: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let (old, new) = {
            let entry = entry?;
            (entry.path(), into.join(entry.file_name()))
        };
        if old.is_dir() {
            fs::create_dir_all(&new)?;
            link_folder(&old, &new)?;
        } else if fs::hard_link(&old, &new).is_err() {
            // On another file system.
            fs::copy(&old, &new).with_context(|| format!("copying {}", old.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_sources_are_put_beside_the_tools() {
        let folder = tempfile::tempdir().unwrap();
        let (own, sources) = (folder.path().join("own"), folder.path().join("library"));
        write(own.join("bin/rustc"));
        write(sources.join("Cargo.lock"));
        let toolchain = Toolchain::at(&own);
        let place = folder.path().join("both");
        let refusal = toolchain.with_sources(&sources, &place).unwrap_err();
        assert!(
            refusal
                .to_string()
                .starts_with("expected the `library` folder of Rust's sources, got: "),
            "{refusal}"
        );
        write(sources.join("std/src/lib.rs"));
        for _ in 0..2 {
            let both = toolchain.with_sources(&sources, &place).unwrap();
            assert!(both.has_sources());
            assert!(both.program("rustc").is_file());
        }
        assert!(place.join(SOURCES).join("std/src/lib.rs").is_file());
        assert!(
            !toolchain.has_sources(),
            "the toolchain itself stays as it was"
        );
    }

    #[test]
    fn the_standard_library_is_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::at(folder.path());
        write(toolchain.libraries("x").join("lib/libcore-1.rlib"));
        assert!(!toolchain.has_std("x") && !toolchain.has_std("y"));
        write(toolchain.libraries("x").join("lib/libstd-1.rlib"));
        assert!(toolchain.has_std("x") && !toolchain.has_std("y"));
    }
}
