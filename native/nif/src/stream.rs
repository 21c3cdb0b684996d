//! Streams as references of the BEAM.

use emily_core::{Device, Stream};
use rustler::{NifResult, Resource, ResourceArc, Term};

use crate::{
    handle::Kind,
    inspect::inspect,
    raise::{argument, failed},
};

/// A stream; it ends when the BEAM has collected every reference to it and to its tensors.
pub struct StreamRef(pub Stream);

#[rustler::resource_impl]
impl Resource for StreamRef {}

impl Kind for StreamRef {
    const NAME: &'static str = "a stream";
    const HINT: &'static str = "";
}

/// A new stream on `:cpu` or `:gpu`. It may wait for a walk through a graph, hence off the schedulers.
#[rustler::nif(schedule = "DirtyIo")]
fn stream_new(device: Term<'_>) -> NifResult<ResourceArc<StreamRef>> {
    let device: Device = device.decode().map_err(|_| {
        argument(format!(
            "expected :device to be :cpu or :gpu, got: {}",
            inspect(device)
        ))
    })?;
    Ok(ResourceArc::new(StreamRef(
        Stream::new(device).map_err(failed)?,
    )))
}
