//! `cargo xtask release`: builds, audits, packs, hashes and signs one variant for one target.

use std::{
    fs,
    io::BufWriter,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    archive, audit,
    failure::Failure,
    flags::{self, Provider},
    manifest::{self, Manifest},
    materials, mlx, nif, progress, sidecar,
    signing::SecretKey,
    sizes,
    targets::{Selection, Targets},
    workspace,
};

/// The NIF crate's manifest, whose rustler feature says which NIF interface libemily asks for.
const NIF_CRATE: &str = "native/nif/Cargo.toml";

/// One published asset.
#[derive(Debug)]
pub struct Asset {
    /// The tarball.
    pub tarball: PathBuf,
    /// The text beside it that carries its checksum.
    pub sidecar: PathBuf,
    /// The signature over the sidecar; absent until it is signed.
    pub signature: PathBuf,
    /// The tarball's SHA-256.
    pub sha256: String,
    /// What the tarball says of itself.
    pub manifest: Manifest,
}

/// A file and the name that it ships under.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in the archive.
    pub name: String,
    /// Where the file is now.
    pub path: PathBuf,
}

/// Runs the command.
pub fn run(flags: &flags::Release) -> Result<()> {
    let targets = Targets::load()?;
    let selection = targets.select(&flags.cell)?;
    // Before the build: nobody wants to learn afterwards that the key is missing.
    let key = (!flags.unsigned)
        .then(|| SecretKey::load(flags.secret_key.as_deref()))
        .transpose()?;
    let asset = release(&targets, &selection, flags.from, &flags.out, key.as_ref())?;
    let files = [&asset.tarball, &asset.sidecar, &asset.signature];
    eprint!("{}", sizes::table(&asset.tarball, &asset.manifest)?);
    for path in files.into_iter().filter(|path| path.exists()) {
        println!("{}", path.display());
    }
    Ok(())
}

/// Builds `selection` and publishes it in the folder `out`.
pub fn release(
    targets: &Targets,
    selection: &Selection,
    from: Option<Provider>,
    out: &Path,
    key: Option<&SecretKey>,
) -> Result<Asset> {
    let built = nif::build(selection, from)?;
    let source = |file: nif::File| Source {
        name: file.name,
        path: file.path,
    };
    let mut sources: Vec<_> = built.libraries.into_iter().map(source).collect();
    let components = materials::gather(selection, &built.mlx, &sources, &built.licenses)?;
    let papers = tempfile::tempdir().context("making a temporary folder")?;
    sources.extend(materials::write(
        papers.path(),
        selection,
        &components,
        &sources,
    )?);
    sources.push(source(built.license));
    let mlx::Prefix { origin, rev, .. } = &built.mlx;
    let at_tag = built.mlx.revision.is_some() && rev.is_none();
    let mlx = manifest::Mlx {
        version: built.mlx.mlx.clone(),
        mlx_c: built.mlx.mlx_c.clone(),
        from: built.mlx.from.clone(),
        tag: at_tag.then(|| origin.clone()),
        revision: built.mlx.revision.clone(),
    };
    publish(targets, selection, &sources, mlx, out, key)
}

/// Audits, packs, hashes and, with a key, signs `sources`; `out` receives the files by rename.
pub fn publish(
    targets: &Targets,
    selection: &Selection,
    sources: &[Source],
    mlx: manifest::Mlx,
    out: &Path,
    key: Option<&SecretKey>,
) -> Result<Asset> {
    let asset = selection.asset(targets);
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let out = out.canonicalize()?;
    let staging = tempfile::Builder::new()
        .prefix(".release-")
        .tempdir_in(&out)?;
    let files = staging.path().join("files");
    fs::create_dir(&files)?;
    for Source { name, path } in sources {
        fs::copy(path, files.join(name))
            .with_context(|| format!("copying {} as {name}", path.display()))?;
    }
    let manifest = describe(&files, selection, mlx)?;

    let step = progress::step(format!("packing {asset}"));
    let tarball = staging.path().join(&asset);
    archive::pack(
        &manifest,
        &files,
        BufWriter::new(fs::File::create(&tarball)?),
    )?;
    let sha256 = sidecar::sha256_of(&tarball)?;
    let text = sidecar::text(&sha256, &asset);
    let signature = key
        .map(|key| key.sign(text.as_bytes(), &asset))
        .transpose()?;
    let (sidecar_name, signature_name) = (sidecar::name(&asset), sidecar::signature_name(&asset));
    fs::write(staging.path().join(&sidecar_name), text)?;
    step.finish(&progress::size(fs::metadata(&tarball)?.len()));

    let mut names = vec![&asset, &sidecar_name];
    match signature {
        Some(signature) => {
            fs::write(staging.path().join(&signature_name), signature)?;
            names.push(&signature_name);
        }
        // An earlier release's would not hold.
        None => drop(fs::remove_file(out.join(&signature_name))),
    }
    for name in names {
        fs::set_permissions(staging.path().join(name), fs::Permissions::from_mode(0o644))?;
        fs::rename(staging.path().join(name), out.join(name))
            .with_context(|| format!("writing {}", out.join(name).display()))?;
    }
    Ok(Asset {
        tarball: out.join(&asset),
        sidecar: out.join(sidecar_name),
        signature: out.join(signature_name),
        sha256,
        manifest,
    })
}

/// The manifest of the files in `dir`, or why they must not be released.
fn describe(dir: &Path, selection: &Selection, mlx: manifest::Mlx) -> Result<Manifest> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.push(manifest::File {
            name: entry.file_name().to_string_lossy().into_owned(),
            size: entry.metadata()?.len(),
            sha256: sidecar::sha256_of(&entry.path())?,
        });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = files.iter().map(|file| file.name.clone()).collect();
    let audit = audit::folder(dir, &names, selection)?;
    let manifest = Manifest {
        schema: manifest::SCHEMA,
        package: "emily".to_owned(),
        version: workspace::VERSION.to_owned(),
        variant: selection.variant_name.clone(),
        target: selection.target_name.clone(),
        nif_version: nif_version(&fs::read_to_string(workspace::root().join(NIF_CRATE))?)?,
        mlx,
        requires: audit.requires,
        files,
    };
    let mut violations = audit.violations;
    violations.extend(sizes::violations(dir, &names)?);
    violations.extend(manifest.violations(workspace::VERSION, selection));
    violations.extend(manifest.missing_papers(selection));
    violations.extend(materials::violations(dir, &manifest));
    if violations.is_empty() {
        return Ok(manifest);
    }
    let (variant, target) = (&selection.variant_name, &selection.target_name);
    Err(Failure::new(
        format!("the build of {variant} for {target} breaks the rules for releases"),
        format!("cargo xtask mlx --force --variant {variant} --target {target}"),
    )
    .fact("rules", violations.join("\n"))
    .into())
}

/// The NIF interface that `manifest`, the NIF crate's, turns on in rustler.
fn nif_version(manifest: &str) -> Result<String> {
    const FEATURE: &str = "\"nif_version_";
    let mut versions = manifest
        .match_indices(FEATURE)
        .filter_map(|(at, _)| manifest[at + FEATURE.len()..].split_once('"'))
        .map(|(version, _)| version.replace('_', "."));
    let version = versions
        .next()
        .with_context(|| format!("expected a feature nif_version_… of rustler in {NIF_CRATE}"))?;
    ensure!(
        versions.next().is_none(),
        "expected one feature nif_version_… in {NIF_CRATE}"
    );
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::nif_version;

    #[test]
    fn the_nif_version_is_rustlers_feature() {
        let manifest = r#"rustler = { workspace = true, features = ["nif_version_2_17"] }"#;
        assert_eq!(nif_version(manifest).unwrap(), "2.17");
        assert!(nif_version("rustler.workspace = true").is_err());
        assert!(nif_version(&format!("{manifest}\n{manifest}")).is_err());
    }
}
