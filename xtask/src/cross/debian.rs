//! Packages of Debian's for another processor, unpacked into a folder: nothing is installed, and apt's own
//! state stays as it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{failure::Failure, process, progress, workspace};

/// The files of `packages` for `arch`, a processor as Debian spells it, in a folder named `name`.
///
/// The packages come from the suites that this machine's apt knows.
pub fn unpacked(arch: &str, packages: &[&str], name: &str) -> Result<PathBuf> {
    let place = super::folder(name).join("packages");
    let (marker, wanted) = (place.join(".packages"), packages.join("\n"));
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(place);
    }
    let step = progress::step(format!("fetching {} for {arch}", packages.join(", ")));
    let draft = tempfile::Builder::new()
        .prefix(".packages-")
        .tempdir_in(workspace::folder_of(&place)?)?;
    let fetched = || -> Result<()> {
        let apt = Apt::new(arch)?;
        apt.unpack(packages, draft.path())?;
        // Packages of one source share its documentation, which one of them has.
        let others = absent_documentation(draft.path())?;
        let others: Vec<_> = others.iter().map(String::as_str).collect();
        if !others.is_empty() {
            apt.unpack(&others, draft.path())?;
        }
        Ok(())
    };
    fetched().map_err(|error| {
        Failure::new(
            format!("apt could not fetch packages for {arch}"),
            "apt-get update",
        )
        .because(&error)
    })?;
    fs::write(draft.path().join(".packages"), wanted)?;
    workspace::replace_folder(draft, &place)?;
    step.finish("unpacked");
    Ok(place)
}

/// The packages, by name, whose documentation others in `root` point to.
fn absent_documentation(root: &Path) -> Result<BTreeSet<String>> {
    let mut absent = BTreeSet::new();
    let Ok(entries) = fs::read_dir(root.join("usr/share/doc")) else {
        return Ok(absent);
    };
    for entry in entries {
        let path = entry?.path();
        if let Ok(other) = fs::read_link(&path)
            && !path.exists()
        {
            absent.insert(other.display().to_string());
        }
    }
    Ok(absent)
}

/// An apt for one processor, with lists of its own.
struct Apt {
    arch: String,
    state: TempDir,
}

impl Apt {
    fn new(arch: &str) -> Result<Self> {
        let apt = Self {
            arch: arch.to_owned(),
            state: tempfile::tempdir()?,
        };
        let state = apt.state.path();
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder))
                .with_context(|| format!("making {}", state.display()))?;
        }
        fs::write(state.join("status"), "")?;
        process::output(apt.get(state).arg("update"))?;
        Ok(apt)
    }

    /// Fetches `packages` and puts their files into `root`.
    fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let files = tempfile::tempdir_in(self.state.path())?;
        process::output(self.get(files.path()).arg("download").args(packages))?;
        for entry in fs::read_dir(files.path())? {
            process::output(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(entry?.path())
                    .arg(root),
            )?;
        }
        Ok(())
    }

    /// The start of a command line, which runs in `folder`.
    fn get(&self, folder: &Path) -> Command {
        let state = self.state.path();
        let of = |name: &str, value: &str| format!("{name}={}", state.join(value).display());
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).arg("--quiet=2");
        for option in [
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            of("Dir::State", ""),
            of("Dir::State::lists", "lists"),
            of("Dir::State::status", "status"),
            of("Dir::Cache", "cache"),
            // Whoever runs this may read these folders; apt's own user may not.
            "APT::Sandbox::User=".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn documentation_that_another_package_has_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(absent_documentation(root.path()).unwrap().is_empty());
        let folder = root.path().join("usr/share/doc");
        fs::create_dir_all(folder.join("gcc-12-base")).unwrap();
        symlink("gcc-12-base", folder.join("libgfortran5")).unwrap();
        symlink("gcc-13-base", folder.join("libquadmath0")).unwrap();
        let absent = absent_documentation(root.path()).unwrap();
        assert_eq!(Vec::from_iter(absent), ["gcc-13-base"]);
    }
}
