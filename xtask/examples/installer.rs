//! One install as `cargo xtask install` does it, without delays between attempts: what tests of the
//! Elixir installer hold against it.
//!
//! `installer KEYS URL CACHE INTO PATIENCE_MS` ends with status 1 and the error's text if it fails.
//! It is for the `cpu` release for `linux-x86_64`, on a host of which nothing is known.

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use xtask::{
    cache::Cache,
    host::Host,
    install::{Installer, parse_base},
    keyring::Keyring,
    targets::Targets,
};

fn main() -> ExitCode {
    match install() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn install() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [keys, url, cache, into, patience] = arguments.as_slice() else {
        bail!("expected KEYS URL CACHE INTO PATIENCE_MS, got: {arguments:?}");
    };
    let targets = Targets::load()?;
    let selection = targets
        .selection("cpu", "linux-x86_64")
        .context("no such release")?;
    let installer = Installer {
        selection,
        base: parse_base(url)?,
        keyring: Keyring::from_text(&fs::read_to_string(keys)?)?,
        cache: Cache::open(Path::new(cache))?,
        host: Host::default(),
        back_off: vec![Duration::ZERO; 3],
        patience: Duration::from_millis(patience.parse()?),
        targets,
    };
    // The test measures from here on when to kill it.
    println!("begun");
    installer.install(Path::new(into))?;
    Ok(())
}
