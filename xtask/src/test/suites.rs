//! The suites, in the order in which they run: what fails soonest comes first.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    check_names, cross,
    outcome::{Outcome, of_cargo, of_ex_unit},
    reproducible,
};
use crate::{demo, flags, nif, process, python, settings, tidy, workspace};

/// One row of the closing table.
pub struct Suite {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn() -> Result<Outcome>,
}

const ALL: [Suite; 15] = [
    Suite {
        name: "rustfmt",
        about: "Rust is formatted",
        run: rustfmt,
    },
    Suite {
        name: "mix-format",
        about: "Elixir is formatted",
        run: mix_format,
    },
    Suite {
        name: "tidy",
        about: "the repository keeps its own rules",
        run: tidy_rules,
    },
    Suite {
        name: "workflows",
        about: "the workflows give nothing away",
        run: workflows,
    },
    Suite {
        name: "clippy",
        about: "Rust has no warnings",
        run: clippy,
    },
    Suite {
        name: "mix-compile",
        about: "Elixir compiles bare, without warnings",
        run: mix_compile,
    },
    Suite {
        name: "cargo",
        about: "the Rust tests",
        run: cargo_tests,
    },
    Suite {
        name: "bare",
        about: "the Elixir tests that need no dependency",
        run: bare,
    },
    Suite {
        name: "nx",
        about: "the Elixir tests that compare with Nx",
        run: nx,
    },
    Suite {
        name: "demo",
        about: "release, fetch, verify, install, compute",
        run: demo_runs,
    },
    Suite {
        name: "macos",
        about: "the bundle for macOS, built from Linux",
        run: cross::macos,
    },
    Suite {
        name: "arm64",
        about: "the bundle for Linux on arm64, built here and run by qemu",
        run: cross::arm64,
    },
    Suite {
        name: "soak",
        about: "ten thousand rounds of everything, and what is left of it",
        run: soak,
    },
    Suite {
        name: "fuzz",
        about: "a million changed program files, and as many releases",
        run: fuzz,
    },
    Suite {
        name: "reproducible",
        about: "two releases in different folders are the same bytes",
        run: reproducible::run,
    },
];

/// What runs only where it is named: each takes a quarter of an hour or more.
const ON_DEMAND: [&str; 3] = ["soak", "fuzz", "reproducible"];

/// The suites of these names, or all of them but those that must be named.
pub fn chosen(names: &[String]) -> Result<Vec<Suite>> {
    check_names(names, &ALL.map(|suite| suite.name))?;
    let wanted = |suite: &Suite| {
        if names.is_empty() {
            !ON_DEMAND.contains(&suite.name)
        } else {
            names.iter().any(|name| name == suite.name)
        }
    };
    Ok(ALL.into_iter().filter(wanted).collect())
}

fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut cargo = nif::cargo()?;
    cargo.args(arguments);
    Ok(cargo)
}

/// Mix without dependencies, in a build folder of its own.
fn mix_bare(arguments: &[&str]) -> Command {
    let mut mix = Command::new("mix");
    mix.current_dir(workspace::root())
        .args(arguments)
        .env(settings::BARE, "1")
        .env("MIX_ENV", "test")
        .env("MIX_BUILD_PATH", workspace::root().join("_build/bare"));
    mix
}

/// Mix with the dependencies in a folder, in a build folder of its own.
fn mix_nx(dependencies: &Path, arguments: &[&str]) -> Command {
    let mut mix = Command::new("mix");
    mix.current_dir(workspace::root())
        .args(arguments)
        .env_remove(settings::BARE)
        .env(settings::DEPS_PATH, dependencies)
        .env("MIX_ENV", "test")
        .env("MIX_BUILD_PATH", workspace::root().join("_build/nx"));
    mix
}

fn status(mut command: Command) -> Result<Outcome> {
    Ok(Outcome::of_status(process::tee(&mut command)?.0))
}

/// What ExUnit says.
pub fn ex_unit(mut command: Command) -> Result<Outcome> {
    let (status, text) = process::tee(&mut command)?;
    Ok(Outcome::of_runner(
        of_ex_unit(&text),
        status.success(),
        &status.to_string(),
    ))
}

fn rustfmt() -> Result<Outcome> {
    status(cargo(&["fmt", "--all", "--check"])?)
}

fn mix_format() -> Result<Outcome> {
    status(mix_bare(&["format", "--check-formatted"]))
}

fn tidy_rules() -> Result<Outcome> {
    let verdicts = tidy::verdicts();
    let broken = verdicts
        .iter()
        .filter(|verdict| verdict.outcome.is_err())
        .count();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    Ok(Outcome {
        passed: u64::try_from(verdicts.len() - broken)?,
        failed: u64::try_from(broken)?,
        ..Outcome::default()
    })
}

/// What a linter for workflows finds without a network: injections, permissions, secrets, pins.
fn workflows() -> Result<Outcome> {
    let Ok(packages) = python::with("zizmor", &[python::ZIZMOR]) else {
        return Ok(Outcome::skipped(
            "pip could not fetch zizmor, the linter for workflows",
        ));
    };
    let mut linter = Command::new(packages.program("zizmor"));
    linter.current_dir(workspace::root()).args([
        "--offline",
        "--no-progress",
        "--persona",
        "pedantic",
        "--min-severity",
        "low",
        ".github/workflows",
    ]);
    status(linter)
}

fn clippy() -> Result<Outcome> {
    status(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])?)
}

fn mix_compile() -> Result<Outcome> {
    status(mix_bare(&["compile", "--warnings-as-errors"]))
}

/// What Cargo's tests say.
pub fn cargo_summary(mut command: Command) -> Result<Outcome> {
    let (status, text) = process::tee(&mut command)?;
    Ok(Outcome::of_runner(
        of_cargo(&text),
        status.success(),
        &status.to_string(),
    ))
}

fn cargo_tests() -> Result<Outcome> {
    cargo_summary(cargo(&["test", "--workspace", "--no-fail-fast"])?)
}

fn bare() -> Result<Outcome> {
    ex_unit(mix_bare(&["test", "--exclude", "nx"]))
}

fn nx() -> Result<Outcome> {
    let Some(path) = settings::deps_path() else {
        return Ok(Outcome::skipped(
            "EMILY_DEPS_PATH names no folder of dependencies",
        ));
    };
    let files = tagged(&workspace::root().join("test"))?;
    if files.is_empty() {
        return Ok(Outcome::skipped("no test is tagged :nx"));
    }
    // Only these files, since the others' tests would count as left out.
    let mut mix = mix_nx(&path, &["test", "--only", "nx"]);
    mix.args(files);
    ex_unit(mix)
}

/// With what of it needs Nx, where there is Nx.
fn soak() -> Result<Outcome> {
    let arguments = ["test", "--only", "soak", "test/soak"];
    ex_unit(match settings::deps_path() {
        Some(path) => mix_nx(&path, &arguments),
        None => mix_bare(&arguments),
    })
}

/// The tests of what damaged files do that are too long for each change: of program files in Rust, and
/// of releases in both languages.
fn fuzz() -> Result<Outcome> {
    Ok(fuzz_programs()?.and(ex_unit(mix_bare(&[
        "test",
        "--only",
        "fuzz",
        "test/emily/artifact",
    ]))?))
}

fn fuzz_programs() -> Result<Outcome> {
    let of = ["test", "-p", "emily-core", "--test", "programs"];
    let mut tests = cargo(&of)?;
    tests.args(["--", "--ignored"]);
    cargo_summary(tests)
}

/// The files in `folder` with a test that is tagged `:nx`.
fn tagged(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(tagged(&path)?);
        } else if fs::read_to_string(&path).is_ok_and(|text| needs_nx(&text)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a test file's text says that it takes Nx.
pub fn needs_nx(text: &str) -> bool {
    let tags = ["@moduletag :nx", "@tag :nx"];
    // Tests in two lengths have the tag in a list.
    text.lines()
        .map(str::trim)
        .any(|line| tags.contains(&line) || line.contains(" <- [nx: "))
}

fn demo_runs() -> Result<Outcome> {
    demo::run(&flags::Demo {
        yes: false,
        keep: false,
    })?;
    Ok(Outcome::passed())
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn suites_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len() - ON_DEMAND.len());
        let names: Vec<_> = chosen(&["nx".into(), "tidy".into()])
            .unwrap()
            .iter()
            .map(|suite| suite.name)
            .collect();
        assert_eq!(names, ["tidy", "nx"]);
        for name in ON_DEMAND {
            assert_eq!(chosen(&[name.into()]).unwrap().len(), 1);
        }
        assert_eq!(
            chosen(&["all".into()]).map(|_| ()).unwrap_err().to_string(),
            "expected a suite to be one of rustfmt, mix-format, tidy, workflows, clippy, mix-compile, \
             cargo, bare, nx, demo, macos, arm64, soak, fuzz, reproducible, got: all"
        );
    }

    #[test]
    fn a_tag_is_found_in_a_folder_below() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        let file = folder.path().join("deep/a_test.exs");
        fs::write(&file, "  # not @moduletag :nx\n").unwrap();
        assert!(tagged(folder.path()).unwrap().is_empty());
        fs::write(&file, "  for {tag, rounds} <- [nx: 60, soak: 10_000] do\n").unwrap();
        assert_eq!(tagged(folder.path()).unwrap(), slice::from_ref(&file));
        fs::write(&file, "  @moduletag :nx\n").unwrap();
        assert_eq!(tagged(folder.path()).unwrap(), [file]);
    }
}
