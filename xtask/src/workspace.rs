//! Where things are in this checkout.

use std::path::{Path, PathBuf};

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

/// The prefix that holds MLX's headers and libraries for one variant and target.
pub fn mlx_prefix(variant: &str, target: &str) -> PathBuf {
    root()
        .join("target/mlx")
        .join(format!("{variant}-{target}"))
}
