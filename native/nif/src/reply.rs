//! Answers by message, from a stream's thread or another one.

use std::thread::Builder;

use emily_core::{Error, Result, Stream, guarded};
use rustler::{Encoder, Env, LocalPid, NifResult, OwnedEnv, Reference, Term};

use crate::raise::{Exception, failed};

mod atoms {
    rustler::atoms! { ok, error }
}

/// Runs `job` on the stream's thread and sends the caller `{reference, {:ok, term}}` or
/// `{reference, {:error, exception}}`; `term` is what `encode` makes of the job's result.
pub fn from_worker<T: Send + 'static>(
    env: Env<'_>,
    stream: &Stream,
    reference: Reference<'_>,
    job: impl FnOnce() -> Result<T> + Send + 'static,
    encode: impl for<'a> FnOnce(Env<'a>, T) -> Term<'a> + Send + 'static,
) -> NifResult<()> {
    let caller = env.pid();
    let work = answering(env, reference, job, encode);
    stream
        .submit_while(move || is_alive(caller), work)
        .map_err(failed)
}

/// As [`from_worker`], on a thread that is there for this `job` alone.
pub fn from_thread<T: Send + 'static>(
    env: Env<'_>,
    reference: Reference<'_>,
    job: impl FnOnce() -> Result<T> + Send + 'static,
    encode: impl for<'a> FnOnce(Env<'a>, T) -> Term<'a> + Send + 'static,
) -> NifResult<()> {
    let work = answering(env, reference, job, encode);
    let started = Builder::new().name("emily-job".to_owned()).spawn(work);
    started
        .map(drop)
        .map_err(|error| failed(Error::Stream(format!("could not start a thread: {error}"))))
}

/// The job, and then its answer to the caller.
fn answering<T>(
    env: Env<'_>,
    reference: Reference<'_>,
    job: impl FnOnce() -> Result<T> + Send + 'static,
    encode: impl for<'a> FnOnce(Env<'a>, T) -> Term<'a> + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let caller = env.pid();
    let mut answer = OwnedEnv::new();
    let reference = answer.save(reference);
    move || {
        let result = guarded(job);
        // The caller may be gone by now, and then nobody needs the answer.
        let _ = answer.send_and_clear(&caller, |env| {
            let reference = reference.load(env);
            let answer = match result {
                Ok(value) => (atoms::ok(), encode(env, value)).encode(env),
                Err(error) => (atoms::error(), Exception::from(error)).encode(env),
            };
            (reference, answer)
        });
    }
}

/// Whether a process is there to get an answer. Those that were killed wait for none, and what they asked
/// for would hold up what others asked for after them.
fn is_alive(process: LocalPid) -> bool {
    OwnedEnv::new().run(|env| process.is_alive(env))
}
