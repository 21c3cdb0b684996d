//! From a program to a folder.

use std::{
    collections::HashMap,
    fs,
    io::{BufWriter, Write},
    path::Path,
    process,
};

use super::{
    Document, FORMAT, GRAPH, Interface, Source, VERSION, WEIGHTS, save_tensors, weights::io,
};
use crate::{Error, Program, Result, Stream, Tensor};

/// Writes a program to `folder`, which appears when it is complete; a program that is there already is
/// replaced. The weights must be readable.
///
/// # Errors
///
/// If interface or weights are not those of the program, an operation refuses what it is given, or the
/// folder is there and holds something else, or cannot be written.
pub fn save(
    stream: &Stream,
    folder: &Path,
    interface: Interface,
    program: Program,
    weights: &[(&str, &Tensor)],
) -> Result<()> {
    interface.check(&program)?;
    check_weights(&interface, &program, weights)?;
    program.try_out(stream)?;
    let document = Document {
        format: FORMAT.to_owned(),
        version: VERSION,
        interface,
        program,
    };
    if folder.exists() && !is_replaceable(folder) {
        return Err(Error::argument(format!(
            "expected a new folder, or one that holds nothing but a program, got: {}",
            folder.display()
        )));
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.with_file_name(format!(".{name}.{}", process::id()));
    let written = write(&part, &document, weights).and_then(|()| replace(folder, &part));
    if written.is_err() {
        // What is left of it is of no use, and the error that matters is the one above.
        let _ = fs::remove_dir_all(&part);
    }
    written
}

fn check_weights(
    interface: &Interface,
    program: &Program,
    weights: &[(&str, &Tensor)],
) -> Result<()> {
    let weights: HashMap<&str, &Tensor> = weights.iter().copied().collect();
    for (source, ty) in interface.inputs.iter().zip(program.inputs()) {
        let Source::Weight(name) = source else {
            continue;
        };
        let given = weights.get(&name[..]).map(|tensor| tensor.tensor_type());
        if given.as_ref() != Some(ty) {
            let given = given.map_or_else(|| "none".to_owned(), |given| given.to_string());
            return Err(Error::argument(format!(
                "expected weight {name} to be {ty}, got: {given}"
            )));
        }
    }
    Ok(())
}

/// Whether nothing is lost with the folder but a program.
fn is_replaceable(folder: &Path) -> bool {
    let is_ours =
        |entry: fs::DirEntry| [GRAPH, WEIGHTS].iter().any(|&own| entry.file_name() == own);
    fs::read_dir(folder).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_ours)))
}

fn write(part: &Path, document: &Document, weights: &[(&str, &Tensor)]) -> Result<()> {
    let failed = |error: std::io::Error| io(&part.display().to_string(), &error);
    fs::create_dir_all(part).map_err(failed)?;
    save_tensors(&part.join(WEIGHTS), weights)?;
    let mut file = BufWriter::new(fs::File::create(part.join(GRAPH)).map_err(failed)?);
    serde_json::to_writer(&mut file, document).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n")
        .and_then(|()| file.flush())
        .map_err(failed)
}

fn replace(folder: &Path, part: &Path) -> Result<()> {
    let failed = |error: std::io::Error| io(&folder.display().to_string(), &error);
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::rename(part, folder).map_err(failed)
}
