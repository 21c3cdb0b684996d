//! OpenBLAS in the place of the reference BLAS that MLX's Linux packages bring.
//!
//! The reference BLAS is some 35 times slower in a matrix product, so it must never reach a
//! prefix: [`bundle`] and [`inside`] end by checking what the loader will find.
//!
//! It is linked from its static archive. So a release holds what MLX calls of it and no more, needs no
//! Fortran runtime, and asks for no newer glibc than the archive was compiled with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::elf;
use crate::{
    cross::{self, debian},
    failure::Failure,
    process, settings,
    targets::Target,
};

/// What MLX calls BLAS and LAPACK through, where they are a library of their own.
const OPENBLAS: &str = "libopenblas.so.0";
/// The same, and all of it.
const ARCHIVE: &str = "libopenblas.a";
/// Debian's package of the archive, whose licence covers it.
const PACKAGE: &str = "libopenblas-pthread-dev";
const LICENSE: &str = "LICENSE-openblas";
/// A function that only OpenBLAS has, whatever the file is called.
const WITNESS: &str = "openblas_get_config";
/// What stands in for Fortran's runtime library.
const FORTRAN: &str = include_str!("fortran.c");

/// Puts OpenBLAS beside `lib/libmlx.so`, which calls for a BLAS, and makes libmlx use it.
pub fn bundle(lib: &Path, licenses: &Path, target: &Target) -> Result<()> {
    let archive = archive(target).or_else(|error| of_package(target)?.ok_or(error))?;
    let libmlx = lib.join("libmlx.so");
    let mut bytes = fs::read(&libmlx).with_context(|| format!("reading {}", libmlx.display()))?;
    link(&archive, &calls(&bytes)?, &lib.join(OPENBLAS), target)?;
    if elf::dynamic(&bytes)?
        .needed
        .iter()
        .any(|name| is_reference(name))
    {
        // `DT_RPATH` holds for what libmlx's own libraries need, too.
        elf::redirect(&mut bytes, is_reference, OPENBLAS, "$ORIGIN")
            .with_context(|| format!("changing what {} needs", libmlx.display()))?;
        fs::write(&libmlx, bytes).with_context(|| format!("writing {}", libmlx.display()))?;
    }
    license(licenses)?;
    check_beside(lib)
}

/// Makes the folder `place` one that CMake finds OpenBLAS in, to be linked into libmlx.
pub fn offer(place: &Path, target: &Target) -> Result<()> {
    let archive = archive(target)?;
    let lib = place.join("lib");
    fs::create_dir_all(&lib)?;
    let object = compile_fortran(place, target)?;
    let runtime = place.join("libfortran.a");
    let _absent = fs::remove_file(&runtime);
    process::run(Command::new("ar").arg("rcsD").arg(&runtime).arg(object))?;
    // A linker takes such a text for an archive.
    let script = format!(
        "INPUT({} {} -lm -lpthread)\n",
        archive.display(),
        runtime.display()
    );
    let path = lib.join(ARCHIVE);
    fs::write(&path, script).with_context(|| format!("writing {}", path.display()))
}

/// Completes a prefix whose libmlx was linked with what [`offer`] offers.
pub fn inside(lib: &Path, licenses: &Path) -> Result<()> {
    license(licenses)?;
    check_inside(lib)
}

/// Links a library of what `called` names.
fn link(archive: &Path, called: &[String], library: &Path, target: &Target) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let object = compile_fortran(scratch.path(), target)?;
    let exports: String = called.iter().map(|name| format!("    {name};\n")).collect();
    let map = scratch.path().join("exports.map");
    fs::write(
        &map,
        format!("{{\n  global:\n{exports}    openblas_*;\n  local: *;\n}};\n"),
    )?;
    process::run(
        compiler(target)?
            .args(["-shared", "-s", "-o"])
            .arg(library)
            .arg(format!("-Wl,-soname,{OPENBLAS}"))
            .args(called.iter().map(|name| format!("-Wl,--undefined={name}")))
            .arg(format!("-Wl,--undefined={WITNESS}"))
            .arg(format!("-Wl,--version-script={}", map.display()))
            .args(["-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,-z,defs"])
            .args(["-Wl,--build-id=none", "-Wl,-z,noexecstack"])
            .arg(object)
            .arg(archive)
            .args(["-lm", "-lpthread"]),
    )
    .with_context(|| format!("{} could not be made a library of", archive.display()))
}

/// Compiles what stands in for Fortran's runtime library.
fn compile_fortran(folder: &Path, target: &Target) -> Result<PathBuf> {
    let (source, object) = (folder.join("fortran.c"), folder.join("fortran.o"));
    fs::write(&source, FORTRAN)?;
    process::run(
        compiler(target)?
            .args(["-O2", "-fPIC", "-c", "-o"])
            .arg(&object)
            .arg(&source),
    )?;
    Ok(object)
}

/// The C compiler for the target, by the variables that the crate cc reads.
fn compiler(target: &Target) -> Result<Command> {
    let own = format!("CC_{}", target.triple.replace('-', "_"));
    let host = target.arch == env::consts::ARCH;
    let general = || host.then(|| env::var("CC").ok()).flatten();
    let named = match env::var(&own).ok().or_else(general) {
        Some(named) => named,
        None if host => "cc".to_owned(),
        None => return Ok(Command::new(cross::compiler(target)?)),
    };
    let mut words = named.split_whitespace();
    let program = words
        .next()
        .with_context(|| format!("expected {own} to name a C compiler, got: {named:?}"))?;
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

/// What a library calls of BLAS and LAPACK.
fn calls(library: &[u8]) -> Result<Vec<String>> {
    let imports = elf::unversioned_imports(library)?;
    Ok(imports.into_iter().filter(|name| is_blas(name)).collect())
}

/// Whether a function is one of BLAS' or LAPACK's: `cblas_sgemm`, or `sgesdd_` as Fortran has it.
fn is_blas(name: &str) -> bool {
    let fortran = |stem: &str| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !stem.is_empty() && stem.bytes().all(lower)
    };
    name.starts_with("cblas_") || name.strip_suffix('_').is_some_and(fortran)
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
fn check_beside(lib: &Path) -> Result<()> {
    let libmlx = check_no_reference(lib)?;
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
    let openblas = lib.join(OPENBLAS);
    let exports = elf::exports(
        &fs::read(&openblas).with_context(|| format!("reading {}", openblas.display()))?,
    )?;
    ensure!(
        exports.contains(WITNESS),
        "{OPENBLAS} is not OpenBLAS: it lacks {WITNESS}"
    );
    let mut absent = calls(&libmlx)?;
    absent.retain(|name| !exports.contains(name));
    ensure!(
        absent.is_empty(),
        "{OPENBLAS} lacks what libmlx.so needs: {}",
        absent.join(", ")
    );
    Ok(())
}

/// Fails unless libmlx has BLAS and LAPACK within itself.
fn check_inside(lib: &Path) -> Result<()> {
    let libmlx = check_no_reference(lib)?;
    let called = calls(&libmlx)?;
    ensure!(
        called.is_empty(),
        "libmlx.so was to have OpenBLAS linked in, but calls another library for {}",
        called.join(", ")
    );
    let needed = elf::dynamic(&libmlx)?.needed;
    ensure!(
        !needed
            .iter()
            .any(|name| is_reference(name) || name.starts_with("libopenblas")),
        "libmlx.so was to have OpenBLAS linked in, but needs {}",
        needed.join(", ")
    );
    Ok(())
}

/// libmlx's bytes, unless a reference BLAS lies beside it.
fn check_no_reference(lib: &Path) -> Result<Vec<u8>> {
    for entry in fs::read_dir(lib)? {
        let name = entry?.file_name();
        ensure!(
            !name.to_str().is_some_and(is_reference),
            "{} holds a reference BLAS, {}, which must never be shipped",
            lib.display(),
            name.display()
        );
    }
    let libmlx = lib.join("libmlx.so");
    fs::read(&libmlx).with_context(|| format!("reading {}", libmlx.display()))
}

fn gnu_triple(target: &Target) -> String {
    target.triple.replace("-unknown-", "-")
}

/// The folders that hold the target's libraries; another processor's are only in its own.
fn folders(target: &Target) -> Vec<PathBuf> {
    let multiarch = Path::new("/usr/lib").join(gnu_triple(target));
    let mut folders = vec![multiarch.join("openblas-pthread"), multiarch];
    if target.arch == env::consts::ARCH {
        folders.extend(["/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    }
    folders
}

/// Whether the archive that [`bundle`] links is on this machine.
pub fn found(target: &Target) -> bool {
    archive(target).is_ok()
}

/// OpenBLAS's static archive: the one that `EMILY_OPENBLAS` names, or the system's.
fn archive(target: &Target) -> Result<PathBuf> {
    let named = settings::openblas();
    let known = match &named {
        Some(path) => vec![path.clone()],
        None => folders(target)
            .into_iter()
            .map(|folder| folder.join(ARCHIVE))
            .collect(),
    };
    if let Some(path) = known.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let looked: Vec<_> = known
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    bail!(
        Failure::new(
            format!("MLX for Linux needs OpenBLAS's static archive, {ARCHIVE}"),
            "cargo xtask setup"
        )
        .fact("looked for", looked.join("\n"))
    );
}

/// The archive in the package for another processor, which this one can hold no other way.
fn of_package(target: &Target) -> Result<Option<PathBuf>> {
    if target.arch == env::consts::ARCH {
        return Ok(None);
    }
    let arch = if target.arch == "aarch64" {
        "arm64"
    } else {
        "amd64"
    };
    let root = debian::unpacked(arch, &[PACKAGE], &target.triple)?;
    let libraries = root.join("usr/lib").join(gnu_triple(target));
    let archive = libraries.join("openblas-pthread").join(ARCHIVE);
    ensure!(
        archive.is_file(),
        "expected {PACKAGE} to have {}",
        archive.display()
    );
    Ok(Some(archive))
}

/// Puts OpenBLAS's licence among the others.
fn license(licenses: &Path) -> Result<()> {
    fs::create_dir_all(licenses)?;
    // Both of Debian's packages carry the same one.
    let known = [PACKAGE, "libopenblas0-pthread"]
        .map(|package| Path::new("/usr/share/doc").join(package).join("copyright"));
    let text = known
        .iter()
        .find(|path| path.is_file())
        .with_context(|| format!("expected OpenBLAS's licence at {}", known[0].display()))?;
    // Not `fs::copy`, which would carry the mode over.
    let bytes = fs::read(text).with_context(|| format!("reading {}", text.display()))?;
    fs::write(licenses.join(LICENSE), bytes)
        .with_context(|| format!("writing {}", licenses.join(LICENSE).display()))
}

#[cfg(test)]
mod tests {
    use super::{is_blas, is_reference};

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

    #[test]
    fn what_is_called_of_blas_is_known_by_its_name() {
        for (name, expected) in [
            ("cblas_sgemm", true),
            ("cheevd_", true),
            ("dgeqrf_", true),
            ("ncclCommInitRank", false),
            ("cublasLtMatmul", false),
            ("__gmon_start__", false),
            ("_", false),
        ] {
            assert_eq!(is_blas(name), expected, "{name}");
        }
    }
}
