//! OpenBLAS in the place of the reference BLAS that MLX's Linux packages bring.
//!
//! The reference BLAS is some 35 times slower in a matrix product, so it must never reach a
//! prefix: [`bundle`] ends by checking what the loader will find.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::elf;
use crate::{failure::Failure, process, targets::Target};

/// What MLX calls BLAS and LAPACK through.
const OPENBLAS: &str = "libopenblas.so.0";
/// OpenBLAS and the Fortran runtime it needs, with the package whose licence covers each.
const LIBRARIES: [(&str, &str, &str); 3] = [
    (OPENBLAS, "libopenblas0-pthread", "LICENSE-openblas"),
    ("libgfortran.so.5", "libgfortran5", "LICENSE-gcc-runtime"),
    ("libquadmath.so.0", "libquadmath0", "LICENSE-gcc-runtime"),
];
/// A function that only OpenBLAS has, whatever the file is called.
const WITNESS: &str = "openblas_get_config";

/// Puts OpenBLAS beside `lib/libmlx.so` and makes libmlx use it.
pub fn bundle(lib: &Path, licenses: &Path, target: &Target) -> Result<()> {
    let libmlx = lib.join("libmlx.so");
    for (name, package, license) in LIBRARIES {
        let Some(found) = find(name, target) else {
            if is_optional(name, target) {
                continue;
            }
            let folders: Vec<_> = folders(target)
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            bail!(
                Failure::new(
                    format!("MLX's package for Linux needs {name}"),
                    "cargo xtask setup"
                )
                .fact("looked in", folders.join("\n"))
            );
        };
        copy(&found, &lib.join(name))?;
        fs::create_dir_all(licenses)?;
        let text = Path::new("/usr/share/doc").join(package).join("copyright");
        if !licenses.join(license).exists() {
            copy(&text, &licenses.join(license))
                .with_context(|| format!("{name} may not be shipped without its licence"))?;
        }
    }
    let mut bytes = fs::read(&libmlx).with_context(|| format!("reading {}", libmlx.display()))?;
    if elf::dynamic(&bytes)?
        .needed
        .iter()
        .any(|name| is_reference(name))
    {
        // `DT_RPATH` holds for OpenBLAS and the Fortran runtime too, which stay as they came.
        elf::redirect(&mut bytes, is_reference, OPENBLAS, "$ORIGIN")
            .with_context(|| format!("changing what {} needs", libmlx.display()))?;
        fs::write(&libmlx, bytes).with_context(|| format!("writing {}", libmlx.display()))?;
    }
    check(lib)
}

/// Whether a library is the reference BLAS or LAPACK, under whatever hash a package gave it.
fn is_reference(name: &str) -> bool {
    [
        "libblas",
        "liblapack",
        "libcblas",
        "libf77blas",
        "liblapacke",
        "librefblas",
    ]
    .iter()
    .any(|stem| {
        name.strip_prefix(stem)
            .is_some_and(|rest| rest.starts_with(['-', '.']) && rest.contains(".so"))
    })
}

/// Fails unless libmlx gets all of BLAS and LAPACK from an OpenBLAS that lies beside it.
fn check(lib: &Path) -> Result<()> {
    for entry in fs::read_dir(lib)? {
        let name = entry?.file_name();
        ensure!(
            !name.to_str().is_some_and(is_reference),
            "{} holds a reference BLAS, {}, which must never be shipped",
            lib.display(),
            name.display()
        );
    }
    let read = |name: &str| fs::read(lib.join(name)).with_context(|| format!("reading {name}"));
    let libmlx = read("libmlx.so")?;
    let dynamic = elf::dynamic(&libmlx)?;
    ensure!(
        dynamic.needed.iter().any(|name| name == OPENBLAS),
        "libmlx.so does not need {OPENBLAS}, got: {}",
        dynamic.needed.join(", ")
    );
    ensure!(
        dynamic.rpath.as_deref() == Some("$ORIGIN"),
        "expected libmlx.so's run path to be $ORIGIN, got: {}",
        dynamic.rpath.as_deref().unwrap_or("none")
    );
    let exports = elf::exports(&read(OPENBLAS)?)?;
    ensure!(
        exports.contains(WITNESS),
        "{OPENBLAS} is not OpenBLAS: it lacks {WITNESS}"
    );
    let absent: Vec<_> = elf::unversioned_imports(&libmlx)?
        .into_iter()
        .filter(|name| !exports.contains(name))
        .collect();
    ensure!(
        absent.is_empty(),
        "{OPENBLAS} lacks what libmlx.so needs: {}",
        absent.join(", ")
    );
    Ok(())
}

/// The folders that hold the target's libraries; another processor's are only in its own.
fn folders(target: &Target) -> Vec<PathBuf> {
    let multiarch = Path::new("/usr/lib").join(target.triple.replace("-unknown-", "-"));
    let mut folders = vec![multiarch.join("openblas-pthread"), multiarch];
    if target.arch == std::env::consts::ARCH {
        folders.extend(["/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    }
    folders
}

/// Whether all that [`bundle`] copies is on this machine.
pub fn found(target: &Target) -> bool {
    LIBRARIES
        .iter()
        .all(|(name, _, _)| is_optional(name, target) || find(name, target).is_some())
}

/// Fortran's quadruple precision is a library only where the processor has none of its own.
fn is_optional(name: &str, target: &Target) -> bool {
    name == "libquadmath.so.0" && target.arch != "x86_64"
}

/// The library, where the target's folders or this machine's loader have it.
fn find(name: &str, target: &Target) -> Option<PathBuf> {
    let known = folders(target).into_iter().map(|folder| folder.join(name));
    known.into_iter().find(|path| path.is_file()).or_else(|| {
        (target.arch == std::env::consts::ARCH)
            .then(|| ldconfig(name))
            .flatten()
    })
}

/// What the loader's own list says.
fn ldconfig(name: &str) -> Option<PathBuf> {
    let program = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .into_iter()
        .find(|program| Path::new(program).is_file())?;
    let list = process::output(Command::new(program).arg("-p")).ok()?;
    list.lines()
        .map(str::trim)
        .filter(|line| line.split_whitespace().next() == Some(name) && line.contains("64"))
        .find_map(|line| Some(PathBuf::from(line.split_once("=> ")?.1)))
        .filter(|path| path.is_file())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // Not `fs::copy`, which would carry the mode over.
    let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::is_reference;

    #[test]
    fn a_reference_blas_is_known_by_its_name() {
        for (name, expected) in [
            ("liblapack-86b2c207.so.3.10.0", true),
            ("libblas-bd8a282c.so.3.10.0", true),
            ("libblas.so.3", true),
            ("libcblas.so.3", true),
            ("liblapacke.so.3", true),
            ("libopenblas.so.0", false),
            ("libcublas.so.12", false),
            ("libblastrampoline.so.5", false),
            ("libm.so.6", false),
        ] {
            assert_eq!(is_reference(name), expected, "{name}");
        }
    }
}
