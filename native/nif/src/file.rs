//! Programs in folders. Reading and writing them happens on a stream's thread.

use std::path::PathBuf;

use emily_core::{
    Error, Pass, Result, Tensor, TensorType,
    file::{Interface, ProgramFile, save},
};
use rustler::{Encoder, Env, NifResult, Reference, ResourceArc, Term};
use smallvec::SmallVec;

use crate::{
    handle::TensorRef,
    program::{ExecutableRef, decode, tensors},
    reply::from_worker,
    stream::StreamRef,
};

mod atoms {
    rustler::atoms! { ok, pending }
}

/// `:pending`, and a message `{reference, {:ok, :ok}}` when the program and its weights, whose names are
/// given, are written to the folder, after all passes. The interface is JSON.
#[rustler::nif(schedule = "DirtyCpu")]
#[allow(clippy::too_many_arguments, reason = "the BEAM has no other way")]
fn program_write<'a>(
    env: Env<'a>,
    stream: ResourceArc<StreamRef>,
    folder: String,
    program: Term<'a>,
    interface: String,
    names: Vec<String>,
    weights: Term<'a>,
    reference: Reference<'a>,
) -> NifResult<rustler::Atom> {
    let program = decode(program)?;
    let weights = tensors(weights)?;
    let stream = stream.0.clone();
    let worker = stream.clone();
    let job = move || {
        let interface = interface_of(&interface)?;
        let readable = weights.iter().map(|weight| weight.readable());
        let readable: Vec<Tensor> = readable.collect::<Result<_>>()?;
        // Here rather than where it is read: whoever reads it may not know where it comes from. What joins
        // matrices would do so in each run.
        let passes = Pass::ALL
            .into_iter()
            .filter(|&pass| pass != Pass::Projections);
        let (program, _) = program.optimized(&passes.collect::<Vec<_>>())?;
        let names = names.iter().map(String::as_str);
        let weights: Vec<_> = names.zip(&readable).collect();
        save(
            &worker,
            &PathBuf::from(folder),
            interface,
            program,
            &weights,
        )
    };
    from_worker(env, &stream, reference, job, |env, ()| {
        atoms::ok().encode(env)
    })?;
    Ok(atoms::pending())
}

/// `:pending`, and a message `{reference, {:ok, {program, weights, interface}}}` with the program in the
/// folder, its weights in the order of its inputs, and its interface as JSON.
#[rustler::nif]
fn program_read<'a>(
    env: Env<'a>,
    stream: ResourceArc<StreamRef>,
    folder: String,
    most_steps: u64,
    reference: Reference<'a>,
) -> NifResult<rustler::Atom> {
    let stream = stream.0.clone();
    let worker = stream.clone();
    let job = move || {
        let file = ProgramFile::open(&PathBuf::from(folder))?;
        let interface = described(&file)?;
        Ok((file.load(&worker, most_steps)?, interface))
    };
    from_worker(env, &stream, reference, job, |env, (loaded, interface)| {
        let weights = loaded.weights().cloned().map(TensorRef::of);
        let weights: SmallVec<[_; 8]> = weights.collect();
        let program = ExecutableRef::make(loaded.executable().clone());
        (program, weights.into_vec(), interface).encode(env)
    })?;
    Ok(atoms::pending())
}

/// The interface as JSON, with the types and shapes of the results.
fn described(file: &ProgramFile) -> Result<String> {
    #[derive(serde::Serialize)]
    struct Described<'a> {
        #[serde(flatten)]
        interface: &'a Interface,
        outputs: Vec<&'a TensorType>,
    }
    let described = Described {
        interface: file.interface(),
        outputs: file.program().output_types(),
    };
    serde_json::to_string(&described).map_err(|error| Error::Argument(error.to_string()))
}

fn interface_of(json: &str) -> Result<Interface> {
    serde_json::from_str(json).map_err(|error| Error::Argument(format!("the interface: {error}")))
}
