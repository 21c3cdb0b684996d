//! What detectors are built with: a nightly toolchain, for some with the standard library's sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::Detector;
use crate::{
    failure::Failure,
    flags, process,
    toolchain::{SOURCES, Toolchain},
};

impl Toolchain {
    /// The toolchain that `flags` name, complete for the detector. What has to be put together for that
    /// goes into `folder`.
    pub fn find(
        flags: &flags::Test,
        detector: &Detector,
        triple: &str,
        folder: &Path,
    ) -> Result<Self> {
        let toolchain = Self::named(Some(&flags.toolchain))?;
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
                .fact("expected", toolchain.folder().join(SOURCES).display())
                .fact("or", "--rust-src DIR, a `library` folder of that version (MAINTAINING.md)")
            ),
        }
    }

    /// The detector's runtime, a static library.
    pub fn runtime(&self, detector: &Detector, triple: &str) -> Option<PathBuf> {
        let folder = self.libraries(triple).join("lib");
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
}

/// Whether `rustc --version` tells of a compiler with unstable options.
fn is_nightly(version: &str) -> bool {
    ["-nightly", "-dev"]
        .iter()
        .any(|kind| version.contains(kind))
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
