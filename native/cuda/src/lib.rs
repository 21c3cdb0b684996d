//! libemily_cuda: has CUDA's libraries loaded before libemily, which needs them.
//!
//! The loader looks for what a library needs in the system's folders and those of its run path, and
//! CUDA may be in neither: pip puts it into a folder of Python's. But what is loaded already, it takes
//! by name from wherever it came. So these few functions load CUDA's libraries by their paths, and
//! tell MLX where the headers are that it compiles kernels with. Which paths those are, Elixir decides.

use std::{
    ffi::{CStr, CString},
    ptr,
};

use rustler::NifResult;

/// Loads the library at `path`, unless one of this name is loaded already.
#[rustler::nif(schedule = "DirtyIo")]
fn open(name: &str, path: &str) -> NifResult<Result<(), String>> {
    let (name, path) = (c_string(name)?, c_string(path)?);
    // SAFETY: both are strings that end in a zero. The libraries are NVIDIA's, which may run code of
    // theirs when they are loaded, as they would if libemily needed them at these places.
    let opened = unsafe {
        let loaded = libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if loaded.is_null() {
            libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL)
        } else {
            loaded
        }
    };
    // What was opened is never closed: it has to be there for as long as libemily is.
    Ok(if opened.is_null() { Err(why()) } else { Ok(()) })
}

/// Sets a variable of the process' environment, which the VM's own functions leave alone.
#[rustler::nif]
fn set_variable(name: &str, value: &str) -> NifResult<bool> {
    let (name, value) = (c_string(name)?, c_string(value)?);
    // SAFETY: both are strings that end in a zero. The C library's lock keeps calls of this kind
    // apart. Before glibc 2.41 a thread that reads the environment at this very moment may read the
    // old list; it is read through by then, and this happens twice in a VM's life, before MLX starts.
    Ok(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) == 0 })
}

fn c_string(text: &str) -> NifResult<CString> {
    CString::new(text).map_err(|_| rustler::Error::BadArg)
}

/// Why the last library did not load.
fn why() -> String {
    // SAFETY: the loader's message, if there is one, is a string that ends in a zero, and this
    // thread's until its next call of the loader.
    unsafe {
        let text = libc::dlerror();
        if ptr::eq(text, ptr::null()) {
            return "the loader gives no reason".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

rustler::init!("Elixir.Emily.Native.Cuda");
