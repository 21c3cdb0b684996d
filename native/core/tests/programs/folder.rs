//! The recorded programs.

use std::{fs, path::PathBuf};

use emily_core::file::{GRAPH, ProgramFile, WEIGHTS};

/// A program's two files.
pub struct Folder {
    pub name: String,
    pub graph: Vec<u8>,
    pub weights: Vec<u8>,
}

impl Folder {
    pub fn read(&self) -> emily_core::Result<ProgramFile> {
        ProgramFile::read(&self.graph, self.weights.clone())
    }
}

pub fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/golden/programs")
}

/// All of them, in the order of their names.
pub fn recorded() -> Vec<Folder> {
    let entries = fs::read_dir(place()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no programs are recorded");
    names.into_iter().map(one).collect()
}

/// The one of this name.
pub fn one(name: impl Into<String>) -> Folder {
    let name = name.into();
    let file = |part: &str| fs::read(place().join(&name).join(part)).unwrap();
    Folder {
        graph: file(GRAPH),
        weights: file(WEIGHTS),
        name,
    }
}
