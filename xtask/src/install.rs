//! `cargo xtask install`: the consumer's side of the install contract, from Rust.
//!
//! CI proves a published release with it. Whatever is not verified stays in the cache's `tmp/`;
//! every file reaches its place by rename.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use reqwest::Url;

use crate::{
    archive::{self, Rules},
    cache::{Cache, unwritable},
    download::{BACK_OFF, Downloader, FetchError, PATIENCE},
    failure::Failure,
    flags,
    host::{DRIVER, Host},
    keyring::Keyring,
    manifest::{self, Manifest},
    placing, settings, sidecar,
    targets::{Selection, Targets},
    workspace,
};

/// Runs the command.
pub fn run(flags: &flags::Install) -> Result<()> {
    let targets = Targets::load()?;
    let selection = targets.select(&flags.cell)?;
    let base = flags
        .url
        .clone()
        .unwrap_or_else(|| targets.base_url(workspace::VERSION));
    // The host's floors only matter to what will run on it.
    let for_this_host = targets
        .host()
        .is_ok_and(|host| host == selection.target_name);
    let installer = Installer {
        keyring: Keyring::load(flags.public_key.as_deref())?,
        base: parse_base(&base)?,
        cache: Cache::open(&settings::cache_dir()?)?,
        host: if for_this_host {
            Host::probe()
        } else {
            Host::default()
        },
        back_off: BACK_OFF.to_vec(),
        patience: PATIENCE,
        targets,
        selection,
    };
    let into = flags
        .into
        .clone()
        .unwrap_or_else(|| workspace::root().join("priv"));
    let manifest = installer.install(&into)?;
    for file in &manifest.files {
        println!("{}", into.join(&file.name).display());
    }
    Ok(())
}

/// `base` as an address that names a folder.
pub fn parse_base(base: &str) -> Result<Url> {
    let folder = format!("{}/", base.trim_end_matches('/'));
    Url::parse(&folder).with_context(|| format!("expected --url to be an address, got: {base}"))
}

/// Everything that one install depends on.
pub struct Installer {
    /// Which releases exist.
    pub targets: Targets,
    /// Which one is wanted.
    pub selection: Selection,
    /// Where it is published; ends in a slash.
    pub base: Url,
    /// Who may have signed it.
    pub keyring: Keyring,
    /// Where it is kept.
    pub cache: Cache,
    /// What it will run on.
    pub host: Host,
    /// How long to wait before each new attempt of a fetch.
    pub back_off: Vec<Duration>,
    /// How long a server may be silent.
    pub patience: Duration,
}

/// A signed checksum.
struct Signed {
    sidecar: Vec<u8>,
    signature: Vec<u8>,
    sha256: String,
}

impl Installer {
    /// Makes `into` hold the release's files, and returns its manifest.
    pub fn install(&self, into: &Path) -> Result<Manifest> {
        let asset = self.selection.asset(&self.targets);
        let downloader = Downloader::new(&self.base, &self.back_off, self.patience)?;
        let signed = self.signed(&downloader, &asset)?;
        let _lock = self.cache.lock(&asset)?;
        let (dir, manifest) = self.unpacked(&downloader, &asset, &signed)?;
        self.cache.store(&sidecar::name(&asset), &signed.sidecar)?;
        self.cache
            .store(&sidecar::signature_name(&asset), &signed.signature)?;
        let variants = self.targets.variants.values();
        let known: Vec<_> = variants.flat_map(|variant| variant.files.clone()).collect();
        placing::place(&dir, &manifest, into, &known)?;
        Ok(manifest)
    }

    /// The signed checksum that is published now; with nobody to ask, the cache's.
    fn signed(&self, downloader: &Downloader, asset: &str) -> Result<Signed> {
        let fetch = |name: String| {
            let url = self.url(&name)?;
            let fetched = downloader.small(&url, sidecar::MAX_BYTES);
            anyhow::Ok(fetched.map_err(|error| (error, url)))
        };
        let sidecar = fetch(sidecar::name(asset))?;
        let signature = match &sidecar {
            // While the checksum is the cache's, so is the signature, which holds.
            Ok(bytes) if let Some(signature) = self.known_signature(bytes, asset) => Ok(signature),
            Ok(_) => fetch(sidecar::signature_name(asset))?,
            Err(_) => Ok(Vec::new()),
        };
        let (error, url) = match (sidecar, signature) {
            (Ok(sidecar), Ok(signature)) => {
                return self.verified(sidecar, signature, asset).map_err(|error| {
                    self.refusal("the published checksum cannot be trusted")
                        .fact("url", format!("{}{}", self.base, sidecar::name(asset)))
                        .fact("reason", format!("{error:#}"))
                        .into()
                });
            }
            (Err(failed), _) | (_, Err(failed)) => failed,
        };
        if matches!(error, FetchError::Unreachable { .. })
            && let Some(signed) = self.cached(asset)
        {
            eprintln!("warning: {url}: {error}; going on with the verified copy in the cache");
            return Ok(signed);
        }
        Err(self.fetch_failure(downloader, error, &url, asset).into())
    }

    fn verified(&self, sidecar: Vec<u8>, signature: Vec<u8>, asset: &str) -> Result<Signed> {
        self.keyring
            .verify(&sidecar, &signature, asset, workspace::VERSION)?;
        let sha256 = sidecar::parse(&sidecar, asset)?;
        Ok(Signed {
            sidecar,
            signature,
            sha256,
        })
    }

    /// The cache's signature of these very bytes, if it holds.
    fn known_signature(&self, sidecar: &[u8], asset: &str) -> Option<Vec<u8>> {
        let signature = fs::read(self.cache.file(&sidecar::signature_name(asset))).ok()?;
        let known = self.verified(sidecar.to_vec(), signature, asset).ok()?;
        Some(known.signature)
    }

    /// The signed checksum in the cache, if the archive beside it is the one it stands for.
    fn cached(&self, asset: &str) -> Option<Signed> {
        let read = |name: &str| fs::read(self.cache.file(name)).ok();
        let sidecar = read(&sidecar::name(asset))?;
        let signature = read(&sidecar::signature_name(asset))?;
        let signed = self.verified(sidecar, signature, asset).ok()?;
        has_sha256(&self.cache.file(asset), &signed.sha256).then_some(signed)
    }

    /// The folder in the cache that holds the archive's files, filled if need be.
    fn unpacked(
        &self,
        downloader: &Downloader,
        asset: &str,
        signed: &Signed,
    ) -> Result<(PathBuf, Manifest)> {
        let place = self.cache.unpacked(asset, &signed.sha256);
        let tarball = self.cache.file(asset);
        let part = self.cache.part(asset, &signed.sha256);
        self.cache.sweep(asset, &part);
        let is_cached = has_sha256(&tarball, &signed.sha256);
        if is_cached && let Some(manifest) = self.intact(&place) {
            self.check_host(&manifest)?;
            return Ok((place, manifest));
        }
        if !is_cached && !has_sha256(&part, &signed.sha256) {
            self.download(downloader, asset, &part, &signed.sha256)?;
        }

        let source = if is_cached { &tarball } else { &part };
        let draft = self.cache.draft(asset)?;
        let rules = Rules {
            version: workspace::VERSION,
            selection: &self.selection,
            max_unpacked_bytes: self.targets.max_unpacked_bytes,
        };
        let contents = archive::unpack(source, &rules, draft.path())
            .map_err(|error| unwritable(draft.path(), &format!("{error:#}")))?;
        let (manifest, []) = (contents.manifest, contents.refusals.as_slice()) else {
            // Of no use to anybody, however well it is signed.
            let _ = fs::remove_file(source);
            return Err(self
                .refusal(&format!("{asset} breaks the rules for archives"))
                .fact("url", self.url(asset)?)
                .fact("rules", contents.refusals.join("\n"))
                .into());
        };
        let manifest = manifest.context("an archive without refusals has a manifest")?;
        self.check_host(&manifest)?;

        if !is_cached {
            fs::rename(&part, &tarball).map_err(|error| unwritable(&tarball, &error))?;
        }
        let _ = fs::remove_dir_all(&place);
        fs::rename(draft.keep(), &place).map_err(|error| unwritable(&place, &error))?;
        Ok((place, manifest))
    }

    /// The manifest of an unpacked folder, if all is as when it was unpacked.
    fn intact(&self, dir: &Path) -> Option<Manifest> {
        let manifest = Manifest::parse(&fs::read(dir.join(manifest::NAME)).ok()?).ok()?;
        let fits = manifest
            .violations(workspace::VERSION, &self.selection)
            .is_empty();
        let mut files = manifest.files.iter();
        let whole = fits && files.all(|file| has_sha256(&dir.join(&file.name), &file.sha256));
        whole.then_some(manifest)
    }

    fn download(
        &self,
        downloader: &Downloader,
        asset: &str,
        part: &Path,
        expected: &str,
    ) -> Result<()> {
        let url = self.url(asset)?;
        let fetch = || {
            downloader
                .file(&url, part, &format!("downloading {asset}"))
                .map_err(|error| self.fetch_failure(downloader, error, &url, asset))
        };
        // What an earlier install left may be the beginning of something else.
        let resumed = part.exists();
        let mut actual = fetch()?;
        if actual != expected && resumed {
            let _ = fs::remove_file(part);
            actual = fetch()?;
        }
        if actual == expected {
            return Ok(());
        }
        let _ = fs::remove_file(part);
        Err(self
            .refusal(&format!("the checksum of {asset} is wrong"))
            .fact("url", url)
            .fact("path", part.display())
            .fact("expected", expected)
            .fact("actual", actual)
            .into())
    }

    fn check_host(&self, manifest: &Manifest) -> Result<()> {
        let lacks = self.host.lacks(&manifest.requires);
        if lacks.is_empty() {
            if self.host.lacks_driver(&manifest.requires) {
                eprintln!(
                    "warning: {DRIVER}, the NVIDIA driver, is not on this machine; what is installed loads \
                     where there is one"
                );
            }
            return Ok(());
        }
        let Selection {
            variant_name,
            target_name,
            ..
        } = &self.selection;
        Err(self
            .refusal(&format!(
                "this machine cannot run {variant_name} for {target_name}"
            ))
            .fact("reasons", lacks.join("\n"))
            .into())
    }

    fn url(&self, name: &str) -> Result<Url> {
        self.base
            .join(name)
            .with_context(|| format!("joining {} and {name}", self.base))
    }

    /// The assets for this target that the server has, a line each.
    fn published(&self, downloader: &Downloader) -> String {
        let variants = self.targets.variants_for(&self.selection.target_name);
        let assets: Vec<_> = variants
            .into_iter()
            .filter_map(|variant| self.targets.selection(variant, &self.selection.target_name))
            .map(|selection| selection.asset(&self.targets))
            .filter(|asset| {
                let url = self.url(&sidecar::name(asset));
                url.is_ok_and(|url| downloader.has(&url))
            })
            .collect();
        match assets.as_slice() {
            [] => "none for this target".to_owned(),
            assets => assets.join("\n"),
        }
    }

    fn fetch_failure(
        &self,
        downloader: &Downloader,
        error: FetchError,
        url: &Url,
        asset: &str,
    ) -> Failure {
        let Selection {
            variant_name,
            target_name,
            ..
        } = &self.selection;
        let again = format!(
            "cargo xtask install --variant {variant_name} --target {target_name} --url {}",
            self.base
        );
        match error {
            FetchError::NotFound => {
                let name = url.path_segments().and_then(|mut parts| parts.next_back());
                self.refusal(&format!("{} is not published there", name.unwrap_or(asset)))
                    .fact("url", url)
                    .fact("status", "404 Not Found")
                    .fact("there are", self.published(downloader))
            }
            FetchError::Local(error) => unwritable(&self.cache.file(asset), &format!("{error:#}")),
            error => Failure::new(format!("{asset} could not be fetched"), again)
                .fact("url", url)
                .fact("reason", error),
        }
    }

    /// A failure that a new attempt will not mend: the way out is to build.
    fn refusal(&self, what: &str) -> Failure {
        let Selection {
            variant_name,
            target_name,
            ..
        } = &self.selection;
        let next = format!("cargo xtask nif --variant {variant_name} --target {target_name}");
        Failure::new(what, next)
    }
}

fn has_sha256(path: &Path, expected: &str) -> bool {
    path.is_file() && sidecar::sha256_of(path).is_ok_and(|actual| actual == expected)
}
