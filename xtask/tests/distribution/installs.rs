//! Installing from servers of every kind: nothing unverified lands anywhere, and the next good
//! attempt heals.

use std::{fs, os::unix::fs::MetadataExt as _};

use xtask::{
    host::Host, keygen, manifest::Manifest, serve, sidecar, signing::SecretKey, version::Version,
};

use crate::{
    archives::{Draft, gzip},
    images::Elf,
    scripted::{Scripted, reply},
    world::{World, files, names},
};

#[test]
fn an_install_is_the_release_and_links_to_the_cache() {
    let (world, asset) = World::released();
    let server = Scripted::start(Box::new(files(&world)));
    let manifest = world.install(&server.url()).unwrap();
    assert_eq!(manifest, asset.manifest);
    let mut expected: Vec<_> = manifest
        .files
        .iter()
        .map(|file| file.name.clone())
        .collect();
    expected.push("manifest.json".into());
    expected.sort();
    assert_eq!(names(&world.app()), expected);
    let installed = fs::read(world.app().join("manifest.json")).unwrap();
    assert_eq!(Manifest::parse(&installed).unwrap(), manifest);

    let stem = world.asset().replace(".tar.gz", "");
    let unpacked = world
        .path("cache/v1/unpacked")
        .join(format!("{}-{stem}", &asset.sha256[..16]));
    for file in &manifest.files {
        let (here, there) = (world.app().join(&file.name), unpacked.join(&file.name));
        assert_eq!(sidecar::sha256_of(&here).unwrap(), file.sha256);
        assert_eq!(
            fs::metadata(here).unwrap().ino(),
            fs::metadata(there).unwrap().ino()
        );
    }
    assert_eq!(names(&world.path("cache/v1/tmp")), [""; 0]);

    // Again: the checksum is asked for, the archive is not.
    world.install(&server.url()).unwrap();
    assert_eq!(server.seen(".sha256").len(), 2);
    assert_eq!(server.seen(".tar.gz").len(), 1);
}

#[test]
fn refusals_leave_nothing_and_heal() {
    type Change = fn(&World);
    let table: &[(&str, &[&str], Change)] = &[
        (
            "wrong checksum",
            &["the checksum of ", "expected: 00", "actual:   "],
            |world| {
                world.publish_sidecar(&sidecar::text(&"0".repeat(64), &world.asset()));
            },
        ),
        (
            "sidecar of another asset",
            &["got that of: other.tar.gz"],
            |world| {
                world.publish_sidecar(&sidecar::text(&"0".repeat(64), "other.tar.gz"));
            },
        ),
        (
            "sidecar of another form",
            &["expected 64 lower-case hexadecimal digits"],
            |world| {
                world.publish_sidecar("none\n");
            },
        ),
        (
            "sidecar without end",
            &["expected at most 16384 bytes"],
            |world| {
                world.publish_sidecar(&" ".repeat(65537));
            },
        ),
        (
            "no signature",
            &[".minisig is not published there", "404 Not Found"],
            |world| {
                fs::remove_file(
                    world
                        .release()
                        .join(sidecar::signature_name(&world.asset())),
                )
                .unwrap();
            },
        ),
        (
            "foreign signature",
            &["expected a signature by the key", "got: one by the key"],
            |world| {
                let key = SecretKey::from_text(&keygen::generate().unwrap().secret).unwrap();
                let sidecar =
                    fs::read(world.release().join(sidecar::name(&world.asset()))).unwrap();
                let signature = key.sign(&sidecar, &world.asset()).unwrap();
                fs::write(
                    world
                        .release()
                        .join(sidecar::signature_name(&world.asset())),
                    signature,
                )
                .unwrap();
            },
        ),
        (
            "tampered comment",
            &["the signature does not hold"],
            |world| {
                let path = world
                    .release()
                    .join(sidecar::signature_name(&world.asset()));
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("file:", "file: ")).unwrap();
            },
        ),
        (
            "signature of another asset",
            &["trusted comment to be file:emily-nif"],
            |world| {
                let path = world.release().join(sidecar::name(&world.asset()));
                let signature = world
                    .secret_key()
                    .sign(&fs::read(path).unwrap(), "other.tar.gz");
                let path = world
                    .release()
                    .join(sidecar::signature_name(&world.asset()));
                fs::write(path, signature.unwrap()).unwrap();
            },
        ),
        (
            "signed but hostile",
            &[
                "breaks the rules for archives",
                "\"../x\": expected a plain",
            ],
            |world| {
                let mut draft = Draft::good(world);
                draft.regular("../x", b"x");
                world.publish_bytes(&gzip(&draft.tar()));
            },
        ),
        (
            "signed but cut short",
            &["breaks the rules for archives", "the archive is broken"],
            |world| {
                let bytes = fs::read(world.release().join(world.asset())).unwrap();
                world.publish_bytes(&bytes[..bytes.len() / 2]);
            },
        ),
        (
            "not published",
            &[".sha256 is not published there", "404 Not Found"],
            |world| {
                fs::remove_file(world.release().join(sidecar::name(&world.asset()))).unwrap();
            },
        ),
    ];
    for (what, parts, change) in table {
        let (world, _) = World::released();
        change(&world);
        let server = serve::start(&world.release(), 0).unwrap();
        let message = world.refused(&server.url());
        for part in *parts {
            assert!(message.contains(part), "{what}: {message}");
        }
        assert!(
            message.contains("\n\nRun next: cargo xtask "),
            "{what}: {message}"
        );
        assert_eq!(names(&world.path("cache/v1/tmp")), [""; 0], "{what}");

        world.publish(&world.sources()).unwrap();
        world
            .install(&server.url())
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }
}

#[test]
fn a_404_lists_what_exists() {
    let world = World::new();
    let server = serve::start(&world.release(), 0).unwrap();
    let (url, asset) = (server.url(), world.asset());
    let message = |there: &str| {
        format!(
            "{asset}.sha256 is not published there\n\n  \
             url:       {url}{asset}.sha256\n  \
             status:    404 Not Found\n  \
             there are: {there}\n\n\
             Run next: cargo xtask nif --variant cpu --target linux-x86_64"
        )
    };
    assert_eq!(world.refused(&url), message("none for this target"));
    let (cuda12, cuda13) = (
        asset.replace("cpu", "cuda12"),
        asset.replace("cpu", "cuda13"),
    );
    for asset in [&cuda12, &cuda13] {
        fs::write(world.release().join(sidecar::name(asset)), "").unwrap();
    }
    assert_eq!(
        world.refused(&url),
        message(&format!("{cuda12}\n             {cuda13}"))
    );
}

#[test]
fn an_unfit_host_is_told_before_anything_is_installed() {
    let (world, _) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    let mut installer = world.installer(&server.url());
    installer.host = Host {
        versions: [("glibc".to_owned(), Version::new(2, 31, 0))].into(),
        libraries: Some(["libc.so.6".to_owned(), "libm.so.6".to_owned()].into()),
    };
    let error = installer.install(&world.app()).unwrap_err().to_string();
    assert_eq!(
        error,
        "this machine cannot run cpu for linux-x86_64\n\n  \
         reasons: expected glibc 2.35 or newer, got: 2.31\n           \
         expected the shared library libstdc++.so.6, got: none\n\n\
         Run next: cargo xtask nif --variant cpu --target linux-x86_64"
    );
    assert_eq!(names(&world.app()), [""; 0]);
    installer
        .host
        .versions
        .insert("glibc".to_owned(), Version::new(2, 35, 0));
    installer.host.libraries = None;
    installer.install(&world.app()).unwrap();
}

#[test]
fn errors_of_the_server_and_cut_connections_are_overcome() {
    let (world, _) = World::released();
    let serve = files(&world);
    let mut requests = 0;
    let server = Scripted::start(Box::new(move |request| {
        requests += 1;
        let mut bytes = serve(request);
        match requests {
            1 => reply("500 Internal Server Error", "", b""),
            4 => {
                assert!(request.path.ends_with(".tar.gz"));
                bytes.truncate(bytes.len() - 100);
                bytes
            }
            _ => bytes,
        }
    }));
    world.install(&server.url()).unwrap();
    let tarballs = server.seen(".tar.gz");
    assert_eq!(tarballs.len(), 2);
    assert!(tarballs[1].range.is_some());
}

#[test]
fn files_of_an_earlier_release_go() {
    let (world, _) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    let mut sources = world.sources();
    sources.push(
        world.source(
            "libopenblas.so.0",
            &Elf {
                own_name: "libopenblas.so.0",
                ..Elf::libmlx()
            }
            .bytes(),
        ),
    );
    world.publish(&sources).unwrap();
    world.install(&server.url()).unwrap();
    assert!(world.app().join("libopenblas.so.0").exists());
    fs::write(world.app().join("mine"), "").unwrap();
    sources.pop();
    world.publish(&sources).unwrap();
    world.install(&server.url()).unwrap();
    assert!(!world.app().join("libopenblas.so.0").exists());
    assert!(world.app().join("mine").exists());
}
