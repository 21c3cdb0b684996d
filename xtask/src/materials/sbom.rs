//! `sbom.cdx.json`: the bill of materials, as [CycloneDX](https://cyclonedx.org/docs/1.6/json/) 1.6.
//!
//! It has neither a time nor a random serial number: the same release gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Component;
use crate::{sidecar, targets::Selection, workspace};

/// The file's name in the archive.
pub const NAME: &str = "sbom.cdx.json";
const FORMAT: &str = "CycloneDX";
const VERSION: &str = "1.6";
/// What the archive as a whole is called in the bill.
const WHOLE: &str = "emily";

/// The file's text; `hashes` are those of the archive's libraries, by name.
pub fn text(
    selection: &Selection,
    components: &[Component],
    hashes: &BTreeMap<String, String>,
) -> Result<String> {
    let own: Vec<_> = hashes
        .iter()
        .filter(|(name, _)| !components.iter().any(|one| one.files.contains(name)))
        .map(|(name, sha256)| file(name, sha256))
        .collect();
    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": FORMAT,
        "specVersion": VERSION,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [
                {"type": "application", "name": "cargo xtask release", "version": workspace::VERSION}
            ]},
            "component": {
                "type": "library",
                "bom-ref": WHOLE,
                "name": format!("emily-nif-{}-{}", selection.variant_name, selection.target_name),
                "version": workspace::VERSION,
                "purl": format!("pkg:hex/emily@{}", workspace::VERSION),
                "licenses": [{"expression": "MIT"}],
                "components": own,
            },
        },
        "components": components.iter().map(|one| entry(one, hashes)).collect::<Vec<_>>(),
        "dependencies": dependencies(components),
    });
    let sha256 = sidecar::hex(&Sha256::digest(bill.to_string()));
    let groups = [
        &sha256[..8],
        &sha256[8..12],
        &sha256[12..16],
        &sha256[16..20],
        &sha256[20..32],
    ];
    bill["serialNumber"] = json!(format!("urn:uuid:{}", groups.join("-")));
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn entry(component: &Component, hashes: &BTreeMap<String, String>) -> Value {
    let mut entry = json!({
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "purl": component.purl,
        "licenses": [{"expression": component.license}],
    });
    if let Some(version) = &component.version {
        entry["version"] = json!(version);
    }
    if let Some(sha256) = &component.sha256 {
        entry["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    let files: Vec<_> = component
        .files
        .iter()
        .filter_map(|name| Some(file(name, hashes.get(name)?)))
        .collect();
    if !files.is_empty() {
        entry["components"] = json!(files);
    }
    entry
}

fn file(name: &str, sha256: &str) -> Value {
    json!({
        "type": "file",
        "bom-ref": format!("file:{name}"),
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    })
}

/// Who needs whom: the whole needs what is linked, and that what is compiled into it.
fn dependencies(components: &[Component]) -> Vec<Value> {
    let needs = |name: Option<&str>| -> Vec<&str> {
        let within = components
            .iter()
            .filter(|one| one.within.as_deref() == name);
        within.map(|one| one.purl.as_str()).collect()
    };
    let whole = json!({"ref": WHOLE, "dependsOn": needs(None)});
    let each = components
        .iter()
        .map(|one| json!({"ref": one.purl, "dependsOn": needs(Some(&one.name))}));
    std::iter::once(whole).chain(each).collect()
}

/// A bill that was read.
pub struct Bill(Value);

impl Bill {
    /// Reads a bill; whether it is whole is [`Bill::violations`]'s question.
    pub fn parse(text: &str) -> Result<Self> {
        let bill: Value = serde_json::from_str(text).context("expected JSON")?;
        let said = |name: &str| bill[name].as_str().unwrap_or("none");
        ensure!(
            (said("bomFormat"), said("specVersion")) == (FORMAT, VERSION),
            "expected {FORMAT} {VERSION}, got: {} {}",
            said("bomFormat"),
            said("specVersion")
        );
        Ok(Self(bill))
    }

    fn components(&self) -> &[Value] {
        self.0["components"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Name and version of each component, as the notices head them.
    pub fn titles(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let title = |one: &Value| {
            let words = [text(&one["name"]), text(&one["version"])];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        self.components().iter().map(title).collect()
    }

    /// The SHA-256 of each file.
    pub fn files(&self) -> BTreeMap<String, String> {
        let whole = &self.0["metadata"]["component"];
        let owners = self.components().iter().chain([whole]);
        let files = owners
            .filter_map(|owner| owner["components"].as_array())
            .flatten();
        files
            .filter_map(|file| {
                let sha256 = file["hashes"][0]["content"].as_str()?;
                Some((file["name"].as_str()?.to_owned(), sha256.to_owned()))
            })
            .collect()
    }

    /// What the specification asks for, and we besides, and this bill lacks.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let mut refs = BTreeSet::from([WHOLE]);
        for component in self.components() {
            let said = |name: &str| component[name].as_str().unwrap_or_default();
            let name = said("name");
            if name.is_empty() || said("type").is_empty() {
                violations.push(format!("a component lacks its name or type: {component}"));
            }
            if !said("purl").starts_with("pkg:") {
                violations.push(format!("{name} has no package URL"));
            }
            if !refs.insert(said("bom-ref")) {
                violations.push(format!("{name} has no bom-ref of its own"));
            }
            if component["licenses"][0]["expression"]
                .as_str()
                .is_none_or(str::is_empty)
            {
                violations.push(format!("{name} has no licence"));
            }
            let hashes = component["hashes"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            let is_sha256 = |hash: &Value| {
                hash["alg"] == "SHA-256" && hash["content"].as_str().is_some_and(sidecar::is_sha256)
            };
            if !hashes.iter().all(is_sha256) {
                violations.push(format!("{name} has a hash that is no SHA-256"));
            }
        }
        let named = self.0["dependencies"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let ends = named.iter().flat_map(|one| {
            let needs = one["dependsOn"].as_array().map_or(&[][..], Vec::as_slice);
            needs.iter().chain([&one["ref"]])
        });
        for end in ends.filter_map(Value::as_str) {
            if !refs.contains(end) {
                violations.push(format!("{end} is needed, and not in the bill"));
            }
        }
        violations
    }
}
