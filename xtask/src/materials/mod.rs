//! What a release is made of that is not Emily's: named, versioned and licensed.
//!
//! Two files of each archive are written from the one list: `sbom.cdx.json`, the bill of materials, and
//! `THIRD-PARTY`, the licences. [`violations`] holds them against each other and against the archive.

mod bundled;
mod crates;
mod notices;
mod sbom;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    audit, manifest::Manifest, mlx::Prefix, pin::Pin, release::Source, targets::Selection,
};

pub use notices::NAME as NOTICES;
pub use sbom::NAME as SBOM;

/// One piece of other people's software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// As its makers call it.
    pub name: String,
    /// Unknown where neither a pin nor the file itself tells.
    pub version: Option<String>,
    /// Where it comes from, as a package URL.
    pub purl: String,
    /// An SPDX expression.
    pub license: String,
    /// Of the package that it came in.
    pub sha256: Option<String>,
    /// The component that it is compiled into; none for what libemily links.
    pub within: Option<String>,
    /// The files of the archive that are it.
    pub files: Vec<String>,
    /// Its licences and notices, whole.
    pub texts: Vec<String>,
}

impl Component {
    /// Name and version, as the notices head them.
    pub fn title(&self) -> String {
        match &self.version {
            Some(version) => format!("{} {version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What `libraries` and what is compiled into them come from, sorted.
pub fn gather(
    selection: &Selection,
    prefix: &Prefix,
    libraries: &[Source],
    licenses: &Path,
) -> Result<Vec<Component>> {
    let data = bundled::Data::load()?;
    let mut components = crates::linked(&selection.target.triple, &data)?;
    components.push(crates::standard_library(&data)?);
    components.extend(bundled::components(
        &data,
        &Pin::load()?,
        selection,
        prefix,
        libraries,
        licenses,
    )?);
    components.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(components)
}

/// Writes both files into `folder`, for an archive with `libraries`.
pub fn write(
    folder: &Path,
    selection: &Selection,
    components: &[Component],
    libraries: &[Source],
) -> Result<Vec<Source>> {
    let hashes = libraries
        .iter()
        .map(|file| Ok((file.name.clone(), crate::sidecar::sha256_of(&file.path)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let texts = [
        (SBOM, sbom::text(selection, components, &hashes)?),
        (NOTICES, notices::text(selection, components)),
    ];
    texts
        .into_iter()
        .map(|(name, text)| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            Ok(Source {
                name: name.to_owned(),
                path,
            })
        })
        .collect()
}

/// How the bill of materials in `dir` fails to be one of the archive's libraries, and how the
/// notices fail to cover it.
pub fn violations(dir: &Path, manifest: &Manifest) -> Vec<String> {
    let read = |name: &str| {
        fs::read_to_string(dir.join(name)).map_err(|error| vec![format!("{name}: {error}")])
    };
    let (bill, notices) = match (read(SBOM), read(NOTICES)) {
        (Ok(bill), Ok(notices)) => (bill, notices),
        (Err(error), _) | (_, Err(error)) => return error,
    };
    let bill = match sbom::Bill::parse(&bill) {
        Ok(bill) => bill,
        Err(error) => return vec![format!("{SBOM}: {error:#}")],
    };
    let mut violations: Vec<_> = bill
        .violations()
        .into_iter()
        .map(|text| format!("{SBOM}: {text}"))
        .collect();
    for file in manifest
        .files
        .iter()
        .filter(|file| audit::is_binary(&file.name))
    {
        match bill.files().get(&file.name) {
            Some(sha256) if *sha256 == file.sha256 => (),
            Some(_) => violations.push(format!("{SBOM}: {} has another sha256", file.name)),
            None => violations.push(format!("{SBOM}: {} is not in it", file.name)),
        }
    }
    for title in bill.titles() {
        if !notices::covers(&notices, &title) {
            violations.push(format!("{NOTICES}: there is no licence of {title}"));
        }
    }
    violations
}
