//! From a folder to a program.

use std::{fs, io::Read, path::Path};

use serde::Deserialize;

use super::{
    Document, FORMAT, GRAPH, ProgramFile, Readable, Source, Tensors, VERSION, WEIGHTS, weights::io,
};
use crate::{Error, Result};

/// A graph larger than this is none: it has room for some hundred thousand operations.
const LARGEST_GRAPH: u64 = 64 << 20;

/// What all versions of the format begin with.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

impl ProgramFile {
    /// The program in `folder`. The weights are not read yet, but they are there, and of the right types and
    /// shapes.
    ///
    /// # Errors
    ///
    /// If the folder holds no program of this version of the format, or one that makes no sense.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(GRAPH);
        let name = path.display().to_string();
        let file = fs::File::open(&path).map_err(|error| io(&name, &error))?;
        let mut graph = Vec::new();
        let mut start = file.take(LARGEST_GRAPH + 1);
        start
            .read_to_end(&mut graph)
            .map_err(|error| io(&name, &error))?;
        let weights = Tensors::open(&folder.join(WEIGHTS))?;
        Self::with(&name, &graph, weights)
    }

    /// The program with this graph and these weights, which errors call by their files' names.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn read(graph: &[u8], weights: impl Readable + 'static) -> Result<Self> {
        Self::with(GRAPH, graph, Tensors::new(WEIGHTS.to_owned(), weights)?)
    }

    fn with(path: &str, graph: &[u8], weights: Tensors) -> Result<Self> {
        let document =
            document(graph).map_err(|error| Error::argument(format!("{path}: {error}")))?;
        let Document {
            interface, program, ..
        } = document;
        for (source, ty) in interface.inputs.iter().zip(program.inputs()) {
            if let Source::Weight(name) = source {
                weights.check(name, ty)?;
            }
        }
        Ok(Self {
            interface,
            program,
            weights,
        })
    }
}

fn document(graph: &[u8]) -> Result<Document> {
    if graph.len() as u64 > LARGEST_GRAPH {
        return Err(Error::argument(format!(
            "expected at most {LARGEST_GRAPH} bytes, got: more"
        )));
    }
    let malformed = |error: serde_json::Error| Error::argument(error.to_string());
    let head: Head = serde_json::from_slice(graph).map_err(malformed)?;
    if head.format != FORMAT {
        let format: String = head.format.chars().take(80).collect();
        return Err(Error::argument(format!(
            "expected :format to be {FORMAT:?}, got: {format:?}"
        )));
    }
    if head.version != VERSION {
        return Err(Error::argument(format!(
            "expected :version to be {VERSION}, which this Emily reads, got: {}",
            head.version
        )));
    }
    let document: Document = serde_json::from_slice(graph).map_err(malformed)?;
    document.interface.check(&document.program)?;
    Ok(document)
}
