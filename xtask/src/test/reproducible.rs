//! Two releases of the same commit, made in different folders one after the other: the same bytes, but
//! for the order of some names in libemily.
//!
//! rustler_codegen 0.39 collects the atoms of a tagged enum in a map whose order is drawn for each
//! compilation (`tagged_enum.rs`). So the names of operations and attributes lie in another order, and the
//! code that finds them has other offsets: of four million bytes some seven thousand. The hash of the
//! library is in the bill of materials.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;

use super::outcome::Outcome;
use crate::{
    flags,
    manifest::{self, Manifest},
    materials, process, settings,
    targets::Targets,
    verify, workspace,
};

/// Clones the last commit twice, releases each for this host, and compares.
pub fn run() -> Result<Outcome> {
    let targets = Targets::load()?;
    let folder = tempfile::Builder::new()
        .prefix("emily-reproducible-")
        .tempdir()?;
    let root = folder.path();
    let one = release(&root.join("one"), &root.join("target-of-one"), root)?;
    let another = release(&root.join("deeper/another"), &root.join("other"), root)?;
    let library = targets.select(&flags::Cell::default())?.target.library;
    compare(&one, &another, &library)
}

fn compare(one: &Path, another: &Path, library: &str) -> Result<Outcome> {
    if fs::read(one)? == fs::read(another)? {
        return Ok(Outcome::passed());
    }
    let mut differing = differing(&manifest_of(one)?, &manifest_of(another)?);
    if share(&file(one, library)?, &file(another, library)?) < MOST {
        differing.retain(|name| *name != library && *name != materials::SBOM);
    }
    Ok(if differing.is_empty() {
        Outcome::passed()
    } else {
        let differing = differing.join(", ");
        Outcome::broken(&format!("two releases of one commit differ in {differing}"))
    })
}

/// Of libraries that differ in the order of names alone, no larger a share of bytes differs.
const MOST: f64 = 0.01;

/// The share of the bytes that are not the same; all of them if one is longer.
fn share(one: &[u8], another: &[u8]) -> f64 {
    if one.len() != another.len() {
        return 1.0;
    }
    let differing = one.iter().zip(another).filter(|(a, b)| a != b).count();
    differing as f64 / one.len().max(1) as f64
}

/// The bytes of the file called `name` in a tarball.
fn file(tarball: &Path, name: &str) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(tarball)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == name {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    bail!("expected {name} in {}", tarball.display())
}

/// The tarball of a release that is made in a clone at `place`, with Cargo's folder at `target`.
fn release(place: &Path, target: &Path, root: &Path) -> Result<PathBuf> {
    workspace::folder_of(place)?;
    process::run(
        Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks"])
            .arg(workspace::root())
            .arg(place),
    )?;
    let out = root
        .join("releases")
        .join(place.file_name().unwrap_or_default());
    process::run(
        Command::new(workspace::cargo())
            .current_dir(place)
            .args(["xtask", "release", "--unsigned", "--out"])
            .arg(&out)
            .env("CARGO_TARGET_DIR", target)
            .env_remove(settings::MLX_PREFIX),
    )?;
    let mut tarballs = verify::tarballs(&out)?;
    tarballs.pop().context("expected a tarball")
}

fn manifest_of(tarball: &Path) -> Result<Manifest> {
    Manifest::parse(&file(tarball, manifest::NAME)?)
}

/// The names of the files that are not the same in both.
fn differing(one: &Manifest, another: &Manifest) -> Vec<String> {
    let names = one.files.iter().chain(&another.files);
    let mut differing: Vec<_> = names
        .map(|file| file.name.clone())
        .filter(|name| one.file(name) != another.file(name))
        .collect();
    differing.sort();
    differing.dedup();
    if differing.is_empty() {
        // The files are, but what lists or packs them is not.
        differing.push(manifest::NAME.to_owned());
    }
    differing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_other_lengths_differ_altogether() {
        assert_eq!(share(b"abcd", b"abce"), 0.25);
        assert_eq!(share(b"abcd", b"abcd"), 0.0);
        assert_eq!(share(b"abcd", b"abc"), 1.0);
    }
}
