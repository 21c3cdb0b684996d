//! What the binaries of an archive ask of their host, and whether they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    binary::{Binary, Import},
    manifest::Requires,
    targets::{Selection, Target},
    version::Version,
};

/// The function that the BEAM calls first in a library.
const ENTRY_POINT: &str = "nif_init";

/// How the functions begin that the BEAM itself has: only they may be looked up in all that is loaded.
const OF_THE_BEAM: &str = "enif_";

/// What an audit found.
#[derive(Debug, Default)]
pub struct Audit {
    /// What the host must have, as measured.
    pub requires: Requires,
    /// What breaks a rule, one sentence each.
    pub violations: Vec<String>,
}

/// Reads the files called `names` in `dir`, as the archive for `selection` holds them.
///
/// Whether the floors are as high as a release may ask for is the manifest's to say, see
/// [`crate::manifest::Manifest::violations`].
pub fn folder(dir: &Path, names: &[String], selection: &Selection) -> Result<Audit> {
    let mut binaries = BTreeMap::new();
    let mut violations = Vec::new();
    for name in names {
        let path = dir.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        match Binary::read(&bytes) {
            Ok(Some(binary)) => {
                binaries.insert(name.clone(), binary);
            }
            Ok(None) if is_library(name) => {
                violations.push(format!("{name}: expected a shared library"));
            }
            Ok(None) => (),
            Err(error) => violations.push(format!("{name}: {error:#}")),
        }
    }
    let mut audit = binaries_of(&binaries, selection);
    violations.append(&mut audit.violations);
    Ok(Audit {
        violations,
        ..audit
    })
}

/// Whether a file of this name is code: a library, or kernels for a GPU.
pub fn is_binary(name: &str) -> bool {
    is_library(name) || name.ends_with(".metallib")
}

/// Whether a file of this name has to be a shared library.
pub fn is_library(name: &str) -> bool {
    name.ends_with(".dylib") || name.ends_with(".so") || name.contains(".so.")
}

/// Audits libraries that stand side by side under the names that are the keys.
pub fn binaries_of(binaries: &BTreeMap<String, Binary>, selection: &Selection) -> Audit {
    let mut audit = Audit::default();
    let mut floors = Floors::default();
    let mut libraries = BTreeSet::new();
    for (name, binary) in binaries {
        let own = own_violations(name, binary, &selection.target);
        audit
            .violations
            .extend(own.into_iter().map(|text| format!("{name}: {text}")));
        let mut report = |text: String| audit.violations.push(format!("{name}: {text}"));
        for needed in &binary.needed {
            match place(needed, name, binaries, selection) {
                Place::Archive | Place::MacOs => (),
                Place::System => {
                    libraries.insert(needed.clone());
                }
                Place::Nowhere(why) => report(format!("needs {needed}, {why}")),
            }
        }
        for text in unresolved(binary, binaries) {
            report(text);
        }
        if let Err(error) = floors.raise(binary) {
            report(error.to_string());
        }
    }
    audit.requires = floors.requires(libraries);
    audit
}

/// What is wrong with the library called `name`, wherever it stands.
fn own_violations(name: &str, binary: &Binary, target: &Target) -> Vec<String> {
    let mut violations = Vec::new();
    if (binary.os, binary.arch.as_str()) != (target.os.as_str(), target.arch.as_str()) {
        violations.push(format!(
            "expected a library for {} on {}, got: {} on {}",
            target.os, target.arch, binary.os, binary.arch
        ));
    }
    if name == target.library && !binary.exports.iter().any(|symbol| symbol == ENTRY_POINT) {
        violations.push(format!("{ENTRY_POINT} is not exported"));
    }
    for path in &binary.run_paths {
        if !is_own_folder(path, binary.os) {
            violations.push(format!(
                "expected run paths to be the library's own folder, got: {path}"
            ));
        }
    }
    match &binary.own_name {
        Some(own) if own.starts_with('/') => {
            violations.push(format!("its own name is an absolute path: {own}"));
        }
        // On macOS it is what the libraries beside it ask for.
        own if binary.os == "macos" && own.as_deref() != Some(&format!("@rpath/{name}")) => {
            violations.push(format!(
                "expected its own name to be @rpath/{name}, got: {}",
                own.as_deref().unwrap_or("none")
            ));
        }
        _ => (),
    }
    if binary.os == "macos" && !binary.signed {
        violations.push("there is no code signature, which macOS on arm64 asks for".to_owned());
    }
    if binary.os == "macos" && binary.macos.is_none() {
        violations.push("there is no oldest macOS that it was built for".to_owned());
    }
    violations
}

/// The symbols that no library has for `binary`: the loader would refuse it, or end the VM at the first call.
fn unresolved(binary: &Binary, binaries: &BTreeMap<String, Binary>) -> Vec<String> {
    let mut exports = BTreeMap::new();
    let mut violations = Vec::new();
    for Import { symbol, library } in &binary.imports {
        let Some(library) = library else {
            if !symbol.starts_with(OF_THE_BEAM) {
                violations.push(format!(
                    "looks {symbol} up in all that is loaded, which only {OF_THE_BEAM}… may be"
                ));
            }
            continue;
        };
        // What a library of the system's exports is the linker's to know.
        let name = library.rsplit('/').next().unwrap_or(library);
        let Some(other) = binaries.get(name) else {
            continue;
        };
        let exports = exports.entry(name).or_insert_with(|| {
            other
                .exports
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>()
        });
        if !exports.contains(symbol.as_str()) {
            violations.push(format!(
                "needs {symbol} of {name}, which does not export it"
            ));
        }
    }
    violations
}

/// Where the loader will find a needed library.
enum Place {
    Archive,
    /// In the system, by a name that `release/targets.json` lists.
    System,
    /// In macOS itself, by a path that `release/targets.json` lists: its libraries are part of its version.
    MacOs,
    Nowhere(&'static str),
}

fn place(
    needed: &str,
    by: &str,
    binaries: &BTreeMap<String, Binary>,
    selection: &Selection,
) -> Place {
    let binary = &binaries[by];
    let beside = ["@rpath/", "@loader_path/"]
        .iter()
        .find_map(|prefix| needed.strip_prefix(prefix))
        .filter(|_| binary.os == "macos");
    if needed.starts_with("/usr/lib/") || needed.starts_with("/System/Library/") {
        let listed = selection.system_libraries().any(|path| path == needed);
        return match binary.os {
            "macos" if listed => Place::MacOs,
            "macos" => Place::Nowhere("a library of macOS that the target may not use"),
            _ => Place::Nowhere("an absolute path"),
        };
    }
    let name = beside.unwrap_or(needed);
    if name.contains('/') {
        return Place::Nowhere("a path outside the archive");
    }
    if binaries.contains_key(name) {
        // `@loader_path` names the folder itself; anything else is found through a run path.
        return if needed.starts_with("@loader_path/")
            || looks_beside_itself(by, binaries, &mut BTreeSet::new())
        {
            Place::Archive
        } else {
            Place::Nowhere("which is in the archive, but no run path leads to it")
        };
    }
    if selection.system_libraries().any(|library| library == name) {
        return Place::System;
    }
    Place::Nowhere("neither in the archive nor a system library that the target may use")
}

/// Whether the loader follows a run path for what `name` needs: its own, else an inheritable one
/// of a library that needs it.
fn looks_beside_itself<'a>(
    name: &'a str,
    binaries: &'a BTreeMap<String, Binary>,
    seen: &mut BTreeSet<&'a str>,
) -> bool {
    if !binaries[name].run_paths.is_empty() {
        return true;
    }
    seen.insert(name)
        && binaries.iter().any(|(other, binary)| {
            let needs_it = |needed: &String| needed.rsplit('/').next() == Some(name);
            binary.needed.iter().any(needs_it)
                && if binary.run_paths.is_empty() {
                    looks_beside_itself(other, binaries, seen)
                } else {
                    binary.run_paths_inherited
                }
        })
}

/// Whether a run path is the folder of the library that carries it, however it is spelled.
fn is_own_folder(path: &str, os: &str) -> bool {
    let origin = if os == "macos" {
        "@loader_path"
    } else {
        "$ORIGIN"
    };
    matches!(path.strip_prefix(origin), Some("" | "/" | "/."))
}

/// The highest versions seen so far.
#[derive(Default)]
struct Floors {
    glibc: Option<Version>,
    glibcxx: Option<Version>,
    macos: Option<Version>,
}

impl Floors {
    fn raise(&mut self, binary: &Binary) -> Result<()> {
        self.macos = self.macos.max(binary.macos);
        for symbol_version in &binary.symbol_versions {
            if let Some(version) = symbol_version.strip_prefix("GLIBCXX_") {
                self.glibcxx = self.glibcxx.max(Some(version.parse()?));
            } else if symbol_version == "GLIBC_ABI_DT_RELR" {
                // The loader of glibc 2.36 was the first to apply such relocations.
                self.glibc = self.glibc.max(Some(Version::new(2, 36, 0)));
            } else if let Some(version) = symbol_version.strip_prefix("GLIBC_") {
                self.glibc = self.glibc.max(Some(
                    version
                        .parse()
                        .with_context(|| format!("needs {symbol_version}"))?,
                ));
            }
        }
        Ok(())
    }

    fn requires(&self, libraries: BTreeSet<String>) -> Requires {
        let text = |floor: Option<Version>| floor.map(|floor| floor.to_string());
        Requires {
            glibc: text(self.glibc),
            glibcxx: text(self.glibcxx),
            macos: text(self.macos),
            libraries: libraries.into_iter().collect(),
        }
    }
}
