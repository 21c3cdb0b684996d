//! Where things are in this checkout.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The version of the package, as Cargo reads it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The repository's root.
pub fn root() -> &'static Path {
    // The manifest folder is `<root>/xtask`.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Cargo's target folder.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The prefix of this name, which holds MLX's headers and libraries for one variant and target.
pub fn mlx_prefix(name: &str) -> PathBuf {
    root().join("target/mlx").join(name)
}

/// The Cargo that runs this program.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The folder that `path` is in, made if need be.
pub fn folder_of(path: &Path) -> Result<&Path> {
    let folder = path
        .parent()
        .with_context(|| format!("{} is in no folder", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Waits until no other xtask does what `name` stands for; the lock ends with the returned file.
pub fn lock(name: &str) -> Result<File> {
    let path = root().join("target/locks").join(name);
    folder_of(&path)?;
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!(
            "waiting for another cargo xtask, which holds {}",
            path.display()
        );
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// Puts the finished folder `draft`, made beside `place`, into that place.
///
/// The old folder stands until the new one is complete; what others have open of it stays theirs.
pub fn replace_folder(draft: TempDir, place: &Path) -> Result<()> {
    let draft = draft.keep();
    let renamed = (|| {
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        if !place.exists() {
            return fs::rename(&draft, place);
        }
        let old = draft.with_extension("old");
        fs::rename(place, &old)?;
        fs::rename(&draft, place)?;
        fs::remove_dir_all(old)
    })();
    renamed.with_context(|| format!("putting {} into its place", place.display()))
}

/// Puts a copy of the file `from` at `place` by rename, never writing into a file that is there:
/// a running program may have it mapped.
pub fn place_file(from: &Path, place: &Path, mode: u32) -> Result<()> {
    let placed = (|| -> Result<()> {
        let mut draft = tempfile::NamedTempFile::new_in(folder_of(place)?)?;
        io::copy(&mut File::open(from)?, &mut draft)?;
        fs::set_permissions(draft.path(), fs::Permissions::from_mode(mode))?;
        draft.persist(place)?;
        Ok(())
    })();
    placed.with_context(|| format!("copying {} to {}", from.display(), place.display()))
}

/// Copies the files of a folder and of the folders in it; `into` exists.
pub fn copy_folder(from: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (old, new) = (entry.path(), into.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&new)?;
            copy_folder(&old, &new)?;
        } else {
            fs::copy(&old, &new).with_context(|| format!("copying {}", old.display()))?;
        }
    }
    Ok(())
}
