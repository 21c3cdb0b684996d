//! Giving tensors up.
//!
//! The BEAM collects references on its schedulers, and giving memory back to the system, or a long
//! graph up, takes milliseconds. A thread does it instead.

use std::{
    sync::{
        Arc, LazyLock,
        mpsc::{Sender, channel},
    },
    thread,
};

use emily_core::Tensor;

/// Where tensors go that are dear to give up; none if there is no thread for it.
static QUEUE: LazyLock<Option<Sender<Tensor>>> = LazyLock::new(|| {
    let (sender, queue) = channel::<Tensor>();
    thread::Builder::new()
        .name("emily-disposal".to_owned())
        .spawn(move || queue.into_iter().for_each(drop))
        .ok()
        .map(|_thread| sender)
});

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
        // If the thread is gone, the tensor comes back with the error, and ends here.
        let _ = queue.send(tensor);
    }
}
