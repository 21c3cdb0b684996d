//! Builds for other targets: released as any other, held against every rule, and run where something runs them.

use anyhow::{Context as _, Result};

use super::{outcome::Outcome, suites};
use crate::{
    cross, keygen,
    keyring::Keyring,
    mlx, nif, release,
    signing::{PublicKey, SecretKey},
    targets::{Selection, Targets},
    verify,
};

/// macOS's bundle. Nothing here runs it; the audit reads what the loader there would.
pub fn macos() -> Result<Outcome> {
    bundle("aot", "macos-arm64", |_| Ok(Outcome::default()))
}

/// The bundle for Linux on arm64, and the core's golden cases and programs on it.
pub fn arm64() -> Result<Outcome> {
    bundle("cpu", "linux-arm64", golden)
}

/// Releases a bundle for `target` and verifies it; then `and` does with it what it can.
fn bundle(
    variant: &str,
    target: &str,
    and: impl FnOnce(&Selection) -> Result<Outcome>,
) -> Result<Outcome> {
    let targets = Targets::load()?;
    let selection = targets
        .selection(variant, target)
        .with_context(|| format!("expected a variant {variant} for {target}"))?;
    if !cross::is_needed(&selection) {
        return Ok(Outcome::skipped("the other suites build for this target"));
    }
    if let Some(obstacle) = cross::obstacle(&selection) {
        return Ok(Outcome::skipped(&obstacle));
    }
    let pair = keygen::generate()?;
    let key = SecretKey::from_text(&pair.secret)?;
    let keyring = Keyring::of(PublicKey::from_text(&pair.public)?);
    let folder = tempfile::tempdir()?;
    let asset = release::release(&targets, &selection, None, folder.path(), Some(&key))?;
    let verdicts = verify::tarball_verdicts(&asset.tarball, &targets, &keyring)?;
    print!("{}", verify::table(&verdicts));
    let broken = verdicts
        .iter()
        .filter(|verdict| !verdict.violations.is_empty());
    let failed = broken.count();
    let ran = and(&selection)?;
    Ok(Outcome {
        passed: u64::try_from(verdicts.len() - failed)? + ran.passed,
        failed: u64::try_from(failed)? + ran.failed,
        ..ran
    })
}

/// emily-core's golden cases and golden programs, under qemu.
fn golden(selection: &Selection) -> Result<Outcome> {
    if let Err(error) = cross::runner(&selection.target) {
        return Ok(Outcome::skipped(&cross::reason(&error)));
    }
    let prefix = mlx::prefix(selection, None)?;
    let mut sum = Outcome::default();
    for (test, filter) in [("golden", ""), ("programs", "golden")] {
        let (mut tests, _) = nif::command(selection, None, "test", &prefix)?;
        tests.args(["--release", "--package", "emily-core", "--test", test]);
        tests.args(["--", filter]);
        let outcome = suites::cargo_summary(tests)?;
        sum.passed += outcome.passed;
        sum.failed += outcome.failed;
        if outcome.failed > 0 {
            sum.reason = outcome.reason;
        }
    }
    Ok(sum)
}
