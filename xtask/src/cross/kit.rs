//! Tools that build for other machines, as Debian's packages have them, unpacked into the cache:
//!
//! ```text
//! <cache>/tools/<name>-<digest>/   the packages' files, and in bin/ what starts their programs
//! <cache>/tools/apt/<name>/        what apt has fetched so far, while it fetches
//! ```
//!
//! Nothing is installed: neither apt's state nor any file of the system's changes. Each kit is of one
//! suite, whatever the machine runs, so that all machines build with the same. What a kit's programs
//! need of the system is in the kit as well.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::apt::Apt;
use crate::{
    cache::Cache, failure::Failure, progress, settings, setup, sidecar, toolchain::Toolchain,
    workspace,
};

/// Packages of one suite.
#[derive(Debug)]
struct Kit {
    name: &'static str,
    /// What it is for, in a few words.
    about: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    /// What they ask for and is the machine's.
    not: &'static [&'static str],
    /// Removes what nobody needs of `root`, and fills its `bin/`.
    finish: fn(root: &Path) -> Result<()>,
}

/// rustc, Cargo, and the sources of the standard library, all of one version.
///
/// The suite is the first with a Rust that is new enough for all crates. Its C library is newer than
/// other machines', so its programs run with a loader of their own.
const RUST: Kit = Kit {
    name: "rust",
    about: "Rust with the sources of its standard library",
    suite: "forky",
    packages: &["rustc", "cargo", "rust-src"],
    not: &["gcc", "libc6-dev", "binutils"],
    finish: finish_rust,
};

/// g++ for Linux on arm64. The suite is the one whose C library is old enough for releases.
const GNU: Kit = Kit {
    name: "g++-arm64",
    about: "g++ for Linux on arm64",
    suite: "bookworm",
    packages: &["g++-aarch64-linux-gnu"],
    not: &["libc6", "libstdc++6", "libgcc-s1"],
    finish: finish_gnu,
};

/// qemu, which runs programs of Linux's on arm64. They are linked statically.
const QEMU: Kit = Kit {
    name: "qemu",
    about: "qemu, which runs programs for arm64",
    suite: "trixie",
    packages: &["qemu-user"],
    not: &[],
    finish: finish_qemu,
};

/// To be raised when what `finish` does changes.
const FORM: &str = "1";

/// The name that GNU's tools for arm64 begin with.
pub const GNU_TRIPLE: &str = "aarch64-linux-gnu";

/// A toolchain that can compile the standard library for any target.
pub fn rust() -> Result<Toolchain> {
    Ok(Toolchain::at(&RUST.place()?))
}

/// The folder of GNU's tools for arm64: programs are in `bin/`, the target's libraries in
/// `usr/aarch64-linux-gnu/`.
pub fn gnu() -> Result<PathBuf> {
    GNU.place()
}

/// The program that runs those for arm64.
pub fn qemu() -> Result<PathBuf> {
    Ok(QEMU.place()?.join("bin/qemu-aarch64"))
}

impl Kit {
    /// The folder of its files, which apt fetches once.
    fn place(&self) -> Result<PathBuf> {
        self.place_in(&settings::cache_dir()?)
    }

    fn place_in(&self, cache: &Path) -> Result<PathBuf> {
        let tools = cache.join("tools");
        let place = tools.join(self.folder());
        if place.is_dir() {
            return Ok(place);
        }
        let fetched = (|| -> Result<()> {
            ensure!(
                cfg!(all(target_os = "linux", target_arch = "x86_64")),
                "expected Linux on x86_64, which the packages are for"
            );
            let line = setup::debian_source(self.suite)?;
            let cache = Cache::open(cache)?;
            let _lock = cache.lock(&self.folder())?;
            if !place.is_dir() {
                self.fetch(&line, &tools, &place)?;
            }
            Ok(())
        })();
        fetched.map_err(|error| {
            Failure::new(
                format!(
                    "{} could not be had from Debian's {}",
                    self.about, self.suite
                ),
                "the same command again, when connected",
            )
            .because(&error)
        })?;
        Ok(place)
    }

    /// The name of its folder: another one if what the kit consists of changes.
    fn folder(&self) -> String {
        let parts = [
            self.suite,
            &self.packages.join(","),
            &self.not.join(","),
            FORM,
        ];
        let digest = sidecar::hex(&Sha256::digest(parts.join(";")));
        format!("{}-{}", self.name, &digest[..8])
    }

    fn fetch(&self, source: &str, tools: &Path, place: &Path) -> Result<()> {
        let state = tools.join("apt").join(self.name);
        let apt = Apt::of_source("amd64", &state, source)?;
        apt.take_for_installed(self.not)?;
        let step = progress::step(format!("reading Debian's list of {}", self.suite));
        apt.update()?;
        let download = apt.plan(self.packages)?;
        step.finish("done");
        eprintln!(
            "{}: {} MB of Debian's {} (packages: {}) go into {}; nothing is installed",
            self.about,
            download.bytes / 1_000_000,
            self.suite,
            download.archives.len(),
            place.display()
        );
        let step = progress::step(format!("fetching {}", self.packages.join(", ")));
        // A killed one leaves this; whoever has the lock may remove it.
        let draft = tools.join(format!("{}.draft", self.folder()));
        if draft.exists() {
            fs::remove_dir_all(&draft)?;
        }
        fs::create_dir_all(&draft)?;
        apt.fetch(self.packages, &download, &draft)?;
        (self.finish)(&draft)?;
        fs::write(
            draft.join("packages.txt"),
            download.archives.join("\n") + "\n",
        )?;
        fs::rename(&draft, place).with_context(|| format!("making {}", place.display()))?;
        fs::remove_dir_all(&state)?;
        step.finish("unpacked");
        Ok(())
    }
}

fn finish_rust(root: &Path) -> Result<()> {
    remove(&root.join("usr/share"))?;
    // Of the compiler's sources, the library's alone.
    for version in children(&root.join("usr/src"))? {
        for part in children(&version)? {
            if !part.ends_with("library") {
                remove(&part)?;
            }
        }
    }
    // `rustc --print sysroot` says `usr`, and Cargo looks for sources there; we look here.
    symlink("usr/lib", root.join("lib"))?;
    for name in ["rustc", "cargo"] {
        let program = format!(
            "exec \"$root/usr/lib64/ld-linux-x86-64.so.2\" --library-path \"$root/usr/lib/x86_64-linux-gnu\" \\\n  \
             \"$root/usr/bin/{name}\" \"$@\"\n"
        );
        script(root, name, &program)?;
    }
    Ok(())
}

fn finish_gnu(root: &Path) -> Result<()> {
    remove(&root.join("usr/share"))?;
    for (name, arguments) in [
        ("gcc", "--sysroot=\"$root\" "),
        ("g++", "--sysroot=\"$root\" "),
        ("ar", ""),
    ] {
        let program = format!(
            "LD_LIBRARY_PATH=\"$root/usr/lib/x86_64-linux-gnu${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" \\\n  \
             exec \"$root/usr/bin/{GNU_TRIPLE}-{name}\" {arguments}\"$@\"\n"
        );
        script(root, &format!("{GNU_TRIPLE}-{name}"), &program)?;
    }
    Ok(())
}

fn finish_qemu(root: &Path) -> Result<()> {
    // One program of the many for other processors.
    let program = root.join("bin/qemu-aarch64");
    workspace::folder_of(&program)?;
    fs::rename(root.join("usr/bin/qemu-aarch64"), program)?;
    remove(&root.join("usr"))
}

/// Writes the script `bin/<name>`, whose `$root` is the kit's folder.
fn script(root: &Path, name: &str, program: &str) -> Result<()> {
    let path = root.join("bin").join(name);
    workspace::folder_of(&path)?;
    // Not sh: Debian's would drop variables with dashes in their names, which tell of one target.
    let text = format!("#!/bin/bash\nroot=$(cd \"${{0%/*}}/..\" && pwd)\n{program}");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Removes a file, a link or a folder.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process;

    /// A file that prints the arguments it is started with.
    fn program(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = "#!/bin/bash\necho \"$LD_LIBRARY_PATH|$*\"; env | grep ^CC_a-b\n";
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn started(root: &Path, name: &str) -> String {
        let mut command = Command::new(root.join("bin").join(name));
        command.env("LD_LIBRARY_PATH", "/x").env("CC_a-b", "1");
        let printed = process::output(command.args(["-c", "a b"])).unwrap();
        let root = fs::canonicalize(root).unwrap();
        let (line, variable) = printed.split_once('\n').unwrap();
        assert_eq!(variable, "CC_a-b=1\n");
        line.replace(root.to_str().unwrap(), "KIT")
    }

    #[test]
    fn rusts_programs_start_with_their_own_loader() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        program(root, "usr/lib64/ld-linux-x86-64.so.2");
        for folder in [
            "usr/share",
            "usr/lib",
            "usr/src/rustc-1.97/library",
            "usr/src/rustc-1.97/tests",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        finish_rust(root).unwrap();
        for name in ["rustc", "cargo"] {
            assert_eq!(
                started(root, name),
                format!("/x|--library-path KIT/usr/lib/x86_64-linux-gnu KIT/usr/bin/{name} -c a b")
            );
        }
        assert!(root.join("usr/src/rustc-1.97/library").is_dir());
        assert!(!root.join("usr/src/rustc-1.97/tests").exists());
        assert!(!root.join("usr/share").exists());
        assert_eq!(
            fs::read_link(root.join("lib")).unwrap(),
            Path::new("usr/lib")
        );
    }

    #[test]
    fn gnus_programs_find_their_libraries_and_the_targets() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("usr/share")).unwrap();
        for name in ["gcc", "g++", "ar"] {
            program(root, &format!("usr/bin/aarch64-linux-gnu-{name}"));
        }
        finish_gnu(root).unwrap();
        let libraries = "KIT/usr/lib/x86_64-linux-gnu:/x";
        assert_eq!(
            started(root, "aarch64-linux-gnu-g++"),
            format!("{libraries}|--sysroot=KIT -c a b")
        );
        assert_eq!(
            started(root, "aarch64-linux-gnu-ar"),
            format!("{libraries}|-c a b")
        );
    }

    #[test]
    fn of_qemu_one_program_stays() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        program(root, "usr/bin/qemu-aarch64");
        program(root, "usr/bin/qemu-sparc");
        finish_qemu(root).unwrap();
        assert_eq!(started(root, "qemu-aarch64"), "/x|-c a b");
        assert!(!root.join("usr").exists());
    }

    #[test]
    fn a_kit_that_is_there_asks_no_network_and_another_one_has_another_folder() {
        let cache = tempfile::tempdir().unwrap();
        let nowhere = Kit {
            suite: "no-such-suite",
            ..QEMU
        };
        assert_ne!(nowhere.folder(), QEMU.folder());
        let place = cache.path().join("tools").join(nowhere.folder());
        fs::create_dir_all(&place).unwrap();
        assert_eq!(nowhere.place_in(cache.path()).unwrap(), place);
    }
}
