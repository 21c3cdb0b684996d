//! Every `EMILY_*` variable that the Rust tools read, or set for a program they run. README
//! documents them in one table.

use std::{env, path::PathBuf, process::Command};

use crate::{flags::Provider, process};

/// Set when Mix is to work without any dependency.
pub const BARE: &str = "EMILY_BARE";
/// The folder that keeps verified downloads; see [`cache_dir`].
pub const CACHE: &str = "EMILY_CACHE";
/// A folder of Elixir dependencies' sources, one subfolder each.
pub const DEPS_PATH: &str = "EMILY_DEPS_PATH";
/// The provider of MLX: `wheel` or `source`.
const MLX_FROM: &str = "EMILY_MLX_FROM";
/// Where mlx-sys looks for MLX.
pub const MLX_PREFIX: &str = "EMILY_MLX_PREFIX";
/// The static archive of OpenBLAS.
const OPENBLAS: &str = "EMILY_OPENBLAS";
/// Where releases are published, in place of the address in `release/targets.json`.
pub const RELEASE_URL: &str = "EMILY_RELEASE_URL";
/// The `library` folder of Rust's sources, where the toolchain lacks a target's standard library.
pub const RUST_SRC: &str = "EMILY_RUST_SRC";
/// The toolchain that builds for other targets: a name of rustup's, or its folder.
pub const RUST_TOOLCHAIN: &str = "EMILY_RUST_TOOLCHAIN";
/// The text of the secret key that signs releases.
const SECRET_KEY: &str = "EMILY_SECRET_KEY";
/// The variant to build or install.
pub const VARIANT: &str = "EMILY_VARIANT";

/// A variable's value; an empty one counts as absent.
fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// `EMILY_CACHE`, else `emily/` in the user's cache folder, which macOS tells through `getconf`.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = var(CACHE) {
        return Ok(dir.into());
    }
    if cfg!(target_os = "macos") {
        let folder = process::output(Command::new("getconf").arg("DARWIN_USER_CACHE_DIR"))?;
        return Ok(PathBuf::from(folder.trim()).join("emily"));
    }
    let base = match var("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => match var("HOME") {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => anyhow::bail!("expected HOME or {CACHE} to be set"),
        },
    };
    Ok(base.join("emily"))
}

pub fn deps_path() -> Option<PathBuf> {
    var(DEPS_PATH).map(PathBuf::from)
}

/// The provider that was asked for.
pub fn mlx_from() -> anyhow::Result<Option<Provider>> {
    match var(MLX_FROM).as_deref() {
        None => Ok(None),
        Some("wheel") => Ok(Some(Provider::Wheel)),
        Some("source") => Ok(Some(Provider::Source)),
        Some(other) => anyhow::bail!("expected {MLX_FROM} to be wheel or source, got: {other}"),
    }
}

pub fn mlx_prefix() -> Option<PathBuf> {
    var(MLX_PREFIX).map(PathBuf::from)
}

pub fn openblas() -> Option<PathBuf> {
    var(OPENBLAS).map(PathBuf::from)
}

pub fn release_url() -> Option<String> {
    var(RELEASE_URL)
}

pub fn rust_src() -> Option<PathBuf> {
    var(RUST_SRC).map(PathBuf::from)
}

pub fn rust_toolchain() -> Option<String> {
    var(RUST_TOOLCHAIN)
}

/// The certificate authorities to trust in place of the system's: Hex's variable.
pub fn cacerts_path() -> Option<PathBuf> {
    var("HEX_CACERTS_PATH").map(PathBuf::from)
}

pub fn secret_key() -> Option<String> {
    var(SECRET_KEY)
}

pub fn variant() -> Option<String> {
    var(VARIANT)
}
