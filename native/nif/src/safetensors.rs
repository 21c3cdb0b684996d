//! Tensors in safetensors files. Reading them happens on threads that are there for it, so that what is to be computed
//! does not wait for a disk; writing them, which may have to compute them, on the stream's thread.

use std::path::PathBuf;

use emily_core::{
    Result, Tensor,
    file::{Tensors, save_tensors},
};
use rustler::{Encoder, Env, NifResult, Reference, Resource, ResourceArc, Term};

use crate::{
    handle::{Given, TensorRef},
    program::tensors,
    reply::{from_thread, from_worker},
    stream::StreamRef,
};

mod atoms {
    rustler::atoms! { ok, pending }
}

/// An open file.
struct TensorsRef(Tensors);

#[rustler::resource_impl]
impl Resource for TensorsRef {}

/// `:pending`, and a message `{reference, {:ok, {file, entries}}}` with `{name, {type, shape}}` of each
/// tensor, or `{name, message}` of one that Nx does not have.
#[rustler::nif]
fn safetensors_open<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    path: String,
    reference: Reference<'a>,
) -> NifResult<rustler::Atom> {
    let job = move || Tensors::open(&PathBuf::from(path));
    from_worker(env, &stream.0.clone(), reference, job, |env, tensors| {
        let entry = |name: String| {
            let entry = match tensors.tensor_type(&name) {
                Ok(ty) => ty.encode(env),
                Err(error) => error.to_string().encode(env),
            };
            (name, entry).encode(env)
        };
        let entries: Vec<_> = tensors.names().into_iter().map(entry).collect();
        let file = ResourceArc::new(TensorsRef(tensors));
        (file, entries).encode(env)
    })?;
    Ok(atoms::pending())
}

/// `:pending`, and a message `{reference, {:ok, tensors}}`.
#[rustler::nif]
fn safetensors_read<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    file: ResourceArc<TensorsRef>,
    names: Vec<String>,
    reference: Reference<'a>,
) -> NifResult<rustler::Atom> {
    let stream = stream.0.clone();
    let job = move || {
        let types = names.iter().map(|name| file.0.tensor_type(name));
        let types: Vec<_> = types.collect::<Result<_>>()?;
        let wanted = names.iter().map(String::as_str).zip(&types);
        file.0.read(&stream, &wanted.collect::<Vec<_>>())
    };
    from_thread(env, reference, job, |env, tensors| {
        let tensors = tensors.into_iter().map(TensorRef::make);
        tensors.collect::<Vec<_>>().encode(env)
    })?;
    Ok(atoms::pending())
}

/// `:pending`, and a message `{reference, {:ok, :ok}}` when the tensors are written under these names.
#[rustler::nif]
fn safetensors_write<'a>(
    env: Env<'a>,
    stream: Given<StreamRef>,
    path: String,
    names: Vec<String>,
    values: Term<'a>,
    reference: Reference<'a>,
) -> NifResult<rustler::Atom> {
    let values = tensors(values)?;
    let job = move || {
        let readable = values.iter().map(|tensor| tensor.readable());
        let readable: Vec<Tensor> = readable.collect::<Result<_>>()?;
        Tensor::eval_all(&readable.iter().collect::<Vec<_>>())?;
        let names = names.iter().map(String::as_str);
        save_tensors(
            &PathBuf::from(path),
            &names.zip(&readable).collect::<Vec<_>>(),
        )
    };
    from_worker(env, &stream.0.clone(), reference, job, |env, ()| {
        atoms::ok().encode(env)
    })?;
    Ok(atoms::pending())
}
