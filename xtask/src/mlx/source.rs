//! MLX built from its own sources, at the pinned tag or at a revision that was asked for.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    checkout::{self, Tagged},
    openblas, wheel,
};
use crate::{failure::Failure, pin::Pin, process, progress, setup, targets::Selection, workspace};

/// Keeps what is compiled here loadable by the glibc that releases promise.
const GLIBC: &str = "native/mlx-sys/shim/glibc.h";

/// What a build was made from.
#[derive(Debug)]
pub struct Built {
    /// The commit.
    pub revision: String,
    /// The version of MLX, as its sources have it.
    pub version: String,
}

/// Fills the empty folder `prefix`; `rev` stands in for the pinned tag.
pub fn fill(pin: &Pin, selection: &Selection, rev: Option<&str>, prefix: &Path) -> Result<Built> {
    let target = &selection.target;
    ensure!(
        target.os == env::consts::OS && target.arch == env::consts::ARCH,
        "MLX is built from sources on the target itself: expected a {} host, got: {} on {}",
        selection.target_name,
        env::consts::OS,
        env::consts::ARCH
    );
    setup::require(&setup::Need::SOURCE)?;
    let (sources, revision) = checkout(pin, selection, rev)?;
    let version = version(&sources)?;
    let build = workspace::target_dir().join("mlx-build").join(format!(
        "{}-{}",
        selection.variant_name, selection.target_name
    ));
    let offered = offer(&build, selection)?;
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&sources).arg("-B").arg(&build);
    // The folder keeps the generator that it began with.
    if !build.join("CMakeCache.txt").exists() && has_ninja() {
        configure.args(["-G", "Ninja"]);
    }
    let options = configuration(pin, selection, &sources, &offered);
    process::run(configure.args(&options)).map_err(|error| {
        Failure::new(
            "MLX could not be configured",
            "cargo xtask setup --from-source",
        )
        .because(&error)
    })?;
    let mut make = Command::new("cmake");
    make.arg("--build").arg(&build);
    if env::var_os("CMAKE_BUILD_PARALLEL_LEVEL").is_none() {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        make.args(["--parallel", &jobs.to_string()]);
    }
    process::run(&mut make).with_context(|| format!("MLX did not build in {}", build.display()))?;
    process::run(
        Command::new("cmake")
            .arg("--install")
            .arg(&build)
            .arg("--prefix")
            .arg(prefix)
            .arg("--strip"),
    )?;

    let licenses = prefix.join("licenses");
    fs::create_dir_all(&licenses)?;
    fs::copy(sources.join("LICENSE"), licenses.join("LICENSE-mlx"))?;
    if target.os == "linux" {
        openblas::inside(&prefix.join("lib"), &licenses)?;
    }
    Ok(Built { revision, version })
}

/// `mlx_src/mlx/` at the pinned tag or at `rev`, and the commit that this is.
fn checkout(pin: &Pin, selection: &Selection, rev: Option<&str>) -> Result<(PathBuf, String)> {
    let place = workspace::root().join("mlx_src/mlx");
    let tagged = Tagged {
        git: &pin.mlx.git,
        tag: &pin.mlx.tag,
        revision: pin.mlx.revision.as_deref(),
    };
    let held = match rev {
        Some(rev) => checkout::held_at(&place, rev),
        None => tagged.held_by(&place),
    };
    if let Some(revision) = held {
        return Ok((place, revision));
    }
    let wanted = rev.unwrap_or(&pin.mlx.tag);
    let step = progress::step(format!("cloning MLX {wanted}"));
    let parent = workspace::folder_of(&place)?;
    let cloned = match rev {
        Some(rev) => checkout::clone_at(&pin.mlx.git, rev, parent),
        None => tagged.clone_into(parent),
    };
    let (draft, revision) = cloned.map_err(|error| {
        let from = wheel::pinned(pin, selection).map_or("source", |_| "wheel");
        let next = format!(
            "cargo xtask mlx --variant {} --target {} --from {from}",
            selection.variant_name, selection.target_name
        );
        Failure::new("MLX's sources could not be had", next)
            .because(&error)
            .fact("or", "--rev REVISION builds another commit than the tag's")
    })?;
    workspace::replace_folder(draft, &place)?;
    step.finish(&format!("at {revision}"));
    Ok((place, revision))
}

/// The version that `mlx/version.h` says the sources are.
fn version(sources: &Path) -> Result<String> {
    let path = sources.join("mlx/version.h");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    version_in(&text).with_context(|| format!("{} tells no version", path.display()))
}

fn version_in(header: &str) -> Option<String> {
    let part = |name: &str| {
        let define = format!("#define MLX_VERSION_{name} ");
        let line = header.lines().find_map(|line| line.strip_prefix(&define))?;
        line.trim().parse::<u32>().ok()
    };
    let (major, minor, patch) = (part("MAJOR")?, part("MINOR")?, part("PATCH")?);
    Some(format!("{major}.{minor}.{patch}"))
}

fn has_ninja() -> bool {
    process::output(Command::new("ninja").arg("--version")).is_ok()
}

/// Makes a folder of what MLX's CMakeLists is to find in place of downloads.
fn offer(build: &Path, selection: &Selection) -> Result<PathBuf> {
    let place = build.with_extension("offered");
    fs::create_dir_all(&place)?;
    if selection.target.os == "linux" {
        openblas::offer(&place, &selection.target)?;
        // MLX asks for the header by the name that it has in the archive of nlohmann's releases.
        let json = place.join("json/single_include/nlohmann");
        fs::create_dir_all(&json)?;
        write_if_new(&json.join("json.hpp"), "#include <nlohmann/json.hpp>\n")?;
    } else {
        // Of MLX's libraries only libmlx ships.
        write_if_new(&place.join("static.cmake"), "set(BUILD_SHARED_LIBS OFF)\n")?;
    }
    Ok(place)
}

/// Leaves a file alone that says this already: what includes it is not compiled again.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The options of MLX's own CMakeLists that make a library to ship.
fn configuration(pin: &Pin, selection: &Selection, sources: &Path, offered: &Path) -> Vec<String> {
    let mut options = vec![
        "CMAKE_BUILD_TYPE=Release".to_owned(),
        "CMAKE_INSTALL_LIBDIR=lib".to_owned(),
        "BUILD_SHARED_LIBS=ON".to_owned(),
        "MLX_BUILD_TESTS=OFF".to_owned(),
        "MLX_BUILD_EXAMPLES=OFF".to_owned(),
        // Emily reads safetensors; without GGUF one source less is fetched.
        "MLX_BUILD_GGUF=OFF".to_owned(),
    ];
    let own = pin.mlx.cmake.get(&selection.variant_name);
    options.extend(
        own.into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}")),
    );
    // Nobody learns from a release in which folder it was made.
    let mut flags = format!("-ffile-prefix-map={}=mlx", sources.display());
    if let Some(floor) = selection.variant.floors.get("macos") {
        options.push(format!("CMAKE_OSX_DEPLOYMENT_TARGET={floor}"));
        options.push(format!(
            "CMAKE_PROJECT_jaccl_INCLUDE={}",
            offered.join("static.cmake").display()
        ));
    }
    if selection.target.os == "linux" {
        let glibc = workspace::root().join(GLIBC);
        flags = format!("-include {} -ffunction-sections {flags}", glibc.display());
        options.extend(linux(offered));
        if !options.iter().any(|option| option == "MLX_BUILD_CUDA=ON") {
            // What MLX's part for CUDA is made of is in no distribution.
            options.push("FETCHCONTENT_FULLY_DISCONNECTED=ON".to_owned());
        }
    }
    options.push(format!("CMAKE_CXX_FLAGS={flags}"));
    options
        .into_iter()
        .map(|option| format!("-D{option}"))
        .collect()
}

/// The options on Linux: installed packages in place of downloads, and OpenBLAS within libmlx.
fn linux(offered: &Path) -> Vec<String> {
    vec![
        "USE_SYSTEM_FMT=ON".to_owned(),
        "FETCHCONTENT_TRY_FIND_PACKAGE_MODE=ALWAYS".to_owned(),
        format!(
            "FETCHCONTENT_SOURCE_DIR_JSON={}",
            offered.join("json").display()
        ),
        "BLA_VENDOR=OpenBLAS".to_owned(),
        "BLA_STATIC=ON".to_owned(),
        format!("CMAKE_PREFIX_PATH={}", offered.display()),
        "CMAKE_INSTALL_RPATH=$ORIGIN".to_owned(),
        // An old-style run path also holds for the libraries beside libmlx. OpenBLAS's functions are
        // nobody else's: another BLAS in the VM keeps its own.
        "CMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags -Wl,--exclude-libs,ALL \
         -Wl,--gc-sections -Wl,--build-id=none"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{configuration, version_in};
    use crate::{flags::Cell, pin::Pin, targets::Targets};

    fn options(variant: &str, target: &str) -> Vec<String> {
        let cell = Cell {
            variant: Some(variant.into()),
            target: Some(target.into()),
        };
        let selection = Targets::load().unwrap().select(&cell).unwrap();
        let (sources, offered) = (Path::new("/sources"), Path::new("/offered"));
        configuration(&Pin::load().unwrap(), &selection, sources, offered)
    }

    #[test]
    fn each_variant_gets_its_own_options() {
        let offline = "-DFETCHCONTENT_FULLY_DISCONNECTED=ON";
        for (variant, target, option, expected) in [
            ("jit", "macos-arm64", "-DMLX_METAL_JIT=ON", true),
            ("aot", "macos-arm64", "-DMLX_METAL_JIT=ON", false),
            (
                "aot",
                "macos-arm64",
                "-DCMAKE_OSX_DEPLOYMENT_TARGET=14.0",
                true,
            ),
            (
                "jit",
                "macos-arm64",
                "-DCMAKE_OSX_DEPLOYMENT_TARGET=26.2",
                true,
            ),
            (
                "jit",
                "macos-arm64",
                "-DCMAKE_PROJECT_jaccl_INCLUDE=/offered/static.cmake",
                true,
            ),
            (
                "aot",
                "macos-arm64",
                "-DCMAKE_CXX_FLAGS=-ffile-prefix-map=/sources=mlx",
                true,
            ),
            ("cuda12", "linux-x86_64", "-DMLX_BUILD_CUDA=ON", true),
            ("cuda13", "linux-x86_64", "-DMLX_BUILD_CUDA=ON", true),
            ("cpu", "linux-x86_64", "-DMLX_BUILD_CUDA=ON", false),
            ("cpu", "linux-x86_64", offline, true),
            ("cuda13", "linux-x86_64", offline, false),
            ("aot", "macos-arm64", offline, false),
            ("cpu", "linux-x86_64", "-DBLA_STATIC=ON", true),
            ("aot", "macos-arm64", "-DBLA_STATIC=ON", false),
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

    #[test]
    fn the_version_is_read_from_the_header() {
        let header = "#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 32\n\
                      #define MLX_VERSION_PATCH 2\n#define MLX_VERSION_NUMERIC \\\n";
        assert_eq!(version_in(header).as_deref(), Some("0.32.2"));
        assert_eq!(version_in("#define MLX_VERSION_MAJOR 0\n"), None);
    }
}
