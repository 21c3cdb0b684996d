//! MLX built from its own sources, at the pinned tag.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{checkout::Tagged, openblas, wheel};
use crate::{failure::Failure, pin::Pin, process, progress, setup, targets::Selection, workspace};

/// Fills the empty folder `prefix`, and returns the commit that MLX was built from.
pub fn fill(pin: &Pin, selection: &Selection, prefix: &Path) -> Result<String> {
    ensure!(
        selection.target.os == std::env::consts::OS
            && selection.target.arch == std::env::consts::ARCH,
        "MLX is built from sources on the target itself: expected a {} host, got: {} on {}",
        selection.target_name,
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    setup::require(&setup::Need::SOURCE)?;
    let (sources, revision) = checkout(pin, selection)?;
    let build = workspace::target_dir().join("mlx-build").join(format!(
        "{}-{}",
        selection.variant_name, selection.target_name
    ));
    let configure = configuration(pin, selection);
    process::run(
        Command::new("cmake")
            .arg("-S")
            .arg(&sources)
            .arg("-B")
            .arg(&build)
            .arg(format!("-DCMAKE_INSTALL_PREFIX={}", prefix.display()))
            .args(&configure),
    )
    .map_err(|error| {
        Failure::new(
            "MLX could not be configured",
            "cargo xtask setup --from-source",
        )
        .because(&error)
    })?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    process::run(Command::new("cmake").arg("--build").arg(&build).args([
        "--target",
        "install",
        "--parallel",
        &jobs.to_string(),
    ]))
    .with_context(|| format!("MLX did not build in {}", build.display()))?;

    let licenses = prefix.join("licenses");
    fs::create_dir_all(&licenses)?;
    fs::copy(sources.join("LICENSE"), licenses.join("LICENSE-mlx"))?;
    if selection.target.os == "linux" {
        openblas::bundle(&prefix.join("lib"), &licenses, &selection.target)?;
    }
    Ok(revision)
}

/// `mlx_src/mlx/` at the pinned tag, and the commit that this is.
fn checkout(pin: &Pin, selection: &Selection) -> Result<(PathBuf, String)> {
    let place = workspace::root().join("mlx_src/mlx");
    let tagged = Tagged {
        git: &pin.mlx.git,
        tag: &pin.mlx.tag,
        revision: pin.mlx.revision.as_deref(),
    };
    if let Some(revision) = tagged.held_by(&place) {
        return Ok((place, revision));
    }
    let step = progress::step(format!("cloning MLX {}", pin.mlx.tag));
    let (draft, revision) = tagged
        .clone_into(workspace::folder_of(&place)?)
        .map_err(|error| {
            let from = wheel::pinned(pin, selection).map_or("source", |_| "wheel");
            let next = format!(
                "cargo xtask mlx --variant {} --target {} --from {from}",
                selection.variant_name, selection.target_name
            );
            Failure::new("MLX's sources could not be had", next).because(&error)
        })?;
    workspace::replace_folder(draft, &place)?;
    step.finish(&format!("at {revision}"));
    Ok((place, revision))
}

/// The options of MLX's own CMakeLists that make a library to ship.
fn configuration(pin: &Pin, selection: &Selection) -> Vec<String> {
    let mut options = vec![
        "CMAKE_BUILD_TYPE=Release".to_owned(),
        "CMAKE_INSTALL_LIBDIR=lib".to_owned(),
        "BUILD_SHARED_LIBS=ON".to_owned(),
        "MLX_BUILD_TESTS=OFF".to_owned(),
        "MLX_BUILD_EXAMPLES=OFF".to_owned(),
        // Emily reads safetensors; without GGUF one source less is fetched.
        "MLX_BUILD_GGUF=OFF".to_owned(),
    ];
    if let Some(floor) = selection.variant.floors.get("macos") {
        options.push(format!("CMAKE_OSX_DEPLOYMENT_TARGET={floor}"));
    }
    if selection.target.os == "linux" {
        // Installed packages before downloads, as far as MLX asks for them.
        options.push("USE_SYSTEM_FMT=ON".to_owned());
        options.push("FETCHCONTENT_TRY_FIND_PACKAGE_MODE=ALWAYS".to_owned());
        options.push("BLA_VENDOR=OpenBLAS".to_owned());
        options.push("CMAKE_INSTALL_RPATH=$ORIGIN".to_owned());
        // An old-style run path also holds for the libraries beside libmlx.
        options.push("CMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags".to_owned());
    }
    let own = pin.mlx.cmake.get(&selection.variant_name);
    options.extend(
        own.into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}")),
    );
    options
        .into_iter()
        .map(|option| format!("-D{option}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::configuration;
    use crate::{flags::Cell, pin::Pin, targets::Targets};

    fn options(variant: &str, target: &str) -> Vec<String> {
        let cell = Cell {
            variant: Some(variant.into()),
            target: Some(target.into()),
        };
        let selection = Targets::load().unwrap().select(&cell).unwrap();
        configuration(&Pin::load().unwrap(), &selection)
    }

    #[test]
    fn each_variant_gets_its_own_options() {
        for (variant, target, option, expected) in [
            ("jit", "macos-arm64", "-DMLX_METAL_JIT=ON", true),
            ("aot", "macos-arm64", "-DMLX_METAL_JIT=ON", false),
            (
                "aot",
                "macos-arm64",
                "-DCMAKE_OSX_DEPLOYMENT_TARGET=14.0",
                true,
            ),
            ("cuda13", "linux-x86_64", "-DMLX_BUILD_CUDA=ON", true),
            ("cpu", "linux-x86_64", "-DMLX_BUILD_CUDA=ON", false),
            ("cpu", "linux-x86_64", "-DBLA_VENDOR=OpenBLAS", true),
            ("aot", "macos-arm64", "-DBLA_VENDOR=OpenBLAS", false),
            ("cpu", "linux-x86_64", "-DUSE_SYSTEM_FMT=ON", true),
            ("aot", "macos-arm64", "-DUSE_SYSTEM_FMT=ON", false),
            (
                "cpu",
                "linux-x86_64",
                "-DFETCHCONTENT_TRY_FIND_PACKAGE_MODE=ALWAYS",
                true,
            ),
        ] {
            let given = options(variant, target);
            assert_eq!(
                given.iter().any(|one| one == option),
                expected,
                "{variant}: {given:?}"
            );
        }
    }
}
