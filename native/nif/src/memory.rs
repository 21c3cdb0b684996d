//! MLX's memory.

use emily_core::Memory;
use rustler::{Atom, NifResult, types::atom::ok};

use crate::raise::failed;

/// `%{active: bytes, peak: bytes, cache: bytes}`
#[rustler::nif]
fn memory() -> NifResult<Memory> {
    emily_core::memory().map_err(failed)
}

/// The first of these alone.
#[rustler::nif]
fn active_memory() -> NifResult<usize> {
    emily_core::active_memory().map_err(failed)
}

#[rustler::nif]
fn reset_peak_memory() -> NifResult<Atom> {
    emily_core::reset_peak_memory()
        .map(|()| ok())
        .map_err(failed)
}

/// The system may take its time, hence off the schedulers.
#[rustler::nif(schedule = "DirtyIo")]
fn clear_cache() -> NifResult<Atom> {
    emily_core::clear_cache().map(|()| ok()).map_err(failed)
}
