//! `manifest.json`: what an archive holds and what it asks of the host.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{audit, sidecar, targets::Selection, version::Version};

/// The manifest's name in the archive and in priv/.
pub const NAME: &str = "manifest.json";
/// The form described here; a reader refuses any other.
pub const SCHEMA: u32 = 1;
/// No manifest is larger, so a reader need not hold more.
pub const MAX_BYTES: u64 = 1 << 20;

/// The whole manifest. Its fields are written in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `emily`.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// A variant of `release/targets.json`.
    pub variant: String,
    /// A target of `release/targets.json`.
    pub target: String,
    /// The NIF interface the library asks for: the same major and at least this minor.
    pub nif_version: String,
    /// The MLX inside.
    pub mlx: Mlx,
    /// What the host must have.
    pub requires: Requires,
    /// Every file but the manifest itself, by name.
    pub files: Vec<File>,
}

/// Which MLX an archive carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mlx {
    /// MLX's version.
    pub version: String,
    /// mlx-c's version.
    pub mlx_c: String,
    /// The provider it came from: `wheel` or `source`.
    pub from: String,
    /// The tag that it was built from; absent where another revision was asked for, or none built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The commit that it was built from, where it was built from sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// What the binaries ask of the host, as measured by the audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requires {
    /// The highest `GLIBC_…` version needed (Linux).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<String>,
    /// The highest `GLIBCXX_…` version needed (Linux).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibcxx: Option<String>,
    /// The highest deployment target (macOS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macos: Option<String>,
    /// Shared libraries that the archive does not carry, sorted.
    pub libraries: Vec<String>,
}

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A plain file name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Requires {
    /// The floors that are set, by the names that `release/targets.json` gives them.
    pub fn floors(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("glibc", self.glibc.as_deref()),
            ("glibcxx", self.glibcxx.as_deref()),
            ("macos", self.macos.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, floor)| floor.map(|floor| (name, floor)))
    }
}

impl Manifest {
    /// Reads a manifest; whether it fits its archive is [`Manifest::violations`]'s question.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let context = || format!("reading {NAME}");
        // All of it must be JSON, also what nobody asks for.
        let text = std::str::from_utf8(bytes).with_context(context)?;
        serde_json::from_str::<serde_json::Value>(text).with_context(context)?;
        serde_json::from_str(text).with_context(context)
    }

    /// The bytes that go into the archive; the same manifest always gives the same ones.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The entry for `name`.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    /// What is wrong with this manifest in an archive of `version` for `selection`.
    pub fn violations(&self, version: &str, selection: &Selection) -> Vec<String> {
        let mut violations = Vec::new();
        for (field, expected, actual) in [
            (
                "schema",
                SCHEMA.to_string().as_str(),
                self.schema.to_string().as_str(),
            ),
            ("package", "emily", &self.package),
            ("version", version, &self.version),
            ("variant", &selection.variant_name, &self.variant),
            ("target", &selection.target_name, &self.target),
        ] {
            if expected != actual {
                violations.push(format!(
                    "{NAME}: expected {field} {expected}, got: {actual}"
                ));
            }
        }
        if !self.files.is_sorted_by(|one, next| one.name < next.name) {
            violations.push(format!("{NAME}: expected files sorted by name, each once"));
        }
        for file in &self.files {
            if file.name == NAME || !selection.variant.files.contains(&file.name) {
                violations.push(format!(
                    "{NAME}: {} is not a file of variant {}",
                    file.name, selection.variant_name
                ));
            }
        }
        if self.file(&selection.target.library).is_none() {
            violations.push(format!("{NAME}: {} is missing", selection.target.library));
        }
        violations.extend(self.form_violations());
        violations.extend(self.floor_violations(selection));
        violations
    }

    /// The licences and the bill of materials that `selection` asks for and this manifest lacks, one
    /// sentence each.
    pub fn missing_papers(&self, selection: &Selection) -> Vec<String> {
        let names = selection.variant.files.iter();
        names
            .filter(|name| !audit::is_binary(name) && *name != NAME && self.file(name).is_none())
            .map(|name| format!("{name} is missing"))
            .collect()
    }

    /// What is wrong with a manifest whose files take more than `max` bytes together.
    pub fn size_violation(&self, max: u64) -> Option<String> {
        let sizes = self.files.iter().map(|file| file.size);
        let total = sizes.fold(0, u64::saturating_add);
        (total > max)
            .then(|| format!("{NAME}: expected at most {max} bytes together, got: {total}"))
    }

    /// Fields whose text has another form than it should.
    fn form_violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        if let Err(error) = self.nif_version.parse::<Version>() {
            violations.push(format!("{NAME}: nif_version: {error:#}"));
        }
        for name in &self.requires.libraries {
            if !is_plain_name(name) {
                violations.push(format!("{NAME}: expected a library's name, got: {name:?}"));
            }
        }
        for file in &self.files {
            if !sidecar::is_sha256(&file.sha256) {
                violations.push(format!(
                    "{NAME}: expected a sha256 of {}, got: {:?}",
                    file.name, file.sha256
                ));
            }
        }
        violations
    }

    /// Floors that cannot be read, or that ask for more than the variant may.
    fn floor_violations(&self, selection: &Selection) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, floor) in self.requires.floors() {
            match (floor.parse::<Version>(), selection.floor(name)) {
                (Ok(asked), Ok(Some(declared))) if asked <= declared => (),
                (Ok(asked), Ok(Some(declared))) => violations.push(format!(
                    "{NAME}: {name} {asked} is above the declared floor {declared}"
                )),
                (Ok(asked), Ok(None)) => {
                    violations.push(format!("{NAME}: {name} {asked} has no declared floor"));
                }
                (Err(error), _) | (_, Err(error)) => {
                    violations.push(format!("{NAME}: {name}: {error:#}"));
                }
            }
        }
        violations
    }
}

/// Whether a name stands for a file of a folder, and for nothing outside it.
fn is_plain_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name
            .bytes()
            .all(|byte| is_letter(byte) || b".+-".contains(&byte))
}
