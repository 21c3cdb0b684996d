//! What installing costs, against the tools one would use by hand, and a compile with nothing to do.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::report::{Goal, Row};
use crate::{
    failure::Failure,
    keygen,
    keyring::Entries,
    package, process, progress, release, serve, settings,
    signing::SecretKey,
    targets::{Selection, Targets},
};

/// How often each is done; the middle counts.
const SAMPLES: usize = 5;

/// Fails unless the tools one would use by hand are there.
pub fn require_tools() -> Result<()> {
    process::output(Command::new("curl").arg("--version")).map_err(|error| {
        Failure::new(
            "the bench compares with curl, which does not run here: install the package curl",
            "apt-get install curl",
        )
        .because(&error)
    })?;
    Ok(())
}

/// The rows of the table.
pub fn rows(targets: &Targets, selection: &Selection) -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("emily-bench-").tempdir()?;
    let root = folder.path();
    let keys = keygen::generate()?;
    let published = root.join("release");
    fs::create_dir(&published)?;
    let key = SecretKey::from_text(&keys.secret)?;
    let asset = release::release(targets, selection, None, &published, Some(&key))?;
    let name = asset
        .tarball
        .file_name()
        .context("expected the tarball to have a name")?;
    let server = serve::start(&published, 0)?;

    let step = progress::step("measuring installs");
    // The same package twice: as it ships, and without the compiler that installs.
    let (with, without) = (root.join("with"), root.join("without"));
    for project in [&with, &without] {
        fs::create_dir(project)?;
        package::copy(project, &Entries::of(&keys.public)?)?;
    }
    drop_compiler(&without.join("mix.exs"))?;
    let project = Project {
        url: server.url(),
        cache: root.join("cache"),
    };
    project.compile(&with)?;
    project.compile(&without)?;

    let by_hand = root.join("by-hand");
    let (mut ours, mut theirs, mut nothing, mut plain) = (vec![], vec![], vec![], vec![]);
    for _ in 0..SAMPLES {
        nothing.push(project.compile(&with)?);
        plain.push(project.compile(&without)?);
        project.forget(&with)?;
        ours.push(project.compile(&with)?);
        theirs.push(install_by_hand(
            &server.url(),
            &name.to_string_lossy(),
            &by_hand,
        )?);
    }
    step.finish("done");
    let (nothing, plain) = (median(nothing), median(plain));
    Ok(vec![
        Row {
            name: "cold install: fetch, verify, unpack, place".into(),
            baseline_name: "curl, sha256sum and tar".into(),
            unit: "s".into(),
            // What Mix takes with nothing to do is not the install's.
            ours: median(ours) - nothing,
            baseline: median(theirs),
            goal: Goal::RatioAtMost(1.5),
        },
        Row {
            name: "what a compile with nothing to do takes longer".into(),
            baseline_name: "Mix's own".into(),
            unit: "s".into(),
            ours: nothing - plain,
            baseline: plain,
            goal: Goal::AtMost(0.15),
        },
    ])
}

/// Takes Emily's compiler out of a package's project file.
fn drop_compiler(mix_exs: &Path) -> Result<()> {
    let text = fs::read_to_string(mix_exs)?;
    let changed = text.replace(
        "compilers: Mix.compilers() ++ [:emily]",
        "compilers: Mix.compilers()",
    );
    ensure!(
        changed != text,
        "mix.exs no longer adds the compiler :emily in the expected words"
    );
    fs::write(mix_exs, changed).context("writing mix.exs")
}

/// The settings that a package is compiled with.
struct Project {
    url: String,
    cache: std::path::PathBuf,
}

impl Project {
    fn compile(&self, folder: &Path) -> Result<Duration> {
        let start = Instant::now();
        let mut mix = Command::new("mix");
        mix.arg("compile")
            .current_dir(folder)
            .env(settings::BARE, "1")
            .env(settings::CACHE, &self.cache)
            .env(settings::RELEASE_URL, &self.url)
            .env_remove("MIX_BUILD_PATH");
        process::output(serve::reach_directly(&mut mix))?;
        Ok(start.elapsed())
    }

    /// Makes the next compile a cold one.
    fn forget(&self, folder: &Path) -> Result<()> {
        fs::remove_dir_all(&self.cache).context("emptying the cache")?;
        let private = folder.join("priv");
        fs::remove_dir_all(&private).context("emptying priv/")?;
        fs::create_dir(&private)?;
        Ok(())
    }
}

fn install_by_hand(url: &str, asset: &str, folder: &Path) -> Result<Duration> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder)?;
    let sidecar = format!("{asset}.sha256");
    let start = Instant::now();
    for file in [asset, &sidecar] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--remote-name"])
            .arg(format!("{url}{file}"));
        process::output(serve::reach_directly(curl.current_dir(folder)))?;
    }
    let checked = if cfg!(target_os = "macos") {
        vec!["shasum", "-a", "256"]
    } else {
        vec!["sha256sum"]
    };
    process::output(
        Command::new(checked[0])
            .args(&checked[1..])
            .args(["--check", &sidecar])
            .current_dir(folder),
    )?;
    process::output(
        Command::new("tar")
            .args(["--extract", "--gzip", "--file", asset])
            .current_dir(folder),
    )?;
    Ok(start.elapsed())
}

fn median(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    samples
        .get(samples.len() / 2)
        .map_or(f64::NAN, Duration::as_secs_f64)
}
