//! Shared libraries of kernels, which the host's C++ compiler makes at run time and a folder keeps.
//!
//! A library is named by its source and the flags, so programs of the same operations share one, whatever
//! their shapes, also in the next process. It gets its name once it is whole: several processes may make it
//! at once.
//!
//! Whether a compiler was successful is whether there is a library, see [`child`].

use std::{
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{child, graph::prelude};
use crate::Result;

/// Which compiler makes kernels, and where they are kept.
pub struct Kernels {
    /// The compiler: a name in the search path, or a path.
    pub compiler: String,
    /// A folder that nobody else may write to, since what lies in it is run. It is made if it is not there.
    pub folder: PathBuf,
}

/// No contraction, so that a fused operation gives what its parts give. Values lie in each other's memory
/// under several types.
const FLAGS: [&str; 7] = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-w",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
];

/// Libraries in a folder, of some 20 kB each; of more, those that were made first are removed.
const MOST_LIBRARIES: usize = 500;

/// A compiler that takes longer is given up. It takes about a second for a program of hundreds of operations.
const PATIENCE: Duration = Duration::from_secs(300);

/// Or why there are no kernels.
pub(super) type Outcome<T> = std::result::Result<T, String>;

/// Held while a library is made: two programs at a time would often want the same one.
static MAKING: Mutex<()> = Mutex::new(());

impl Kernels {
    /// Has `load` take kernels from a library of these sources.
    pub(super) fn with_library<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a String>,
        load: impl FnOnce(&Path) -> Result<()>,
    ) -> Outcome<()> {
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut source = prelude();
        source.extend(sources.into_iter().map(String::as_str));
        let flags: Vec<_> = FLAGS
            .into_iter()
            .chain(processor_flags().iter().copied())
            .collect();
        let name = format!("{:032x}", digest(&(&source, &flags, &self.compiler)));
        let library = self.folder.join(format!("{name}.so"));
        self.check_folder()?;
        if !library.exists() {
            self.make(&name, &source, &flags)?;
        }
        load(&library).map_err(|error| {
            // Whatever it is, the next process is not to find it.
            let _ = fs::remove_file(&library);
            format!("what {} made cannot be loaded: {error}", self.compiler)
        })
    }

    fn check_folder(&self) -> Outcome<()> {
        let folder = self.folder.display();
        let failed = |error: io::Error| format!("no folder for kernels, {folder}: {error}");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(failed)?;
        let found = fs::metadata(&self.folder).map_err(failed)?;
        // SAFETY: has no conditions.
        let user = unsafe { libc::geteuid() };
        if found.uid() == user && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        Err(format!(
            "expected {folder} to be written to by user {user} alone, got: user {} and mode {:o}",
            found.uid(),
            found.mode() & 0o777
        ))
    }

    fn make(&self, name: &str, source: &str, flags: &[&str]) -> Outcome<()> {
        let folder = self.folder.display();
        let failed = |error: io::Error| format!("no kernels in {folder}: {error}");
        let place = |extension: &str| {
            let process = std::process::id();
            self.folder.join(format!("{name}.{process}.{extension}"))
        };
        let (written, made) = (place("cpp"), place("tmp"));
        let outcome = fs::write(&written, source).map_err(failed).and_then(|()| {
            let said = self.compile(flags, &written, &made)?;
            if !made.exists() {
                return Err(format!(
                    "{} made no library: {}",
                    self.compiler,
                    said.trim()
                ));
            }
            fs::rename(&made, self.folder.join(format!("{name}.so"))).map_err(failed)
        });
        for left in [written, made] {
            let _ = fs::remove_file(left);
        }
        outcome?;
        self.make_room().map_err(failed)
    }

    /// Runs the compiler; returns what it said.
    fn compile(&self, flags: &[&str], source: &Path, made: &Path) -> Outcome<String> {
        let mut arguments: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
        arguments.extend([source.as_os_str(), OsStr::new("-o"), made.as_os_str()]);
        child::run(&self.compiler, &arguments, PATIENCE)
            .map_err(|error| format!("{} cannot be run: {error}", self.compiler))
    }

    /// Removes libraries beyond as many as are kept. What is loaded stays, wherever it is.
    fn make_room(&self) -> io::Result<()> {
        let entries = fs::read_dir(&self.folder)?.flatten();
        let libraries = entries.filter_map(|entry| {
            let path = entry.path();
            let written = entry.metadata().and_then(|found| found.modified());
            let is_library = path.extension().is_some_and(|extension| extension == "so");
            is_library.then(|| (written.unwrap_or(SystemTime::UNIX_EPOCH), path))
        });
        let mut libraries: Vec<_> = libraries.collect();
        libraries.sort();
        let surplus = libraries.len().saturating_sub(MOST_LIBRARIES);
        for (_, path) in libraries.drain(..surplus) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// What this processor has that all kernels gain from. With `fma` a call of a function becomes an
/// instruction, which gives the same.
fn processor_flags() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
    {
        return &["-mavx2", "-mfma", "-mf16c"];
    }
    &[]
}

/// 128 bits. Names of kernels depend on their source, so that a library of another source has none of them.
fn digest(value: &impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, value).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
