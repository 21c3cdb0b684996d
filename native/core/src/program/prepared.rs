//! What a program computes once for many calls.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Executable, Pass, Pause, Program, Replay,
    passes::{Split, closed, joined},
};
use crate::{Result, Stream, Tensor, mlx::memory_limit};

/// A program that is given values which the whole one computes, for calls in which they are the same as
/// in the call before.
pub(super) struct Prepared {
    /// Of the whole program's inputs, those that the values depend on.
    sources: Vec<usize>,
    before: Arc<Executable>,
    rest: Arc<Executable>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the values were to depend on in the last call. It is not kept from being deallocated.
    seen: Vec<Weak<Tensor>>,
    values: Option<Vec<Arc<Tensor>>>,
}

/// A program, and what it is to be given.
pub(super) type Call = (Arc<Executable>, Vec<Arc<Tensor>>);

/// Of the memory that there is, what part joined matrices may take.
const PART: usize = 4;

impl Prepared {
    /// What depends on no input; none if that is nothing.
    pub(super) fn closed(program: &Program, most_steps: u64) -> Result<Option<Self>> {
        let split = Split::at(program.clone(), &closed(program))?;
        Ok(split.map(|split| Self::of(split, most_steps)))
    }

    /// Matrices that [`Pass::Projections`] joins; none if these are none, or too large.
    pub(super) fn joined(program: &Program, most_steps: u64) -> Result<Option<Self>> {
        let (program, found) = program.clone().optimized(&[Pass::Projections])?;
        if found.iter().all(|&(_, count)| count == 0) {
            return Ok(None);
        }
        let passes = [Pass::CommonSubexpressions, Pass::DeadCode];
        let (program, _) = program.optimized(&passes)?;
        let numbers = joined(&program);
        let Some(split) = Split::at(program, &numbers)? else {
            return Ok(None);
        };
        let outputs = split.before.output_types();
        let bytes = outputs.iter().map(|out| out.memory());
        let fits = bytes.fold(0, usize::saturating_add) <= memory_limit() / PART;
        Ok(fits.then(|| Self::of(split, most_steps)))
    }

    fn of(split: Split, most_steps: u64) -> Self {
        Self {
            sources: split.sources,
            before: Arc::new(Executable::limited(split.before, most_steps)),
            rest: Arc::new(Executable::limited(split.rest, most_steps)),
            state: Mutex::default(),
        }
    }

    /// The same with another program in place of the rest.
    pub(super) fn then(self, rest: impl FnOnce(Executable) -> Result<Executable>) -> Result<Self> {
        let program = self.rest.program().clone();
        let limited = Executable::limited(program, self.rest.most_steps());
        Ok(Self {
            rest: Arc::new(rest(limited)?),
            ..self
        })
    }

    pub(super) fn rest(&self) -> &Executable {
        &self.rest
    }

    /// The rest, for as long as nothing else holds it.
    pub(super) fn rest_mut(&mut self) -> Option<&mut Executable> {
        Arc::get_mut(&mut self.rest)
    }

    /// The program to run in place of the whole one, and its inputs, if these are what they were.
    pub(super) fn take(&self, stream: &Stream, inputs: &[Arc<Tensor>]) -> Result<Option<Call>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let given = || self.sources.iter().map(|&source| &inputs[source]);
        let mut pairs = state.seen.iter().zip(given());
        let same = state.seen.len() == self.sources.len()
            && pairs.all(|(seen, given)| Weak::as_ptr(seen) == Arc::as_ptr(given));
        if !same {
            *state = State {
                seen: given().map(Arc::downgrade).collect(),
                values: None,
            };
            return Ok(None);
        }
        let values = match &state.values {
            Some(values) => values,
            None => {
                let values = self.compute(stream, given().map(Arc::clone).collect())?;
                state.values.insert(values)
            }
        };
        let inputs = inputs.iter().chain(values).map(Arc::clone);
        Ok(Some((Arc::clone(&self.rest), inputs.collect())))
    }

    /// The values, which are lazy as all else.
    fn compute(&self, stream: &Stream, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>> {
        let mut replay = Replay::new(&self.before, stream, inputs)?;
        loop {
            if let Pause::Done(values) = replay.advance(usize::MAX)? {
                return Ok(values);
            }
        }
    }

    /// Gives up what was computed.
    pub(super) fn clear(&self) -> Vec<Arc<Tensor>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = std::mem::take(&mut *state).values.unwrap_or_default();
        values.extend(self.rest.clear());
        values
    }
}
