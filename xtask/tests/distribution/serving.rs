//! The release server.

use std::{fs, thread};

use reqwest::blocking::{Client, Response};
use xtask::serve::{Server, start};

fn served() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("release/below")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(folder.path().join("release/file"), "0123456789").unwrap();
    fs::write(folder.path().join("release/empty"), "").unwrap();
    fs::write(folder.path().join("release/.hidden"), "hidden").unwrap();
    fs::write(folder.path().join("release/below/file"), "below").unwrap();
    let link = folder.path().join("release/link");
    std::os::unix::fs::symlink(folder.path().join("secret"), link).unwrap();
    let server = start(&folder.path().join("release"), 0).unwrap();
    (folder, server)
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn get(server: &Server, path: &str, range: Option<&str>) -> Response {
    let mut request = client().get(format!("{}{path}", server.url()));
    if let Some(range) = range {
        request = request.header("Range", range);
    }
    request.send().unwrap()
}

#[test]
fn files_and_their_parts() {
    let (_folder, server) = served();
    for (path, range, status, body, content_range) in [
        ("file", None, 200, "0123456789", None),
        ("below/file", None, 200, "below", None),
        ("empty", None, 200, "", None),
        (
            "file",
            Some("bytes=4-"),
            206,
            "456789",
            Some("bytes 4-9/10"),
        ),
        ("file", Some("bytes=2-3"), 206, "23", Some("bytes 2-3/10")),
        (
            "file",
            Some("bytes=10-"),
            416,
            "416 Range Not Satisfiable\n",
            Some("bytes */10"),
        ),
    ] {
        let response = get(&server, path, range);
        assert_eq!(response.status(), status, "{path} {range:?}");
        assert_eq!(
            response.content_length(),
            Some(body.len() as u64),
            "{path} {range:?}"
        );
        let header = response
            .headers()
            .get("Content-Range")
            .map(|value| value.to_str().unwrap());
        assert_eq!(header, content_range, "{path} {range:?}");
        assert_eq!(response.text().unwrap(), body, "{path} {range:?}");
    }
}

#[test]
fn heads_have_a_length_and_no_body() {
    let (_folder, server) = served();
    let response = client()
        .head(format!("{}file", server.url()))
        .send()
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["Content-Length"], "10");
    assert_eq!(response.text().unwrap(), "");
    let response = client()
        .post(format!("{}file", server.url()))
        .send()
        .unwrap();
    assert_eq!(response.status(), 405);
}

#[test]
fn nothing_else_is_served() {
    use std::io::{Read as _, Write as _};
    let (_folder, server) = served();
    // By hand, because a client would tidy the paths.
    for path in [
        "/none",
        "/",
        "/below",
        "/below/",
        "/link",
        "/.hidden",
        "/../secret",
        "/below/../../secret",
        "/%2e%2e/secret",
        "//file",
        "/file/",
        "secret",
        "/..\\secret",
    ] {
        let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}: {answer}");
    }
}

#[test]
fn many_are_served_at_once() {
    let (_folder, server) = served();
    thread::scope(|scope| {
        let gets: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| get(&server, "file", None).text().unwrap()))
            .collect();
        for get in gets {
            assert_eq!(get.join().unwrap(), "0123456789");
        }
    });
}

#[test]
fn only_folders_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let error = start(&path, 0).err().unwrap().to_string();
    assert_eq!(
        error,
        format!("expected a folder to serve, got: {}", path.display())
    );
}
