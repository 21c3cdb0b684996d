//! `cargo xtask serve`: a release folder over HTTP on loopback.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tiny_http::{Header, Method, Request, Response, ResponseBox, StatusCode};

use crate::flags;

/// How many requests are answered at the same time.
const THREADS: usize = 8;

/// A running server, which ends when it is dropped.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    http: Arc<tiny_http::Server>,
    threads: Vec<JoinHandle<()>>,
}

/// Runs the command.
pub fn run(flags: &flags::Serve) -> Result<()> {
    let server = start(&flags.dir, flags.port)?;
    println!("{}", server.url());
    eprintln!("serving {}; end with Ctrl-C", flags.dir.display());
    server.join();
    Ok(())
}

/// Serves the files of `dir` on loopback; `port` 0 takes a free one.
pub fn start(dir: &Path, port: u16) -> Result<Server> {
    ensure!(
        dir.is_dir(),
        "expected a folder to serve, got: {}",
        dir.display()
    );
    let dir = dir
        .canonicalize()
        .with_context(|| format!("reading {}", dir.display()))?;
    let http = tiny_http::Server::http((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| anyhow!("listening on port {port} of 127.0.0.1: {error}"))?;
    let addr = http
        .server_addr()
        .to_ip()
        .context("expected an address with a port")?;
    let http = Arc::new(http);
    let threads = (0..THREADS)
        .map(|_| {
            let (http, dir) = (Arc::clone(&http), dir.clone());
            thread::spawn(move || {
                while let Ok(request) = http.recv() {
                    answer(request, &dir);
                }
            })
        })
        .collect();
    Ok(Server {
        addr,
        http,
        threads,
    })
}

/// Has `command` reach a server of ours directly, whatever proxy the environment names.
pub fn reach_directly(command: &mut Command) -> &mut Command {
    let names = ["NO_PROXY", "no_proxy"];
    let set = names.iter().find_map(|name| {
        let hosts = std::env::var(name).ok()?;
        (!hosts.is_empty()).then_some(hosts)
    });
    let hosts = unproxied(set.as_deref());
    command.envs(names.map(|name| (name, &hosts)))
}

/// The hosts that no proxy is asked for, with loopback among them.
fn unproxied(set: Option<&str>) -> String {
    let loopback = Ipv4Addr::LOCALHOST.to_string();
    match set {
        Some(hosts) if hosts.split([',', ' ']).any(|host| host == loopback) => hosts.to_owned(),
        Some(hosts) => format!("{hosts},{loopback}"),
        None => loopback,
    }
}

impl Server {
    /// The address of the folder, ending in a slash.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Serves until the process ends.
    fn join(mut self) {
        for thread in self.threads.drain(..) {
            // A thread ends by a panic at most, which it has then reported itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for _ in &self.threads {
            self.http.unblock();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, dir: &Path) {
    let response = match request.method() {
        Method::Get | Method::Head => file(&request, dir).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", request.url());
            plain(500, "500 Internal Server Error")
        }),
        _ => plain(405, "405 Method Not Allowed"),
    };
    // The other side may have gone; that is its own affair.
    let _ = request.respond(response);
}

fn file(request: &Request, dir: &Path) -> Result<ResponseBox> {
    let Some(path) = resolve(request.url(), dir) else {
        return Ok(plain(404, "404 Not Found"));
    };
    let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let size = file.metadata()?.len();
    let asked = request
        .headers()
        .iter()
        .find(|header| header.field.equiv("Range"))
        .and_then(|header| parse_range(header.value.as_str(), size));
    let (status, start, end) = match asked {
        None => (200, 0, size),
        Some(Range::Part(start, end)) => (206, start, end),
        Some(Range::Unsatisfiable) => {
            let response = plain(416, "416 Range Not Satisfiable");
            return Ok(response.with_header(header("Content-Range", &format!("bytes */{size}"))?));
        }
    };
    file.seek(SeekFrom::Start(start))?;
    let length = usize::try_from(end - start)?;
    let mut headers = vec![
        header("Content-Type", "application/octet-stream")?,
        header("Accept-Ranges", "bytes")?,
    ];
    if status == 206 {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        headers.push(header("Content-Range", &range)?);
    }
    let body = file.take(end - start);
    Ok(
        Response::new(StatusCode(status), headers, body, Some(length), None)
            // A length instead of chunks: who downloads wants to know how much is to come.
            .with_chunked_threshold(usize::MAX)
            .boxed(),
    )
}

/// The regular file that a request is for; nothing outside `dir`, and no hidden file.
fn resolve(url: &str, dir: &Path) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let plain =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['%', '\\']);
    if !path.split('/').all(plain) {
        return None;
    }
    let path = dir.join(path).canonicalize().ok()?;
    (path.starts_with(dir) && path.is_file()).then_some(path)
}

/// A part of a file, as a `Range` header asks for it.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// From the first position to before the second.
    Part(u64, u64),
    Unsatisfiable,
}

/// `None` where the whole file is the answer: other units, several ranges, bad syntax.
fn parse_range(value: &str, size: u64) -> Option<Range> {
    let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let (start, end) = match (first, last) {
        ("", last) => (size.saturating_sub(number(last)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (start, last) = (number(first)?, number(last)?);
            if last < start {
                return None;
            }
            (start, last.saturating_add(1).min(size))
        }
    };
    Some(if start < end {
        Range::Part(start, end)
    } else {
        Range::Unsatisfiable
    })
}

fn plain(status: u16, text: &str) -> ResponseBox {
    Response::new(
        StatusCode(status),
        Vec::new(),
        io::Cursor::new(format!("{text}\n")),
        Some(text.len() + 1),
        None,
    )
    .boxed()
}

fn header(name: &str, value: &str) -> Result<Header> {
    Header::from_bytes(name, value).map_err(|()| anyhow!("bad header {name}: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, expected) in [
            ("bytes=0-", Some(Range::Part(0, 10))),
            ("bytes=3-", Some(Range::Part(3, 10))),
            ("bytes=3-5", Some(Range::Part(3, 6))),
            ("bytes=3-99", Some(Range::Part(3, 10))),
            ("bytes=-4", Some(Range::Part(6, 10))),
            ("bytes=-99", Some(Range::Part(0, 10))),
            ("bytes=10-", Some(Range::Unsatisfiable)),
            ("bytes=-0", Some(Range::Unsatisfiable)),
            ("bytes=5-3", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-", None),
            ("lines=0-", None),
        ] {
            assert_eq!(parse_range(value, 10), expected, "{value}");
        }
    }

    #[test]
    fn loopback_joins_the_hosts_without_a_proxy() {
        for (set, expected) in [
            (None, "127.0.0.1"),
            (Some("example.invalid"), "example.invalid,127.0.0.1"),
            (Some("127.0.0.1, a"), "127.0.0.1, a"),
        ] {
            assert_eq!(unproxied(set), expected, "{set:?}");
        }
        let mut command = Command::new("mix");
        reach_directly(&mut command);
        for name in ["NO_PROXY", "no_proxy"] {
            let hosts = command
                .get_envs()
                .find_map(|(key, value)| (key == name).then_some(value?.to_str()?));
            assert!(
                hosts.is_some_and(|hosts| hosts.contains("127.0.0.1")),
                "{name}"
            );
        }
    }
}
