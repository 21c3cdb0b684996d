//! Whatever is in a file, reading it gives a program or an error. A crash ends these tests.

use emily_core::{Device, Stream, file::ProgramFile, guarded, install_error_handler};
use serde_json::Value;

use crate::{
    folder::{Folder, recorded},
    mutation::{self, Random},
};

/// How many files were programs still, and how many were refused.
struct Outcomes {
    loaded: u32,
    refused: u32,
}

/// The recorded programs, with their graphs.
fn whole() -> Vec<(Folder, Value)> {
    let parsed = |folder: Folder| {
        let document = serde_json::from_slice(&folder.graph).unwrap();
        (folder, document)
    };
    recorded().into_iter().map(parsed).collect()
}

/// Reads so many changed files, the same ones for the same seed.
fn read_changed(folders: &[(Folder, Value)], count: u32, seed: u64) -> Outcomes {
    install_error_handler();
    let stream = Stream::new(Device::Cpu).unwrap();
    let mut random = Random(seed);
    let mut outcomes = Outcomes {
        loaded: 0,
        refused: 0,
    };
    for at in 0..count {
        let (folder, document) = &folders[random.below(folders.len())];
        let (mut graph, mut weights) = (folder.graph.clone(), folder.weights.clone());
        match random.below(8) {
            0 => graph = mutation::bytes(&graph, &mut random),
            1 => weights = mutation::bytes(&weights, &mut random),
            _ => graph = mutation::json(document, &mut random),
        }
        let loaded = guarded(|| {
            let file = ProgramFile::read(&graph, weights)?;
            file.load(&stream, 1000)
        });
        match loaded {
            Ok(_) => outcomes.loaded += 1,
            Err(error) => {
                let text = error.to_string();
                let bug = text.contains("a bug in Emily");
                assert!(!bug, "{}, change {at}: {text}", folder.name);
                outcomes.refused += 1;
            }
        }
    }
    outcomes
}

#[test]
fn changed_files_are_programs_or_refused() {
    let Outcomes { loaded, refused } = read_changed(&whole(), 2000, 1);
    // Some changes make no difference to sense, such as one of a number; most do.
    assert!(
        loaded > 20 && refused > 1000,
        "{loaded} loaded, {refused} refused"
    );
}

/// Takes a quarter of an hour or more.
#[test]
#[ignore = "reads a million files: `cargo xtask test fuzz` runs it"]
fn a_million_changed_files_are_programs_or_refused() {
    let folders = whole();
    for seed in 0..100 {
        let Outcomes { loaded, refused } = read_changed(&folders, 10_000, 1000 + seed);
        println!(
            "{} files, of the last {loaded} loaded, {refused} refused",
            10_000 * (seed + 1)
        );
    }
}
