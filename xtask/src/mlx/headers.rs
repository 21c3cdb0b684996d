//! The headers that libmlx compiles kernels for NVIDIA's GPUs with while it runs, as one file.
//!
//! MLX's package keeps them as 1900 files in `include/`. They are CCCL's and CUTLASS's; what CUDA itself
//! brings is the host's.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::targets::Selection;

/// The file's name, in a prefix' `lib/` and in archives.
pub const NAME: &str = "mlx-headers.tar";

/// The folders of headers, below `include/`, and the name that each has in the file.
const FOLDERS: [(&str, &str); 4] = [
    ("cccl/cuda", "cuda"),
    ("cccl/nv", "nv"),
    ("cute", "cute"),
    ("cutlass", "cutlass"),
];

/// Packs the headers of `prefix`, where the variant ships them.
pub fn pack(selection: &Selection, prefix: &Path) -> Result<()> {
    if !selection.variant.files.iter().any(|file| file == NAME) {
        return Ok(());
    }
    let include = prefix.join("include");
    let path = prefix.join("lib").join(NAME);
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut tar = tar::Builder::new(BufWriter::new(file));
    for (from, name) in FOLDERS {
        let mut files = Vec::new();
        list(&include.join(from), Path::new(name), &mut files)?;
        ensure!(
            !files.is_empty(),
            "MLX brings no headers in include/{from}, without which it compiles no kernels"
        );
        for (name, path) in files {
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len().try_into()?);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            tar.append_data(&mut header, &name, text.as_slice())?;
        }
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// The files in `folder` and below, by name, so that the same headers make the same file.
fn list(folder: &Path, name: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let name = name.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            list(&path, &name, files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flags::Cell, targets::Targets};

    fn selection(variant: &str) -> Selection {
        let cell = Cell {
            variant: Some(variant.into()),
            target: Some("linux-x86_64".into()),
        };
        Targets::load().unwrap().select(&cell).unwrap()
    }

    /// A prefix with a header in each folder.
    fn prefix() -> tempfile::TempDir {
        let prefix = tempfile::tempdir().unwrap();
        for name in [
            "cccl/cuda/std/array",
            "cccl/nv/target",
            "cute/tensor.hpp",
            "cutlass/cutlass.h",
        ] {
            let path = prefix.path().join("include").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::create_dir_all(prefix.path().join("lib")).unwrap();
        prefix
    }

    #[test]
    fn the_headers_become_one_file_that_is_always_the_same() {
        let one = prefix();
        pack(&selection("cuda13"), one.path()).unwrap();
        let bytes = fs::read(one.path().join("lib").join(NAME)).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let expected = [
            "cuda/std/array",
            "nv/target",
            "cute/tensor.hpp",
            "cutlass/cutlass.h",
        ];
        assert_eq!(names, expected);

        let two = prefix();
        pack(&selection("cuda13"), two.path()).unwrap();
        assert_eq!(fs::read(two.path().join("lib").join(NAME)).unwrap(), bytes);
    }

    #[test]
    fn other_variants_have_none() {
        let folder = tempfile::tempdir().unwrap();
        pack(&selection("cpu"), folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_package_without_headers_is_refused() {
        let one = prefix();
        fs::remove_dir_all(one.path().join("include/cute")).unwrap();
        fs::create_dir(one.path().join("include/cute")).unwrap();
        let error = pack(&selection("cuda13"), one.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "MLX brings no headers in include/cute, without which it compiles no kernels"
        );
    }
}
