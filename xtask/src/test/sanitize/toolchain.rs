//! What detectors are built with: a nightly toolchain, for some with the standard library's sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Detector;
use crate::{failure::Failure, flags, process, workspace};

/// Where a toolchain has the standard library's sources.
const SOURCES: &str = "lib/rustlib/src/rust/library";

/// A folder with `bin/` and `lib/`.
#[derive(Debug)]
pub struct Toolchain(PathBuf);

impl Toolchain {
    /// The toolchain in this folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The toolchain that `flags` name, complete for the detector. What has to be put together for that
    /// goes into `folder`.
    pub fn find(
        flags: &flags::Test,
        detector: &Detector,
        triple: &str,
        folder: &Path,
    ) -> Result<Self> {
        let toolchain = Self::at(&sysroot(&flags.toolchain)?);
        toolchain.check_nightly(&flags.toolchain)?;
        toolchain.check_runtime(&flags.toolchain, detector, triple)?;
        if !detector.rebuilds_std {
            return Ok(toolchain);
        }
        match &flags.rust_src {
            Some(sources) => toolchain.with_sources(sources, &folder.join("toolchain")),
            None if toolchain.has_sources() => Ok(toolchain),
            None => bail!(
                Failure::new(
                    "the toolchain has no sources of the standard library, which has to be compiled with \
                     the detector",
                    format!("rustup component add rust-src --toolchain {}", flags.toolchain)
                )
                .fact("expected", toolchain.0.join(SOURCES).display())
                .fact("or", "--rust-src DIR, a `library` folder of that version (MAINTAINING.md)")
            ),
        }
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// The detector's runtime, a static library.
    pub fn runtime(&self, detector: &Detector, triple: &str) -> Option<PathBuf> {
        let folder = self.0.join("lib/rustlib").join(triple).join("lib");
        let entries = fs::read_dir(folder).ok()?;
        let ends = [
            format!("_rt.{}.a", detector.runtime),
            format!("_rt.{}.dylib", detector.runtime),
        ];
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                ends.iter().any(|end| name.ends_with(end.as_str()))
            })
    }

    fn has_sources(&self) -> bool {
        self.0.join(SOURCES).join("Cargo.lock").is_file()
    }

    fn check_nightly(&self, name: &str) -> Result<()> {
        let version = process::output(Command::new(self.program("rustc")).arg("--version"))?;
        if is_nightly(&version) {
            return Ok(());
        }
        bail!(
            Failure::new(
                "detectors take a nightly toolchain",
                "rustup toolchain install nightly"
            )
            .fact("toolchain", name)
            .fact("rustc", version.trim())
        );
    }

    fn check_runtime(&self, name: &str, detector: &Detector, triple: &str) -> Result<()> {
        if self.runtime(detector, triple).is_some() {
            return Ok(());
        }
        bail!(
            Failure::new(
                "the toolchain comes without the detector's runtime; that of rustup has it",
                "rustup toolchain install nightly"
            )
            .fact("toolchain", name)
            .fact(
                "runtime",
                format!("librustc-…_rt.{} for {triple}", detector.runtime)
            )
        );
    }

    /// This toolchain with sources, in `place`.
    fn with_sources(&self, sources: &Path, place: &Path) -> Result<Self> {
        if !sources.join("Cargo.lock").is_file() || !sources.join("std").is_dir() {
            bail!(
                "expected --rust-src to be the `library` folder of Rust's sources, got: {}",
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

/// The folder of the toolchain with this name, which may be the folder itself.
fn sysroot(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "sysroot"])
        .env("RUSTUP_TOOLCHAIN", name)
        // Nothing is installed behind the user's back.
        .env("RUSTUP_AUTO_INSTALL", "0")
        // rustup's own would only bury what it says.
        .env_remove("RUST_BACKTRACE");
    let sysroot = process::output(&mut rustc).map_err(|error| {
        Failure::new(
            format!("there is no toolchain {name}"),
            format!("rustup toolchain install {name}"),
        )
        .because(&error)
    })?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Whether `rustc --version` tells of a compiler with unstable options.
fn is_nightly(version: &str) -> bool {
    ["-nightly", "-dev"]
        .iter()
        .any(|kind| version.contains(kind))
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
    use crate::flags::Sanitizer;

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
                .starts_with("expected --rust-src to be the `library` folder"),
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
    fn the_runtime_is_found_by_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Toolchain::at(folder.path());
        let address = Detector::of(Sanitizer::Address, "linux");
        let missing = toolchain.check_runtime("mine", &address, "x").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the toolchain comes without the detector's runtime; that of rustup has it\n\
             \n  toolchain: mine\n  runtime:   librustc-…_rt.asan for x\n\
             \nRun next: rustup toolchain install nightly"
        );
        let library = "lib/rustlib/x/lib/librustc-nightly_rt.asan.a";
        write(folder.path().join(library));
        let found = toolchain.runtime(&address, "x").unwrap();
        assert_eq!(found, folder.path().join(library));
        let thread = Detector::of(Sanitizer::Thread, "linux");
        assert_eq!(toolchain.runtime(&thread, "x"), None);
    }

    #[test]
    fn versions_tell_what_is_nightly() {
        for (version, expected) in [
            ("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)", true),
            ("rustc 1.97.0-dev", true),
            ("rustc 1.95.0 (59807616e 2026-04-14)", false),
        ] {
            assert_eq!(is_nightly(version), expected, "{version}");
        }
    }
}
