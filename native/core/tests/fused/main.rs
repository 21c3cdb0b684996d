//! Operations that stand for several, on each device: against what they mean in f64, on views, on what is
//! not finite, in others' memory, and on several streams at once.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod attention;
mod cases;
mod composed;
mod numbers;
mod oracle;
mod products;
mod rows;
mod sharing;
mod special;
mod speed;

use std::sync::mpsc::channel;

use emily_core::{Device, Stream, install_error_handler};

/// Runs a test on the thread of a stream of each device.
fn on_each_device(test: impl Fn(&Stream) + Clone + Send + 'static) {
    install_error_handler();
    for device in Device::available() {
        on(&Stream::new(device).unwrap(), test.clone());
    }
}

/// Runs a test on the stream's thread, and waits; panics as it does.
fn on(stream: &Stream, test: impl FnOnce(&Stream) + Send + 'static) {
    let (sender, receiver) = channel();
    let own = stream.clone();
    let job = move || {
        test(&own);
        sender.send(()).unwrap();
    };
    stream.submit(job).unwrap();
    receiver.recv().expect("the test panicked");
}
