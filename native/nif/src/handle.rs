//! References of the BEAM to tensors.

use std::sync::{Arc, Mutex, PoisonError};

use emily_core::Tensor;
use rustler::{Encoder, Env, NifResult, Resource, ResourceArc, Term};

use crate::raise::argument;

/// A tensor, until it is deallocated: the BEAM may collect a reference long after its last use, and a
/// tensor's memory is often too much to wait for that.
pub struct TensorRef(Mutex<Option<Arc<Tensor>>>);

#[rustler::resource_impl]
impl Resource for TensorRef {}

impl TensorRef {
    /// A new reference.
    pub fn make(tensor: Tensor) -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::new(Some(Arc::new(tensor)))))
    }

    /// The tensor, which stays whole for as long as the caller has it.
    pub fn get(&self) -> NifResult<Arc<Tensor>> {
        let tensor = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        tensor.ok_or_else(|| argument("expected a tensor, got: one that was deallocated"))
    }

    /// Gives the tensor up; none if that was done before.
    pub fn take(&self) -> Option<Arc<Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a binary over a tensor's memory holds, so that neither collecting nor deallocating the
/// tensor's reference takes the memory away.
struct Elements(Arc<Tensor>);

#[rustler::resource_impl]
impl Resource for Elements {}

/// A binary over the elements of a tensor that can be read in place.
pub fn in_place<'a>(env: Env<'a>, tensor: Arc<Tensor>) -> Term<'a> {
    ResourceArc::new(Elements(tensor))
        .make_binary(env, |elements| elements.0.bytes().unwrap_or_default())
        .encode(env)
}
