//! The crates that are linked into libemily, as Cargo resolves them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Component, bundled::Data};
use crate::{process, workspace};

/// What `cargo metadata` says of a package.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: std::path::PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// The crates of others that libemily for `triple` links, without what only runs in the build.
pub fn linked(triple: &str, data: &Data) -> Result<Vec<Component>> {
    let names = names(triple)?;
    let checksums = checksums(&fs::read_to_string(workspace::root().join("Cargo.lock"))?);
    let printed = cargo(&["metadata", "--locked", "--format-version", "1"])?;
    let metadata: Metadata = serde_json::from_str(&printed).context("reading cargo metadata")?;
    let mut components = Vec::new();
    for package in &metadata.packages {
        // What has no source is this repository's own.
        if package.source.is_none() || !names.contains(&package_key(package)) {
            continue;
        }
        let license = package
            .license
            .as_deref()
            .with_context(|| format!("expected {} to name its licence", package.name))?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("."));
        let mut texts = licenses(folder)?;
        if let Some(names) = data.crates.get(&package.name).filter(|_| texts.is_empty()) {
            texts = data.texts(names)?;
        }
        ensure!(
            !texts.is_empty(),
            "expected licences in {}, or texts for {} in {}",
            folder.display(),
            package.name,
            super::bundled::PATH
        );
        components.push(Component {
            name: package.name.clone(),
            version: Some(package.version.clone()),
            purl: format!("pkg:cargo/{}@{}", package.name, escape(&package.version)),
            license: license.replace('/', " OR "),
            sha256: checksums.get(&package_key(package)).cloned(),
            within: None,
            files: vec![],
            texts,
        });
    }
    Ok(components)
}

fn package_key(package: &Package) -> (String, String) {
    (package.name.clone(), package.version.clone())
}

/// Rust's own library, which every crate is linked with.
pub fn standard_library(data: &Data) -> Result<Component> {
    let printed = process::output(
        Command::new("rustc")
            .current_dir(workspace::root())
            .arg("-V"),
    )?;
    let version = printed
        .split(' ')
        .nth(1)
        .with_context(|| format!("expected rustc's version, got: {printed}"))?;
    Ok(Component {
        name: "rust-std".to_owned(),
        version: Some(version.to_owned()),
        purl: format!("pkg:github/rust-lang/rust@{version}"),
        license: "MIT OR Apache-2.0".to_owned(),
        sha256: None,
        within: None,
        files: vec![],
        texts: data.texts(&data.rust)?,
    })
}

/// The names and versions of what is linked.
fn names(triple: &str) -> Result<BTreeSet<(String, String)>> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        "emily-nif",
        "--edges",
        "normal,no-proc-macro",
        "--target",
        triple,
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    Ok(parse_tree(&tree))
}

fn parse_tree(tree: &str) -> BTreeSet<(String, String)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

/// The checksums in a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    lock.split("[[package]]")
        .filter_map(|entry| {
            let field = |name: &str| {
                let start = format!("{name} = \"");
                let line = entry.lines().find_map(|line| line.strip_prefix(&*start))?;
                Some(line.trim_end_matches('"').to_owned())
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect()
}

/// The texts of the licences and notices that lie in `folder`, by file name.
fn licenses(folder: &Path) -> Result<Vec<String>> {
    let starts = [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "NOTICE",
        "UNLICENSE",
        "COPYRIGHT",
    ];
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_license = starts
            .iter()
            .any(|start| name.to_uppercase().starts_with(start));
        if is_license && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    let read = |name: &String| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    names.iter().map(read).collect()
}

fn cargo(arguments: &[&str]) -> Result<String> {
    process::output(
        Command::new(workspace::cargo())
            .current_dir(workspace::root())
            .args(arguments),
    )
}

/// A version as package URLs spell it.
pub fn escape(version: &str) -> String {
    version
        .replace('+', "%2B")
        .replace(':', "%3A")
        .replace('~', "%7E")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_has_checksums() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\n\
                    checksum = \"00ff\"\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";
        let found = checksums(lock);
        assert_eq!(found[&("a".to_owned(), "1.0.0".to_owned())], "00ff");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_is_linked_is_what_cargo_builds_in() {
        let data = Data::load().unwrap();
        let components = linked("x86_64-unknown-linux-gnu", &data).unwrap();
        let names: BTreeSet<_> = components.iter().map(|one| one.name.as_str()).collect();
        assert!(
            names.contains("serde_json") && names.contains("rustler"),
            "{names:?}"
        );
        // Neither this repository's own, nor what only runs in the build.
        for absent in [
            "emily-core",
            "mlx-sys",
            "serde_derive",
            "rustler_codegen",
            "bindgen",
        ] {
            assert!(!names.contains(absent), "{absent}");
        }
        for component in &components {
            assert_eq!(
                component.sha256.as_ref().map(String::len),
                Some(64),
                "{component:?}"
            );
            assert!(!component.texts.is_empty(), "{component:?}");
        }
    }
}
