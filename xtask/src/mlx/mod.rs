//! `cargo xtask mlx`: fills the prefix that the native code links against.
//!
//! A prefix is `include/`, `lib/` and `licenses/` of one variant for one target, from one provider. It
//! is made in a temporary folder beside its place and renamed, and `prefix.json`, written last, says
//! what it holds: a prefix without that file, or with another pin's, is filled again.
//!
//! Both providers' prefixes stand side by side: `target/mlx/cpu-linux-x86_64` is the usual provider's,
//! and the other one's name says so at its end.

mod checkout;
mod elf;
mod headers;
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
    settings,
    targets::{Selection, Targets},
    workspace,
};

/// How prefixes are made; one that was made in another way is filled again.
const RECIPE: u32 = 2;

/// What `prefix.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The [`RECIPE`] of then.
    #[serde(default)]
    pub recipe: u32,
    /// MLX's version.
    pub mlx: String,
    /// mlx-c's version.
    pub mlx_c: String,
    /// `wheel` or `source`.
    pub from: String,
    /// The wheel's hash, or the pinned tag.
    pub origin: String,
    /// The revision that was asked for in place of the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The commit that MLX was built from, where it was built from sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The macOS floor, which a source build is made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macos: Option<String>,
}

impl Prefix {
    /// Whether this is what is wanted; any revision will do where none is pinned.
    ///
    /// A revision that was asked for has whichever version of MLX it has.
    fn is(&self, wanted: &Self) -> bool {
        let revision = wanted.revision.clone().or_else(|| self.revision.clone());
        let mlx = match &wanted.rev {
            Some(_) => self.mlx.clone(),
            None => wanted.mlx.clone(),
        };
        *self
            == Self {
                revision,
                mlx,
                ..wanted.clone()
            }
    }
}

/// Runs the command.
pub fn run(flags: &flags::Mlx) -> Result<()> {
    let selection = Targets::load()?.select(&flags.cell)?;
    let from = flags
        .from
        .or_else(|| flags.rev.as_ref().map(|_| Provider::Source));
    let rev = Rev::Exactly(flags.rev.as_deref());
    let prefix = fill(&selection, from, rev, flags.force)?;
    println!("{}", prefix.display());
    Ok(())
}

/// Makes sure that the prefix of `selection` is complete, and returns its folder.
pub fn prefix(selection: &Selection, from: Option<Provider>) -> Result<PathBuf> {
    fill(selection, from, Rev::Any, false)
}

/// What a complete prefix says of itself.
pub fn read(prefix: &Path) -> Result<Prefix> {
    let path = prefix.join("prefix.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Which sources a prefix may have been built from.
#[derive(Debug, Clone, Copy)]
enum Rev<'flag> {
    /// Those of the pinned tag, or of the revision that `--rev` named when it was made.
    Any,
    /// Those of this revision, or else of the tag.
    Exactly(Option<&'flag str>),
}

fn fill(
    selection: &Selection,
    from: Option<Provider>,
    rev: Rev<'_>,
    force: bool,
) -> Result<PathBuf> {
    let pin = Pin::load()?;
    let _lock = workspace::lock("mlx")?;
    mlx_c::sources(&pin.mlx_c)?;

    let from = chosen(&pin, selection, from)?;
    let place = workspace::mlx_prefix(&name_of(&pin, selection, from));
    let made = read(&place).ok();
    let mut record = wanted(&pin, selection, from)?;
    record.rev = match rev {
        Rev::Any => made.as_ref().and_then(|made| made.rev.clone()),
        Rev::Exactly(rev) => rev.map(str::to_owned),
    };
    if record.rev.is_some() {
        record.revision = None;
    }
    if !force && made.is_some_and(|made| made.is(&record)) {
        return Ok(place);
    }

    let parent = workspace::folder_of(&place)?;
    let draft = tempfile::Builder::new()
        .prefix(".prefix-")
        .tempdir_in(parent)
        .with_context(|| format!("making a folder in {}", parent.display()))?;
    match from {
        Provider::Wheel => wheel::fill(&pin, selection, draft.path())?,
        Provider::Source => {
            let built = source::fill(&pin, selection, record.rev.as_deref(), draft.path())?;
            record.revision = Some(built.revision);
            record.mlx = built.version;
        }
    }
    headers::pack(selection, draft.path())?;
    fs::write(
        draft.path().join("prefix.json"),
        serde_json::to_string_pretty(&record)? + "\n",
    )?;
    workspace::replace_folder(draft, &place)?;
    eprintln!(
        "MLX {} for {} on {}, from {}: {}",
        record.mlx,
        selection.variant_name,
        selection.target_name,
        record.from,
        place.display()
    );
    Ok(place)
}

/// What `prefix.json` must say for the prefix to be today's.
fn wanted(pin: &Pin, selection: &Selection, from: Provider) -> Result<Prefix> {
    let (origin, revision) = match from {
        Provider::Wheel => (wheel::pinned(pin, selection)?.1.sha256.clone(), None),
        Provider::Source => (pin.mlx.tag.clone(), pin.mlx.revision.clone()),
    };
    Ok(Prefix {
        recipe: RECIPE,
        mlx: pin.mlx.version.clone(),
        mlx_c: pin.mlx_c.version.clone(),
        from: from.name().to_owned(),
        origin,
        rev: None,
        revision,
        macos: selection.variant.floors.get("macos").cloned(),
    })
}

/// The provider that was asked for: by an option, by `EMILY_MLX_FROM`, or by nobody.
fn chosen(pin: &Pin, selection: &Selection, from: Option<Provider>) -> Result<Provider> {
    if let Some(from) = from {
        return Ok(from);
    }
    Ok(settings::mlx_from()?.unwrap_or_else(|| {
        // Only a Mac can build MLX for one.
        let abroad = selection.target.os == "macos" && std::env::consts::OS != "macos";
        if abroad && wheel::pinned(pin, selection).is_ok() {
            Provider::Wheel
        } else {
            usual(pin, selection)
        }
    }))
}

/// The name of the prefix that [`prefix`] fills, which is also the usual one's but for its end.
pub fn place_name(selection: &Selection, from: Option<Provider>) -> Result<String> {
    let pin = Pin::load()?;
    Ok(name_of(&pin, selection, chosen(&pin, selection, from)?))
}

fn name_of(pin: &Pin, selection: &Selection, from: Provider) -> String {
    let (variant, target) = (&selection.variant_name, &selection.target_name);
    if from == usual(pin, selection) {
        format!("{variant}-{target}")
    } else {
        format!("{variant}-{target}-{}", from.name())
    }
}

/// A wheel where one is pinned and needs no rebuilding; macOS releases are built from sources.
fn usual(pin: &Pin, selection: &Selection) -> Provider {
    if selection.target.os == "linux" && wheel::pinned(pin, selection).is_ok() {
        Provider::Wheel
    } else {
        Provider::Source
    }
}

#[cfg(test)]
mod tests {
    use super::{Prefix, RECIPE, name_of};
    use crate::{
        flags::{Cell, Provider},
        pin::Pin,
        targets::Targets,
    };

    fn prefix(origin: &str, revision: Option<&str>, rev: Option<&str>) -> Prefix {
        Prefix {
            recipe: RECIPE,
            mlx: "0.32.2".into(),
            mlx_c: "0.7.0".into(),
            from: "source".into(),
            origin: origin.into(),
            rev: rev.map(str::to_owned),
            revision: revision.map(str::to_owned),
            macos: None,
        }
    }

    #[test]
    fn a_prefix_holds_until_the_pin_changes() {
        let made = prefix("v1", Some("aa"), None);
        for (wanted, holds) in [
            (prefix("v1", None, None), true),
            (prefix("v1", Some("aa"), None), true),
            (prefix("v1", Some("bb"), None), false),
            (prefix("v1", None, Some("main")), false),
            (prefix("v2", None, None), false),
        ] {
            assert_eq!(made.is(&wanted), holds, "{wanted:?}");
        }
        assert!(!prefix("v1", None, None).is(&prefix("v1", Some("aa"), None)));
        let older = Prefix {
            recipe: RECIPE - 1,
            ..made
        };
        assert!(!older.is(&prefix("v1", None, None)));
    }

    #[test]
    fn a_revision_that_was_asked_for_has_its_own_version() {
        let made = Prefix {
            mlx: "0.33.0".into(),
            ..prefix("v1", Some("aa"), Some("main"))
        };
        assert!(made.is(&prefix("v1", None, Some("main"))));
        assert!(!made.is(&prefix("v1", None, None)));
        assert!(!made.is(&prefix("v2", None, Some("main"))));
    }

    #[test]
    fn the_providers_stand_side_by_side() {
        let pin = Pin::load().unwrap();
        for (variant, target, from, expected) in [
            ("cpu", "linux-x86_64", Provider::Wheel, "cpu-linux-x86_64"),
            (
                "cpu",
                "linux-x86_64",
                Provider::Source,
                "cpu-linux-x86_64-source",
            ),
            ("aot", "macos-arm64", Provider::Source, "aot-macos-arm64"),
            (
                "aot",
                "macos-arm64",
                Provider::Wheel,
                "aot-macos-arm64-wheel",
            ),
        ] {
            let cell = Cell {
                variant: Some(variant.into()),
                target: Some(target.into()),
            };
            let selection = Targets::load().unwrap().select(&cell).unwrap();
            assert_eq!(name_of(&pin, &selection, from), expected);
        }
    }
}
