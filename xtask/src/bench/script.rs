//! Benchmarks of Elixir beside Nx: scripts of bench/ that print what they measured as a line of JSON.

use std::{ffi::OsString, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{pin::Pin, process, python, settings, workspace};

/// What the script prints; nothing without Nx's sources. The arguments are asked for only if it runs.
pub fn run<T: DeserializeOwned>(
    name: &str,
    arguments: impl FnOnce() -> Result<Vec<OsString>>,
) -> Result<Option<T>> {
    let Some(path) = settings::deps_path() else {
        return Ok(None);
    };
    let measured = process::output(
        Command::new("mix")
            .current_dir(workspace::root())
            .args(["run", &format!("bench/{name}")])
            .args(arguments()?)
            .env_remove(settings::BARE)
            .env(settings::DEPS_PATH, path)
            .env("MIX_ENV", "test")
            .env("MIX_BUILD_PATH", workspace::root().join("_build/nx")),
    )?;
    last_line(&measured).map(Some)
}

/// The folder of MLX's Python package, of the version that Emily is built with, and NumPy.
pub fn mlx() -> Result<OsString> {
    let mlx = format!("mlx[cpu]=={}", Pin::load()?.mlx.version);
    Ok(python::with("bench", &[python::NUMPY, &mlx])?
        .packages()
        .into())
}

/// Mix may print before the program does.
pub fn last_line<'text, T: Deserialize<'text>>(text: &'text str) -> Result<T> {
    let line = text
        .trim_end()
        .lines()
        .last()
        .context("the benchmark printed nothing")?;
    serde_json::from_str(line)
        .with_context(|| format!("reading what the benchmark printed: {line}"))
}
