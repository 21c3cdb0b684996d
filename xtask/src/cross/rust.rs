//! A toolchain with the standard library for another target.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use super::kit;
use crate::{failure::Failure, process, settings, toolchain::Toolchain};

/// What rustc and Cargo to build with, and how.
#[derive(Debug)]
pub struct Rust {
    pub toolchain: Toolchain,
    /// Whether the standard library has to be compiled, too.
    pub builds_std: bool,
}

/// The toolchain of `EMILY_RUST_TOOLCHAIN`, or else the one in use, with what it takes for `triple`;
/// where that one has nothing for it, Debian's.
pub fn find(triple: &str) -> Result<Rust> {
    let name = settings::rust_toolchain();
    let toolchain = Toolchain::named(name.as_deref())?;
    if toolchain.has_std(triple) {
        return Ok(Rust {
            toolchain,
            builds_std: false,
        });
    }
    let Some(sources) = settings::rust_src() else {
        if toolchain.has_sources() {
            return Ok(Rust {
                toolchain,
                builds_std: true,
            });
        }
        return match name {
            Some(name) => Err(lacking(triple, &toolchain, &format!(" --toolchain {name}")).into()),
            None => {
                let toolchain =
                    kit::rust().map_err(|error| lacking(triple, &toolchain, "").because(&error))?;
                Ok(Rust {
                    toolchain,
                    builds_std: true,
                })
            }
        };
    };
    let version = process::output(Command::new(toolchain.program("rustc")).arg("--version"))?;
    check_version(&version, &sources)?;
    Ok(Rust {
        toolchain: with_sources(&toolchain, &version, &sources, &super::folder("toolchain"))?,
        builds_std: true,
    })
}

/// What to do about a toolchain that has neither the library nor sources.
fn lacking(triple: &str, toolchain: &Toolchain, chosen: &str) -> Failure {
    Failure::new(
        format!("the Rust toolchain has no standard library for {triple}"),
        format!("rustup target add {triple}{chosen}"),
    )
    .fact("toolchain", toolchain.folder().display())
    .fact(
        "or",
        format!(
            "{}=DIR, the `library` folder of that version's sources (MAINTAINING.md)",
            settings::RUST_SRC
        ),
    )
}

/// `toolchain` with `sources` in `place`, where it stays until one of them changes.
fn with_sources(
    toolchain: &Toolchain,
    version: &str,
    sources: &Path,
    place: &Path,
) -> Result<Toolchain> {
    let (marker, own) = (place.join("made-of"), toolchain.folder().display());
    let wanted = format!("{version}{own}\n{}\n", sources.display());
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(Toolchain::at(place));
    }
    let made = toolchain.with_sources(sources, place)?;
    fs::write(marker, wanted)?;
    Ok(made)
}

/// Fails if the sources say that they are of another version than `rustc --version`; rustup's say nothing.
fn check_version(rustc: &str, sources: &Path) -> Result<()> {
    let Ok(said) = fs::read_to_string(sources.join("../src/version")) else {
        return Ok(());
    };
    let minor = |version: &str| {
        let mut numbers = version.split('.').map(str::to_owned);
        Some((numbers.next()?, numbers.next()?))
    };
    let own = rustc.split_whitespace().nth(1).unwrap_or_default();
    if minor(own) == minor(said.trim()) {
        return Ok(());
    }
    bail!(
        "expected {} to have the sources of Rust {own}, got: {}",
        settings::RUST_SRC,
        said.trim()
    );
}

impl Rust {
    /// Has `cargo` build with this toolchain.
    pub fn apply(&self, cargo: &mut Command) {
        cargo
            .env("RUSTC", self.toolchain.program("rustc"))
            // What build scripts are told, too: the one that runs this program is another.
            .env("CARGO", self.toolchain.program("cargo"))
            // rustup's would choose another one.
            .env_remove("RUSTUP_TOOLCHAIN");
        if self.builds_std {
            cargo
                .arg("-Zbuild-std=std,panic_abort")
                // Only unstable options say how; what is compiled is the same.
                .env("RUSTC_BOOTSTRAP", "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_to_be_of_the_compilers_version() {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("library");
        fs::create_dir(&sources).unwrap();
        let rustc = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n";
        check_version(rustc, &sources).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        let say = |version: &str| fs::write(folder.path().join("src/version"), version).unwrap();
        say("1.97.1\n");
        check_version(rustc, &sources).unwrap();
        say("1.95.0\n");
        assert_eq!(
            check_version(rustc, &sources).unwrap_err().to_string(),
            "expected EMILY_RUST_SRC to have the sources of Rust 1.97.0-nightly, got: 1.95.0"
        );
    }
}
