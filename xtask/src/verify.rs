//! `cargo xtask verify`: a tarball, or every one of a release folder, against every rule.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    archive::{self, Contents, Rules},
    audit,
    failure::Failure,
    flags,
    keyring::Keyring,
    manifest::Manifest,
    materials, progress, sidecar, sizes,
    targets::{Selection, Targets},
};

/// How a tarball stands to one rule.
#[derive(Debug)]
pub struct Verdict {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// Every way in which it is broken; none if it holds.
    pub violations: Vec<String>,
}

impl Verdict {
    fn new(rule: &'static str, violations: impl IntoIterator<Item = String>) -> Self {
        Self {
            rule,
            violations: violations.into_iter().collect(),
        }
    }
}

const NAME: &str = "the name says variant and target";

/// Runs the command.
pub fn run(flags: &flags::Verify) -> Result<()> {
    let targets = Targets::load()?;
    let keyring = Keyring::load(flags.public_key.as_deref())?;
    let tarballs = tarballs(&flags.path)?;
    let mut broken = Vec::new();
    for tarball in &tarballs {
        let step = progress::step(format!("verifying {}", tarball.display()));
        let verdicts = tarball_verdicts(tarball, &targets, &keyring)?;
        let count = verdicts
            .iter()
            .map(|verdict| verdict.violations.len())
            .sum::<usize>();
        step.finish(&format!("{count} violations"));
        print!("{}", table(&verdicts));
        if count > 0 {
            broken.push(tarball.display().to_string());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let next = "cargo xtask release --out DIR, then verify that folder";
    Err(
        Failure::new("the release breaks the rules listed above", next)
            .fact("tarballs", broken.join("\n"))
            .into(),
    )
}

/// The rules and how they fared, a line each, and the violations below their rule.
pub fn table(verdicts: &[Verdict]) -> String {
    let mut table = String::new();
    for Verdict { rule, violations } in verdicts {
        let mark = if violations.is_empty() {
            "ok    "
        } else {
            "BROKEN"
        };
        table.push_str(&format!("  {mark}  {rule}\n"));
        for violation in violations {
            table.push_str(&format!("          {violation}\n"));
        }
    }
    table
}

/// The tarball at `path`, or those in that folder, also where only a file beside one is there.
pub fn tarballs(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut tarballs = BTreeSet::new();
    for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".minisig").unwrap_or(&name);
        let name = name.strip_suffix(".sha256").unwrap_or(name);
        if name.ends_with(".tar.gz") {
            tarballs.insert(path.join(name));
        }
    }
    ensure!(
        !tarballs.is_empty(),
        "expected a .tar.gz in {}, got: none",
        path.display()
    );
    Ok(tarballs.into_iter().collect())
}

/// Holds `tarball` and the files beside it against every rule.
pub fn tarball_verdicts(
    tarball: &Path,
    targets: &Targets,
    keyring: &Keyring,
) -> Result<Vec<Verdict>> {
    let name = tarball
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some((version, selection)) = targets.parse_asset(&name) else {
        let form = &targets.asset;
        let violations = vec![format!("expected {form} of a known cell, got: {name}")];
        return Ok(vec![Verdict::new(NAME, violations)]);
    };
    if !tarball.is_file() {
        let violations = vec![format!("{} is missing", tarball.display())];
        return Ok(vec![Verdict::new("the tarball is there", violations)]);
    }
    let mut verdicts = vec![Verdict::new(NAME, [])];
    verdicts.extend(published(tarball, &name, &version, keyring));

    let unpacked = tempfile::tempdir().context("making a temporary folder")?;
    let rules = Rules {
        version: &version,
        selection: &selection,
        max_unpacked_bytes: targets.max_unpacked_bytes,
    };
    let contents = archive::unpack(tarball, &rules, unpacked.path())?;
    let mut irregularities = archive::gzip_irregularities(tarball)?;
    let whole = contents.refusals.is_empty();
    let Contents {
        manifest,
        refusals,
        irregularities: more,
    } = contents;
    irregularities.extend(more);
    verdicts.push(Verdict::new("the archive may be installed", refusals));
    verdicts.push(Verdict::new("the archive is reproducible", irregularities));
    match manifest {
        Some(manifest) if whole => {
            verdicts.push(Verdict::new(
                "the licences are there",
                manifest.missing_papers(&selection),
            ));
            verdicts.push(Verdict::new(
                "the bill of materials is of these files, and licensed",
                materials::violations(unpacked.path(), &manifest),
            ));
            verdicts.extend(measured(&manifest, unpacked.path(), &selection)?);
        }
        _ => verdicts.push(Verdict::new(
            "the binaries may be loaded",
            ["not measured, because the archive is refused".to_owned()],
        )),
    }
    Ok(verdicts)
}

/// The sidecar and the signature.
fn published(tarball: &Path, name: &str, version: &str, keyring: &Keyring) -> Vec<Verdict> {
    let beside = |name: &str| {
        let path = tarball.with_file_name(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let sidecar = beside(&sidecar::name(name));
    let signature = beside(&sidecar::signature_name(name));
    let form = sidecar
        .as_ref()
        .map_err(|error| format!("{error:#}"))
        .and_then(|bytes| sidecar::parse(bytes, name).map_err(|error| format!("{error:#}")));
    let checksum = match (&form, sidecar::sha256_of(tarball)) {
        (Ok(expected), Ok(actual)) if *expected == actual => None,
        (Ok(expected), Ok(actual)) => Some(format!("expected sha256 {expected}, got: {actual}")),
        (Err(_), Ok(actual)) => Some(format!("nothing to compare {actual} with")),
        (_, Err(error)) => Some(format!("{error:#}")),
    };
    let signed = sidecar
        .as_ref()
        .map_err(|_| "there is no sidecar to verify".to_owned())
        .and_then(|sidecar| {
            let signature = signature.map_err(|error| format!("{error:#}"))?;
            keyring
                .verify(sidecar, &signature, name, version)
                .map(|_| ())
                .map_err(|error| format!("{error:#}"))
        });
    vec![
        Verdict::new("the sidecar has sha256sum's form and this name", form.err()),
        Verdict::new("the sidecar's checksum is the tarball's", checksum),
        Verdict::new(
            "the signature is a release key's, for this file and version",
            signed.err(),
        ),
    ]
}

/// The unpacked binaries against the rules, and against what the manifest says of them.
fn measured(manifest: &Manifest, dir: &Path, selection: &Selection) -> Result<Vec<Verdict>> {
    let names: Vec<_> = manifest
        .files
        .iter()
        .map(|file| file.name.clone())
        .collect();
    let audit = audit::folder(dir, &names, selection)?;
    let mut violations = Vec::new();
    let (said, found) = (&manifest.requires, &audit.requires);
    let shown = |floor: &Option<String>| floor.clone().unwrap_or_else(|| "none".to_owned());
    for (name, said, found) in [
        ("glibc", shown(&said.glibc), shown(&found.glibc)),
        ("glibcxx", shown(&said.glibcxx), shown(&found.glibcxx)),
        ("macos", shown(&said.macos), shown(&found.macos)),
        (
            "libraries",
            said.libraries.join(" "),
            found.libraries.join(" "),
        ),
    ] {
        if said != found {
            violations.push(format!(
                "{name}: the manifest says {said}, the binaries {found}"
            ));
        }
    }
    Ok(vec![
        Verdict::new(
            "the files carry nothing that nobody needs",
            sizes::violations(dir, &names)?,
        ),
        Verdict::new("the binaries may be loaded", audit.violations),
        Verdict::new("the manifest says what the binaries ask for", violations),
    ])
}
