//! Waiting for others who work on the same files of the cache.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::failure::Failure;

/// How often a taken lock is tried again.
const POLL: Duration = Duration::from_millis(50);

/// The way out: another folder has other locks.
const ELSEWHERE: &str = "EMILY_CACHE=DIR cargo xtask install, with a folder of your own";

/// A lock that is held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, whose holder works on `resource`, waiting for up to `patience`.
    pub fn acquire(path: &Path, resource: &str, patience: Duration) -> Result<Self> {
        let broken = |error: io::Error| {
            Failure::new("a lock cannot be taken", ELSEWHERE)
                .fact("lock", path.display())
                .fact("reason", error)
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(broken)?;
        let since = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(broken(error).into()),
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience => {
                    return Err(Failure::new(
                        format!("another process still works on {resource}"),
                        ELSEWHERE,
                    )
                    .fact("lock", path.display())
                    .fact("waited", format!("{} s", patience.as_secs()))
                    .into());
                }
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        eprintln!("waiting for another process that works on {resource}");
                        told = true;
                    }
                    thread::sleep(POLL);
                }
            }
        }
    }
}
