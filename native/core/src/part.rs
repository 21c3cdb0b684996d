//! Large graphs, computed a part at a time.
//!
//! While MLX walks a graph it holds everyone else's walk up, and where the graph is long it waits,
//! in the middle of its walk, for what it has scheduled already. So no walk may be over more than
//! a few milliseconds of work: whoever wants to compute something small on another stream gets a
//! turn in between.
//!
//! A loop that is followed without waiting computes in a [`Flight`]: the next part is given to MLX
//! while the one before is still being computed, and the next rounds are noted meanwhile.

use std::{
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mlx_sys as sys;

use crate::{
    Array, Device, Result, Stream, Type, error::take_message, eval::LOCK, mlx::ArrayList,
    stream::check_wanted,
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

    /// The work of one turn. A GPU is kept busy by what is given to it ahead, and so by long turns.
    fn budget(&self, device: Device) -> usize {
        let turns = match device {
            Device::Cpu => 1.0,
            Device::Gpu => 10.0,
        };
        (turns * TURN.as_secs_f64() / self.get()) as usize
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
        let begun = begin(&roots, stream.pace().budget(stream.device()), None)?;
        stream.synchronize()?;
        stream.pace().learn(begun.work, begun.at.elapsed());
        if begun.whole {
            return Ok(());
        }
        check_wanted()?;
    }
}

/// What is being computed for somebody who does not wait: a part of a graph at most.
#[derive(Default)]
pub struct Flight(Option<Airborne>);

struct Airborne {
    /// Computed when all of the part is. To hold anything else would keep MLX from computing in its memory.
    mark: Array,
    begun: Begun,
}

impl Flight {
    /// Has MLX compute `roots` on `stream`, and returns when the last part of that is under way.
    pub(crate) fn launch<'a>(
        &mut self,
        stream: &Stream,
        roots: impl IntoIterator<Item = &'a Array>,
    ) -> Result<()> {
        let roots = ArrayList::new(roots)?;
        loop {
            let mlx = stream.mlx();
            let zero = mlx.scalar(0, Type::U8)?;
            let mark = mlx.add(&zero, &zero)?;
            let begun = begin(&roots, stream.pace().budget(stream.device()), Some(&mark))?;
            let whole = begun.whole;
            if let Some(before) = self.0.replace(Airborne { mark, begun }) {
                // What comes next was waiting for this to end.
                let end = before.land(stream)?;
                if let Some(next) = &mut self.0 {
                    next.begun.at = end;
                }
            }
            if whole {
                return Ok(());
            }
            check_wanted()?;
        }
    }
}

impl Airborne {
    /// Waits until the part is computed.
    fn land(self, stream: &Stream) -> Result<Instant> {
        // SAFETY: the handle is live, and MLX has the array already, so that this walks no graph.
        if unsafe { sys::mlx_array_eval(self.mark.raw()) } != 0 {
            return Err(take_message());
        }
        let end = Instant::now();
        stream.pace().learn(self.begun.work, end - self.begun.at);
        Ok(end)
    }
}

/// What MLX was given to compute.
struct Begun {
    at: Instant,
    work: usize,
    /// Whether nothing is left.
    whole: bool,
}

/// Has MLX begin with what `roots` need, up to about `budget`, and after that with `mark`.
fn begin(roots: &ArrayList, budget: usize, mark: Option<&Array>) -> Result<Begun> {
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
    let mark = ArrayList::new(mark)?;
    // SAFETY: as above. What is on one stream is computed in the order in which it got there.
    match unsafe { sys::mlx_async_eval(next.raw()) | sys::mlx_async_eval(mark.raw()) } {
        0 => Ok(Begun { at, work, whole }),
        _ => Err(take_message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Number, Op, Shape, Tensor, TensorType, install_error_handler};

    fn vector(ty: Type) -> TensorType {
        TensorType {
            ty,
            shape: Shape::new(&[10_000]).unwrap(),
        }
    }

    fn apply(stream: &Stream, op: &Op, inputs: &[&Tensor]) -> Tensor {
        Tensor::apply(stream, op, Some(&vector(Type::S32)), inputs).unwrap()
    }

    #[test]
    fn what_is_under_way_is_computed_in_its_order() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let each = apply(&stream, &Op::Iota { axis: None }, &[]);
        let mut flight = Flight::default();
        let mut sum = apply(&stream, &Op::Add, &[&each, &each]);
        // Together more than a part, each time.
        for _ in 0..3 {
            for _ in 0..1000 {
                sum = apply(&stream, &Op::Add, &[&sum, &each]);
            }
            Tensor::launch_all(&[&sum], &mut flight).unwrap();
            assert!(flight.0.is_some());
        }
        let readable = sum.readable().unwrap();
        let expected = (0..10_000_i32).flat_map(|at| (3002 * at).to_ne_bytes());
        assert_eq!(readable.bytes().unwrap(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn values_that_are_looked_at_are_waited_for() {
        install_error_handler();
        let stream = Stream::new(Device::Cpu).unwrap();
        let matrix = TensorType {
            ty: Type::F32,
            shape: Shape::new(&[1, 1]).unwrap(),
        };
        let value = Number::Integer(-1);
        let negative = Tensor::apply(&stream, &Op::Constant { value }, Some(&matrix), &[]).unwrap();
        let factor = Tensor::apply(&stream, &Op::Cholesky, Some(&matrix), &[&negative]).unwrap();
        let mut flight = Flight::default();
        assert!(Tensor::launch_all(&[&factor], &mut flight).is_err());
        assert!(flight.0.is_none());
    }

    #[test]
    fn a_pace_is_learned_from_what_took_long_or_should_have() {
        let pace = Pace::new();
        let guessed = pace.budget(Device::Cpu);
        pace.learn(10, TURN / 100);
        assert_eq!(pace.budget(Device::Cpu), guessed);

        // A hundred times as slow as guessed, time and again.
        for _ in 0..20 {
            pace.learn(guessed, TURN * 100);
        }
        assert!(pace.budget(Device::Cpu).abs_diff(guessed / 100) <= guessed / 1000);

        // And back.
        for _ in 0..20 {
            pace.learn(guessed, TURN);
        }
        assert!(pace.budget(Device::Cpu).abs_diff(guessed) <= guessed / 10);
    }

    #[test]
    fn a_pace_stays_one_whatever_the_clock_says() {
        let pace = Pace::new();
        for _ in 0..100 {
            pace.learn(0, TURN * 1000);
        }
        assert!(pace.budget(Device::Cpu) > 0);
        for _ in 0..100 {
            pace.learn(usize::MAX, Duration::ZERO);
        }
        assert!(pace.budget(Device::Cpu) < usize::MAX);
    }
}
