//! Programs whose operations are put together, so that fewer of them go over the same elements.
//!
//! The stretches of a program between decisions and calls are lowered once for each stream, to graphs of
//! MLX from placeholders. In such a graph operations on elements become one (`mlx-sys/extra/fusion.cpp`):
//! on a GPU what `mx::compile` would make of them, on the host's processor a function in C++ of ours. Then
//! a run adds the graph as it is, which also costs less than to lower it again.
//!
//! `mx::compile` itself is not for this process. It has a cache for each thread, while graphs are built on
//! whichever scheduler calls; and on the host's processor it runs the C++ compiler in the middle of a walk
//! through a graph, which holds up every stream, once for each kernel, in a folder that all users of the
//! machine share, and waits for it with `pclose`. The BEAM ignores SIGCHLD, so that this fails, and for the
//! rest of the process MLX takes the compiler for absent. Here all kernels of a program are one source
//! ([`kernels`]), which is compiled before the program first runs, with no lock held.

mod child;
mod graph;
mod kernels;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::Program;
use crate::{Result, Stream, guarded};
pub use kernels::Kernels;
use kernels::Outcome;
use segment::Draft;
pub(super) use segment::Segment;

/// A program is made ready for so many streams at a time; those that it was made ready for first are
/// forgotten first.
const MOST_STREAMS: usize = 32;

/// How a program is to be fused, and what was made of it.
pub(super) struct Fusion {
    kernels: Arc<Kernels>,
    /// By stream.
    ready: Mutex<Vec<(usize, Arc<Fused>)>>,
}

/// A program as it runs on one stream.
pub(super) struct Fused {
    /// Absent where it runs operation by operation.
    pub parts: Option<Parts>,
    /// Why it does.
    pub skipped: Option<String>,
}

/// A program's segments, and those of the programs in it.
pub(super) struct Parts {
    /// By the instruction that they begin with.
    segments: Vec<Option<Segment>>,
    /// For each instruction those of its programs.
    inner: Vec<Vec<Self>>,
}

impl Fusion {
    pub(super) fn new(kernels: &Arc<Kernels>) -> Self {
        Self {
            kernels: Arc::clone(kernels),
            ready: Mutex::new(Vec::new()),
        }
    }

    /// What was made for this stream, if anything was.
    pub(super) fn ready(&self, stream: &Stream) -> Option<Arc<Fused>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let number = stream.number();
        let found = ready.iter().find(|(other, _)| *other == number);
        found.map(|(_, fused)| Arc::clone(fused))
    }

    fn note(&self, stream: &Stream, fused: Fused) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() == MOST_STREAMS {
            ready.remove(0);
        }
        ready.push((stream.number(), Arc::new(fused)));
    }
}

/// Has everything for these programs made for a stream, with one run of a C++ compiler if there has to be any.
pub(super) fn make(programs: &[(&Program, &Fusion)], stream: &Stream) {
    let Some((_, first)) = programs.first() else {
        return;
    };
    let made = guarded(|| Ok(compiled(programs, &first.kernels, stream)));
    match made.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(parts) => {
            for ((_, fusion), parts) in programs.iter().zip(parts) {
                let (parts, skipped) = (Some(parts), None);
                fusion.note(stream, Fused { parts, skipped });
            }
        }
        Err(reason) => {
            for (_, fusion) in programs {
                let (parts, skipped) = (None, Some(reason.clone()));
                fusion.note(stream, Fused { parts, skipped });
            }
        }
    }
}

fn compiled(
    programs: &[(&Program, &Fusion)],
    compiler: &Kernels,
    stream: &Stream,
) -> Outcome<Vec<Parts>> {
    let parts = programs
        .iter()
        .map(|(program, _)| Parts::of(program, stream));
    let parts: Result<Vec<_>> = parts.collect();
    let mut parts = parts.map_err(|error| error.to_string())?;
    let mut kernels = BTreeMap::new();
    for program in &parts {
        program.each(&mut |segment| segment.graph().add_kernels(&mut kernels));
    }
    if !kernels.is_empty() {
        let load = |library: &Path| parts.iter_mut().try_for_each(|part| part.load(library));
        compiler.with_library(kernels.values(), load)?;
    }
    Ok(parts)
}

impl Parts {
    /// The segments of a program, before they have kernels.
    fn of(program: &Program, stream: &Stream) -> Result<Self> {
        let instructions = program.instructions();
        let mut segments: Vec<Option<Segment>> = Vec::new();
        segments.resize_with(instructions.len(), || None);
        let mut note = |found: Option<(usize, Segment)>| {
            if let Some((at, segment)) = found {
                segments[at] = Some(segment);
            }
        };
        let mut draft = Draft::new(program, stream);
        for instruction in instructions {
            if draft.take(instruction)? {
                continue;
            }
            note(draft.finish(0)?);
            if !draft.take(instruction)? {
                draft.finish(1)?;
            }
        }
        note(draft.finish(0)?);
        let inner = instructions.iter().map(|instruction| {
            let parts = instruction.op.parts();
            parts.map(|part| Self::of(part, stream)).collect()
        });
        Ok(Self {
            segments,
            inner: inner.collect::<Result<_>>()?,
        })
    }

    /// The segment that begins with this instruction.
    pub(super) fn segment(&self, at: usize) -> Option<&Segment> {
        self.segments.get(at)?.as_ref()
    }

    /// Of a program in an instruction.
    pub(super) fn part(&self, at: usize, part: usize) -> Option<&Self> {
        self.inner.get(at)?.get(part)
    }

    fn each(&self, look: &mut impl FnMut(&Segment)) {
        self.segments.iter().flatten().for_each(&mut *look);
        for part in self.inner.iter().flatten() {
            part.each(look);
        }
    }

    fn load(&mut self, library: &Path) -> Result<()> {
        for segment in self.segments.iter_mut().flatten() {
            segment.graph_mut().load(library)?;
        }
        self.inner
            .iter_mut()
            .flatten()
            .try_for_each(|part| part.load(library))
    }
}

impl Program {
    /// How many operations of MLX the stretches between the program's decisions and calls are, one by one
    /// and put together. Operations that look at their inputs' elements are in no such stretch.
    ///
    /// # Errors
    ///
    /// If MLX fails.
    pub fn fused_counts(&self, stream: &Stream) -> Result<(usize, usize)> {
        let (mut before, mut after) = (0, 0);
        Parts::of(self, stream)?.each(&mut |segment| {
            let counts = segment.graph().counts();
            before += counts.0;
            after += counts.1;
        });
        Ok((before, after))
    }
}
