//! `cargo xtask nif`: builds libemily and puts it, with its companions, into `priv/`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cross,
    failure::Failure,
    flags::{self, Provider},
    mlx, nowhere, process, settings, setup,
    targets::{Selection, Targets},
    workspace,
};

/// What has CUDA's libraries loaded, in the variants for it.
const CUDA: &str = "libemily_cuda.so";

/// A file of a build and the name that it ships under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub path: PathBuf,
}

/// All that one variant for one target ships, but for its manifest.
#[derive(Debug)]
pub struct Built {
    /// libemily first, then its companions.
    pub libraries: Vec<File>,
    /// Emily's own licence.
    pub license: File,
    /// The folder of the licences of what came with MLX.
    pub licenses: PathBuf,
    /// The MLX inside.
    pub mlx: mlx::Prefix,
}

/// Runs the command.
pub fn run(flags: &flags::Nif) -> Result<()> {
    let targets = Targets::load()?;
    let built = build(&targets.select(&flags.cell)?, flags.from)?;
    let place = workspace::root().join("priv");
    install(&built.libraries, &place, &targets)?;
    for file in &built.libraries {
        println!("{}", place.join(&file.name).display());
    }
    Ok(())
}

/// Builds libemily against the variant's prefix, which is filled if need be.
pub fn build(selection: &Selection, from: Option<Provider>) -> Result<Built> {
    setup::require(&setup::Need::BUILD)?;
    let prefix = mlx::prefix(selection, from)?;
    let (mut cargo, folder) = command(selection, from, "build", &prefix)?;
    cargo.arg("--release");
    for (package, _) in packages(selection) {
        cargo.args(["--package", package]);
    }
    process::run(&mut cargo).map_err(|error| {
        Failure::new("libemily did not build", "cargo xtask setup").because(&error)
    })?;

    let allowed = &selection.variant.files;
    let mut libraries = Vec::new();
    for (_, name) in packages(selection) {
        let path = folder.join("release").join(&name);
        ensure!(path.is_file(), "Cargo left no {}", path.display());
        libraries.push(File { name, path });
    }
    libraries.extend(listed(&prefix.join("lib"), allowed)?);
    Ok(Built {
        libraries,
        license: File {
            name: "LICENSE".into(),
            path: workspace::root().join("LICENSE"),
        },
        licenses: prefix.join("licenses"),
        mlx: mlx::read(&prefix)?,
    })
}

/// The crates that the variant ships, libemily's first, and the library that each becomes.
fn packages(selection: &Selection) -> Vec<(&'static str, String)> {
    let mut packages = vec![("emily-nif", selection.target.library.clone())];
    if selection.variant.files.iter().any(|file| file == CUDA) {
        packages.push(("emily-cuda", CUDA.to_owned()));
    }
    packages
}

/// Cargo's `command` for `selection` against `prefix`, up to the packages that it is for, and the folder of
/// the profiles that it builds.
pub fn command(
    selection: &Selection,
    from: Option<Provider>,
    command: &str,
    prefix: &Path,
) -> Result<(Command, PathBuf)> {
    let mut cargo = if cross::is_needed(selection) {
        cross::cargo(selection, command, prefix)?
    } else {
        let mut cargo = Command::new(workspace::cargo());
        cargo.arg(command);
        cargo
    };
    cargo.current_dir(workspace::root());
    let mut folder = match apart(selection, from)? {
        Some(folder) => {
            cargo.env(settings::MLX_PREFIX, prefix);
            folder
        }
        None => {
            // What mlx-sys looks for by itself. The variable set to the same folder would compile
            // all of it anew after each `cargo build` without it.
            cargo.env_remove(settings::MLX_PREFIX);
            workspace::target_dir()
        }
    };
    cargo.arg("--target-dir").arg(&folder);
    if cross::is_needed(selection) {
        folder.push(&selection.target.triple);
    }
    nowhere::hide(&mut cargo, &folder)?;
    Ok((cargo, folder))
}

/// The Cargo folder of what is built against another prefix than the one that mlx-sys looks for by
/// itself: going from one to another compiles neither again.
fn apart(selection: &Selection, from: Option<Provider>) -> Result<Option<PathBuf>> {
    let targets = Targets::load()?;
    let host = targets
        .host()
        .is_ok_and(|host| host == selection.target_name);
    let name = mlx::place_name(selection, from)?;
    let usual = format!(
        "{}-{}",
        selection.target.default_variant, selection.target_name
    );
    let apart = !host || name != usual;
    Ok(apart.then(|| workspace::target_dir().join("native").join(name)))
}

/// Cargo, as it builds against what `EMILY_VARIANT` and `EMILY_MLX_FROM` ask for.
pub fn cargo() -> Result<Command> {
    let selection = Targets::load()?.select(&flags::Cell::default())?;
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(workspace::root());
    if let Some(folder) = apart(&selection, None)? {
        let name = mlx::place_name(&selection, None)?;
        cargo.env(settings::MLX_PREFIX, workspace::mlx_prefix(&name));
        cargo.env("CARGO_TARGET_DIR", folder);
    }
    Ok(cargo)
}

/// The files of `folder` that the variant may ship, by name.
fn listed(folder: &Path, allowed: &[String]) -> Result<Vec<File>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let present = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<BTreeSet<_>>>()?;
    let listed = present.into_iter().filter(|name| allowed.contains(name));
    Ok(listed
        .map(|name| File {
            path: folder.join(&name),
            name,
        })
        .collect())
}

/// Makes `place` hold these libraries and no other build's.
fn install(libraries: &[File], place: &Path, targets: &Targets) -> Result<()> {
    let kept: BTreeSet<_> = libraries.iter().map(|file| file.name.as_str()).collect();
    let known = targets.variants.values().flat_map(|variant| &variant.files);
    for stale in known.filter(|name| !kept.contains(name.as_str())) {
        // Another variant's library, or the manifest of an installed release.
        match fs::remove_file(place.join(stale)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("removing {stale} from {}", place.display()));
            }
            _ => {}
        }
    }
    for file in libraries {
        let new =
            fs::read(&file.path).with_context(|| format!("reading {}", file.path.display()))?;
        let place = place.join(&file.name);
        if !fs::read(&place).is_ok_and(|old| old == new) {
            workspace::place_file(&file.path, &place, 0o755)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn file(folder: &Path, name: &str, text: &str) -> File {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        File {
            name: name.into(),
            path,
        }
    }

    #[test]
    fn only_allow_listed_files_ship() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libmlx.so", "libgfortran.so.5", "libblas.so.3", "notes"] {
            file(folder.path(), name, "");
        }
        let allowed = ["libmlx.so", "libgfortran.so.5", "mlx.metallib"].map(str::to_owned);
        let names: Vec<_> = listed(folder.path(), &allowed)
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect();
        assert_eq!(names, ["libgfortran.so.5", "libmlx.so"]);
    }

    #[test]
    fn installing_replaces_files_and_removes_what_another_build_left() {
        let (build, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let libraries = [
            file(build.path(), "libemily.so", "new"),
            file(build.path(), "libmlx.so", "same"),
        ];
        for (name, text) in [
            ("libemily.so", "old"),
            ("libmlx.so", "same"),
            ("libemily.dylib", "another target's"),
            ("manifest.json", "{}"),
            (".gitkeep", ""),
        ] {
            file(place.path(), name, text);
        }
        let inode = |name: &str| fs::metadata(place.path().join(name)).unwrap().ino();
        let (changed, unchanged) = (inode("libemily.so"), inode("libmlx.so"));
        install(&libraries, place.path(), &Targets::load().unwrap()).unwrap();

        let mut names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".gitkeep", "libemily.so", "libmlx.so"]);
        assert_eq!(
            fs::read_to_string(place.path().join("libemily.so")).unwrap(),
            "new"
        );
        // A VM may have the old file mapped: it must not have been written into.
        assert_ne!(inode("libemily.so"), changed);
        assert_eq!(inode("libmlx.so"), unchanged);
    }
}
