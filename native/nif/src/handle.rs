//! References of the BEAM to tensors.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use emily_core::Tensor;
use rustler::{Decoder, Encoder, Env, NifResult, Resource, ResourceArc, Term};

use crate::{disposal::dispose, inspect::inspect, raise::argument};

/// A tensor, until it is deallocated: the BEAM may collect a reference long after its last use, and a
/// tensor's memory is often too much to wait for that.
pub struct TensorRef(Mutex<Option<Arc<Tensor>>>);

#[rustler::resource_impl]
impl Resource for TensorRef {}

impl TensorRef {
    /// A new reference.
    pub fn make(tensor: Tensor) -> ResourceArc<Self> {
        Self::of(Arc::new(tensor))
    }

    /// A new reference to a tensor that others may have, too.
    pub fn of(tensor: Arc<Tensor>) -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::new(Some(tensor))))
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

    /// The tensor that is given up; none if that was done before.
    pub fn take(&self) -> Option<Arc<Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for TensorRef {
    fn drop(&mut self) {
        let tensor = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = tensor.take() {
            dispose(tensor);
        }
    }
}

/// A tensor or a stream as a caller names it.
///
/// A reference that was sent to another node, or written to a file, means nothing there: the BEAM's own
/// decoding would only call it a bad argument.
pub struct Given<T: Kind>(ResourceArc<T>);

/// What messages say of a kind of resource.
pub trait Kind: Resource {
    /// With its article.
    const NAME: &'static str;
    /// What to send or save in place of its reference.
    const HINT: &'static str;
}

impl Kind for TensorRef {
    const NAME: &'static str = "a tensor";
    const HINT: &'static str = " (to send one to another node, or to save it, copy it with Nx.backend_copy/1 or \
                                Emily.to_binary/1)";
}

impl<T: Kind> Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'a, T: Kind> Decoder<'a> for Given<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (name, hint) = (T::NAME, T::HINT);
        term.decode().map(Self).map_err(|_| {
            argument(if term.is_ref() {
                format!(
                    "expected {name} of this node{hint}, got: a reference to one that is not here"
                )
            } else {
                format!("expected {name}, got: {}", inspect(term))
            })
        })
    }
}

/// What a binary over a tensor's memory holds, so that neither collecting nor deallocating the
/// tensor's reference takes the memory away.
struct Elements(Option<Arc<Tensor>>);

#[rustler::resource_impl]
impl Resource for Elements {}

impl Elements {
    fn bytes(&self) -> &[u8] {
        self.0
            .as_ref()
            .and_then(|tensor| tensor.bytes())
            .unwrap_or_default()
    }
}

impl Drop for Elements {
    fn drop(&mut self) {
        if let Some(tensor) = self.0.take() {
            dispose(tensor);
        }
    }
}

/// A binary over the elements of a tensor that can be read in place.
pub fn in_place<'a>(env: Env<'a>, tensor: Arc<Tensor>) -> Term<'a> {
    ResourceArc::new(Elements(Some(tensor)))
        .make_binary(env, Elements::bytes)
        .encode(env)
}
