//! Programs in folders: the graph as JSON, the weights as safetensors.
//!
//! `guides/program_files.md` documents the format. A file may come from anywhere: whatever is in it,
//! reading it gives a program or an error.

mod distinct;
mod interface;
mod read;
mod reading;
mod weights;
mod write;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
};

use serde::{Deserialize, Serialize};

use super::{Executable, Pass, Pause, Program, Replay};
use crate::{Error, Flight, Result, Stream, Tensor, TensorType, error::guarded};

pub use interface::{Container, Containers, Interface, Key, Parameter, Source};
pub use reading::Readable;
pub use weights::{Tensors, save_tensors};
pub use write::save;

/// What the graph's file is called.
pub const GRAPH: &str = "program.json";
/// What the file of the weights is called.
pub const WEIGHTS: &str = "weights.safetensors";
/// The steps that a program from a file has, if nothing else is said; about a minute of them.
pub const MOST_STEPS: u64 = 100_000_000;

/// What the graph's file says it is.
const FORMAT: &str = "emily program";
/// Which version of the format is written, and the only one that is read.
const VERSION: u64 = 1;

/// The contents of the graph's file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u64,
    interface: Interface,
    program: Program,
}

/// A program as its file has it, with where its weights are.
#[derive(Debug)]
pub struct ProgramFile {
    interface: Interface,
    program: Program,
    weights: Tensors,
}

/// A program with its weights on a device, to be run as often as one likes.
pub struct Loaded {
    interface: Interface,
    executable: Arc<Executable>,
    /// What each input of the program is: a weight, or the parameter with this number.
    inputs: Vec<Input>,
}

enum Input {
    Parameter(usize),
    Weight(Arc<Tensor>),
}

impl ProgramFile {
    /// What goes in and comes out.
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What is done.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// The weights by name, with types and shapes, in the order of the program's inputs.
    pub fn weights(&self) -> Vec<(&str, &TensorType)> {
        let sources = self.interface.inputs.iter().zip(self.program.inputs());
        let mut known = HashSet::new();
        let weights = sources.filter_map(|(source, ty)| match source {
            Source::Weight(name) if known.insert(name) => Some((&name[..], ty)),
            _ => None,
        });
        weights.collect()
    }

    /// Tries the program out, and brings the weights to the stream's device. Afterwards it may have
    /// `most_steps` each time it runs.
    ///
    /// # Errors
    ///
    /// If an operation refuses what it is given, the device lacks a type, or the weights cannot be
    /// read.
    pub fn load(self, stream: &Stream, most_steps: u64) -> Result<Loaded> {
        guarded(|| self.program.try_out(stream)).map_err(|error| {
            let Self { weights, .. } = &self;
            Error::Argument(format!("{}: {error}", weights.beside(GRAPH)))
        })?;
        let wanted = self.weights();
        let tensors = self.weights.read(stream, &wanted)?;
        let names = wanted.iter().map(|(name, _)| *name);
        let loaded: HashMap<_, _> = names.zip(tensors.into_iter().map(Arc::new)).collect();
        let inputs = self.interface.inputs.iter().map(|source| match source {
            Source::Parameter(number) => Input::Parameter(*number),
            Source::Weight(name) => Input::Weight(Arc::clone(&loaded[&name[..]])),
        });
        let inputs = inputs.collect();
        let Self {
            interface, program, ..
        } = self;
        Ok(Loaded {
            interface,
            executable: Arc::new(Executable::limited(program, most_steps).preparing(&Pass::ALL)?),
            inputs,
        })
    }
}

impl Loaded {
    /// What goes in and comes out.
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The program, whose inputs are as [`Interface::inputs`] says.
    pub const fn executable(&self) -> &Arc<Executable> {
        &self.executable
    }

    /// The weights, in the order of the program's inputs that are such.
    pub fn weights(&self) -> impl Iterator<Item = &Arc<Tensor>> {
        self.inputs.iter().filter_map(|input| match input {
            Input::Weight(tensor) => Some(tensor),
            Input::Parameter(_) => None,
        })
    }

    /// Runs the program and computes its results, on the stream's thread, and waits for it.
    ///
    /// # Errors
    ///
    /// If `arguments` are not of the parameters' types and shapes, an operation fails, or the program
    /// takes more steps than it may.
    pub fn run(&self, stream: &Stream, arguments: &[Arc<Tensor>]) -> Result<Vec<Arc<Tensor>>> {
        self.interface.check_arguments(arguments)?;
        let inputs = self.inputs.iter().map(|input| match input {
            Input::Parameter(number) => Arc::clone(&arguments[*number]),
            Input::Weight(tensor) => Arc::clone(tensor),
        });
        let replay = Replay::new(&self.executable, stream, inputs)?;
        let (sender, receiver) = mpsc::channel();
        stream.submit(move || {
            // Whoever waits is there for as long as this runs.
            let _ = sender.send(guarded(|| finish(replay)));
        })?;
        receiver
            .recv()
            .map_err(|_| Error::Stream("the stream's thread ended before the program".into()))?
    }
}

/// Goes on to the end, on the stream's thread.
fn finish(mut replay: Replay) -> Result<Vec<Arc<Tensor>>> {
    let mut flight = Flight::default();
    loop {
        let (tensors, done) = match replay.advance(usize::MAX)? {
            Pause::Done(results) => (results, true),
            Pause::Compute(roots) => (roots, false),
            Pause::Begin(roots) => {
                let roots: Vec<_> = roots.iter().map(AsRef::as_ref).collect();
                Tensor::launch_all(&roots, &mut flight)?;
                continue;
            }
            Pause::Busy => continue,
            Pause::Call(call) => {
                return Err(Error::argument(format!(
                    "expected a program that runs alone, got: a call of function {}",
                    call.number
                )));
            }
        };
        Tensor::eval_all(&tensors.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        if done {
            return Ok(tensors);
        }
    }
}
