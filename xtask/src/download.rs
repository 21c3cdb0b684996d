//! Fetching over HTTP: transient failures are tried again, and what has arrived is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use reqwest::{
    Certificate, StatusCode, Url,
    blocking::{Client, Response},
    header::{CONTENT_RANGE, RANGE},
    redirect::{Action, Attempt as Attempted, Policy},
};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::Failure,
    progress, settings,
    sidecar::{self, hex},
};

/// How long to wait before each new attempt.
pub const BACK_OFF: &[Duration] = &[
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// A server that is silent for so long is taken for dead.
pub const PATIENCE: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;

/// Why a fetch failed for good.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server has no such file.
    #[error("the server answered 404 Not Found")]
    NotFound,
    /// The server answered something that a new attempt would not change.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Nobody could be reached, or every attempt broke off.
    #[error("{cause} ({attempts} attempts)")]
    Unreachable {
        /// What ended the last attempt.
        cause: String,
        /// How many there were.
        attempts: usize,
    },
    /// The answer is not one to accept from anybody.
    #[error("{0}")]
    Unacceptable(String),
    /// Writing what arrived failed.
    #[error("{0:#}")]
    Local(anyhow::Error),
}

/// Why one attempt failed.
enum Attempt {
    Transient(String),
    Final(FetchError),
}

impl From<reqwest::Error> for Attempt {
    fn from(error: reqwest::Error) -> Self {
        // Whoever shows the error shows the address too.
        let error = error.without_url();
        let text = with_causes(&error);
        if error.is_redirect() || error.is_builder() {
            Self::Final(FetchError::Unacceptable(text))
        } else {
            Self::Transient(text)
        }
    }
}

/// An HTTP client with its patience.
pub struct Downloader {
    client: Client,
    back_off: Vec<Duration>,
}

impl Downloader {
    /// A client for `base`, which waits for `back_off` between attempts, and for `patience` for a
    /// silent server.
    pub fn new(base: &Url, back_off: &[Duration], patience: Duration) -> Result<Self> {
        check_address(base)?;
        let mut client = Client::builder()
            .user_agent(concat!("emily-xtask/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(follow))
            .connect_timeout(patience.min(Duration::from_secs(15)))
            .timeout(patience);
        // A proxy's loopback is not ours.
        if is_loopback(base) {
            client = client.no_proxy();
        }
        if let Some(path) = settings::cacerts_path() {
            client = client.tls_built_in_root_certs(false);
            for certificate in authorities(&path)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().context("making an HTTP client")?;
        Ok(Self {
            client,
            back_off: back_off.to_vec(),
        })
    }

    /// Fetches a file of at most `limit` bytes into memory.
    pub fn small(&self, url: &Url, limit: u64) -> Result<Vec<u8>, FetchError> {
        if url.scheme() == "file" {
            return beginning(&local_file(url)?, limit);
        }
        self.persist(url, || {
            let response = accept(self.client.get(url.clone()).send()?)?;
            let mut bytes = Vec::new();
            response
                .take(limit + 1)
                .read_to_end(&mut bytes)
                .map_err(broken_off)?;
            if bytes.len() as u64 > limit {
                return Err(Attempt::Final(too_large(limit)));
            }
            Ok(bytes)
        })
    }

    /// Whether the server has a file; asked once, because this only helps to word an error.
    pub fn has(&self, url: &Url) -> bool {
        if url.scheme() == "file" {
            return local_file(url).is_ok();
        }
        self.client
            .head(url.clone())
            .send()
            .is_ok_and(|response| response.status().is_success())
    }

    /// Fetches a file to `part`, going on from what is there, and returns its SHA-256.
    pub fn file(&self, url: &Url, part: &Path, label: &str) -> Result<String, FetchError> {
        if url.scheme() == "file" {
            fs::copy(local_file(url)?, part)
                .with_context(|| format!("copying to {}", part.display()))
                .map_err(FetchError::Local)?;
            return sidecar::sha256_of(part).map_err(FetchError::Local);
        }
        let mut transfer = Transfer::open(part, label).map_err(FetchError::Local)?;
        self.persist(url, || {
            let mut request = self.client.get(url.clone());
            if transfer.position > 0 {
                request = request.header(RANGE, format!("bytes={}-", transfer.position));
            }
            let response = request.send()?;
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && transfer.position > 0 {
                transfer.start_at(0).map_err(local)?;
                return Err(Attempt::Transient(
                    "there is nothing to go on from".to_owned(),
                ));
            }
            let response = accept(response)?;
            let start = start_of(&response)?;
            if start != 0 && start != transfer.position {
                transfer.start_at(0).map_err(local)?;
                return Err(Attempt::Transient(format!(
                    "the server went on from byte {start}"
                )));
            }
            if start != transfer.position {
                transfer.start_at(start).map_err(local)?;
            }
            transfer.receive(response)
        })?;
        Ok(transfer.finish())
    }

    /// Makes attempts until one succeeds, fails for good, or was the last.
    fn persist<T>(
        &self,
        url: &Url,
        mut attempt: impl FnMut() -> Result<T, Attempt>,
    ) -> Result<T, FetchError> {
        let mut waits = self.back_off.iter();
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Transient(cause)) => match waits.next() {
                    Some(wait) => {
                        eprintln!(
                            "{url}: {cause}; trying again in {:.1} s, {} attempts left",
                            wait.as_secs_f64(),
                            waits.len() + 1
                        );
                        thread::sleep(*wait);
                    }
                    None => {
                        let attempts = self.back_off.len() + 1;
                        return Err(FetchError::Unreachable { cause, attempts });
                    }
                },
            }
        }
    }
}

/// Addresses are `https` ones, `http` ones of this machine, or folders.
fn check_address(base: &Url) -> Result<()> {
    if base.scheme() == "https" || is_loopback(base) || base.scheme() == "file" {
        return Ok(());
    }
    let next = "cargo xtask install --url URL";
    Err(
        Failure::new("releases do not come from such an address", next)
            .fact("url", base)
            .fact(
                "expected",
                "https://…, http:// with localhost, or file:///…",
            )
            .into(),
    )
}

/// Whether an `http` address is one of this machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    url.scheme() == "http"
        && (host == "localhost" || address.is_ok_and(|address| address.is_loopback()))
}

/// A server leads to `https`, or from this machine to itself.
fn follow(attempt: Attempted) -> Action {
    let next = attempt.url();
    let from_http = attempt.previous().last().is_none_or(is_loopback);
    if attempt.previous().contains(next) {
        attempt.error("the server redirects in a circle")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("the server redirects too often")
    } else if next.scheme() == "https" || from_http && is_loopback(next) {
        attempt.follow()
    } else {
        attempt.error("the server redirects to an address that is not https")
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>> {
    let unreadable = |reason: String| {
        Failure::new(
            "the certificate authorities cannot be read",
            "cargo xtask install",
        )
        .fact("HEX_CACERTS_PATH", path.display())
        .fact("reason", reason)
    };
    let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let authorities =
        Certificate::from_pem_bundle(&bytes).map_err(|error| unreadable(with_causes(&error)))?;
    if authorities.is_empty() {
        return Err(unreadable("it has no certificate".to_owned()).into());
    }
    Ok(authorities)
}

/// The path of a `file` address that has such a file.
fn local_file(url: &Url) -> Result<PathBuf, FetchError> {
    match url.to_file_path() {
        Ok(path) if path.exists() => Ok(path),
        Ok(_) => Err(FetchError::NotFound),
        Err(()) => Err(FetchError::Unacceptable(
            "this is no address of a file".to_owned(),
        )),
    }
}

fn beginning(path: &Path, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))
        .map_err(FetchError::Local)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

fn too_large(limit: u64) -> FetchError {
    FetchError::Unacceptable(format!("expected at most {limit} bytes, got more"))
}

/// A file that arrives in pieces, hashed on the way.
struct Transfer {
    file: File,
    position: u64,
    hash: Sha256,
    label: String,
    bar: Option<progress::Bytes>,
}

impl Transfer {
    fn open(part: &Path, label: &str) -> Result<Self> {
        let context = || format!("writing {}", part.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(part)
            .with_context(context)?;
        let mut hash = Sha256::new();
        let position = io::copy(&mut file, &mut hash).with_context(context)?;
        Ok(Self {
            file,
            position,
            hash,
            label: label.to_owned(),
            bar: None,
        })
    }

    /// Forgets what came after `position`, which is 0 or where the transfer stands.
    fn start_at(&mut self, position: u64) -> Result<()> {
        if position == 0 {
            self.hash = Sha256::new();
        }
        self.file.set_len(position)?;
        self.file.seek(SeekFrom::Start(position))?;
        self.position = position;
        Ok(())
    }

    fn receive(&mut self, mut response: Response) -> Result<(), Attempt> {
        let total = response.content_length().map(|rest| self.position + rest);
        let position = self.position;
        let bar = self
            .bar
            .get_or_insert_with(|| progress::bytes(&self.label, total));
        bar.set(position);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = response.read(&mut buffer).map_err(broken_off)?;
            if count == 0 {
                return Ok(());
            }
            self.file
                .write_all(&buffer[..count])
                .map_err(|error| local(anyhow::Error::from(error).context("writing the file")))?;
            self.hash.update(&buffer[..count]);
            self.position += count as u64;
            bar.advance(count as u64);
        }
    }

    fn finish(self) -> String {
        if let Some(bar) = self.bar {
            bar.finish();
        }
        hex(&self.hash.finalize())
    }
}

fn accept(response: Response) -> Result<Response, Attempt> {
    let status = response.status();
    if status.is_success() {
        Ok(response)
    } else if status == StatusCode::NOT_FOUND {
        Err(Attempt::Final(FetchError::NotFound))
    } else if status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
        )
    {
        Err(Attempt::Transient(format!("the server answered {status}")))
    } else {
        Err(Attempt::Final(FetchError::Status(status)))
    }
}

/// The position in the file at which an answer's body starts.
fn start_of(response: &Response) -> Result<u64, Attempt> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    range
        .and_then(|range| {
            range
                .strip_prefix("bytes ")?
                .split_once('-')?
                .0
                .parse()
                .ok()
        })
        .ok_or_else(|| {
            let text = format!("expected a Content-Range header, got: {range:?}");
            Attempt::Final(FetchError::Unacceptable(text))
        })
}

fn broken_off(error: io::Error) -> Attempt {
    Attempt::Transient(format!("the connection broke off: {}", with_causes(&error)))
}

fn local(error: anyhow::Error) -> Attempt {
    Attempt::Final(FetchError::Local(error))
}

/// An error and what caused it, without those that its text repeats.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
