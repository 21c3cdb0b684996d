//! The end of a process that has used MLX.

use std::{
    ffi::{c_int, c_void},
    io::{Write, stdout},
    ptr,
};

unsafe extern "C" {
    fn fflush(stream: *mut c_void) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Ends the process with all output written, and before libmlx's globals are destroyed: on CUDA that may abort
/// the process, since the driver may have gone before them, and elsewhere it takes them from under threads that
/// still compute.
pub fn leave(status: i32) -> ! {
    // There is nobody left to tell.
    let _ = stdout().flush();
    // SAFETY: no stream means all of them, and nothing is used after the end.
    unsafe {
        fflush(ptr::null_mut());
        _exit(status)
    }
}
