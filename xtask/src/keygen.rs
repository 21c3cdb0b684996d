//! `cargo xtask keygen`: the key pair that signs releases.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{failure::Failure, flags, signing::PublicKey, workspace};

/// A new key pair, each half in minisign's two-line form.
pub struct KeyPair {
    /// What ships in the package.
    pub public: String,
    /// What signs; it has no password, so that CI can use it as it is.
    pub secret: String,
}

/// Runs the command.
pub fn run(flags: &flags::Keygen) -> Result<()> {
    let public = flags
        .public_key
        .clone()
        .unwrap_or_else(PublicKey::default_path);
    write(&flags.secret_key, &public, workspace::root())?;
    println!("secret key: {}", flags.secret_key.display());
    println!("public key: {}", public.display());
    println!(
        "Keep the secret key out of every repository; CI takes its text from EMILY_SECRET_KEY."
    );
    Ok(())
}

/// Makes a key pair in memory.
pub fn generate() -> Result<KeyPair> {
    let none = Some(String::new());
    let pair = minisign::KeyPair::generate_encrypted_keypair(none)
        .map_err(|error| anyhow!("could not make a key pair: {error}"))?;
    let secret = pair
        .sk
        .to_box(Some("Emily's release key, secret half, no password"));
    let public = pair.pk.to_box();
    match (public, secret) {
        (Ok(public), Ok(secret)) => Ok(KeyPair {
            public: public.into_string(),
            secret: secret.into_string(),
        }),
        (Err(error), _) | (_, Err(error)) => bail!("could not write a key pair: {error}"),
    }
}

/// Makes a key pair and writes each half to a file of its own. Refuses to replace a file, and to
/// put the secret half inside `repository`.
pub fn write(secret: &Path, public: &Path, repository: &Path) -> Result<KeyPair> {
    let elsewhere = "cargo xtask keygen --secret-key ~/.config/emily/release.key";
    if real_path(secret)?.starts_with(real_path(repository)?) {
        return Err(
            Failure::new("a secret key must not be inside the repository", elsewhere)
                .fact("path", secret.display())
                .fact("repository", repository.display())
                .into(),
        );
    }
    for path in [secret, public] {
        if path.symlink_metadata().is_ok() {
            return Err(
                Failure::new("a key is never written over an existing file", elsewhere)
                    .fact("path", path.display())
                    .into(),
            );
        }
    }
    let pair = generate()?;
    create(secret, &pair.secret, 0o600)?;
    create(public, &pair.public, 0o644)?;
    Ok(pair)
}

/// Where `path` will really stand: symbolic links of the folders that exist are followed.
fn real_path(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(&path);
    let rest = path.strip_prefix(existing)?;
    if rest
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        bail!(
            "expected a path without .. below {}, got: {}",
            existing.display(),
            path.display()
        );
    }
    Ok(existing.canonicalize()?.join(rest))
}

/// Creates the file at `path`, which must not exist, with `mode` from its first moment.
fn create(path: &Path, text: &str, mode: u32) -> Result<()> {
    let context = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(context)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)
}
