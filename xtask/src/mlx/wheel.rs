//! MLX from its official Python package: headers, `libmlx`, and on macOS its kernels.

use std::{
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::openblas;
use crate::{
    failure::Failure,
    pin::{Pin, Wheel},
    process, progress,
    targets::Selection,
};

/// The package and the file pinned for `selection`.
pub fn pinned<'pin>(pin: &'pin Pin, selection: &Selection) -> Result<(&'pin str, &'pin Wheel)> {
    pin.mlx
        .wheels
        .get(&selection.variant_name)
        .and_then(|wheels| {
            let wheel = wheels.files.get(&selection.target_name)?;
            Some((wheels.package.as_str(), wheel))
        })
        .ok_or_else(|| {
            let (variant, target) = (&selection.variant_name, &selection.target_name);
            Failure::new(
                format!("mlx_src/pin.json pins no wheel of MLX for {variant} on {target}"),
                format!("cargo xtask mlx --variant {variant} --target {target} --from source"),
            )
            .into()
        })
}

/// Fills the empty folder `prefix`.
pub fn fill(pin: &Pin, selection: &Selection, prefix: &Path) -> Result<()> {
    let (package, wheel) = pinned(pin, selection)?;
    let scratch = tempfile::tempdir()?;
    let file = download(package, &pin.mlx.version, wheel, scratch.path())?;
    let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let actual = format!("{:x}", Sha256::digest(&bytes));
    if actual != wheel.sha256 {
        bail!(
            Failure::new(
                format!(
                    "{package} {} is not the file that mlx_src/pin.json pins",
                    pin.mlx.version
                ),
                "cargo xtask mlx"
            )
            .fact("expected", &wheel.sha256)
            .fact("actual", actual)
        );
    }
    unpack(&bytes, prefix).with_context(|| format!("unpacking {}", file.display()))?;
    if selection.target.os == "linux" {
        openblas::bundle(
            &prefix.join("lib"),
            &prefix.join("licenses"),
            &selection.target,
        )?;
    }
    Ok(())
}

/// Has pip fetch the wheel into `folder`; pip knows the user's index, mirror and proxy.
fn download(package: &str, version: &str, wheel: &Wheel, folder: &Path) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    fs::write(
        &requirements,
        format!("{package}=={version} --hash=sha256:{}\n", wheel.sha256),
    )?;
    let step = progress::step(format!("fetching {package} {version}"));
    process::output(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--disable-pip-version-check",
                "--quiet",
            ])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
            .arg(format!("--platform={}", wheel.platform))
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(folder),
    )
    .map_err(|error| {
        Failure::new("pip could not fetch MLX's package", "cargo xtask setup").because(&error)
    })?;
    let file = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("pip left no wheel in {}", folder.display()))?;
    step.finish(&progress::size(fs::metadata(&file)?.len()));
    Ok(file)
}

/// Where a file of the wheel goes in the prefix; `None` for one that is not needed.
///
/// The wheel brings a reference BLAS in `<package>.libs/`, which is left out here.
fn place(name: &Path) -> Option<PathBuf> {
    if let Ok(header) = name.strip_prefix("mlx/include") {
        return Some(Path::new("include").join(header));
    }
    let file = name.file_name()?.to_str()?;
    match name.parent()?.to_str()? {
        "mlx/lib" if ["libmlx.so", "libmlx.dylib", "mlx.metallib"].contains(&file) => {
            Some(Path::new("lib").join(file))
        }
        folder if file == "LICENSE" && folder.ends_with(".dist-info/licenses") => {
            Some("licenses/LICENSE-mlx".into())
        }
        _ => None,
    }
}

fn unpack(bytes: &[u8], prefix: &Path) -> Result<()> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        // `enclosed_name` refuses a path that leaves the folder.
        let Some(place) = entry.enclosed_name().as_deref().and_then(place) else {
            continue;
        };
        if entry.is_dir() {
            continue;
        }
        let path = prefix.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        io::copy(&mut entry, &mut fs::File::create(&path)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    for needed in ["include/mlx/mlx.h", "licenses/LICENSE-mlx"] {
        if !prefix.join(needed).is_file() {
            bail!("the wheel holds nothing that becomes {needed}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::place;

    #[test]
    fn only_headers_libraries_and_the_licence_are_kept() {
        for (name, expected) in [
            ("mlx/include/mlx/mlx.h", Some("include/mlx/mlx.h")),
            ("mlx/include/mlx/io/load.h", Some("include/mlx/io/load.h")),
            ("mlx/lib/libmlx.so", Some("lib/libmlx.so")),
            ("mlx/lib/mlx.metallib", Some("lib/mlx.metallib")),
            (
                "mlx_cpu-0.32.2.dist-info/licenses/LICENSE",
                Some("licenses/LICENSE-mlx"),
            ),
            ("mlx_cpu.libs/libblas-bd8a282c.so.3.10.0", None),
            ("mlx/share/cmake/MLX/MLXConfig.cmake", None),
            ("mlx_cpu-0.32.2.dist-info/METADATA", None),
        ] {
            assert_eq!(
                place(Path::new(name)).as_deref(),
                expected.map(Path::new),
                "{name}"
            );
        }
    }
}
