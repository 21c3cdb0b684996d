//! MLX, what its build compiles in, mlx-c, and the BLAS that comes along.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Component, crates::escape};
use crate::{mlx::Prefix, pin::Pin, release::Source, sidecar, targets::Selection, workspace};

/// What no build says of itself, as data.
pub const PATH: &str = "release/third_party.json";
/// The folder of the licence texts that it names.
const TEXTS: &str = "release/licenses";

/// The whole file.
#[derive(Debug, Deserialize)]
pub struct Data {
    mlx: Vec<Entry>,
    /// Texts for crates that carry none.
    pub crates: BTreeMap<String, Vec<String>>,
    /// The texts of Rust's own library.
    pub rust: Vec<String>,
}

/// A piece of libmlx.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    version: Option<String>,
    purl: String,
    license: String,
    texts: Vec<String>,
    /// All, where none is named.
    #[serde(default)]
    variants: Vec<String>,
}

impl Data {
    /// Reads the repository's file.
    pub fn load() -> Result<Self> {
        let text = fs::read_to_string(workspace::root().join(PATH))
            .with_context(|| format!("reading {PATH}"))?;
        serde_json::from_str(&text).with_context(|| format!("reading {PATH}"))
    }

    /// The texts in the files of these names.
    pub fn texts(&self, names: &[String]) -> Result<Vec<String>> {
        names
            .iter()
            .map(|name| read(&workspace::root().join(TEXTS).join(name)))
            .collect()
    }
}

/// All of them, with the files of the archive that they are.
pub fn components(
    data: &Data,
    pin: &Pin,
    selection: &Selection,
    prefix: &Prefix,
    libraries: &[Source],
    licenses: &Path,
) -> Result<Vec<Component>> {
    let mut components = vec![
        mlx(pin, selection, prefix, libraries, licenses)?,
        mlx_c(pin)?,
    ];
    for entry in &data.mlx {
        if entry.variants.is_empty() || entry.variants.contains(&selection.variant_name) {
            components.push(Component {
                name: entry.name.clone(),
                version: entry.version.clone(),
                purl: entry.purl.clone(),
                license: entry.license.clone(),
                sha256: None,
                within: Some("MLX".to_owned()),
                files: vec![],
                texts: data.texts(&entry.texts)?,
            });
        }
    }
    let blas = licenses.join("LICENSE-openblas");
    if blas.exists() {
        components.push(openblas(libraries, &blas)?);
    }
    let covered = |file: &Source| components.iter().any(|one| one.files.contains(&file.name));
    for file in libraries {
        ensure!(
            file.name.starts_with("libemily") || covered(file),
            "expected to know where {} comes from",
            file.name
        );
    }
    Ok(components)
}

fn mlx(
    pin: &Pin,
    selection: &Selection,
    prefix: &Prefix,
    libraries: &[Source],
    licenses: &Path,
) -> Result<Component> {
    let wheel = (prefix.from == "wheel")
        .then(|| pin.mlx.wheels.get(&selection.variant_name))
        .flatten();
    let (purl, sha256) = match wheel {
        Some(wheel) => (
            format!("pkg:pypi/{}@{}", wheel.package, escape(&prefix.mlx)),
            Some(prefix.origin.clone()).filter(|origin| sidecar::is_sha256(origin)),
        ),
        None => {
            let revision = prefix.revision.as_ref().unwrap_or(&pin.mlx.tag);
            (github(&pin.mlx.git, revision), None)
        }
    };
    Ok(Component {
        name: "MLX".to_owned(),
        version: Some(prefix.mlx.clone()),
        purl,
        license: "MIT".to_owned(),
        sha256,
        within: None,
        files: named(libraries, |name| name.contains("mlx")),
        texts: vec![read(&licenses.join("LICENSE-mlx"))?],
    })
}

fn mlx_c(pin: &Pin) -> Result<Component> {
    Ok(Component {
        name: "mlx-c".to_owned(),
        version: Some(pin.mlx_c.version.clone()),
        purl: github(&pin.mlx_c.git, &pin.mlx_c.tag),
        license: "MIT".to_owned(),
        // Its sources come in a crate.
        sha256: Some(pin.mlx_c.krate.sha256.clone()),
        within: None,
        files: vec![],
        texts: vec![read(&workspace::root().join("mlx_src/mlx-c/LICENSE"))?],
    })
}

fn openblas(libraries: &[Source], license: &Path) -> Result<Component> {
    let files = named(libraries, |name| name.starts_with("libopenblas"));
    // Where it is no file of its own, it is linked into libmlx.
    let carrier = libraries
        .iter()
        .find(|file| files.contains(&file.name))
        .or_else(|| {
            libraries
                .iter()
                .find(|file| file.name.starts_with("libmlx"))
        });
    let bytes = carrier.map(|file| fs::read(&file.path)).transpose()?;
    let version = bytes.and_then(|bytes| openblas_version(&bytes));
    let at = version
        .as_ref()
        .map_or(String::new(), |version| format!("@v{version}"));
    Ok(Component {
        name: "OpenBLAS".to_owned(),
        version,
        purl: format!("pkg:github/OpenMathLib/OpenBLAS{at}"),
        license: "BSD-3-Clause".to_owned(),
        sha256: None,
        within: files.is_empty().then(|| "MLX".to_owned()),
        files,
        texts: vec![read(license)?],
    })
}

/// What OpenBLAS answers when asked for its configuration: `OpenBLAS 0.3.21 …`.
fn openblas_version(bytes: &[u8]) -> Option<String> {
    let mark = b"OpenBLAS ";
    bytes
        .windows(mark.len())
        .enumerate()
        .find_map(|(at, window)| {
            let rest = (window == mark).then(|| &bytes[at + mark.len()..])?;
            let is_version = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
            let version: Vec<u8> = rest.iter().take_while(is_version).copied().collect();
            let version = String::from_utf8(version).ok()?;
            (version.split('.').count() == 3).then_some(version)
        })
}

fn named(libraries: &[Source], is: impl Fn(&str) -> bool) -> Vec<String> {
    let names = libraries.iter().map(|file| file.name.clone());
    names.filter(|name| is(name)).collect()
}

/// The package URL of a revision of a repository on GitHub.
fn github(git: &str, revision: &str) -> String {
    let path = git.trim_end_matches(".git");
    let path = path.strip_prefix("https://github.com/").unwrap_or(path);
    format!("pkg:github/{path}@{}", escape(revision))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openblas_says_its_version() {
        let bytes = b"\0OpenBLAS \0OpenBLAS : x\0OpenBLAS 0.3.21 NO_LAPACKE\0";
        assert_eq!(openblas_version(bytes), Some("0.3.21".to_owned()));
        assert_eq!(openblas_version(b"OpenBLAS 0.3"), None);
    }

    #[test]
    fn the_data_names_texts_that_are_there_and_variants_that_exist() {
        let data = Data::load().unwrap();
        let targets = crate::targets::Targets::load().unwrap();
        for entry in &data.mlx {
            assert!(
                data.texts(&entry.texts)
                    .unwrap()
                    .iter()
                    .all(|text| text.len() > 500)
            );
            let known = |name: &String| targets.variants.contains_key(name);
            assert!(entry.variants.iter().all(known), "{entry:?}");
        }
        data.texts(&data.rust).unwrap();
        for names in data.crates.values() {
            data.texts(names).unwrap();
        }
    }
}
