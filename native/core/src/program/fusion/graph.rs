//! Graphs of MLX that were built once and are added again, with elementwise operations put together.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
};

use mlx_sys as sys;

use crate::{Array, Error, Result, TensorType, error::take_message, mlx::ArrayList};

/// A graph, for inputs of certain types and shapes, and for one stream.
pub(super) struct Graph(sys::emily_fusion);

// SAFETY: nothing changes it but `load`, which takes it mutably; what it holds are arrays that nothing
// computes, which MLX only reads, and reference counts, which are atomic.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

/// An array that stands for others while a graph is built.
pub(super) fn placeholder(ty: &TensorType) -> Result<Array> {
    let carried = ty.carried();
    let dims = carried.shape.dims();
    let dtype = carried.ty.to_mlx();
    // SAFETY: the sizes are read before the call returns, and the result's handle is writable.
    Array::from_call(|out| unsafe {
        sys::emily_placeholder(out, dims.as_ptr(), dims.len() as i32, dtype)
    })
}

impl Graph {
    /// The graph that leads from these inputs, which are placeholders, to these outputs.
    pub(super) fn new<'a>(
        inputs: impl IntoIterator<Item = &'a Array>,
        outputs: impl IntoIterator<Item = &'a Array>,
    ) -> Result<Self> {
        let (inputs, outputs) = (ArrayList::new(inputs)?, ArrayList::new(outputs)?);
        let mut graph = sys::emily_fusion {
            ctx: ptr::null_mut(),
        };
        // SAFETY: the lists are live, and the handle is writable.
        match unsafe { sys::emily_fusion_new(&raw mut graph, inputs.raw(), outputs.raw()) } {
            0 => Ok(Self(graph)),
            _ => Err(take_message()),
        }
    }

    /// How many of MLX's operations it was made of, and how many it adds.
    pub(super) fn counts(&self) -> (usize, usize) {
        let (mut before, mut after) = (0, 0);
        // SAFETY: the graph is live, and the numbers are writable.
        unsafe { sys::emily_fusion_counts(self.0, &raw mut before, &raw mut after) };
        (before, after)
    }

    /// Adds the kernels that it needs, by name, to those that others need.
    pub(super) fn add_kernels(&self, kernels: &mut BTreeMap<String, String>) {
        // SAFETY: the graph is live.
        let count = unsafe { sys::emily_fusion_kernels(self.0) };
        for number in 0..count {
            let (mut name, mut source) = (ptr::null(), ptr::null());
            // SAFETY: there is a kernel of this number; both texts are the graph's and are copied.
            unsafe {
                sys::emily_fusion_kernel(self.0, number, &raw mut name, &raw mut source);
                kernels.insert(text(name), text(source));
            }
        }
    }

    /// Takes its kernels from a library.
    pub(super) fn load(&mut self, library: &Path) -> Result<()> {
        let path = CString::new(library.as_os_str().as_bytes())
            .map_err(|error| Error::Mlx(error.to_string()))?;
        // SAFETY: the graph is live, and the path ends with a zero.
        match unsafe { sys::emily_fusion_load(self.0, path.as_ptr()) } {
            0 => Ok(()),
            _ => Err(take_message()),
        }
    }

    /// Adds it once more, from these inputs on.
    pub(super) fn apply<'a>(
        &self,
        inputs: impl IntoIterator<Item = &'a Array>,
    ) -> Result<ArrayList> {
        let (inputs, outputs) = (ArrayList::new(inputs)?, ArrayList::new([])?);
        // SAFETY: the graph and the lists are live.
        match unsafe { sys::emily_fusion_apply(outputs.raw(), self.0, inputs.raw()) } {
            0 => Ok(outputs),
            _ => Err(take_message()),
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the graph is owned and not used again. What was added of it stays.
        unsafe { sys::emily_fusion_free(self.0) };
    }
}

/// What comes before kernels in a source.
pub(super) fn prelude() -> String {
    // SAFETY: the text is a constant.
    let prelude = unsafe { text(sys::emily_fusion_prelude()) };
    format!("{}{prelude}", sys::ELEMENTS)
}

/// # Safety
///
/// There must be a text, and it must end with a zero.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
