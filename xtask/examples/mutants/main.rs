//! Draws damaged releases from a seed and judges each as `cargo xtask install` does, for the Elixir
//! installer to judge them too: `test/emily/artifact/agreement_test.exs`.
//!
//! `mutants SEED FOLDER` answers each packet on its standard input, a number of cases, with a packet
//! of so many cases on its standard output. Packets begin with their length, in four bytes. The first
//! packet that it writes is the public key that signed what is not damaged.

// It is part of a test, and fails as one does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod draw;
mod fixture;
mod words;

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use draw::{Case, Draw};
use fixture::Fixture;
use sha2::{Digest as _, Sha256};
use xtask::{
    archive::{Rules, unpack},
    manifest::Manifest,
    sidecar,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [seed, folder] = arguments.as_slice() else {
        panic!("expected a seed and a folder, got: {arguments:?}");
    };
    let fixture = Fixture::new();
    let mut draw = Draw::new(seed.parse().expect("a number"), &fixture);
    let folder = Path::new(folder);
    packet(fixture.public.as_bytes());
    while let Some(count) = asked() {
        let mut batch = Vec::new();
        for _ in 0..count {
            let case = draw.case();
            let verdict = judge(&case, &fixture, folder);
            batch.push(case.kind());
            batch.push(u8::from(verdict.is_some()));
            for bytes in [verdict.unwrap_or_default(), case.bytes()] {
                batch.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                batch.extend(bytes);
            }
        }
        packet(&batch);
    }
}

/// How many cases the next packet asks for; none when there is nobody any more.
fn asked() -> Option<u32> {
    let mut packet = [0; 8];
    io::stdin().read_exact(&mut packet).ok()?;
    Some(u32::from_be_bytes(packet[4..].try_into().unwrap()))
}

fn packet(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    out.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes())
        .and_then(|()| out.write_all(bytes))
        .and_then(|()| out.flush())
        .expect("a reader");
}

/// What was understood, if the case is accepted.
fn judge(case: &Case, fixture: &Fixture, folder: &Path) -> Option<Vec<u8>> {
    match case {
        Case::Tarball(bytes) => tarball(bytes, fixture, folder),
        Case::Sidecar(bytes) => {
            let sha256 = sidecar::parse(bytes, &fixture.asset).ok()?;
            Some(sha256.into_bytes())
        }
        Case::Signature { sidecar, signature } => {
            let version = env!("CARGO_PKG_VERSION");
            let signed = fixture
                .keyring
                .verify(sidecar, signature, &fixture.asset, version);
            signed.ok().map(|_| Vec::new())
        }
        Case::Manifest(bytes) => {
            let manifest = Manifest::parse(bytes).ok()?;
            let fits = manifest
                .violations(env!("CARGO_PKG_VERSION"), &fixture.selection)
                .is_empty()
                && manifest
                    .size_violation(fixture.targets.max_unpacked_bytes)
                    .is_none();
            fits.then(|| understood(&manifest))
        }
    }
}

fn understood(manifest: &Manifest) -> Vec<u8> {
    let requires = &manifest.requires;
    let floors = [&requires.glibc, &requires.glibcxx, &requires.macos];
    let mut words = vec![manifest.nif_version.as_str()];
    words.extend(floors.map(|floor| floor.as_deref().unwrap_or("-")));
    words.extend(requires.libraries.iter().map(String::as_str));
    let mut text = words.join(" ");
    for file in &manifest.files {
        text.push_str(&format!("\n{} {} {}", file.name, file.size, file.sha256));
    }
    text.into_bytes()
}

fn tarball(bytes: &[u8], fixture: &Fixture, folder: &Path) -> Option<Vec<u8>> {
    let (path, into) = (folder.join("case.tar.gz"), folder.join("into"));
    fs::write(&path, bytes).unwrap();
    fs::create_dir(&into).unwrap();
    let rules = Rules {
        version: env!("CARGO_PKG_VERSION"),
        selection: &fixture.selection,
        max_unpacked_bytes: fixture.targets.max_unpacked_bytes,
    };
    let contents = unpack(&path, &rules, &into).expect("a folder to write into");
    let mut written: Vec<_> = fs::read_dir(&into)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    for name in &written {
        let allowed = fixture.selection.variant.files.contains(name);
        assert!(allowed, "wrote {name}, which is not listed");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "wrote elsewhere");
    let verdict = contents.refusals.is_empty().then(|| {
        let lines: Vec<_> = written
            .iter()
            .map(|name| {
                let sha256 = Sha256::digest(fs::read(into.join(name)).unwrap());
                format!("{name} {}", sidecar::hex(&sha256))
            })
            .collect();
        lines.join("\n").into_bytes()
    });
    fs::remove_dir_all(&into).unwrap();
    verdict
}
