//! An apt beside the machine's: it has lists, a status and archives of its own, and installs nothing.
//! Signatures are checked as always.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use crate::process;

/// What `apt-get --download-only` would fetch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Download {
    /// The names of the archives.
    pub archives: Vec<String>,
    pub bytes: u64,
}

impl Download {
    /// Lines such as `'http://…/rustc_1.deb' rustc_1_amd64.deb 4494600 MD5Sum:…`.
    fn read(printed: &str) -> Self {
        let mut download = Self::default();
        for line in printed.lines().filter(|line| line.starts_with('\'')) {
            let mut words = line.split_whitespace().skip(1);
            if let (Some(name), Some(Ok(bytes))) =
                (words.next(), words.next().map(str::parse::<u64>))
            {
                download.archives.push(name.to_owned());
                download.bytes += bytes;
            }
        }
        download
    }
}

/// An apt for one processor, with all of its state in one folder.
#[derive(Debug)]
pub struct Apt {
    arch: String,
    state: PathBuf,
    /// Options beside those for the folders.
    options: Vec<String>,
}

impl Apt {
    /// An apt in the folder `state`, which asks where the machine's does.
    pub fn new(arch: &str, state: &Path) -> Result<Self> {
        let apt = Self {
            arch: arch.to_owned(),
            state: state.to_owned(),
            options: Vec::new(),
        };
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder))
                .with_context(|| format!("making {}", state.display()))?;
        }
        fs::write(state.join("status"), "")?;
        Ok(apt)
    }

    /// The same, which asks where `source`, a line of a `sources.list`, says, and nowhere else.
    pub fn of_source(arch: &str, state: &Path, source: &str) -> Result<Self> {
        let mut apt = Self::new(arch, state)?;
        let list = state.join("sources.list");
        fs::write(&list, format!("{source}\n"))?;
        apt.options = vec![
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // What the machine prefers is about its own suites.
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
        ];
        Ok(apt)
    }

    /// Reads the suites' lists of packages anew.
    pub fn update(&self) -> Result<()> {
        // Otherwise lists that could not be fetched are but a warning.
        let strict = ["-o", "APT::Update::Error-Mode=any"];
        run(self.get(&self.state).args(strict).arg("update")).map(|_| ())
    }

    /// Takes `packages`, which this machine has in its own way, for installed.
    pub fn take_for_installed(&self, packages: &[&str]) -> Result<()> {
        let stanzas: Vec<_> = packages
            .iter()
            .map(|name| {
                format!(
                    "Package: {name}\nStatus: install ok installed\nArchitecture: {}\n\
                     Version: 99:0\nProvides: {}\nMaintainer: none\nDescription: none\n",
                    self.arch,
                    // What others call a C library's headers.
                    if *name == "libc6-dev" {
                        "libc-dev"
                    } else {
                        name
                    },
                )
            })
            .collect();
        Ok(fs::write(self.state.join("status"), stanzas.join("\n"))?)
    }

    /// What [`Apt::fetch`] would have to fetch.
    pub fn plan(&self, packages: &[&str]) -> Result<Download> {
        let mut apt = self.install(packages);
        // What is already here would not be told.
        apt.arg("--option")
            .arg(self.of("Dir::Cache::archives", "none"));
        let printed = run(apt.arg("--print-uris"))?;
        Ok(Download::read(&printed))
    }

    /// Fetches `packages` and all they need, as [`Apt::plan`] said, and puts their files into `root`.
    ///
    /// What arrived before a kill is not fetched again.
    pub fn fetch(&self, packages: &[&str], plan: &Download, root: &Path) -> Result<()> {
        run(self.install(packages).arg("--download-only"))?;
        let archives = self.state.join("cache/archives");
        plan.archives
            .iter()
            .try_for_each(|name| extract(&archives.join(name), root))
    }

    /// Fetches `packages` alone, and puts their files into `root`.
    pub fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let files = tempfile::tempdir_in(&self.state)?;
        run(self.get(files.path()).arg("download").args(packages))?;
        for entry in fs::read_dir(files.path())? {
            extract(&entry?.path(), root)?;
        }
        Ok(())
    }

    /// An option whose value is a path in this apt's state.
    fn of(&self, name: &str, value: &str) -> String {
        format!("{name}={}", self.state.join(value).display())
    }

    fn install(&self, packages: &[&str]) -> Command {
        let mut apt = self.get(&self.state);
        apt.args(["install", "--yes", "--no-install-recommends"])
            .args(packages);
        apt
    }

    /// The start of a command line, which runs in `folder`.
    fn get(&self, folder: &Path) -> Command {
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).arg("--quiet=2");
        let fixed = [
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            self.of("Dir::State", ""),
            self.of("Dir::State::lists", "lists"),
            self.of("Dir::State::status", "status"),
            self.of("Dir::Cache", "cache"),
            // Whoever runs this may read these folders; apt's own user may not.
            "APT::Sandbox::User=".to_owned(),
            // Of the lists, the packages alone.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        for option in fixed.iter().chain(&self.options) {
            apt.args(["-o", option]);
        }
        apt
    }
}

/// Runs apt; an error says what apt says, in one line where it has one.
fn run(apt: &mut Command) -> Result<String> {
    process::output(apt).map_err(|error| {
        let text = format!("{error:#}");
        match text.lines().find_map(|line| line.strip_prefix("E: ")) {
            Some(line) => anyhow!("apt: {line}"),
            None => error,
        }
    })
}

/// Puts the files of an archive into `root`.
fn extract(archive: &Path, root: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    process::output(dpkg.arg("--extract").arg(archive).arg(root)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_fetch_is_counted() {
        let printed = "Reading package lists...\nThe following NEW packages will be installed:\n  \
                       rust-src rustc\n\
                       'http://mirror.invalid/rust-src_1.97_all.deb' rust-src_1.97_all.deb 45986600 MD5Sum:07\n\
                       'http://mirror.invalid/rustc_1.97_amd64.deb' rustc_1.97_amd64.deb 4494600 \n";
        assert_eq!(
            Download::read(printed),
            Download {
                archives: vec![
                    "rust-src_1.97_all.deb".into(),
                    "rustc_1.97_amd64.deb".into()
                ],
                bytes: 50_481_200,
            }
        );
        assert_eq!(Download::read(""), Download::default());
    }

    #[test]
    fn an_error_is_what_apt_says() {
        let said = |text: &str| {
            let script = format!("echo '{text}' >&2; exit 100");
            run(Command::new("sh").args(["-c", &script])).unwrap_err()
        };
        assert_eq!(
            said("W: old\nE: Unable to locate package rustc\nE: more").to_string(),
            "apt: Unable to locate package rustc"
        );
        assert!(said("what").to_string().ends_with("exit status: 100\nwhat"));
    }

    #[test]
    fn an_apt_of_its_own_asks_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let source = "deb http://mirror.invalid/debian forky main";
        let apt = Apt::of_source("amd64", state, source).unwrap();
        apt.take_for_installed(&["gcc", "libc6-dev"]).unwrap();
        let read = |name: &str| fs::read_to_string(state.join(name)).unwrap();
        assert_eq!(read("sources.list"), format!("{source}\n"));
        assert!(read("status").contains("Package: libc6-dev\n"));
        assert!(read("status").contains("Provides: libc-dev\n"));
        let command = format!("{:?}", apt.install(&["rustc"]));
        for option in [
            "Dir::State::status=",
            "Dir::Etc::sourcelist=",
            "Dir::Etc::sourceparts=/dev/null",
        ] {
            assert!(command.contains(option), "{command}");
        }
    }
}
