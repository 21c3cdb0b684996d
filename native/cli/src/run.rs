//! `emily run`

use std::sync::Arc;

use anyhow::{Context, Result};
use emily_core::{Stream, Tensor, file::save_tensors};

use crate::{flags::Run, input::arguments, load, text};

/// Runs the program; gives a line for each result.
pub fn run(flags: &Run) -> Result<String> {
    let (stream, program) = load(&flags.on)?;
    let interface = program.interface();
    let arguments = arguments(interface, &flags.input, flags.cast, &stream)?;
    let results = program.run(&stream, &arguments)?;
    let results = readable(&stream, results)?;
    let named: Vec<(&str, &Tensor)> = interface
        .results
        .iter()
        .map(String::as_str)
        .zip(&results)
        .collect();
    if let Some(path) = &flags.output {
        save_tensors(path, &named)?;
    }
    let lines = named
        .iter()
        .map(|(name, tensor)| Ok(format!("{name}: {}\n", text::tensor(tensor)?)));
    lines.collect::<Result<String>>().context("the results")
}

/// The tensors with their elements in order; MLX computes on the stream's thread.
fn readable(stream: &Stream, tensors: Vec<Arc<Tensor>>) -> Result<Vec<Tensor>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    stream.submit(move || {
        let readable = tensors.iter().map(|tensor| tensor.readable());
        let readable: emily_core::Result<Vec<Tensor>> = readable.collect();
        // The receiver waits below.
        let _ = sender.send(readable);
    })?;
    Ok(receiver.recv().context("the stream's thread ended")??)
}
