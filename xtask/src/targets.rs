//! `release/targets.json`: the variants, targets, floors and runners, read as data.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{flags::Cell, settings, workspace};

#[derive(Debug, Clone, Deserialize)]
pub struct Targets {
    pub home: String,
    pub release_base: String,
    pub asset: String,
    pub max_unpacked_bytes: u64,
    pub targets: BTreeMap<String, Target>,
    pub variants: BTreeMap<String, Variant>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    pub os: String,
    pub arch: String,
    pub triple: String,
    pub library: String,
    pub default_variant: String,
    pub system_libraries: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Variant {
    pub summary: String,
    pub targets: Vec<String>,
    pub floors: BTreeMap<String, String>,
    pub system_libraries: Vec<String>,
    pub files: Vec<String>,
}

/// One variant for one target, both known to exist together.
#[derive(Debug, Clone)]
pub struct Selection {
    pub variant_name: String,
    pub variant: Variant,
    pub target_name: String,
    pub target: Target,
}

impl Targets {
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
        match self.variants.get(&variant_name) {
            Some(variant) if variant.targets.contains(&target_name) => Ok(Selection {
                variant_name,
                variant: variant.clone(),
                target_name,
                target: target.clone(),
            }),
            _ => {
                let known: Vec<_> = self
                    .variants
                    .iter()
                    .filter(|(_, variant)| variant.targets.contains(&target_name))
                    .map(|(name, _)| name.as_str())
                    .collect();
                bail!(
                    "expected --variant for {target_name} to be one of {}, got: {variant_name}",
                    known.join(", ")
                )
            }
        }
    }
}

impl Selection {
    /// The tarball's file name.
    pub fn asset(&self, targets: &Targets) -> String {
        targets
            .asset
            .replace("{version}", workspace::VERSION)
            .replace("{variant}", &self.variant_name)
            .replace("{target}", &self.target_name)
    }
}
