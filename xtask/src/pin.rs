//! `mlx_src/pin.json`: which MLX and mlx-c this checkout is built with.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::workspace;

#[derive(Debug, Clone, Deserialize)]
pub struct Pin {
    pub mlx: Mlx,
    pub mlx_c: MlxC,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mlx {
    pub version: String,
    pub git: String,
    pub tag: String,
    /// The commit that the tag must stand for; unchecked when absent.
    #[serde(default)]
    pub revision: Option<String>,
    /// The options a variant adds to MLX's own build.
    pub cmake: BTreeMap<String, BTreeMap<String, String>>,
    /// By variant.
    pub wheels: BTreeMap<String, Wheels>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Wheels {
    pub package: String,
    /// By target.
    #[serde(flatten)]
    pub files: BTreeMap<String, Wheel>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Wheel {
    pub platform: String,
    pub sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct MlxC {
    pub version: String,
    pub git: String,
    pub tag: String,
    /// The commit that the tag must stand for; unchecked when absent.
    #[serde(default)]
    pub revision: Option<String>,
    #[serde(rename = "crate")]
    pub krate: Crate,
}

/// The crate on crates.io that carries mlx-c's sources.
#[derive(Debug, Clone, Deserialize)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub path: String,
}

impl Pin {
    pub fn load() -> Result<Self> {
        let path = workspace::root().join("mlx_src/pin.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}
