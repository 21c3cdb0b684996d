//! `cargo xtask sign`: signs what other machines released, apart from where it was built.
//!
//! A build runs other people's build scripts. So the secret key is where nothing is built: releases
//! come without signatures from the machines that build them, and get theirs here.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    flags, keyring::Keyring, sidecar, signing::SecretKey, targets::Targets, verify, workspace,
};

/// Runs the command.
pub fn run(flags: &flags::Sign) -> Result<()> {
    let key = SecretKey::load(flags.secret_key.as_deref())?;
    let keyring = Keyring::load(flags.public_key.as_deref())?;
    let targets = Targets::load()?;
    for tarball in verify::tarballs(&flags.path)? {
        sign(&tarball, &targets, &key, &keyring)?;
        println!("{}", tarball.display());
    }
    Ok(())
}

/// Signs the sidecar of `tarball` with `key`, one that `keyring` has for its version.
pub fn sign(tarball: &Path, targets: &Targets, key: &SecretKey, keyring: &Keyring) -> Result<()> {
    let asset = tarball.file_name().unwrap_or_default().to_string_lossy();
    let (version, _) = targets
        .parse_asset(&asset)
        .with_context(|| format!("expected {} of a known cell, got: {asset}", targets.asset))?;
    let beside = tarball.with_file_name(sidecar::name(&asset));
    let text = fs::read(&beside).with_context(|| format!("reading {}", beside.display()))?;
    let (expected, actual) = (sidecar::parse(&text, &asset)?, sidecar::sha256_of(tarball)?);
    ensure!(
        expected == actual,
        "expected the sha256 of {asset} to be {expected}, got: {actual}"
    );
    let signature = key.sign(&text, &asset)?;
    // Better now than when nobody can install it.
    keyring
        .verify(&text, signature.as_bytes(), &asset, &version)
        .with_context(|| format!("nobody would believe this signature of {asset}"))?;
    let place = tarball.with_file_name(sidecar::signature_name(&asset));
    let mut draft = tempfile::NamedTempFile::new_in(workspace::folder_of(&place)?)?;
    draft.write_all(signature.as_bytes())?;
    draft
        .persist(&place)
        .with_context(|| format!("writing {}", place.display()))?;
    Ok(())
}
