//! Raw bindings to mlx-c.
//!
//! Stands in for the crates.io crate of the same name and version, whose build script needs a Mac
//! and a clone of MLX. This one links the prefix that `cargo xtask mlx` fills, on Linux and macOS.
//! [`emily-core`](../emily_core/index.html) is the safe layer over it.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals
)]
#![allow(unsafe_op_in_unsafe_fn, unnecessary_transmutes)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// MLX's functions of elements, in C++: what kernels consist of that are compiled at run time.
pub const ELEMENTS: &str = include_str!(concat!(env!("OUT_DIR"), "/elements.h"));

/// The clock that mlx-rs seeds its random numbers with, which only macOS has.
#[cfg(not(target_os = "macos"))]
#[unsafe(no_mangle)]
pub extern "C" fn mach_approximate_time() -> u64 {
    use std::{sync::OnceLock, time::Instant};

    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
