//! The memory that tensors hold.

use emily_core::Memory;
use rustler::{Atom, NifResult, Term, types::atom::ok};

use crate::{
    inspect::inspect,
    raise::{argument, failed},
};

/// `%{active: bytes, peak: bytes, cache: bytes, adopted: bytes}`
#[rustler::nif]
fn memory() -> NifResult<Memory> {
    emily_core::memory().map_err(failed)
}

/// The first and the last of these together.
#[rustler::nif]
fn held_memory() -> NifResult<usize> {
    emily_core::held_memory().map_err(failed)
}

#[rustler::nif]
fn reset_peak_memory() -> NifResult<Atom> {
    emily_core::reset_peak_memory()
        .map(|()| ok())
        .map_err(failed)
}

/// Returns the limit before.
#[rustler::nif]
fn set_memory_limit(limit: Term<'_>) -> NifResult<usize> {
    emily_core::set_memory_limit(bytes(limit)?).map_err(failed)
}

/// Returns the limit before.
#[rustler::nif]
fn set_cache_limit(limit: Term<'_>) -> NifResult<usize> {
    emily_core::set_cache_limit(bytes(limit)?).map_err(failed)
}

/// Returns the limit before.
#[rustler::nif]
fn set_wired_limit(limit: Term<'_>) -> NifResult<usize> {
    emily_core::set_wired_limit(bytes(limit)?).map_err(failed)
}

fn bytes(limit: Term<'_>) -> NifResult<usize> {
    limit.decode().map_err(|_| {
        argument(format!(
            "expected :limit to be a number of bytes, got: {}",
            inspect(limit)
        ))
    })
}

/// The system may take its time, hence off the schedulers.
#[rustler::nif(schedule = "DirtyIo")]
fn clear_cache() -> NifResult<Atom> {
    emily_core::clear_cache().map(|()| ok()).map_err(failed)
}
