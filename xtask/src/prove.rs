//! `cargo xtask prove`: installs from a release folder as consumers do, on this machine.
//!
//! Nothing is built: what a release's draft holds is served on loopback, installed by
//! `cargo xtask install`, and then by `mix compile` in a fresh project that depends on the package's
//! own files, where the doctor has to find all well.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    cache::Cache,
    demo,
    download::{BACK_OFF, PATIENCE},
    flags,
    host::Host,
    install::{Installer, parse_base},
    keyring::{Entries, Keyring},
    serve, setup,
    targets::Targets,
};

/// Runs the command.
pub fn run(flags: &flags::Prove) -> Result<()> {
    setup::ensure(flags.yes)?;
    let targets = Targets::load()?;
    let selection = targets.select(&flags.cell)?;
    let keyring = || Keyring::load(flags.public_key.as_deref());
    keyring()?;
    let folder = tempfile::Builder::new().prefix("emily-prove-").tempdir()?;
    let server = serve::start(&flags.path, 0)?;

    let installer = Installer {
        keyring: keyring()?,
        base: parse_base(&server.url())?,
        cache: Cache::open(&folder.path().join("cache"))?,
        host: Host::probe(),
        back_off: BACK_OFF.to_vec(),
        patience: PATIENCE,
        targets,
        selection: selection.clone(),
    };
    let manifest = installer.install(&folder.path().join("installed"))?;
    let keys = match &flags.public_key {
        Some(path) => Entries::of(&read(path)?)?,
        None => Entries::load(&Keyring::default_path())?,
    };
    let consumer = folder.path().join("elixir");
    demo::consume(&consumer, &server.url(), &selection.variant_name, &keys)?;
    println!(
        "{} {} for {} installs, loads and computes",
        manifest.version, manifest.variant, manifest.target
    );
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
