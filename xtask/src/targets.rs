//! `release/targets.json`: the variants, targets, floors and runners, read as data.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{flags::Cell, settings, version::Version, workspace};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
pub struct Targets {
    /// The project's address.
    pub home: String,
    /// Where releases are published, with `{version}` for the version.
    pub release_base: String,
    /// A tarball's name, with `{version}`, `{variant}` and `{target}`.
    pub asset: String,
    /// No archive unpacks to more.
    pub max_unpacked_bytes: u64,
    /// By name.
    pub targets: BTreeMap<String, Target>,
    /// By name.
    pub variants: BTreeMap<String, Variant>,
}

/// An operating system on a processor.
#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    /// As `std::env::consts::OS` spells it.
    pub os: String,
    /// As `std::env::consts::ARCH` spells it.
    pub arch: String,
    /// As rustc spells it.
    pub triple: String,
    /// The file that the BEAM loads.
    pub library: String,
    /// The machine that its releases are built on, as the workflows name it.
    pub runner: String,
    /// The variant for those who name none.
    pub default_variant: String,
    /// Libraries that every host of this target has.
    pub system_libraries: Vec<String>,
}

/// A way that MLX is built.
#[derive(Debug, Clone, Deserialize)]
pub struct Variant {
    /// In a few words.
    pub summary: String,
    /// The targets it exists for.
    pub targets: Vec<String>,
    /// The highest that a release may ask of its host, by name.
    pub floors: BTreeMap<String, String>,
    /// The machines that build it, where the targets' own do not, by target.
    #[serde(default)]
    pub runners: BTreeMap<String, String>,
    /// The machines that can load it, where those that build it cannot, by target.
    #[serde(default)]
    pub proving_runners: BTreeMap<String, String>,
    /// Libraries that hosts of this variant have besides the target's.
    pub system_libraries: Vec<String>,
    /// The files that an archive may hold.
    pub files: Vec<String>,
}

/// One variant for one target, both known to exist together.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The variant's name.
    pub variant_name: String,
    /// The variant.
    pub variant: Variant,
    /// The target's name.
    pub target_name: String,
    /// The target.
    pub target: Target,
}

impl Targets {
    /// Reads the repository's file.
    pub fn load() -> Result<Self> {
        let path = workspace::root().join("release/targets.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// The target whose operating system and processor are this machine's.
    pub fn host(&self) -> Result<&str> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        self.targets
            .iter()
            .find(|(_, target)| target.os == os && target.arch == arch)
            .map(|(name, _)| name.as_str())
            .with_context(|| {
                let known: Vec<_> = self.targets.keys().map(String::as_str).collect();
                format!(
                    "expected a host among {}, got: {os} on {arch}",
                    known.join(", ")
                )
            })
    }

    /// Completes `cell` with this host, `EMILY_VARIANT` and the target's default.
    pub fn select(&self, cell: &Cell) -> Result<Selection> {
        let target_name = match &cell.target {
            Some(name) => name.clone(),
            None => self.host()?.to_owned(),
        };
        let Some(target) = self.targets.get(&target_name) else {
            let known: Vec<_> = self.targets.keys().map(String::as_str).collect();
            bail!(
                "expected --target to be one of {}, got: {target_name}",
                known.join(", ")
            );
        };
        let variant_name = cell
            .variant
            .clone()
            .or_else(settings::variant)
            .unwrap_or_else(|| target.default_variant.clone());
        self.selection(&variant_name, &target_name)
            .with_context(|| {
                let known = self.variants_for(&target_name).join(", ");
                format!(
                    "expected --variant for {target_name} to be one of {known}, got: {variant_name}"
                )
            })
    }

    /// `variant` for `target`, if there is such a release.
    pub fn selection(&self, variant: &str, target: &str) -> Option<Selection> {
        let found = self.variants.get(variant)?;
        let true = found.targets.iter().any(|name| name == target) else {
            return None;
        };
        Some(Selection {
            variant_name: variant.to_owned(),
            variant: found.clone(),
            target_name: target.to_owned(),
            target: self.targets.get(target)?.clone(),
        })
    }

    /// The variants that exist for `target`.
    pub fn variants_for(&self, target: &str) -> Vec<&str> {
        self.variants
            .iter()
            .filter(|(_, variant)| variant.targets.iter().any(|name| name == target))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The version and the selection that a tarball's name stands for.
    pub fn parse_asset(&self, asset: &str) -> Option<(String, Selection)> {
        let cells = self.variants.iter().flat_map(|(variant, entry)| {
            entry
                .targets
                .iter()
                .filter_map(|target| self.selection(variant, target))
        });
        cells.into_iter().find_map(|selection| {
            let name = self.asset_name("{version}", &selection);
            let (start, end) = name.split_once("{version}")?;
            let version = asset.strip_prefix(start)?.strip_suffix(end)?;
            (!version.is_empty()).then(|| (version.to_owned(), selection))
        })
    }

    /// The address that releases of `version` are published under, ending in a slash.
    pub fn base_url(&self, version: &str) -> String {
        let base = settings::release_url().unwrap_or_else(|| self.release_base.clone());
        let base = base.replace("{version}", version);
        format!("{}/", base.trim_end_matches('/'))
    }

    fn asset_name(&self, version: &str, selection: &Selection) -> String {
        self.asset
            .replace("{version}", version)
            .replace("{variant}", &selection.variant_name)
            .replace("{target}", &selection.target_name)
    }
}

impl Selection {
    /// This version's tarball.
    pub fn asset(&self, targets: &Targets) -> String {
        targets.asset_name(workspace::VERSION, self)
    }

    /// The machine that builds it.
    pub fn runner(&self) -> &str {
        let own = self.variant.runners.get(&self.target_name);
        own.unwrap_or(&self.target.runner)
    }

    /// The machine that can load it.
    pub fn proving_runner(&self) -> &str {
        let own = self.variant.proving_runners.get(&self.target_name);
        own.map_or_else(|| self.runner(), String::as_str)
    }

    /// The libraries that a host may be expected to have.
    pub fn system_libraries(&self) -> impl Iterator<Item = &str> {
        let libraries = self.target.system_libraries.iter();
        libraries
            .chain(&self.variant.system_libraries)
            .map(String::as_str)
    }

    /// The highest version of `name` that a release may ask for.
    pub fn floor(&self, name: &str) -> Result<Option<Version>> {
        let floor = self.variant.floors.get(name);
        floor
            .map(|text| text.parse())
            .transpose()
            .with_context(|| format!("floor {name} of variant {}", self.variant_name))
    }
}
