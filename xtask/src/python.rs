//! Python packages that the demo, the tests and the benchmarks use, under `target/python/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{failure::Failure, process, progress, workspace};

/// The version that results are compared with.
pub const NUMPY: &str = "numpy==2.2.6";

/// The linter for workflows, whose package is one program.
pub const ZIZMOR: &str = "zizmor==1.32.0";

/// A Python that can import `requirements`, which pip fetches once.
#[derive(Debug)]
pub struct Python {
    packages: PathBuf,
}

/// Makes sure that `requirements`, such as `numpy==2.2.6`, are in `target/python/<name>/`.
pub fn with(name: &str, requirements: &[&str]) -> Result<Python> {
    let packages = workspace::root().join("target/python").join(name);
    let marker = packages.join(".requirements");
    let version = process::output(Command::new("python3").arg("--version")).map_err(|error| {
        Failure::new("expected to find Python 3", "cargo xtask setup").because(&error)
    })?;
    let wanted = format!("{version}{}\n", requirements.join("\n"));
    if !fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        let step = progress::step(format!("fetching {}", requirements.join(", ")));
        let draft = tempfile::Builder::new()
            .prefix(".python-")
            .tempdir_in(workspace::folder_of(&packages)?)?;
        // Into a folder of its own: a system's Python refuses to have packages added.
        process::output(
            Command::new("python3")
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--disable-pip-version-check",
                    "--quiet",
                ])
                .args(["--only-binary=:all:", "--target"])
                .arg(draft.path())
                .args(requirements),
        )
        .context("pip could not fetch what this takes; run it again when connected")?;
        fs::write(draft.path().join(".requirements"), wanted)?;
        workspace::replace_folder(draft, &packages)?;
        step.finish("done");
    }
    Ok(Python { packages })
}

impl Python {
    /// The folder of its packages.
    pub fn packages(&self) -> &Path {
        &self.packages
    }

    /// A program that came with its packages.
    pub fn program(&self, name: &str) -> PathBuf {
        self.packages.join("bin").join(name)
    }

    /// The start of a command line.
    pub fn command(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.packages);
        command
    }
}
