//! Leaving the VM while MLX computes.
//!
//! The VM halts through C's `exit`, which destroys libmlx's globals under the threads that still
//! compute with them: the VM would hang or crash instead of ending. So the process ends, with the
//! status that was asked for and all output written, before any of these destructors runs.

#[cfg(target_os = "linux")]
pub use linux::skip_destructors;

/// Elsewhere `exit` gives its handlers no status to end with.
#[cfg(not(target_os = "linux"))]
pub fn skip_destructors(_env: rustler::Env<'_>) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        ffi::{c_int, c_void},
        ptr,
    };

    use rustler::{
        Env,
        sys::{ErlNifEnv, ErlNifOption},
    };

    type Handler = extern "C" fn(c_int, *mut c_void);

    unsafe extern "C" {
        // rustler has no name for this one.
        fn enif_set_option(env: *mut ErlNifEnv, option: ErlNifOption, ...) -> c_int;
        fn on_exit(handler: Handler, argument: *mut c_void) -> c_int;
    }

    /// Has the process end in the first of `exit`'s handlers once the VM halts. Call it on load.
    pub fn skip_destructors(env: Env<'_>) {
        // SAFETY: the environment is that of the load callback, as the option demands, and its one
        // argument is a function of the expected type. Where it fails, halting stays as it was.
        unsafe {
            enif_set_option(
                env.as_c_arg(),
                ErlNifOption::ERL_NIF_OPT_ON_HALT,
                on_halt as extern "C" fn(*mut c_void),
            );
        }
    }

    extern "C" fn on_halt(_private_data: *mut c_void) {
        // SAFETY: the handler is of the expected type. Handlers run in the opposite order of their
        // registration, so this one, the latest, runs before those that destroy anything.
        unsafe { on_exit(leave, ptr::null_mut()) };
    }

    extern "C" fn leave(status: c_int, _argument: *mut c_void) {
        emily_core::leave(status)
    }
}
