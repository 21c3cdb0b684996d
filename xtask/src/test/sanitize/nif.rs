//! The bare Elixir tests of a libemily with the detector, in a VM without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Run, canary, core};
use crate::{
    failure::Failure,
    process, settings,
    test::{outcome::Outcome, suites},
    workspace,
};

/// The detector reserves terabytes of addresses, and the VM counts nothing that it does not divide itself.
const EXCLUDED: &str = "Excluded: tests that bound time, or bound or count the VM's memory.";

/// Builds the library, makes a mistake through it, and runs the tests.
pub fn run(run: &Run) -> Result<Outcome> {
    process::run(core::cargo(run, "build").args(["--package", "emily-nif"]))?;
    let runtime = shared_runtime(run)?;
    let build = workspace::root().join("_build").join(run.detector.name);
    let private = build.join("lib/emily/priv");
    // Of an earlier run; Mix makes it a link to the priv/ of all other builds.
    if private.is_dir() && !private.is_symlink() {
        fs::remove_dir_all(&private)?;
    }
    // Without the last compiler, which would install a library.
    process::run(&mut mix(
        &build,
        &["do", "compile.elixir", "+", "compile.app"],
    ))?;
    fill(run, &private)?;

    let watched = |arguments: &[&str]| {
        let mut mix = mix(&build, arguments);
        mix.env("LD_PRELOAD", &runtime)
            // The VM allocates from pieces that the detector knows only as a whole, unless told to
            // ask for each block. What it holds at its end is no leak.
            .env("ERL_FLAGS", "+Mea min")
            .env(run.detector.options.0, "detect_leaks=0");
        mix
    };
    let mistake = ["run", "--no-compile", "-e", include_str!("canary.exs")];
    if !canary::is_reported(&mut watched(&mistake), "heap-use-after-free")? {
        return Ok(Outcome::broken(
            "no report of a mistake through the library",
        ));
    }
    let mut tests = watched(&["test", "--no-compile", "--exclude", "without_detector"]);
    tests.args(test_files()?);
    let mut outcome = suites::ex_unit(tests)?;
    // The one that was reported above.
    outcome.passed += 1;
    outcome.reason = format!("{} {EXCLUDED}", outcome.reason).trim().to_owned();
    Ok(outcome)
}

/// Mix without dependencies, in a build folder of its own.
fn mix(build: &Path, arguments: &[&str]) -> Command {
    let mut mix = Command::new("mix");
    mix.current_dir(workspace::root())
        .args(arguments)
        .env(settings::BARE, "1")
        .env("MIX_ENV", "test")
        .env("MIX_BUILD_PATH", build);
    mix
}

/// Makes `private` a folder with the library that has the detector, beside MLX's own.
fn fill(run: &Run, private: &Path) -> Result<()> {
    if private.is_symlink() {
        fs::remove_file(private)?;
    }
    fs::create_dir_all(private)?;
    let library = run.built().join("libemily.so");
    workspace::place_file(&library, &private.join("libemily.so"), 0o755)?;
    let libraries = run.prefix.join("lib");
    let entries =
        fs::read_dir(&libraries).with_context(|| format!("reading {}", libraries.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.path().is_file() {
            std::os::unix::fs::symlink(entry.path(), private.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The detector's runtime as a library to load before the VM: the toolchain has a static one, for
/// programs.
fn shared_runtime(run: &Run) -> Result<PathBuf> {
    let runtime = run
        .toolchain
        .runtime(&run.detector, &run.triple)
        .context("the toolchain has lost the detector's runtime")?;
    let archive = run.target_dir.join("runtime.a");
    let shared = run.target_dir.join("runtime.so");
    workspace::place_file(&runtime, &archive, 0o644)?;
    let made = (|| {
        // It has a program's main thread begin with the detector, which no library may.
        process::run(
            Command::new("ar")
                .arg("d")
                .arg(&archive)
                .arg("asan_preinit.cpp.o"),
        )?;
        process::run(
            Command::new("c++")
                .arg("-shared")
                .arg("-o")
                .arg(&shared)
                .arg("-Wl,--whole-archive")
                .arg(&archive)
                .args(["-Wl,--no-whole-archive", "-lpthread", "-ldl", "-lm", "-lrt"]),
        )
    })();
    made.map_err(|error| {
        Failure::new(
            "the detector's runtime could not be made a library for the VM",
            "cargo xtask setup",
        )
        .because(&error)
    })?;
    Ok(shared)
}

/// The test files that belong to the bare build itself; the folders below are the installer's and the
/// doctor's.
fn test_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["test", "test/emily"] {
        for entry in fs::read_dir(workspace::root().join(folder))? {
            let path = entry?.path();
            let is_test = path.to_string_lossy().ends_with("_test.exs");
            if is_test && !suites::needs_nx(&fs::read_to_string(&path)?) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_those_of_the_tensors() {
        let files = test_files().unwrap();
        let has = |name: &str| files.iter().any(|file| file.ends_with(name));
        assert!(has("test/emily_test.exs"));
        assert!(has("test/emily/native_test.exs"));
        assert!(!has("test/emily/backend_test.exs"), "it takes Nx");
    }
}
