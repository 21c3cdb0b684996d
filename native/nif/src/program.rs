//! Programs: made once, run with one call.
//!
//! A run's answer is `{:done, tensors}`, or `{:call, number, tensors, replay}` where a function of
//! Elixir's comes next, or `{:prepared, nil, replay}` once a program was fused, which says in place of nil why
//! it could not be. The first two come at once where the way there is short and depends on nothing that has
//! to be computed first.

use std::sync::{Arc, Mutex, PoisonError};

use emily_core::{
    Executable, Flight, Kernels, Pass, Pause, Program, Replay, Result, Tensor, check_wanted,
    guarded,
};
use rustler::{Encoder, Env, NifResult, Reference, Resource, ResourceArc, Term};
use smallvec::SmallVec;

use crate::{
    disposal::dispose,
    handle::{Given, TensorRef},
    inspect::inspect,
    list::{check_program, decode_list},
    raise::{argument, failed},
    reply::{from_thread, from_worker},
    stream::StreamRef,
    timeslice::Timeslice,
};

mod atoms {
    rustler::atoms! { done, call, busy, pending, prepared }
}

/// A scheduler adds about this many operations to MLX's graph in the time that it may be held.
const SHORT: usize = 256;

/// A loop may never end. After about this many operations, some ten milliseconds, it is asked whether
/// its caller still lives.
const LONG: usize = 1 << 14;

/// A program that can be run.
pub struct ExecutableRef(Arc<Executable>);

#[rustler::resource_impl]
impl Resource for ExecutableRef {}

impl Drop for ExecutableRef {
    fn drop(&mut self) {
        self.0.clear().into_iter().for_each(dispose);
    }
}

impl ExecutableRef {
    /// A new reference.
    pub fn make(executable: Arc<Executable>) -> ResourceArc<Self> {
        ResourceArc::new(Self(executable))
    }
}

/// A program that is under way, until somebody goes on with it.
struct ReplayRef(Mutex<Option<Replay>>);

#[rustler::resource_impl]
impl Resource for ReplayRef {}

impl ReplayRef {
    fn make(replay: Replay) -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::new(Some(replay))))
    }

    fn take(&self) -> NifResult<Replay> {
        let replay = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        replay.ok_or_else(|| argument("expected a program that waits, got: one that went on"))
    }
}

/// A program to be run, after `passes`; with `{compiler, folder}` its operations are fused. It may be long,
/// hence off the schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn program_new(
    program: Term<'_>,
    passes: Term<'_>,
    fusion: Option<(String, String)>,
) -> NifResult<ResourceArc<ExecutableRef>> {
    let (program, passes) = (decode(program)?, decode_passes(passes)?);
    let executable = guarded(|| Executable::optimized(program, &passes)).map_err(failed)?;
    let executable = match fusion {
        Some((compiler, folder)) => {
            let folder = folder.into();
            executable.fused(Kernels { compiler, folder })
        }
        None => executable,
    };
    Ok(ExecutableRef::make(Arc::new(executable)))
}

/// How many operations MLX has for a program after `passes`, one by one and fused.
#[rustler::nif(schedule = "DirtyCpu")]
fn program_fused(
    program: Term<'_>,
    passes: Term<'_>,
    stream: Given<StreamRef>,
) -> NifResult<(usize, usize)> {
    let (program, passes) = (decode(program)?, decode_passes(passes)?);
    guarded(|| program.optimized(&passes)?.0.fused_counts(&stream.0)).map_err(failed)
}

/// A program after `passes`, as data, and how often each of them found something to do.
#[rustler::nif(schedule = "DirtyCpu")]
fn program_optimized(
    program: Term<'_>,
    passes: Term<'_>,
) -> NifResult<(Program, Vec<(Pass, usize)>)> {
    let (program, passes) = (decode(program)?, decode_passes(passes)?);
    guarded(|| program.optimized(&passes)).map_err(failed)
}

/// All passes, in the order in which they run.
#[rustler::nif]
fn program_passes() -> Vec<Pass> {
    Pass::ALL.to_vec()
}

/// The passes that change no bit of any result.
#[rustler::nif]
fn program_exact_passes() -> Vec<Pass> {
    Pass::EXACT.to_vec()
}

/// The passes that find patterns of operations that one gives at once.
#[rustler::nif]
fn program_patterns() -> Vec<Pass> {
    Pass::PATTERNS.to_vec()
}

fn decode_passes(passes: Term<'_>) -> NifResult<SmallVec<[Pass; 8]>> {
    decode_list(passes, Term::decode).map_err(|_| {
        let given = inspect(passes);
        argument(format!("expected a list of passes, got: {given}"))
    })
}

/// A program as Elixir has it.
pub fn decode(program: Term<'_>) -> NifResult<Program> {
    check_program(program)?;
    program.decode().map_err(|error| match error {
        rustler::Error::RaiseTerm(text) => {
            let text = text.encode(program.get_env()).decode::<String>();
            argument(text.unwrap_or_else(|_| "expected a program".to_owned()))
        }
        _ => argument(format!("expected a program, got: {}", inspect(program))),
    })
}

/// Of the inputs, those that are `donated` are given up: MLX may compute in their memory.
///
/// An answer, `{:busy, replay}` where it takes longer than a scheduler may be held, or `:pending` and a
/// message `{reference, {:ok, answer}}`.
#[rustler::nif]
fn program_run<'a>(
    env: Env<'a>,
    program: ResourceArc<ExecutableRef>,
    stream: Given<StreamRef>,
    inputs: Term<'a>,
    donated: Term<'a>,
    reference: Reference<'a>,
) -> NifResult<Term<'a>> {
    let _turn = Timeslice::begin(env);
    let inputs = tensors(inputs)?;
    let donated = references(donated)?;
    let replay = Replay::new(&program.0, &stream.0, inputs).map_err(failed)?;
    // Not before all is known to fit: a call that is refused takes nothing.
    donated.iter().for_each(|tensor| drop(tensor.take()));
    if replay.is_unprepared() {
        from_thread(
            env,
            reference,
            move || Ok(prepared(replay)),
            encode_prepared,
        )?;
        return Ok(atoms::pending().encode(env));
    }
    advance(env, replay, SHORT, reference)
}

/// A program that is fused by now, or why it is not.
fn prepared(mut replay: Replay) -> (Option<String>, Replay) {
    (replay.prepare(), replay)
}

fn encode_prepared(env: Env<'_>, (skipped, replay): (Option<String>, Replay)) -> Term<'_> {
    (atoms::prepared(), skipped, ReplayRef::make(replay)).encode(env)
}

/// As `program_run` with more patience: what that has begun.
#[rustler::nif(schedule = "DirtyCpu")]
fn program_go_on<'a>(
    env: Env<'a>,
    replay: ResourceArc<ReplayRef>,
    reference: Reference<'a>,
) -> NifResult<Term<'a>> {
    advance(env, replay.take()?, LONG, reference)
}

/// As `program_run`, after a call that has given `results`.
#[rustler::nif]
fn program_resume<'a>(
    env: Env<'a>,
    replay: ResourceArc<ReplayRef>,
    results: Term<'a>,
    reference: Reference<'a>,
) -> NifResult<Term<'a>> {
    let _turn = Timeslice::begin(env);
    let results = tensors(results)?;
    let mut replay = replay.take()?;
    replay.resume(results.into_vec()).map_err(failed)?;
    advance(env, replay, SHORT, reference)
}

fn advance<'a>(
    env: Env<'a>,
    mut replay: Replay,
    most: usize,
    reference: Reference<'a>,
) -> NifResult<Term<'a>> {
    let pause = match guarded(|| replay.advance(most)).map_err(failed)? {
        pause @ (Pause::Compute(_) | Pause::Begin(_)) => pause,
        Pause::Busy => return Ok((atoms::busy(), ReplayRef::make(replay)).encode(env)),
        pause => return Ok(answer(env, pause, replay)),
    };
    let stream = replay.stream().clone();
    from_worker(
        env,
        &stream,
        reference,
        move || follow(replay, pause),
        |env, (pause, replay)| answer(env, pause, replay),
    )?;
    Ok(atoms::pending().encode(env))
}

/// Goes on until there is an answer, or nobody left to wait for one, on the stream's thread.
fn follow(mut replay: Replay, mut pause: Pause) -> Result<(Pause, Replay)> {
    let mut flight = Flight::default();
    loop {
        // Nothing may hold on to what is computed while the next round computes in its memory.
        match pause {
            Pause::Compute(roots) => Tensor::eval_all(&borrowed(&roots))?,
            Pause::Begin(roots) => Tensor::launch_all(&borrowed(&roots), &mut flight)?,
            Pause::Busy => {}
            Pause::Done(_) | Pause::Call(_) => return Ok((pause, replay)),
        }
        check_wanted()?;
        pause = replay.advance(LONG)?;
    }
}

fn borrowed(tensors: &[Arc<Tensor>]) -> SmallVec<[&Tensor; 4]> {
    tensors.iter().map(AsRef::as_ref).collect()
}

fn answer(env: Env<'_>, pause: Pause, replay: Replay) -> Term<'_> {
    let encode = |tensors: Vec<Arc<Tensor>>| {
        let references = tensors.into_iter().map(TensorRef::of);
        references.collect::<Vec<_>>().encode(env)
    };
    match pause {
        Pause::Done(tensors) => (atoms::done(), encode(tensors)).encode(env),
        Pause::Call(call) => {
            let inputs = encode(call.inputs);
            (atoms::call(), call.number, inputs, ReplayRef::make(replay)).encode(env)
        }
        Pause::Compute(_) | Pause::Begin(_) | Pause::Busy => {
            (atoms::busy(), ReplayRef::make(replay)).encode(env)
        }
    }
}

/// The tensors of a list of references.
pub fn tensors(list: Term<'_>) -> NifResult<SmallVec<[Arc<Tensor>; 8]>> {
    let tensors = references(list)?;
    tensors.iter().map(|tensor| tensor.get()).collect()
}

fn references(list: Term<'_>) -> NifResult<SmallVec<[Given<TensorRef>; 8]>> {
    decode_list(list, Term::decode)
}
