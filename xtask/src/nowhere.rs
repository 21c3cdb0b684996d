//! Builds that do not tell where they were made.
//!
//! Compilers write the paths of sources into libraries, for the messages of panics and assertions.
//! With other names in their place two builds in different folders are the same bytes.
//! `native/mlx-sys/build.rs` does the same for C++.

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::workspace;

/// The variable that keeps flags with spaces in them apart.
const ENCODED: &str = "CARGO_ENCODED_RUSTFLAGS";
const PLAIN: &str = "RUSTFLAGS";
const SEPARATOR: &str = "\u{1f}";

/// Has `cargo`, which builds in `target_dir`, name no folder of this machine.
pub fn hide(cargo: &mut Command, target_dir: &Path) -> Result<()> {
    let own = |name: &str| {
        let set = cargo.get_envs().find(|(key, _)| *key == OsStr::new(name));
        set.map_or_else(
            || std::env::var_os(name),
            |(_, value)| value.map(Into::into),
        )
        .and_then(|value| value.into_string().ok())
        .filter(|value| !value.is_empty())
    };
    // As Cargo does, the encoded one before the plain one.
    let mut flags: Vec<String> = match (own(ENCODED), own(PLAIN)) {
        (Some(encoded), _) => encoded.split(SEPARATOR).map(str::to_owned).collect(),
        (None, Some(plain)) => plain.split_whitespace().map(str::to_owned).collect(),
        (None, None) => Vec::new(),
    };
    // Where folders are in one another, the last one counts.
    let home = cargo_home()?;
    for (folder, name) in [
        (home.as_path(), "/cargo"),
        (workspace::root(), "/emily"),
        (target_dir, "/target"),
    ] {
        let folder = std::path::absolute(folder)?;
        let folder = folder.to_str().context("expected a path in UTF-8")?;
        flags.push(format!("--remap-path-prefix={folder}={name}"));
    }
    cargo.env(ENCODED, flags.join(SEPARATOR));
    Ok(())
}

/// Where Cargo keeps the sources of crates.
fn cargo_home() -> Result<std::path::PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("expected a home folder, or CARGO_HOME")?;
    Ok(home.join(".cargo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_were_there_stay_and_folders_get_names() {
        for (name, value) in [(PLAIN, "-C debuginfo=0"), (ENCODED, "-C\u{1f}debuginfo=0")] {
            let mut cargo = Command::new("cargo");
            cargo.env_remove(ENCODED).env(name, value);
            hide(&mut cargo, Path::new("/a folder/target")).unwrap();
            let encoded = cargo
                .get_envs()
                .find_map(|(key, value)| (key == ENCODED).then_some(value?))
                .and_then(OsStr::to_str)
                .unwrap();
            let flags: Vec<_> = encoded.split(SEPARATOR).collect();
            assert_eq!(&flags[..2], ["-C", "debuginfo=0"], "{name}");
            let root = workspace::root().display();
            assert_eq!(flags[3], format!("--remap-path-prefix={root}=/emily"));
            assert_eq!(flags[4], "--remap-path-prefix=/a folder/target=/target");
        }
    }
}
