//! `cargo xtask mlx`: fills the prefix that the native code links against.
//!
//! A prefix is `include/`, `lib/` and `licenses/` of one variant for one target. It is made in a
//! temporary folder beside its place and renamed, and `prefix.json`, written last, says what it
//! holds: a prefix without that file, or with another pin's, is filled again.

mod checkout;
mod elf;
mod mlx_c;
pub mod openblas;
mod source;
mod wheel;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    flags::{self, Provider},
    pin::Pin,
    targets::{Selection, Targets},
    workspace,
};

/// What `prefix.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// MLX's version.
    pub mlx: String,
    /// mlx-c's version.
    pub mlx_c: String,
    /// `wheel` or `source`.
    pub from: String,
    /// The wheel's hash, or the sources' tag.
    pub origin: String,
    /// The commit that the tag stood for, where MLX was built from sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The macOS floor, which a source build is made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macos: Option<String>,
}

impl Prefix {
    /// Whether this is what is wanted; any revision will do where none is pinned.
    fn is(&self, wanted: &Self) -> bool {
        let revision = wanted.revision.clone().or_else(|| self.revision.clone());
        *self
            == Self {
                revision,
                ..wanted.clone()
            }
    }
}

/// Runs the command.
pub fn run(flags: &flags::Mlx) -> Result<()> {
    let selection = Targets::load()?.select(&flags.cell)?;
    let prefix = fill(&selection, flags.from, flags.force)?;
    println!("{}", prefix.display());
    Ok(())
}

/// Makes sure that the prefix of `selection` is complete, and returns its folder.
pub fn prefix(selection: &Selection) -> Result<PathBuf> {
    fill(selection, None, false)
}

/// What a complete prefix says of itself.
pub fn read(prefix: &Path) -> Result<Prefix> {
    let path = prefix.join("prefix.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

fn fill(selection: &Selection, from: Option<Provider>, force: bool) -> Result<PathBuf> {
    let pin = Pin::load()?;
    let _lock = workspace::lock("mlx")?;
    mlx_c::sources(&pin.mlx_c)?;

    let place = workspace::mlx_prefix(&selection.variant_name, &selection.target_name);
    let made = read(&place).ok();
    if let Some(made) = &made
        && !force
        && from.is_none_or(|from| name(from) == made.from)
        && made.is(&wanted(&pin, selection, &made.from)?)
    {
        return Ok(place);
    }

    let from = from.unwrap_or_else(|| default_provider(&pin, selection));
    let parent = workspace::folder_of(&place)?;
    let draft = tempfile::Builder::new()
        .prefix(".prefix-")
        .tempdir_in(parent)
        .with_context(|| format!("making a folder in {}", parent.display()))?;
    let mut record = wanted(&pin, selection, name(from))?;
    match from {
        Provider::Wheel => wheel::fill(&pin, selection, draft.path())?,
        Provider::Source => record.revision = Some(source::fill(&pin, selection, draft.path())?),
    }
    fs::write(
        draft.path().join("prefix.json"),
        serde_json::to_string_pretty(&record)? + "\n",
    )?;
    workspace::replace_folder(draft, &place)?;
    eprintln!(
        "MLX {} for {} on {}: {}",
        record.mlx,
        selection.variant_name,
        selection.target_name,
        place.display()
    );
    Ok(place)
}

/// What `prefix.json` must say for the prefix to be today's.
fn wanted(pin: &Pin, selection: &Selection, from: &str) -> Result<Prefix> {
    let (origin, revision) = if from == name(Provider::Wheel) {
        (wheel::pinned(pin, selection)?.1.sha256.clone(), None)
    } else {
        (pin.mlx.tag.clone(), pin.mlx.revision.clone())
    };
    Ok(Prefix {
        mlx: pin.mlx.version.clone(),
        mlx_c: pin.mlx_c.version.clone(),
        from: from.to_owned(),
        origin,
        revision,
        macos: selection.variant.floors.get("macos").cloned(),
    })
}

/// A wheel where one is pinned and needs no rebuilding; macOS releases are built from sources.
fn default_provider(pin: &Pin, selection: &Selection) -> Provider {
    if selection.target.os == "linux" && wheel::pinned(pin, selection).is_ok() {
        Provider::Wheel
    } else {
        Provider::Source
    }
}

fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Wheel => "wheel",
        Provider::Source => "source",
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix;

    #[test]
    fn a_prefix_holds_until_the_pin_changes() {
        let prefix = |origin: &str, revision: Option<&str>| Prefix {
            mlx: "0.32.2".into(),
            mlx_c: "0.7.0".into(),
            from: "source".into(),
            origin: origin.into(),
            revision: revision.map(str::to_owned),
            macos: None,
        };
        let made = prefix("v1", Some("aa"));
        for (wanted, holds) in [
            (prefix("v1", None), true),
            (prefix("v1", Some("aa")), true),
            (prefix("v1", Some("bb")), false),
            (prefix("v2", None), false),
        ] {
            assert_eq!(made.is(&wanted), holds, "{wanted:?}");
        }
        assert!(!prefix("v1", None).is(&prefix("v1", Some("aa"))));
    }
}
