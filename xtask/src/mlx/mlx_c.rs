//! mlx-c's sources, in `mlx_src/mlx-c/`.
//!
//! They come out of the crate that carries them, fetched by Cargo with a locked checksum, so that
//! a machine which reaches package registries only can build; else from git, at the pinned tag.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use tempfile::TempDir;

use super::checkout::Tagged;
use crate::{failure::Failure, pin::MlxC, process, progress, workspace};

/// The file that says which sources are there; it is written last.
const MARKER: &str = ".emily-pin";

/// Makes sure that `mlx_src/mlx-c/` holds the pinned sources.
pub fn sources(pin: &MlxC) -> Result<()> {
    let place = workspace::root().join("mlx_src/mlx-c");
    let wanted = mark(pin);
    if fs::read_to_string(place.join(MARKER))
        .is_ok_and(|found| found.lines().next() == Some(wanted.as_str()))
    {
        return Ok(());
    }
    let step = progress::step(format!("fetching mlx-c {}", pin.version));
    let (draft, from) = fetch(pin, workspace::folder_of(&place)?)?;
    fs::write(draft.path().join(MARKER), format!("{wanted}\n{from}\n"))?;
    workspace::replace_folder(draft, &place)?;
    step.finish(&from);
    Ok(())
}

/// The marker's first line; the second says where the sources came from.
fn mark(pin: &MlxC) -> String {
    let own = [pin.version.as_str(), &pin.krate.sha256];
    let words: Vec<_> = own.into_iter().chain(pin.revision.as_deref()).collect();
    words.join(" ")
}

/// The sources in a new folder within `parent`, and where they came from.
fn fetch(pin: &MlxC, parent: &Path) -> Result<(TempDir, String)> {
    let draft = tempfile::Builder::new()
        .prefix(".mlx-c-")
        .tempdir_in(parent)?;
    let Err(krate) = from_crate(pin, draft.path()) else {
        return Ok((draft, "from its crate".to_owned()));
    };
    let tagged = Tagged {
        git: &pin.git,
        tag: &pin.tag,
        revision: pin.revision.as_deref(),
    };
    // Into a folder of its own: the crate may have left a part of it in the first one.
    match tagged.clone_into(parent) {
        Ok((draft, revision)) => Ok((draft, format!("from git at {revision}"))),
        Err(git) => bail!(
            Failure::new(
                "mlx-c's sources could be had neither from a registry nor from git",
                "cargo xtask mlx"
            )
            .fact("registry", format!("{krate:#}"))
            .fact("git", format!("{git:#}"))
        ),
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: String,
}

fn from_crate(pin: &MlxC, into: &Path) -> Result<()> {
    let folder = workspace::root().join("mlx_src/crate");
    let lock = fs::read_to_string(folder.join("Cargo.lock"))
        .context("reading mlx_src/crate/Cargo.lock")?;
    check_lock(&lock, pin)?;
    let manifest = folder.join("Cargo.toml");
    let cargo = |command: &str| {
        let mut cargo = Command::new(workspace::cargo());
        cargo
            .args([command, "--locked", "--manifest-path"])
            .arg(&manifest);
        cargo
    };
    // Fetching is where Cargo compares the download with the lock's checksum.
    process::output(cargo("fetch").arg("--quiet"))?;
    let metadata = process::output(cargo("metadata").args(["--offline", "--format-version=1"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("reading cargo metadata")?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name == pin.krate.name && package.version == pin.krate.version)
        .with_context(|| {
            format!(
                "Cargo did not fetch {} {}",
                pin.krate.name, pin.krate.version
            )
        })?;
    let root = Path::new(&package.manifest_path)
        .parent()
        .context("expected a manifest in a folder")?;
    workspace::copy_folder(&root.join(&pin.krate.path), into)
}

/// Holds the lock's entry for the crate equal to the pin.
fn check_lock(lock: &str, pin: &MlxC) -> Result<()> {
    let entry = format!(
        "name = \"{}\"\nversion = \"{}\"\n",
        pin.krate.name, pin.krate.version
    );
    let locked = lock
        .split("[[package]]\n")
        .find_map(|package| package.strip_prefix(entry.as_str()))
        .and_then(|rest| rest.split_once("checksum = \"")?.1.split_once('"'))
        .map(|(checksum, _)| checksum);
    match locked {
        Some(locked) if locked == pin.krate.sha256 => Ok(()),
        locked => bail!(
            "mlx_src/crate/Cargo.lock does not lock {} {} as mlx_src/pin.json does\n  \
             expected {}\n  actual   {}",
            pin.krate.name,
            pin.krate.version,
            pin.krate.sha256,
            locked.unwrap_or("no entry")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_lock, mark};
    use crate::pin::{Crate, MlxC};

    fn pin() -> MlxC {
        MlxC {
            version: "0.7.0".into(),
            git: "https://example.invalid/mlx-c".into(),
            tag: "v0.7.0".into(),
            revision: None,
            krate: Crate {
                name: "mlx-sys".into(),
                version: "0.7.0".into(),
                sha256: "aa".into(),
                path: "src/mlx-c".into(),
            },
        }
    }

    fn lock(name: &str, checksum: &str) -> String {
        format!(
            "version = 4\n\n[[package]]\nname = \"cc\"\nversion = \"0.7.0\"\nchecksum = \"aa\"\n\n\
             [[package]]\nname = \"{name}\"\nversion = \"0.7.0\"\nsource = \"x\"\nchecksum = \"{checksum}\"\n"
        )
    }

    #[test]
    fn the_lock_must_carry_the_pinned_checksum() {
        check_lock(&lock("mlx-sys", "aa"), &pin()).unwrap();
        for (lock, actual) in [
            (lock("mlx-sys", "bb"), "bb"),
            (lock("other", "aa"), "no entry"),
        ] {
            assert_eq!(
                check_lock(&lock, &pin()).unwrap_err().to_string(),
                format!(
                    "mlx_src/crate/Cargo.lock does not lock mlx-sys 0.7.0 as mlx_src/pin.json does\n  \
                     expected aa\n  actual   {actual}"
                )
            );
        }
    }

    #[test]
    fn the_lock_of_this_checkout_matches_its_pin() {
        let lock = include_str!("../../../mlx_src/crate/Cargo.lock");
        check_lock(lock, &crate::pin::Pin::load().unwrap().mlx_c).unwrap();
    }

    #[test]
    fn another_pin_makes_another_mark() {
        let mut pin = pin();
        assert_eq!(mark(&pin), "0.7.0 aa");
        pin.revision = Some("0123abc".into());
        assert_eq!(mark(&pin), "0.7.0 aa 0123abc");
    }
}
