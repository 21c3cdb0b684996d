//! `cargo xtask demo`: the whole product, end to end, as a consumer meets it.
//!
//! Nothing of it is pretended: the variant is built, signed with a key made for the occasion and
//! served over HTTP; the consumer is a Mix project outside the repository that depends on the
//! package's own files, and what it computes is held against NumPy.

mod doctor;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    failure::Failure,
    flags, keygen,
    keyring::Entries,
    package, process, progress, python,
    release::{self, Asset},
    serve, settings, setup,
    signing::SecretKey,
    targets::Targets,
    workspace,
};

/// Runs the command.
pub fn run(flags: &flags::Demo) -> Result<()> {
    let mut times = Times::default();
    times.take("set up", || setup::ensure(flags.yes))?;
    let folder = tempfile::Builder::new().prefix("emily-demo-").tempdir()?;
    let demo = Demo::in_folder(folder.path())?;
    let outcome = demo.play(&mut times, flags.keep);
    if flags.keep {
        eprintln!("kept {}", folder.keep().display());
    } else if outcome.is_err() {
        eprintln!("`cargo xtask demo --keep` leaves the consumer project to look at");
    }
    let summary = outcome?;
    println!("\n{summary}{times}");
    Ok(())
}

/// Has a fresh project in the empty place `root` install `variant` from `url`, trusting `keys`, and
/// asks the doctor.
pub fn consume(root: &Path, url: &str, variant: &str, keys: &Entries) -> Result<()> {
    fs::create_dir(root).with_context(|| format!("making {}", root.display()))?;
    let demo = Demo::in_folder(root)?;
    package::copy(&demo.package, keys)?;
    let template = workspace::root().join("xtask/demo/consumer");
    workspace::copy_folder(&template, &demo.consumer)?;
    let mix = |arguments: &[&str]| {
        let mut mix = demo.mix(url, arguments);
        mix.env(settings::VARIANT, variant);
        mix
    };
    process::run(&mut mix(&["compile"]))?;
    doctor::ask(mix)
}

/// The folders of one demo.
struct Demo {
    release: PathBuf,
    package: PathBuf,
    consumer: PathBuf,
    cache: PathBuf,
}

impl Demo {
    fn in_folder(root: &Path) -> Result<Self> {
        let demo = Self {
            release: root.join("release"),
            // The consumer's mix.exs finds it by this name.
            package: root.join("emily"),
            consumer: root.join("consumer"),
            cache: root.join("cache"),
        };
        for folder in [&demo.release, &demo.package, &demo.consumer] {
            fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(demo)
    }

    fn play(&self, times: &mut Times, keep: bool) -> Result<String> {
        let targets = Targets::load()?;
        let selection = targets.select(&flags::Cell::default())?;
        let keys = keygen::generate()?;
        let asset = times.take("build and release", || {
            let key = SecretKey::from_text(&keys.secret)?;
            release::release(&targets, &selection, None, &self.release, Some(&key))
        })?;

        let template = workspace::root().join("xtask/demo");
        package::copy(&self.package, &Entries::of(&keys.public)?)?;
        workspace::copy_folder(&template.join("consumer"), &self.consumer)?;
        let server = serve::start(&self.release, 0)?;
        let url = server.url();

        let mix = |arguments: &[&str]| self.mix(&url, arguments);
        times.take("mix compile", || process::run(&mut mix(&["compile"])))?;
        times.take("mix emily.doctor", || doctor::ask(mix))?;

        let digits = template.join("digits/digits.csv.gz");
        let digits = digits.to_str().context("expected a path in UTF-8")?;
        let emilys = times.take("train with Emily", || {
            process::output(&mut mix(&["run", "train.exs", digits]))
        })?;
        let python = python::with("numpy", &[python::NUMPY])?;
        let numpys = times.take("train with NumPy", || {
            process::output(python.command().arg(template.join("train.py")).arg(digits))
        })?;
        eprint!("\nEmily: {emilys}NumPy: {numpys}");
        let accuracy = same_accuracy(&emilys, &numpys)?;
        self.summary(&asset, accuracy, keep)
    }

    /// Mix in the consumer's project, with nothing of this checkout in its environment.
    fn mix(&self, url: &str, arguments: &[&str]) -> Command {
        let mut mix = Command::new("mix");
        mix.args(arguments).current_dir(&self.consumer);
        for name in [
            settings::DEPS_PATH,
            settings::VARIANT,
            "MIX_ENV",
            "MIX_BUILD_PATH",
        ] {
            mix.env_remove(name);
        }
        // The demo computes with the tensor API, and must not need Hex.
        mix.env(settings::BARE, "1")
            .env(settings::CACHE, &self.cache)
            .env(settings::RELEASE_URL, url);
        serve::reach_directly(&mut mix);
        mix
    }

    fn summary(&self, asset: &Asset, accuracy: &str, keep: bool) -> Result<String> {
        let mut text = String::new();
        let unpacked: u64 = asset.manifest.files.iter().map(|file| file.size).sum();
        let rows = [
            (
                "asset",
                asset
                    .tarball
                    .file_name()
                    .unwrap_or_default()
                    .display()
                    .to_string(),
            ),
            (
                "packed",
                progress::size(fs::metadata(&asset.tarball)?.len()),
            ),
            ("unpacked", progress::size(unpacked)),
            ("sha256", asset.sha256.clone()),
            ("consumer", whereabouts(&self.consumer, keep)),
            ("cache", whereabouts(&self.cache, keep)),
            ("result", format!("{accuracy}, as NumPy")),
        ];
        for (name, value) in rows {
            writeln!(text, "{name:>18}  {value}")?;
        }
        Ok(text)
    }
}

/// Where a folder of the demo is to be found afterwards.
fn whereabouts(folder: &Path, keep: bool) -> String {
    if keep {
        folder.display().to_string()
    } else {
        "removed; --keep leaves it".to_owned()
    }
}

/// The line that both programs end with, if they agree on it.
fn same_accuracy<'text>(emilys: &'text str, numpys: &str) -> Result<&'text str> {
    let accuracy = |text: &'text str| {
        let last = text.lines().last()?;
        last.starts_with("accuracy: ").then_some(last)
    };
    let ours = accuracy(emilys).with_context(|| format!("no accuracy in: {emilys}"))?;
    if numpys.lines().last() != Some(ours) {
        bail!(
            Failure::new(
                "Emily and NumPy do not agree on the same data",
                "cargo xtask test"
            )
            .fact("Emily", ours)
            .fact("NumPy", numpys.lines().last().unwrap_or("nothing"))
        );
    }
    Ok(ours)
}

/// How long each part took.
#[derive(Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn take<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let outcome = work().with_context(|| name)?;
        self.0.push((name, start.elapsed()));
        Ok(outcome)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        for (name, time) in self.0.iter().chain([&("in all", total)]) {
            writeln!(formatter, "{name:>18}  {:.1} s", time.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{same_accuracy, whereabouts};

    #[test]
    fn only_a_folder_that_stays_is_named() {
        let folder = Path::new("/demo/cache");
        assert_eq!(whereabouts(folder, true), "/demo/cache");
        assert_eq!(whereabouts(folder, false), "removed; --keep leaves it");
    }

    #[test]
    fn results_must_agree_to_the_last_digit() {
        let ours = "trained on 3 images in 1 ms\naccuracy: 66.67 % (2 of 3)\n";
        assert_eq!(
            same_accuracy(
                ours,
                "trained on 3 images in 9 ms\naccuracy: 66.67 % (2 of 3)\n"
            )
            .unwrap(),
            "accuracy: 66.67 % (2 of 3)"
        );
        assert_eq!(
            same_accuracy(ours, "accuracy: 33.33 % (1 of 3)\n")
                .unwrap_err()
                .to_string(),
            "Emily and NumPy do not agree on the same data\n\
             \n  Emily: accuracy: 66.67 % (2 of 3)\n  NumPy: accuracy: 33.33 % (1 of 3)\n\
             \nRun next: cargo xtask test"
        );
        assert_eq!(
            same_accuracy("** (RuntimeError)\n", ours)
                .unwrap_err()
                .to_string(),
            "no accuracy in: ** (RuntimeError)\n"
        );
    }
}
