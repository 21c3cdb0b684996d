//! Publishing a release, and verifying one.

use std::fs;

use object::elf;
use xtask::release::Source;
use xtask::verify::{table, tarball_verdicts, tarballs};

use crate::{
    archives::{Draft, gzip},
    images::Elf,
    world::{World, names},
};

/// The violations that verifying the world's release finds, each after its rule.
fn violations(world: &World) -> Vec<(&'static str, String)> {
    let tarball = world.release().join(world.asset());
    let verdicts = tarball_verdicts(&tarball, &world.targets, &world.keyring()).unwrap();
    let each = |verdict: xtask::verify::Verdict| {
        verdict
            .violations
            .into_iter()
            .map(move |violation| (verdict.rule, violation))
    };
    verdicts.into_iter().flat_map(each).collect()
}

#[test]
fn a_release_is_three_files_that_verify() {
    let (world, asset) = World::released();
    let name = world.asset();
    assert_eq!(
        names(&world.release()),
        [
            name.clone(),
            format!("{name}.sha256"),
            format!("{name}.sha256.minisig")
        ]
    );
    assert_eq!(
        fs::read_to_string(&asset.sidecar).unwrap(),
        format!("{}  {name}\n", asset.sha256)
    );
    let manifest = &asset.manifest;
    assert_eq!(manifest.requires.glibc.as_deref(), Some("2.35"));
    assert_eq!(manifest.requires.glibcxx.as_deref(), Some("3.4.30"));
    assert_eq!(manifest.nif_version, "2.17");
    assert_eq!(violations(&world), []);
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let (world, first) = World::released();
    let bytes = fs::read(&first.tarball).unwrap();
    // Another time, other modes, another order.
    let mut sources = world.sources();
    sources.reverse();
    for source in &sources {
        let file = fs::File::options().write(true).open(&source.path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        file.set_permissions(permissions).unwrap();
    }
    let second = world.publish(&sources).unwrap();
    assert_eq!(first.sha256, second.sha256);
    assert!(bytes == fs::read(&second.tarball).unwrap());
    assert_eq!(&bytes[4..8], [0; 4], "the gzip header has no time");
}

#[test]
fn a_build_that_breaks_the_rules_is_not_released() {
    let world = World::new();
    let mut sources = world.sources();
    sources.retain(|source| source.name != "LICENSE");
    let bad = Elf {
        needed: vec!["libc.so.6", "libtorch.so"],
        run_path: Some((elf::DT_RUNPATH, "/opt")),
        symbol_versions: vec!["GLIBC_9.99"],
        ..Elf::libmlx()
    };
    world.source("libmlx.so", &bad.bytes());
    sources.push(world.source("install.sh", b"rm"));
    let error = world.publish(&sources).err().unwrap().to_string();
    assert_eq!(
        error,
        "the build of cpu for linux-x86_64 breaks the rules for releases\n\
         \n  \
         rules: libmlx.so: expected run paths to be the library's own folder, got: /opt\n         \
         libmlx.so: needs libtorch.so, neither in the archive nor a system library that the target \
         may use\n         \
         manifest.json: install.sh is not a file of variant cpu\n         \
         manifest.json: glibc 9.99 is above the declared floor 2.35\n         \
         LICENSE is missing\n\
         \nRun next: cargo xtask mlx --force --variant cpu --target linux-x86_64"
    );
    assert_eq!(names(&world.release()), [""; 0]);
}

#[test]
fn papers_that_are_not_of_these_files_are_not_released() {
    let world = World::new();
    let sources = world.sources();
    let changed = Elf {
        symbol_versions: vec!["GLIBC_2.17"],
        ..Elf::libmlx()
    };
    let papers = world.papers(&sources);
    world.source("libmlx.so", &changed.bytes());
    world.source("THIRD-PARTY", b"All rights reserved.");
    let refusal = |sources: &[Source]| {
        let error = world.publish_as_is(sources).err().unwrap().to_string();
        error.split("\n\n").nth(1).unwrap().to_owned()
    };
    assert_eq!(
        refusal(&[sources.clone(), papers].concat()),
        "  rules: sbom.cdx.json: libmlx.so has another sha256\n         \
         THIRD-PARTY: there is no licence of MLX 0.32.2"
    );
    assert_eq!(
        refusal(&sources),
        "  rules: THIRD-PARTY is missing\n         \
         sbom.cdx.json is missing\n         \
         sbom.cdx.json: No such file or directory (os error 2)"
    );
}

#[test]
fn every_violation_is_listed() {
    let (world, asset) = World::released();
    let name = world.asset();
    fs::write(
        &asset.sidecar,
        format!("{}  other.tar.gz\n", "0".repeat(64)),
    )
    .unwrap();
    fs::remove_file(&asset.signature).unwrap();
    let mut tarball = fs::read(&asset.tarball).unwrap();
    tarball.extend(b"more");
    fs::write(&asset.tarball, tarball).unwrap();
    let found = violations(&world);
    let rules: Vec<_> = found.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(
        rules,
        [
            "the sidecar has sha256sum's form and this name",
            "the sidecar's checksum is the tarball's",
            "the signature is a release key's, for this file and version",
            "the archive may be installed",
            "the binaries may be loaded",
        ]
    );
    assert_eq!(
        found[0].1,
        format!("expected the checksum of {name}, got that of: other.tar.gz")
    );
    assert!(
        found[2]
            .1
            .ends_with("No such file or directory (os error 2)"),
        "{}",
        found[2].1
    );
    assert_eq!(found[3].1, "there are bytes after the gzip stream");
}

#[test]
fn a_manifest_that_hopes_is_found_out() {
    let (world, asset) = World::released();
    let mut draft = Draft::good(&world);
    draft.manifest = asset.manifest.clone();
    draft.manifest.requires.glibc = Some("2.17".into());
    draft.manifest.requires.libraries.clear();
    draft.entries.clear();
    let sources = world.sources();
    for source in [world.papers(&sources), sources].concat() {
        draft.regular(&source.name, &fs::read(&source.path).unwrap());
    }
    draft.sort();
    world.publish_bytes(&gzip(&draft.tar()));
    let rule = "the manifest says what the binaries ask for";
    assert_eq!(
        violations(&world),
        [
            (
                rule,
                "glibc: the manifest says 2.17, the binaries 2.35".to_owned()
            ),
            (
                rule,
                "libraries: the manifest says , the binaries libc.so.6 libm.so.6 libstdc++.so.6"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn what_a_folder_lacks_is_found() {
    let (world, asset) = World::released();
    let expected = [world.release().join(world.asset())];
    assert_eq!(tarballs(&world.release()).unwrap(), expected);
    fs::remove_file(&asset.tarball).unwrap();
    assert_eq!(tarballs(&world.release()).unwrap(), expected);
    let missing = format!(
        "{} is missing",
        world.release().join(world.asset()).display()
    );
    assert_eq!(violations(&world), [("the tarball is there", missing)]);
    assert!(tarballs(&world.app()).is_err());

    let mut draft = Draft::good(&world);
    draft
        .entries
        .retain(|(header, _)| &*header.path_bytes() != b"LICENSE");
    draft.manifest.files.retain(|file| file.name != "LICENSE");
    world.publish_bytes(&gzip(&draft.tar()));
    let expected = ("the licences are there", "LICENSE is missing".to_owned());
    assert!(violations(&world).contains(&expected));
}

#[test]
fn irregular_headers_are_found() {
    let world = World::new();
    let mut draft = Draft::good(&world);
    draft.entries.reverse();
    let (header, _) = &mut draft.entries[0];
    header.set_mtime(1);
    header.set_mode(0o777);
    header.set_uid(1000);
    header.set_username("dev").unwrap();
    world.publish_bytes(&gzip(&draft.tar()));
    let rule = "the archive is reproducible";
    let found: Vec<_> = violations(&world)
        .into_iter()
        .filter(|(broken, _)| *broken == rule)
        .collect();
    for violation in [
        "libemily.so: expected mode 0o755, got: 0o777",
        "libemily.so: expected uid 0o0, got: 0o1750",
        "libemily.so: expected mtime 0o0, got: 0o1",
        "libemily.so: expected no user name",
        "LICENSE: expected entries sorted by name",
    ] {
        assert!(
            found.contains(&(rule, violation.to_owned())),
            "{violation}: {found:?}"
        );
    }
}

#[test]
fn a_gzip_header_with_a_time_is_found() {
    let (world, asset) = World::released();
    let mut bytes = fs::read(&asset.tarball).unwrap();
    bytes[4] = 1;
    world.publish_bytes(&bytes);
    let rule = "the archive is reproducible";
    assert_eq!(
        violations(&world),
        [(rule, "gzip: expected no time, got: 1".to_owned())]
    );
}

#[test]
fn names_of_no_known_cell_are_refused() {
    let world = World::new();
    for name in [
        "emily.tar.gz",
        "emily-nif-1.0-cpu-macos-arm64.tar.gz",
        "emily-nif--cpu-linux-x86_64.tar.gz",
    ] {
        let tarball = world.path(name);
        let verdicts = tarball_verdicts(&tarball, &world.targets, &world.keyring()).unwrap();
        assert!(
            table(&verdicts).starts_with("  BROKEN  the name says"),
            "{name}"
        );
    }
    let (version, selection) = world
        .targets
        .parse_asset("emily-nif-1.0.0-rc.1-cpu-linux-arm64.tar.gz")
        .unwrap();
    assert_eq!(
        (version.as_str(), selection.target_name.as_str()),
        ("1.0.0-rc.1", "linux-arm64")
    );
}
