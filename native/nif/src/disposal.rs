//! Giving tensors up, and the binaries that they read in place.
//!
//! The BEAM collects references on its schedulers, and giving much memory back to the system, or a long
//! graph up, takes milliseconds. A thread does it instead.

use std::{
    cell::Cell,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use emily_core::Tensor;
use rustler::{Atom, Encoder, Env, OwnedEnv, Reference};

mod atoms {
    rustler::atoms! { ok, pending }
}

/// What the thread is to do, in order.
enum Job {
    Drop(Tensor),
    Free(OwnedEnv),
    Call(Box<dyn FnOnce() + Send>),
}

/// None if there is no thread.
static QUEUE: LazyLock<Option<Sender<Job>>> = LazyLock::new(|| {
    let (sender, queue) = channel();
    thread::Builder::new()
        .name("emily-disposal".to_owned())
        .spawn(move || {
            HERE.set(true);
            for job in queue {
                match job {
                    Job::Drop(tensor) => drop(tensor),
                    Job::Free(env) => drop(env),
                    Job::Call(call) => {
                        call();
                        continue;
                    }
                }
                LEFT.fetch_sub(1, Ordering::AcqRel);
            }
        })
        .ok()
        .map(|_thread| sender)
});

thread_local! {
    /// Whether this is the thread.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// How much is still to be given up.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// More than this takes a scheduler too long: about as long as copying as much in.
const MOST: usize = 1 << 20;

/// Gives up what may be the last reference to a tensor.
pub fn dispose(tensor: Arc<Tensor>) {
    let Some(tensor) = Arc::into_inner(tensor) else {
        return;
    };
    if tensor.burden() > MOST {
        submit(Job::Drop(tensor));
    }
}

/// Gives up what may be the last reference to a binary of `len` bytes.
pub fn free(env: OwnedEnv, len: usize) {
    if len > MOST && !HERE.get() {
        submit(Job::Free(env));
    }
}

fn submit(job: Job) {
    if let Some(queue) = &*QUEUE {
        LEFT.fetch_add(1, Ordering::AcqRel);
        // The thread ends with the process. If it is gone, the job comes back, and ends here.
        let _ = queue.send(job);
    }
}

/// `:ok` if what was collected before is given up already, else `:pending`, and a message
/// `{reference, :ok}` when it is.
#[rustler::nif]
fn disposed(env: Env<'_>, reference: Reference<'_>) -> Atom {
    if LEFT.load(Ordering::Acquire) == 0 {
        return atoms::ok();
    }
    let Some(queue) = &*QUEUE else {
        return atoms::ok();
    };
    let caller = env.pid();
    let mut answer = OwnedEnv::new();
    let reference = answer.save(reference);
    let call = move || {
        // The caller may be gone by now, and then nobody needs the answer.
        let _ = answer.send_and_clear(&caller, |env| {
            (reference.load(env), atoms::ok()).encode(env)
        });
    };
    match queue.send(Job::Call(Box::new(call))) {
        Ok(()) => atoms::pending(),
        Err(_) => atoms::ok(),
    }
}
