//! A release of hand-made libraries, the key that signs it, and a consumer's empty folders.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use xtask::{
    audit::is_binary,
    cache::Cache,
    download::PATIENCE,
    host::Host,
    install::{Installer, parse_base},
    keygen,
    keyring::Keyring,
    manifest::{Manifest, Mlx},
    materials::{self, Component},
    release::{Asset, Source, publish},
    sidecar,
    signing::{PublicKey, SecretKey},
    targets::{Selection, Targets},
};

use crate::{
    images::Elf,
    scripted::{Request, reply},
};

/// The version that these tests release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Five attempts that do not wait for each other.
pub const AT_ONCE: [Duration; 4] = [Duration::ZERO; 4];

/// Folders that end with the test, and what is in them.
pub struct World {
    pub targets: Targets,
    pub selection: Selection,
    pub public: String,
    pub secret: String,
    folder: TempDir,
}

impl World {
    /// Nothing is released yet.
    pub fn new() -> Self {
        let targets = Targets::load().unwrap();
        let selection = targets.selection("cpu", "linux-x86_64").unwrap();
        let pair = keygen::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["build", "release", "cache", "app"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            targets,
            selection,
            public: pair.public,
            secret: pair.secret,
            folder,
        }
    }

    /// A world with a release in it.
    pub fn released() -> (Self, Asset) {
        let world = Self::new();
        let asset = world.publish(&world.sources()).unwrap();
        (world, asset)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that the release is published in.
    pub fn release(&self) -> PathBuf {
        self.path("release")
    }

    /// The folder that the release is installed into.
    pub fn app(&self) -> PathBuf {
        self.path("app")
    }

    pub fn asset(&self) -> String {
        self.selection.asset(&self.targets)
    }

    /// A file of the build.
    pub fn source(&self, name: &str, bytes: &[u8]) -> Source {
        let path = self.path("build").join(name);
        fs::write(&path, bytes).unwrap();
        Source {
            name: name.to_owned(),
            path,
        }
    }

    /// All that a release of this selection needs.
    pub fn sources(&self) -> Vec<Source> {
        vec![
            self.source("LICENSE", b"MIT"),
            self.source("libemily.so", &Elf::libemily().bytes()),
            self.source("libmlx.so", &Elf::libmlx().bytes()),
        ]
    }

    /// What the libraries among `sources` are made of, on paper.
    pub fn papers(&self, sources: &[Source]) -> Vec<Source> {
        let libraries: Vec<_> = sources
            .iter()
            .filter(|source| is_binary(&source.name))
            .cloned()
            .collect();
        let mlx = Component {
            name: "MLX".into(),
            version: Some("0.32.2".into()),
            purl: "pkg:generic/mlx@0.32.2".into(),
            license: "MIT".into(),
            sha256: None,
            within: None,
            files: vec!["libmlx.so".into()],
            texts: vec!["MLX's licence".into()],
        };
        materials::write(&self.path("build"), &self.selection, &[mlx], &libraries).unwrap()
    }

    /// Publishes `sources` with their papers.
    pub fn publish(&self, sources: &[Source]) -> anyhow::Result<Asset> {
        self.publish_as_is(&[sources, &self.papers(sources)].concat())
    }

    /// Publishes `sources` and nothing else.
    pub fn publish_as_is(&self, sources: &[Source]) -> anyhow::Result<Asset> {
        self.publish_with(sources, Some(&self.secret_key()))
    }

    /// Publishes `sources` with their papers, for somebody else to sign.
    pub fn publish_unsigned(&self, sources: &[Source]) -> anyhow::Result<Asset> {
        self.publish_with(&[sources, &self.papers(sources)].concat(), None)
    }

    fn publish_with(&self, sources: &[Source], key: Option<&SecretKey>) -> anyhow::Result<Asset> {
        let mlx = Mlx {
            version: "0.32.2".into(),
            mlx_c: "0.7.0".into(),
            from: "wheel".into(),
            tag: None,
            revision: None,
        };
        publish(
            &self.targets,
            &self.selection,
            sources,
            mlx,
            &self.release(),
            key,
        )
    }

    pub fn secret_key(&self) -> SecretKey {
        SecretKey::from_text(&self.secret).unwrap()
    }

    pub fn keyring(&self) -> Keyring {
        Keyring::of(PublicKey::from_text(&self.public).unwrap())
    }

    /// Publishes `tarball` as it is, with a sidecar and a signature that hold.
    pub fn publish_bytes(&self, tarball: &[u8]) -> PathBuf {
        let asset = self.asset();
        let path = self.release().join(&asset);
        fs::write(&path, tarball).unwrap();
        let text = sidecar::text(&sidecar::sha256_of(&path).unwrap(), &asset);
        self.publish_sidecar(&text);
        path
    }

    /// Publishes a sidecar with a signature that holds.
    pub fn publish_sidecar(&self, text: &str) {
        let asset = self.asset();
        let signature = self.secret_key().sign(text.as_bytes(), &asset).unwrap();
        fs::write(self.release().join(sidecar::name(&asset)), text).unwrap();
        fs::write(
            self.release().join(sidecar::signature_name(&asset)),
            signature,
        )
        .unwrap();
    }

    /// An installer that asks `url`, on a host of which nothing is known.
    pub fn installer(&self, url: &str) -> Installer {
        Installer {
            targets: self.targets.clone(),
            selection: self.selection.clone(),
            base: parse_base(url).unwrap(),
            keyring: self.keyring(),
            cache: Cache::open(&self.path("cache")).unwrap(),
            host: Host::default(),
            back_off: AT_ONCE.to_vec(),
            patience: PATIENCE,
        }
    }

    /// Installs from `url`.
    pub fn install(&self, url: &str) -> anyhow::Result<Manifest> {
        self.installer(url).install(&self.app())
    }

    /// Installs from `url`, which must fail and leave nothing; the message.
    pub fn refused(&self, url: &str) -> String {
        let error = self.install(url).expect_err("an install that fails");
        assert_eq!(names(&self.app()), [""; 0], "{error:#}");
        assert_eq!(names(&self.path("cache/v1/unpacked")), [""; 0], "{error:#}");
        assert!(
            !self.path("cache/v1").join(self.asset()).exists(),
            "{error:#}"
        );
        format!("{error:#}")
    }
}

/// What a server answers that has the files of the world's release.
pub fn files(world: &World) -> impl Fn(&Request) -> Vec<u8> + Send + use<> {
    let folder = world.release();
    move |request| match fs::read(folder.join(request.path.trim_start_matches('/'))) {
        Ok(bytes) => reply("200 OK", "", &bytes),
        Err(_) => reply("404 Not Found", "", b""),
    }
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
