//! How the files of a folder that libraries are loaded from are exchanged, as the Elixir installer
//! does it.
//!
//! Files are never written into: a running VM may have them mapped. All new files are first gathered
//! in a folder beside them, and renaming that folder to `.next` is the decision. From then on the new
//! state is the one that counts, and whoever finds a `.next` that a killed process left moves the
//! files to their places, the manifest last.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::manifest::{self, Manifest};

const NEXT: &str = ".next";
const STAGING: &str = ".staging-";

/// Makes `into` hold the files of `dir`, and none of `known` that an earlier release had.
pub fn place(dir: &Path, manifest: &Manifest, into: &Path, known: &[String]) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("making {}", into.display()))?;
    sweep(into);
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(into)
        .with_context(|| format!("making a folder in {}", into.display()))?;
    for name in names(manifest) {
        let (from, to) = (dir.join(&name), staging.path().join(&name));
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(|_| ()))
            .with_context(|| format!("installing {}", to.display()))?;
    }
    settle(into, known)?;
    let next = into.join(NEXT);
    fs::rename(staging.path(), &next).with_context(|| format!("making {}", next.display()))?;
    // It has gone, by that name.
    let _ = staging.keep();
    settle(into, known)
}

/// Finishes an exchange that was decided and then interrupted; does nothing otherwise.
pub fn settle(into: &Path, known: &[String]) -> Result<()> {
    let next = into.join(NEXT);
    match fs::read_dir(&next) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", next.display())),
        Ok(entries) => {
            let staged: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
            let staged = staged.with_context(|| format!("reading {}", next.display()))?;
            exchange(&next, staged, into, known)
                .with_context(|| format!("exchanging the files of {}", into.display()))
        }
    }
}

fn exchange(
    next: &Path,
    mut staged: Vec<PathBuf>,
    into: &Path,
    known: &[String],
) -> io::Result<()> {
    let last = next.join(manifest::NAME);
    // Companions before the library that needs them: whoever loads it finds them.
    staged.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.starts_with("libemily."), path.clone())
    });
    for path in staged.iter().filter(|path| **path != last) {
        move_into(path, into)?;
    }
    let manifest = fs::read(&last)
        .ok()
        .and_then(|bytes| Manifest::parse(&bytes).ok());
    if let Some(manifest) = manifest {
        let kept: Vec<_> = names(&manifest).collect();
        for name in known.iter().filter(|name| !kept.contains(name)) {
            gone(fs::remove_file(into.join(name)))?;
        }
        move_into(&last, into)?;
    }
    gone(fs::remove_dir(next))
}

/// Between two links to one file a rename does nothing: hence the removal.
fn move_into(path: &Path, into: &Path) -> io::Result<()> {
    let place = into.join(path.file_name().unwrap_or_default());
    gone(fs::rename(path, place))?;
    gone(fs::remove_file(path))
}

/// What another process has moved or removed already is as it should be.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn names(manifest: &Manifest) -> impl Iterator<Item = String> {
    let files = manifest.files.iter().map(|file| file.name.clone());
    files.chain([manifest::NAME.to_owned()])
}

/// Staging folders are short-lived, and their owner holds the archive's lock.
fn sweep(into: &Path) {
    let entries = fs::read_dir(into).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(STAGING) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
