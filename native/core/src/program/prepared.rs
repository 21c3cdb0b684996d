//! What a program joins once for many calls.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Executable, Pass, Pause, Program, Replay, passes::Split};
use crate::{Result, Stream, Tensor, mlx::memory_limit};

/// A program whose products with the same matrices are one product with all of them beside each other,
/// for calls that come with the same matrices as the call before.
pub(super) struct Prepared {
    sources: Vec<usize>,
    joining: Arc<Executable>,
    rest: Arc<Executable>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The matrices of the last call. They are not kept from being deallocated.
    seen: Vec<Weak<Tensor>>,
    joined: Option<Vec<Arc<Tensor>>>,
}

/// A program, and what it is to be given.
pub(super) type Call = (Arc<Executable>, Vec<Arc<Tensor>>);

/// Of the memory that there is, what part joined matrices may take.
const PART: usize = 4;

impl Prepared {
    /// None if there is nothing to join, or too much of it.
    pub(super) fn of(program: &Program, most_steps: u64) -> Result<Option<Self>> {
        let passes = [
            Pass::Projections,
            Pass::CommonSubexpressions,
            Pass::DeadCode,
        ];
        let (joined, _) = program.clone().optimized(&passes)?;
        let Some(split) = Split::of(joined)? else {
            return Ok(None);
        };
        let outputs = split.joining.output_types();
        let bytes = outputs
            .iter()
            .map(|out| out.memory())
            .fold(0, usize::saturating_add);
        let fits = bytes <= memory_limit() / PART;
        Ok(fits.then(|| Self {
            sources: split.sources,
            joining: Arc::new(Executable::limited(split.joining, most_steps)),
            rest: Arc::new(Executable::limited(split.rest, most_steps)),
            state: Mutex::default(),
        }))
    }

    /// The program to run in place of the whole one, and its inputs, if these come with the matrices that
    /// came last.
    pub(super) fn take(&self, stream: &Stream, inputs: &[Arc<Tensor>]) -> Result<Option<Call>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let matrices = || self.sources.iter().map(|&source| &inputs[source]);
        let same = state.seen.len() == self.sources.len()
            && state
                .seen
                .iter()
                .zip(matrices())
                .all(|(seen, given)| Weak::as_ptr(seen) == Arc::as_ptr(given));
        if !same {
            *state = State {
                seen: matrices().map(Arc::downgrade).collect(),
                joined: None,
            };
            return Ok(None);
        }
        let joined = match &state.joined {
            Some(joined) => joined,
            None => {
                let joined = self.join(stream, matrices().map(Arc::clone).collect())?;
                state.joined.insert(joined)
            }
        };
        let inputs = inputs.iter().chain(joined).map(Arc::clone);
        Ok(Some((Arc::clone(&self.rest), inputs.collect())))
    }

    /// The joined matrices; as all else they are computed when somebody needs them.
    fn join(&self, stream: &Stream, matrices: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>> {
        let mut replay = Replay::new(&self.joining, stream, matrices)?;
        loop {
            if let Pause::Done(joined) = replay.advance(usize::MAX)? {
                return Ok(joined);
            }
        }
    }

    /// Gives up what was joined.
    pub(super) fn clear(&self) -> Vec<Arc<Tensor>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).joined.unwrap_or_default()
    }
}
