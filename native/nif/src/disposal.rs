//! Giving tensors up.
//!
//! The BEAM collects references on its schedulers, and giving much memory back to the system, or a long
//! graph up, takes milliseconds. A thread does it instead.

use std::{
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
    Call(Box<dyn FnOnce() + Send>),
}

/// None if there is no thread.
static QUEUE: LazyLock<Option<Sender<Job>>> = LazyLock::new(|| {
    let (sender, queue) = channel();
    thread::Builder::new()
        .name("emily-disposal".to_owned())
        .spawn(move || {
            for job in queue {
                match job {
                    Job::Drop(tensor) => {
                        drop(tensor);
                        LEFT.fetch_sub(1, Ordering::AcqRel);
                    }
                    Job::Call(call) => call(),
                }
            }
        })
        .ok()
        .map(|_thread| sender)
});

/// How many tensors are still to be given up.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// More than this takes a scheduler too long: about as long as copying as much in.
const MOST: usize = 1 << 20;

/// Gives up what may be the last reference to a tensor.
pub fn dispose(tensor: Arc<Tensor>) {
    let Some(tensor) = Arc::into_inner(tensor) else {
        return;
    };
    if tensor.burden() > MOST
        && let Some(queue) = &*QUEUE
    {
        LEFT.fetch_add(1, Ordering::AcqRel);
        // The thread ends with the process. If it is gone, the tensor comes back, and ends here.
        let _ = queue.send(Job::Drop(tensor));
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
