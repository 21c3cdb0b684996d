//! `cargo xtask keygen`: the keys that sign releases, made, replaced and retired.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use semver::Version;

use crate::{
    failure::Failure,
    flags,
    keyring::{Entries, Entry, Keyring},
    workspace,
};

/// A new key pair, each half in minisign's two-line form.
pub struct KeyPair {
    /// What ships in the package.
    pub public: String,
    /// What signs; it has no password, so that CI can use it as it is.
    pub secret: String,
}

/// A key to be made, and what becomes of the others.
pub struct Plan<'a> {
    /// The file that receives the secret half.
    pub secret: &'a Path,
    /// The list that receives the public half.
    pub keys: &'a Path,
    /// Where the secret half must not be.
    pub repository: &'a Path,
    /// The first version that the key signs.
    pub from: &'a str,
    /// Whether the other keys sign no version from that one on.
    pub rotate: bool,
}

/// Runs the command.
pub fn run(flags: &flags::Keygen) -> Result<()> {
    let keys = flags.keys.clone().unwrap_or_else(Keyring::default_path);
    if let Some(id) = &flags.retire {
        retire(&keys, id, flags.reason.as_deref().unwrap_or_default())?;
        println!(
            "{}: {id} is retired; publish a version with it",
            keys.display()
        );
        return Ok(());
    }
    let secret = flags
        .secret_key
        .as_deref()
        .context("expected --secret-key")?;
    let plan = Plan {
        secret,
        keys: &keys,
        repository: workspace::root(),
        from: flags.from.as_deref().unwrap_or(workspace::VERSION),
        rotate: flags.rotate,
    };
    write(&plan)?;
    println!("secret key: {}", secret.display());
    println!("public key: in {}, to be committed", keys.display());
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

/// Makes a key pair, writes the secret half to a file of its own and adds the public half to the
/// list. Refuses to replace a file, and to put the secret half inside the repository.
pub fn write(plan: &Plan) -> Result<KeyPair> {
    let elsewhere = "cargo xtask keygen --secret-key ~/.config/emily/release.key";
    if real_path(plan.secret)?.starts_with(real_path(plan.repository)?) {
        return Err(
            Failure::new("a secret key must not be inside the repository", elsewhere)
                .fact("path", plan.secret.display())
                .fact("repository", plan.repository.display())
                .into(),
        );
    }
    if plan.secret.symlink_metadata().is_ok() {
        return Err(
            Failure::new("a key is never written over an existing file", elsewhere)
                .fact("path", plan.secret.display())
                .into(),
        );
    }
    let mut entries = Entries::load_or_none(plan.keys)?;
    if plan.rotate {
        end_ranges(&mut entries, plan.from)?;
    }
    let pair = generate()?;
    entries.keys.push(Entry::new(&pair.public, plan.from)?);
    // First what may fail for what the list says, then the one file that cannot be made again.
    Keyring::new(&entries)?;
    create(plan.secret, &pair.secret, 0o600)?;
    replace(plan.keys, &entries)?;
    Ok(pair)
}

/// Lets no key of the list sign version `from` or a later one.
fn end_ranges(entries: &mut Entries, from: &str) -> Result<()> {
    let version = |text: &str| {
        Version::parse(text)
            .with_context(|| format!("expected a version such as 1.2.3, got: {text}"))
    };
    let end = version(from)?;
    let in_use = entries.keys.iter_mut().filter(|key| key.retired.is_none());
    for key in in_use {
        if version(&key.from)? >= end {
            return Err(Failure::new(
                "a key that signs nothing before the new one cannot be followed by it",
                format!(
                    "cargo xtask keygen --retire {} --reason \"never used\"",
                    key.id
                ),
            )
            .fact("key", &key.id)
            .fact("signs from", &key.from)
            .fact("the new one from", from)
            .into());
        }
        let ends_later = match &key.before {
            Some(before) => version(before)? > end,
            None => true,
        };
        if ends_later {
            key.before = Some(from.to_owned());
        }
    }
    Ok(())
}

/// Marks the key `id` of the list at `keys` as good for nothing, for `reason`.
pub fn retire(keys: &Path, id: &str, reason: &str) -> Result<()> {
    let mut entries = Entries::load(keys)?;
    let known: Vec<_> = entries.keys.iter().map(|key| key.id.clone()).collect();
    let Some(key) = entries.keys.iter_mut().find(|key| key.id == id) else {
        bail!(
            "expected --retire to be one of {}, got: {id}",
            known.join(", ")
        );
    };
    key.retired = Some(reason.to_owned());
    replace(keys, &entries)
}

/// Puts `entries` into the place of the list at `keys`.
fn replace(keys: &Path, entries: &Entries) -> Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(workspace::folder_of(keys)?)?;
    draft.write_all(entries.text()?.as_bytes())?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o644))?;
    draft
        .persist(keys)
        .with_context(|| format!("writing {}", keys.display()))?;
    Ok(())
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
