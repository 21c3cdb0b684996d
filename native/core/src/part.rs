//! Large graphs, computed a part at a time.
//!
//! While MLX walks a graph it holds everyone else's walk up, and where the graph is long it waits,
//! in the middle of its walk, for what it has scheduled already. So no walk may be over more than
//! a few milliseconds of work: whoever wants to compute something small on another stream gets a
//! turn in between.

use std::{
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mlx_sys as sys;

use crate::{
    Array, Result, Stream, error::take_message, eval::LOCK, mlx::ArrayList, stream::check_wanted,
};

/// What one part is to take. Waiting for it to end costs about a hundredth of that.
const TURN: Duration = Duration::from_millis(10);

/// How long a stream takes for a unit of work, as far as is known.
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// A unit is an element of an elementwise operation, and this is slow for one core: to begin with
    /// small parts costs little.
    const GUESS: f64 = 4e-9;
    /// Beyond these a clock or an estimate was wrong.
    const LIMITS: (f64, f64) = (1e-13, 1e-6);

    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(Self::GUESS.to_bits()))
    }

    /// Seconds for a unit.
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// The work of one turn.
    fn budget(&self) -> usize {
        (TURN.as_secs_f64() / self.get()) as usize
    }

    /// Notes that `work` took `time`. Of what is short either way, most was waiting for threads.
    fn learn(&self, work: usize, time: Duration) {
        let (pace, time, work) = (self.get(), time.as_secs_f64(), work as f64);
        let telling = TURN.as_secs_f64() / 10.0;
        if time.max(work * pace) >= telling {
            let (least, most) = Self::LIMITS;
            let next = f64::midpoint(pace, time / work.max(1.0)).clamp(least, most);
            self.0.store(next.to_bits(), Ordering::Relaxed);
        }
    }
}

/// Computes `roots` on `stream`, and waits for them. Other streams' evaluations take turns with this one.
pub(crate) fn evaluate<'a>(
    stream: &Stream,
    roots: impl IntoIterator<Item = &'a Array>,
) -> Result<()> {
    let roots = ArrayList::new(roots)?;
    loop {
        let begun = begin(&roots, stream.pace().budget())?;
        stream.synchronize()?;
        stream.pace().learn(begun.work, begun.at.elapsed());
        if begun.whole {
            return Ok(());
        }
        check_wanted()?;
    }
}

/// What MLX was given to compute.
struct Begun {
    at: Instant,
    work: usize,
    /// Whether nothing is left.
    whole: bool,
}

/// Has MLX begin with what `roots` need, up to about `budget`.
fn begin(roots: &ArrayList, budget: usize) -> Result<Begun> {
    let part = ArrayList::new([])?;
    let _walk = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let at = Instant::now();
    let (mut work, mut whole) = (0, false);
    // SAFETY: the lists are live, the numbers are writable, and the lock makes this the only walk.
    let status = unsafe {
        sys::emily_graph_part(
            part.raw(),
            &raw mut work,
            &raw mut whole,
            roots.raw(),
            budget,
        )
    };
    if status != 0 {
        return Err(take_message());
    }
    let next = if whole { roots } else { &part };
    // SAFETY: as above.
    match unsafe { sys::mlx_async_eval(next.raw()) } {
        0 => Ok(Begun { at, work, whole }),
        _ => Err(take_message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_learned_from_what_took_long_or_should_have() {
        let pace = Pace::new();
        let guessed = pace.budget();
        pace.learn(10, TURN / 100);
        assert_eq!(pace.budget(), guessed);

        // A hundred times as slow as guessed, time and again.
        for _ in 0..20 {
            pace.learn(guessed, TURN * 100);
        }
        assert!(pace.budget().abs_diff(guessed / 100) <= guessed / 1000);

        // And back.
        for _ in 0..20 {
            pace.learn(guessed, TURN);
        }
        assert!(pace.budget().abs_diff(guessed) <= guessed / 10);
    }

    #[test]
    fn a_pace_stays_one_whatever_the_clock_says() {
        let pace = Pace::new();
        for _ in 0..100 {
            pace.learn(0, TURN * 1000);
        }
        assert!(pace.budget() > 0);
        for _ in 0..100 {
            pace.learn(usize::MAX, Duration::ZERO);
        }
        assert!(pace.budget() < usize::MAX);
    }
}
