//! The folder that keeps verified downloads; the Elixir installer shares it.
//!
//! ```text
//! <cache>/v1/<asset>                    the archive
//! <cache>/v1/<asset>.sha256             its checksum
//! <cache>/v1/<asset>.sha256.minisig     the checksum's signature
//! <cache>/v1/unpacked/<digest>-<name>/  the archive's files
//! <cache>/v1/tmp/                       what is not verified yet, on the same file system
//! <cache>/v1/locks/                     who is at work
//! ```

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{failure::Failure, lock::Lock};

/// How long to wait for another install of the same asset.
const PATIENCE: Duration = Duration::from_secs(600);
/// How the names of folders that are being filled end.
const DRAFT: &str = ".draft";
/// The layout above.
const BUCKET: &str = "v1";

/// A cache that exists and is the user's own.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Makes the folders where they are missing, and refuses those of another user.
    pub fn open(folder: &Path) -> Result<Self> {
        // Whoever makes a file owns it.
        let user = tempfile::tempfile()
            .and_then(|file| file.metadata())
            .context("making a temporary file")?
            .uid();
        Self::open_as(folder, user)
    }

    /// [`Cache::open`] for the user of that number.
    pub fn open_as(folder: &Path, user: u32) -> Result<Self> {
        let root = folder.join(BUCKET);
        for path in [
            folder,
            &root,
            &root.join("unpacked"),
            &root.join("tmp"),
            &root.join("locks"),
        ] {
            make(path).map_err(|error| {
                elsewhere("the cache cannot be used")
                    .fact("path", path.display())
                    .fact("reason", error)
            })?;
        }
        let owner = fs::metadata(folder)?.uid();
        if owner != user {
            // Whoever owns the folder could exchange a file after it was verified.
            return Err(elsewhere("the cache belongs to another user")
                .fact("path", folder.display())
                .fact("expected", format!("user {user}"))
                .fact("actual", format!("user {owner}"))
                .into());
        }
        Ok(Self { root })
    }

    /// Where the asset, its sidecar or its signature stands.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the files of the archive with this checksum stand.
    pub fn unpacked(&self, asset: &str, sha256: &str) -> PathBuf {
        let name = asset.strip_suffix(".tar.gz").unwrap_or(asset);
        self.root
            .join("unpacked")
            .join(format!("{}-{name}", &sha256[..16]))
    }

    /// Where the archive with this checksum arrives. The name holds the checksum, so that a later
    /// process may go on from what is there.
    pub fn part(&self, asset: &str, sha256: &str) -> PathBuf {
        let name = format!("{asset}.{}.part", &sha256[..16]);
        self.root.join("tmp").join(name)
    }

    /// A new folder to unpack `asset` into, on the same file system as its place.
    pub fn draft(&self, asset: &str) -> Result<TempDir> {
        let folder = self.root.join("tmp");
        tempfile::Builder::new()
            .prefix(&format!("{asset}."))
            .suffix(DRAFT)
            .tempdir_in(&folder)
            .map_err(|error| unwritable(&folder, &error).into())
    }

    /// Makes a small file hold `bytes`, by rename.
    pub fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let place = self.file(name);
        if fs::read(&place).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        (|| -> io::Result<()> {
            // Named as drafts are, so that it is swept as they are if this process is killed.
            let mut file = tempfile::Builder::new()
                .prefix(&format!(
                    "{}.",
                    name.split(".sha256").next().unwrap_or(name)
                ))
                .suffix(DRAFT)
                .tempfile_in(self.root.join("tmp"))?;
            file.write_all(bytes)?;
            file.persist(&place)?;
            Ok(())
        })()
        .map_err(|error| unwritable(&place, &error).into())
    }

    /// Removes what killed installs of `asset` left in `tmp/`, but for the part `kept`. The caller
    /// holds the lock.
    pub fn sweep(&self, asset: &str, kept: &Path) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else {
            return;
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix(asset) else {
                continue;
            };
            // What cannot be removed is in nobody's way. Other names are the Elixir installer's.
            if rest.ends_with(DRAFT) {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            } else if rest.ends_with(".part") && path != kept {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Waits until nobody else installs `asset`.
    pub fn lock(&self, asset: &str) -> Result<Lock> {
        // The Elixir installer has locks of its own kind; every step is a rename, so that both at
        // once do the same work twice and no harm.
        let path = self.root.join("locks").join(format!("{asset}.xtask"));
        Lock::acquire(&path, asset, PATIENCE)
    }
}

/// An error of the cache as a whole, whose remedy is another one.
fn elsewhere(what: &str) -> Failure {
    Failure::new(
        what,
        "EMILY_CACHE=DIR cargo xtask install, with a folder of your own",
    )
}

/// An error of writing into the cache.
pub fn unwritable(path: &Path, reason: &dyn std::fmt::Display) -> Failure {
    elsewhere("the cache cannot be written")
        .fact("path", path.display())
        .fact("reason", reason)
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}
