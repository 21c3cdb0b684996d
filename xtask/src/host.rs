//! What this machine offers to a library: the other side of a manifest's `requires`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use object::{Endianness, elf::FileHeader64, read::elf::FileHeader as _};

use crate::{manifest::Requires, process, version::Version};

/// The library that comes with NVIDIA's driver, and with nothing else.
pub const DRIVER: &str = "libcuda.so.1";

/// What is known of this machine. Of what is not known, nothing is asked.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// By the names of the floors: `glibc`, `glibcxx`, `macos`.
    pub versions: BTreeMap<String, Version>,
    /// The shared libraries that the loader finds.
    pub libraries: Option<BTreeSet<String>>,
}

impl Host {
    /// Looks at this machine.
    pub fn probe() -> Self {
        let found = ld_cache();
        let mut versions = BTreeMap::new();
        let measured = [
            ("glibc", glibc()),
            ("glibcxx", found.get("libstdc++.so.6").and_then(glibcxx)),
            ("macos", macos()),
        ];
        for (name, version) in measured {
            if let Some(version) = version {
                versions.insert(name.to_owned(), version);
            }
        }
        let libraries: BTreeSet<String> = found.into_keys().collect();
        Self {
            versions,
            libraries: (!libraries.is_empty()).then_some(libraries),
        }
    }

    /// What `requires` asks for and this machine lacks, one sentence each, but for NVIDIA's driver: images for
    /// GPUs are made on machines that have none.
    pub fn lacks(&self, requires: &Requires) -> Vec<String> {
        let mut lacks = Vec::new();
        for (name, floor) in requires.floors() {
            match (floor.parse::<Version>(), self.versions.get(name)) {
                (Ok(floor), Some(actual)) if *actual < floor => {
                    lacks.push(format!("expected {name} {floor} or newer, got: {actual}"));
                }
                (Ok(_), _) => (),
                (Err(error), _) => lacks.push(format!("{name}: {error}")),
            }
        }
        if let Some(libraries) = &self.libraries {
            for library in &requires.libraries {
                // The loader itself is no library that its cache has to list.
                let asked = !library.starts_with("ld-linux") && library != DRIVER;
                if asked && !libraries.contains(library) {
                    lacks.push(format!("expected the shared library {library}, got: none"));
                }
            }
        }
        lacks
    }

    /// Whether `requires` asks for NVIDIA's driver and this machine has none.
    pub fn lacks_driver(&self, requires: &Requires) -> bool {
        requires.libraries.iter().any(|name| name == DRIVER)
            && (self.libraries.as_ref()).is_some_and(|found| !found.contains(DRIVER))
    }
}

fn glibc() -> Option<Version> {
    let text = process::output(Command::new("getconf").arg("GNU_LIBC_VERSION")).ok()?;
    text.trim().strip_prefix("glibc ")?.parse().ok()
}

fn macos() -> Option<Version> {
    let text = process::output(Command::new("sw_vers").arg("-productVersion")).ok()?;
    text.trim().parse().ok()
}

/// The highest `GLIBCXX_…` version that the libstdc++ at `path` defines.
fn glibcxx(path: &PathBuf) -> Option<Version> {
    let bytes = fs::read(path).ok()?;
    let header = FileHeader64::<Endianness>::parse(bytes.as_slice()).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes.as_slice()).ok()?;
    let (mut definitions, strings) = sections.gnu_verdef(endian, bytes.as_slice()).ok()??;
    let strings = sections.strings(endian, bytes.as_slice(), strings).ok()?;
    let mut highest = None;
    while let Ok(Some((_, mut names))) = definitions.next() {
        while let Ok(Some(name)) = names.next() {
            let name = String::from_utf8_lossy(name.name(endian, strings).ok()?);
            let version = name
                .strip_prefix("GLIBCXX_")
                .and_then(|text| text.parse().ok());
            highest = highest.max(version);
        }
    }
    highest
}

/// What `ldconfig -p` lists for this machine's processor: names and where they are.
fn ld_cache() -> BTreeMap<String, PathBuf> {
    // An ordinary user's PATH may lack the folder of ldconfig.
    let text = ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .iter()
        .find_map(|program| process::output(Command::new(program).arg("-p")).ok())
        .unwrap_or_default();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "AArch64",
        other => other,
    };
    let mut found = BTreeMap::new();
    for line in text.lines() {
        // `	libm.so.6 (libc6,x86-64, OS ABI: …) => /lib/x86_64-linux-gnu/libm.so.6`
        if let Some((name, rest)) = line.trim().split_once(" (")
            && let Some((kind, path)) = rest.split_once(") => ")
            && kind.contains(arch)
        {
            found.entry(name.to_owned()).or_insert_with(|| path.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_absent_is_told_and_keeps_nobody_from_installing() {
        let host = |libraries: &[&str]| Host {
            libraries: Some(libraries.iter().map(ToString::to_string).collect()),
            ..Host::default()
        };
        let requires = Requires {
            libraries: [DRIVER, "libcudnn.so.9"].map(str::to_owned).into(),
            ..Requires::default()
        };
        let without = host(&["libcudnn.so.9"]);
        assert!(without.lacks(&requires).is_empty() && without.lacks_driver(&requires));
        assert!(!host(&[DRIVER]).lacks_driver(&requires));
        assert_eq!(
            host(&[]).lacks(&requires),
            ["expected the shared library libcudnn.so.9, got: none"]
        );
        // Where it is not known what there is, nothing is said.
        assert!(!Host::default().lacks_driver(&requires));
    }
}
