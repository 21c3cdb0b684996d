//! Installing from servers of every kind: nothing unverified lands anywhere, and the next good
//! attempt heals.

use std::{fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

use xtask::{
    host::Host, keygen, lock::Lock, manifest::Manifest, serve, sidecar, signing::SecretKey,
    version::Version,
};

use crate::{
    archives::{Draft, gzip},
    images::Elf,
    scripted::{Request, Scripted, reply},
    world::{World, names},
};

/// Answers with the files of the world's release.
fn files(world: &World) -> impl Fn(&Request) -> Vec<u8> + Send + use<> {
    let folder = world.release();
    move |request| match fs::read(folder.join(request.path.trim_start_matches('/'))) {
        Ok(bytes) => reply("200 OK", "", &bytes),
        Err(_) => reply("404 Not Found", "", b""),
    }
}

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
            &["expected at most 65536 bytes"],
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
            &["the signature does not hold"],
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
fn without_a_network_a_verified_cache_is_enough() {
    let (world, _) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    let url = server.url();
    world.install(&url).unwrap();
    drop(server);
    fs::remove_dir_all(world.app()).unwrap();
    world.install(&url).unwrap();
    assert!(world.app().join("libemily.so").exists());

    // A copy that is no longer what was signed is no copy.
    fs::write(world.path("cache/v1").join(world.asset()), "changed").unwrap();
    let error = world.install(&url).unwrap_err().to_string();
    assert!(error.contains(" could not be fetched\n"), "{error}");
    assert!(
        error.contains("Run next: cargo xtask install --variant cpu"),
        "{error}"
    );
}

#[test]
fn without_a_network_or_a_cache_there_is_no_install() {
    let (world, _) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    let url = server.url();
    drop(server);
    let message = world.refused(&url);
    assert!(message.contains("(5 attempts)"), "{message}");
}

#[test]
fn a_republished_archive_replaces_the_cached_one() {
    let (world, first) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    world.install(&server.url()).unwrap();
    let changed = Elf {
        exports: vec!["mlx_version", "mlx_more"],
        ..Elf::libmlx()
    };
    let mut sources = world.sources();
    world.source("libmlx.so", &changed.bytes());
    sources.retain(|source| source.name != "LICENSE-openblas");
    sources.push(world.source("LICENSE-openblas", b"changed"));
    let second = world.publish(&sources).unwrap();
    assert_ne!(first.sha256, second.sha256);
    assert_eq!(world.install(&server.url()).unwrap(), second.manifest);
    assert_eq!(
        fs::read(world.app().join("libmlx.so")).unwrap(),
        changed.bytes()
    );
    let cached = world.path("cache/v1").join(world.asset());
    assert_eq!(sidecar::sha256_of(&cached).unwrap(), second.sha256);
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

#[test]
fn a_damaged_cache_heals() {
    let (world, asset) = World::released();
    let server = serve::start(&world.release(), 0).unwrap();
    world.install(&server.url()).unwrap();
    let unpacked = fs::read_dir(world.path("cache/v1/unpacked"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    fs::write(unpacked.path().join("libmlx.so"), "damaged").unwrap();
    fs::write(
        world.path("cache/v1").join(sidecar::name(&world.asset())),
        "damaged",
    )
    .unwrap();
    world.install(&server.url()).unwrap();
    for file in &asset.manifest.files {
        assert_eq!(
            sidecar::sha256_of(&world.app().join(&file.name)).unwrap(),
            file.sha256
        );
    }
    let sidecar = fs::read(world.path("cache/v1").join(sidecar::name(&world.asset()))).unwrap();
    assert_eq!(
        sidecar::parse(&sidecar, &world.asset()).unwrap(),
        asset.sha256
    );
}

#[test]
fn two_at_once_download_once() {
    let (world, _) = World::released();
    let server = Scripted::start(Box::new(files(&world)));
    let installers = [
        world.installer(&server.url()),
        world.installer(&server.url()),
    ];
    thread::scope(|scope| {
        for installer in &installers {
            scope.spawn(|| installer.install(&world.app()).unwrap());
        }
    });
    assert_eq!(server.seen(".tar.gz").len(), 1);
    assert!(world.app().join("libemily.so").exists());
}

#[test]
fn what_killed_installs_left_is_used_or_removed() {
    let (world, asset) = World::released();
    let serve = files(&world);
    let whole = fs::read(&asset.tarball).unwrap();
    let server = Scripted::start(Box::new(move |request| match &request.range {
        Some(range) => {
            assert_eq!(range, "bytes=100-");
            let header = format!(
                "Content-Range: bytes 100-{}/{}\r\n",
                whole.len() - 1,
                whole.len()
            );
            reply("206 Partial Content", &header, &whole[100..])
        }
        None => serve(request),
    }));
    let installer = world.installer(&server.url());
    let name = world.asset();
    let bytes = fs::read(&asset.tarball).unwrap();
    fs::write(installer.cache.part(&name, &asset.sha256), &bytes[..100]).unwrap();
    fs::write(
        installer.cache.part(&name, &"0".repeat(64)),
        "of an older release",
    )
    .unwrap();
    let draft = installer.cache.draft(&name).unwrap().keep();
    fs::write(draft.join("libemily.so"), "half").unwrap();
    fs::write(world.path("cache/v1/tmp/other"), "somebody else's").unwrap();
    installer.install(&world.app()).unwrap();
    assert_eq!(names(&world.path("cache/v1/tmp")), ["other"]);
    assert_eq!(server.seen(".tar.gz").len(), 1);
}

#[test]
fn a_cache_of_another_user_is_refused() {
    let world = World::new();
    let path = world.path("cache");
    let owner = fs::metadata(&path).unwrap().uid();
    let other = owner + 1;
    xtask::cache::Cache::open_as(&path, owner).unwrap();
    let error = xtask::cache::Cache::open_as(&path, other).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the cache belongs to another user\n\n  \
             path:     {}\n  expected: user {other}\n  actual:   user {owner}\n\n\
             Run next: EMILY_CACHE=DIR cargo xtask install, with a folder of your own",
            path.display()
        )
    );
}

#[test]
fn a_lock_that_is_never_free_says_who_holds_it() {
    let world = World::new();
    let path = world.path("lock");
    let held = Lock::acquire(&path, "an asset", Duration::ZERO).unwrap();
    let error = Lock::acquire(&path, "an asset", Duration::ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "another process still works on an asset\n\n  lock:   {}\n  waited: 0 s\n\n\
             Run next: EMILY_CACHE=DIR cargo xtask install, with a folder of your own",
            path.display()
        )
    );
    drop(held);
    Lock::acquire(&path, "an asset", Duration::ZERO).unwrap();
    let error = Lock::acquire(&world.path("none/lock"), "an asset", Duration::ZERO).unwrap_err();
    assert!(
        error.to_string().starts_with("a lock cannot be taken\n"),
        "{error}"
    );
}

#[test]
fn a_cache_that_is_no_folder_says_so() {
    let world = World::new();
    let path = world.path("file");
    fs::write(&path, "").unwrap();
    let error = xtask::cache::Cache::open(&path).unwrap_err().to_string();
    assert!(error.starts_with("the cache cannot be used\n"), "{error}");
    assert!(
        error.contains("Run next: EMILY_CACHE=DIR cargo xtask install"),
        "{error}"
    );
}
