//! Packages of Debian's for another processor, unpacked into a folder: nothing is installed, and apt's own
//! state stays as it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::apt::Apt;
use crate::{failure::Failure, progress, workspace};

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
        let state = tempfile::tempdir()?;
        let apt = Apt::new(arch, state.path())?;
        apt.update()?;
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
