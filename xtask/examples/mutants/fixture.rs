//! A small release that is in order, and two that are somebody else's.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tar::Header;
use xtask::{
    keygen,
    keyring::Keyring,
    manifest::{self, File, Manifest, Mlx, Requires},
    sidecar,
    signing::{PublicKey, SecretKey},
    targets::{Selection, Targets},
};

pub struct Fixture {
    pub targets: Targets,
    pub selection: Selection,
    pub asset: String,
    pub public: String,
    pub keyring: Keyring,
    pub files: Vec<(String, Vec<u8>)>,
    pub manifest: String,
    pub sidecar: String,
    /// Signatures of the sidecar by the release's key and by another, and one of other bytes.
    pub signatures: [String; 3],
}

impl Fixture {
    pub fn new() -> Self {
        let targets = Targets::load().unwrap();
        let selection = targets.selection("cpu", "linux-x86_64").unwrap();
        let asset = selection.asset(&targets);
        let pair = keygen::generate().unwrap();
        let other = keygen::generate().unwrap();
        let files = vec![
            ("LICENSE".to_owned(), b"MIT".to_vec()),
            ("libemily.so".to_owned(), b"the library".to_vec()),
            ("libmlx.so".to_owned(), vec![7; 600]),
        ];
        let manifest = String::from_utf8(listing(&selection, &files).to_bytes().unwrap()).unwrap();
        let sidecar = sidecar::text(&hex(b"the archive"), &asset);
        let sign = |secret: &str, bytes: &[u8]| {
            SecretKey::from_text(secret)
                .unwrap()
                .sign(bytes, &asset)
                .unwrap()
        };
        let signatures = [
            sign(&pair.secret, sidecar.as_bytes()),
            sign(&other.secret, sidecar.as_bytes()),
            sign(&pair.secret, b"other bytes"),
        ];
        Self {
            keyring: Keyring::of(PublicKey::from_text(&pair.public).unwrap()),
            public: pair.public,
            targets,
            selection,
            asset,
            files,
            manifest,
            sidecar,
            signatures,
        }
    }
}

fn listing(selection: &Selection, files: &[(String, Vec<u8>)]) -> Manifest {
    Manifest {
        schema: manifest::SCHEMA,
        package: "emily".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        variant: selection.variant_name.clone(),
        target: selection.target_name.clone(),
        nif_version: "2.17".into(),
        mlx: Mlx {
            version: "0.32.2".into(),
            mlx_c: "0.7.0".into(),
            from: "wheel".into(),
            tag: None,
            revision: None,
        },
        requires: Requires {
            glibc: Some("2.34".into()),
            libraries: vec!["libc.so.6".into()],
            ..Requires::default()
        },
        files: files
            .iter()
            .map(|(name, bytes)| File {
                name: name.clone(),
                size: bytes.len() as u64,
                sha256: hex(bytes),
            })
            .collect(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    sidecar::hex(&Sha256::digest(bytes))
}

/// A tar archive of `manifest` and `files`, with its two blocks of zeros.
pub fn tar(manifest: &[u8], files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let first = (manifest::NAME.to_owned(), manifest.to_vec());
    for (name, bytes) in std::iter::once(&first).chain(files) {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
