//! Fetching from servers that misbehave.

use std::{collections::BTreeMap, fs, sync::Arc};

use reqwest::Url;
use xtask::{
    download::{Downloader, FetchError, PATIENCE},
    sidecar,
};

use crate::{
    scripted::{Answer, Scripted, reply},
    world::AT_ONCE,
};

/// A body that no buffer holds at once.
fn body() -> Arc<Vec<u8>> {
    Arc::new(
        (0..1_000_000_u32)
            .map(|number| (number % 251) as u8)
            .collect(),
    )
}

/// Answers one request after the other; the last answer stays.
fn in_turn(mut answers: Vec<Answer>) -> Answer {
    let mut turn = 0;
    Box::new(move |request| {
        let last = answers.len() - 1;
        let answer = &mut answers[turn.min(last)];
        turn += 1;
        answer(request)
    })
}

fn whole(body: &Arc<Vec<u8>>) -> Answer {
    let body = Arc::clone(body);
    Box::new(move |_| reply("200 OK", "", &body))
}

/// Promises the whole and breaks off after `count` bytes of the body.
fn cut(body: &Arc<Vec<u8>>, count: usize) -> Answer {
    let body = Arc::clone(body);
    Box::new(move |_| {
        let mut bytes = reply("200 OK", "", &body);
        bytes.truncate(bytes.len() - body.len() + count);
        bytes
    })
}

/// The rest that a `Range` header asks for.
fn rest(body: &Arc<Vec<u8>>) -> Answer {
    let body = Arc::clone(body);
    Box::new(move |request| {
        let range = request.range.as_deref().unwrap();
        let start: usize = range
            .strip_prefix("bytes=")
            .unwrap()
            .trim_end_matches('-')
            .parse()
            .unwrap();
        let (last, size) = (body.len() - 1, body.len());
        let header = format!("Content-Range: bytes {start}-{last}/{size}\r\n");
        reply("206 Partial Content", &header, &body[start..])
    })
}

fn status(text: &'static str) -> Answer {
    Box::new(move |_| reply(text, "", text.as_bytes()))
}

/// A download into an empty folder, or one that holds `part`; the ranges that were asked for.
fn download(
    answers: Vec<Answer>,
    part: &[u8],
) -> (Result<Vec<u8>, FetchError>, Vec<Option<String>>) {
    let server = Scripted::start(in_turn(answers));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    fs::write(&path, part).unwrap();
    let url = Url::parse(&format!("{}file", server.url())).unwrap();
    let fetched =
        Downloader::new(&url, &AT_ONCE, PATIENCE)
            .unwrap()
            .file(&url, &path, "downloading");
    let fetched = fetched.map(|sha256| {
        assert_eq!(sha256, sidecar::sha256_of(&path).unwrap());
        fs::read(&path).unwrap()
    });
    let ranges = server
        .seen("file")
        .into_iter()
        .map(|request| request.range)
        .collect();
    (fetched, ranges)
}

fn at(position: usize) -> Option<String> {
    Some(format!("bytes={position}-"))
}

#[test]
fn downloads_that_succeed() {
    let body = body();
    let middle = &body[..400_000];
    let wrong_place: Answer = Box::new(|_| {
        reply(
            "206 Partial Content",
            "Content-Range: bytes 7-9/10\r\n",
            b"789",
        )
    });
    type Case<'a> = (&'a str, Vec<Answer>, &'a [u8], Vec<Option<String>>);
    let table: Vec<Case<'_>> = vec![
        ("at once", vec![whole(&body)], b"", vec![None]),
        (
            "after 500 and 503",
            vec![
                status("500 Internal Server Error"),
                status("503 Service Unavailable"),
                whole(&body),
            ],
            b"",
            vec![None, None, None],
        ),
        (
            "after 429",
            vec![status("429 Too Many Requests"), whole(&body)],
            b"",
            vec![None, None],
        ),
        (
            "resumed",
            vec![cut(&body, 300_000), rest(&body)],
            b"",
            vec![None, at(300_000)],
        ),
        (
            "restarted where the server knows no ranges",
            vec![cut(&body, 300_000), whole(&body)],
            b"",
            vec![None, at(300_000)],
        ),
        (
            "broken off before the body",
            vec![cut(&body, 0), whole(&body)],
            b"",
            vec![None, None],
        ),
        (
            "no answer at all",
            vec![Box::new(|_| Vec::new()), whole(&body)],
            b"",
            vec![None, None],
        ),
        (
            "gone on from an earlier process",
            vec![rest(&body)],
            middle,
            vec![at(400_000)],
        ),
        (
            "restarted where there is nothing to go on from",
            vec![status("416 Range Not Satisfiable"), whole(&body)],
            middle,
            vec![at(400_000), None],
        ),
        (
            "restarted after a wrong part",
            vec![wrong_place, whole(&body)],
            middle,
            vec![at(400_000), None],
        ),
    ];
    for (what, answers, part, expected) in table {
        let (fetched, ranges) = download(answers, part);
        assert!(fetched.unwrap() == *body, "{what}");
        assert_eq!(ranges, expected, "{what}");
    }
}

#[test]
fn downloads_that_fail() {
    let table: Vec<(Vec<Answer>, &str, usize)> = vec![
        (
            vec![status("404 Not Found")],
            "the server answered 404 Not Found",
            1,
        ),
        (
            vec![status("403 Forbidden")],
            "the server answered 403 Forbidden",
            1,
        ),
        (
            vec![status("500 Internal Server Error")],
            "the server answered 500 Internal Server Error (5 attempts)",
            5,
        ),
        (
            vec![Box::new(|_| reply("206 Partial Content", "", b"x"))],
            "expected a Content-Range header, got: None",
            1,
        ),
    ];
    for (answers, message, attempts) in table {
        let (fetched, ranges) = download(answers, b"");
        assert_eq!(fetched.unwrap_err().to_string(), message);
        assert_eq!(ranges.len(), attempts, "{message}");
    }
    let (fetched, _) = download(vec![cut(&body(), 0)], b"");
    let error = fetched.unwrap_err().to_string();
    assert!(error.starts_with("the connection broke off: "), "{error}");
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let answers: BTreeMap<_, _> = [
        ("/there", reply("302 Found", "Location: /here\r\n", b"")),
        ("/here", reply("200 OK", "", b"found")),
        ("/loop", reply("302 Found", "Location: /loop\r\n", b"")),
    ]
    .into();
    let server = Scripted::start(Box::new(move |request| {
        answers[request.path.as_str()].clone()
    }));
    let url = |path: &str| Url::parse(&format!("{}{path}", server.url())).unwrap();
    let downloader = Downloader::new(&url(""), &AT_ONCE, PATIENCE).unwrap();
    assert_eq!(downloader.small(&url("there"), 10).unwrap(), b"found");
    let error = downloader.small(&url("loop"), 10).unwrap_err();
    assert!(matches!(error, FetchError::Unacceptable(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("the server redirects in a circle"),
        "{error}"
    );
    assert_eq!(server.seen("/loop").len(), 1);
}

#[test]
fn small_files_stay_small() {
    let server = Scripted::start(status("200 OK"));
    let url = Url::parse(&server.url()).unwrap();
    let downloader = Downloader::new(&url, &AT_ONCE, PATIENCE).unwrap();
    assert_eq!(downloader.small(&url, 6).unwrap(), b"200 OK");
    let error = downloader.small(&url, 5).unwrap_err();
    assert_eq!(error.to_string(), "expected at most 5 bytes, got more");
}

#[test]
fn nobody_there() {
    let server = Scripted::start(status("200 OK"));
    let url = Url::parse(&server.url()).unwrap();
    drop(server);
    let error = Downloader::new(&url, &AT_ONCE, PATIENCE)
        .unwrap()
        .small(&url, 5)
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Unreachable { attempts: 5, .. }),
        "{error:?}"
    );
}
