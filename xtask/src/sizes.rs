//! What an asset weighs: beside what others have people download, and without what nobody needs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};
use serde::Deserialize;

use crate::{manifest::Manifest, progress, workspace};

/// What others' downloads weigh, with where that is written.
const PEERS: &str = "bench/peers.json";

#[derive(Debug, Deserialize)]
struct Peers {
    peers: Vec<Peer>,
}

/// A download that does for another engine what an asset does for Emily.
#[derive(Debug, Deserialize)]
struct Peer {
    targets: Vec<String>,
    variants: Vec<String>,
    name: String,
    is: String,
    bytes: u64,
}

/// The asset's own files, the largest first, and the asset beside its peers.
pub fn table(tarball: &Path, manifest: &Manifest) -> Result<String> {
    let path = workspace::root().join(PEERS);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {PEERS}"))?;
    let peers: Peers = serde_json::from_str(&text).with_context(|| format!("reading {PEERS}"))?;
    Ok(shown(fs::metadata(tarball)?.len(), manifest, &peers))
}

fn shown(packed: u64, manifest: &Manifest, peers: &Peers) -> String {
    let mut files: Vec<_> = manifest.files.iter().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.size));
    let unpacked = files.iter().map(|file| file.size).sum();
    let mut rows: Vec<_> = files
        .iter()
        .map(|file| (file.name.clone(), file.size, String::new()))
        .collect();
    rows.push(("unpacked".to_owned(), unpacked, String::new()));
    rows.push(("packed".to_owned(), packed, String::new()));
    let is_peer = |peer: &&Peer| {
        peer.targets.contains(&manifest.target) && peer.variants.contains(&manifest.variant)
    };
    rows.extend(peers.peers.iter().filter(is_peer).map(|peer| {
        let ratio = packed as f64 / peer.bytes as f64;
        (
            peer.name.clone(),
            peer.bytes,
            format!("{}; this is {ratio:.2} of it", peer.is),
        )
    }));
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, bytes, about)| {
            let line = format!("  {name:<width$}  {:>9}  {about}", progress::size(*bytes));
            line.trim_end().to_owned() + "\n"
        })
        .collect()
}

/// What the files called `names` in `dir` carry that nobody needs: what debuggers read, and the same
/// bytes twice.
pub fn violations(dir: &Path, names: &[String]) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let mut seen: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for name in names {
        let path = dir.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if let Some(section) = debug_section(&bytes) {
            violations.push(format!(
                "{name}: expected no debug information, got: {section}"
            ));
        }
        match seen.get(&bytes) {
            Some(twin) if !bytes.is_empty() => {
                violations.push(format!("{name}: the same bytes as {twin}"));
            }
            _ => drop(seen.insert(bytes, name)),
        }
    }
    Ok(violations)
}

/// The first section of a library that only debuggers read.
fn debug_section(bytes: &[u8]) -> Option<String> {
    let starts = [".debug_", ".zdebug_", "__debug_"];
    let file = object::File::parse(bytes).ok()?;
    file.sections()
        .filter_map(|section| section.name().ok().map(str::to_owned))
        .find(|name| starts.iter().any(|start| name.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest, targets::Targets};

    fn manifest() -> Manifest {
        let file = |name: &str, size| manifest::File {
            name: name.to_owned(),
            size,
            sha256: String::new(),
        };
        Manifest {
            schema: manifest::SCHEMA,
            package: "emily".into(),
            version: "1.0.0".into(),
            variant: "cpu".into(),
            target: "linux-x86_64".into(),
            nif_version: "2.17".into(),
            mlx: manifest::Mlx {
                version: "0.32.2".into(),
                mlx_c: "0.7.0".into(),
                from: "wheel".into(),
                tag: None,
                revision: None,
            },
            requires: manifest::Requires::default(),
            files: vec![file("LICENSE", 1_000), file("libmlx.so", 20_000_000)],
        }
    }

    #[test]
    fn an_asset_stands_beside_its_peers() {
        let peer = |variant: &str| Peer {
            targets: vec!["linux-x86_64".into()],
            variants: vec![variant.into()],
            name: format!("other-{variant}"),
            is: "another engine".into(),
            bytes: 40_000_000,
        };
        let peers = Peers {
            peers: vec![peer("cpu"), peer("cuda12")],
        };
        let table = shown(10_000_000, &manifest(), &peers);
        let words: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let names: Vec<_> = words.iter().map(|line| line[0]).collect();
        assert_eq!(
            names,
            ["libmlx.so", "LICENSE", "unpacked", "packed", "other-cpu"]
        );
        assert!(
            table.ends_with("another engine; this is 0.25 of it\n"),
            "{table}"
        );
    }

    #[test]
    fn the_peers_are_of_cells_that_exist() {
        let text = fs::read_to_string(workspace::root().join(PEERS)).unwrap();
        let peers: Peers = serde_json::from_str(&text).unwrap();
        let targets = Targets::load().unwrap();
        for (name, variant) in &targets.variants {
            for target in &variant.targets {
                let known = peers
                    .peers
                    .iter()
                    .any(|peer| peer.variants.contains(name) && peer.targets.contains(target));
                assert!(known, "{name} on {target} has no peer");
            }
        }
        for peer in &peers.peers {
            assert!(peer.bytes > 1_000_000, "{peer:?}");
            for target in &peer.targets {
                let exists = |variant: &String| targets.selection(variant, target).is_some();
                assert!(peer.variants.iter().all(exists), "{peer:?}");
            }
        }
    }

    #[test]
    fn what_nobody_needs_is_found() {
        use object::write::Object;
        use object::{Architecture, BinaryFormat, Endianness, SectionKind};
        let library = |section: Option<&str>| {
            let mut object =
                Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
            if let Some(name) = section {
                let id = object.add_section(vec![], name.into(), SectionKind::Debug);
                object.append_section_data(id, &[1, 2, 3], 1);
            }
            object.write().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let names = ["a.so", "b.so", "c.so", "empty", "void"].map(str::to_owned);
        fs::write(folder.path().join("a.so"), library(None)).unwrap();
        fs::write(folder.path().join("b.so"), library(Some(".debug_info"))).unwrap();
        fs::write(folder.path().join("c.so"), library(None)).unwrap();
        fs::write(folder.path().join("empty"), b"").unwrap();
        fs::write(folder.path().join("void"), b"").unwrap();
        assert_eq!(
            violations(folder.path(), &names).unwrap(),
            [
                "b.so: expected no debug information, got: .debug_info",
                "c.so: the same bytes as a.so"
            ]
        );
    }
}
