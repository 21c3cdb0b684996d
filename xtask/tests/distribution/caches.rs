//! What the cache is good for: no network, a republished archive, damage, and several at work.

use std::{fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

use xtask::{cache::Cache, lock::Lock, serve, sidecar};

use crate::{
    images::Elf,
    scripted::{Scripted, reply},
    world::{World, files, names},
};

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
    sources.retain(|source| source.name != "LICENSE");
    sources.push(world.source("LICENSE", b"changed"));
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
    Cache::open_as(&path, owner).unwrap();
    let error = Cache::open_as(&path, other).unwrap_err();
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
    let error = Cache::open(&path).unwrap_err().to_string();
    assert!(error.starts_with("the cache cannot be used\n"), "{error}");
    assert!(
        error.contains("Run next: EMILY_CACHE=DIR cargo xtask install"),
        "{error}"
    );
}
