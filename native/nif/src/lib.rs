//! libemily: `emily-core` for the BEAM.
//!
//! A NIF decodes, calls core and encodes. What takes long runs on a stream's own thread, which
//! answers with a message, so no scheduler ever waits for MLX.

mod binary;
mod disposal;
mod file;
mod halt;
mod handle;
mod info;
mod inspect;
mod list;
mod memory;
mod program;
mod raise;
mod reply;
mod safetensors;
mod stream;
mod tensor;
mod timeslice;

use rustler::{Env, Term};

fn load(env: Env<'_>, _info: Term<'_>) -> bool {
    // Before anything else: MLX's own handler would end the VM.
    emily_core::install_error_handler();
    halt::skip_destructors(env);
    true
}

rustler::init!("Elixir.Emily.Native", load = load);
