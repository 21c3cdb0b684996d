//! Archives that must not be installed.

use std::{fs, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};
use xtask::{
    archive::{Contents, Rules, unpack},
    manifest::{self, File, Manifest, Mlx, Requires},
    sidecar,
};

use crate::world::{VERSION, World, names};

/// An archive in the making.
pub struct Draft {
    pub manifest: Manifest,
    pub entries: Vec<(Header, Vec<u8>)>,
}

impl Draft {
    /// A small archive that breaks no rule.
    pub fn good(world: &World) -> Self {
        let mut draft = Self {
            manifest: Manifest {
                schema: manifest::SCHEMA,
                package: "emily".into(),
                version: VERSION.into(),
                variant: world.selection.variant_name.clone(),
                target: world.selection.target_name.clone(),
                nif_version: "2.17".into(),
                mlx: Mlx {
                    version: "0.32.2".into(),
                    mlx_c: "0.7.0".into(),
                    from: "wheel".into(),
                    tag: None,
                    revision: None,
                },
                requires: Requires {
                    glibc: Some("2.34".into()),
                    ..Requires::default()
                },
                files: Vec::new(),
            },
            entries: Vec::new(),
        };
        for name in &world.selection.variant.files {
            if name.starts_with("LICENSE") || name == "libemily.so" {
                draft.add(name, format!("the text of {name}\n").as_bytes());
            }
        }
        draft
            .manifest
            .files
            .sort_by(|one, other| one.name.cmp(&other.name));
        draft.sort();
        draft
    }

    /// Puts the entries in the order that they should have.
    pub fn sort(&mut self) {
        self.entries
            .sort_by_key(|(header, _)| header.path_bytes().into_owned());
    }

    /// Adds a regular file.
    pub fn regular(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, EntryType::Regular, bytes);
    }

    /// Adds a file and its manifest entry.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        self.manifest.files.push(File {
            name: name.into(),
            size: bytes.len() as u64,
            sha256: sidecar::sha256_of(&path).unwrap(),
        });
        self.entries
            .push((header(name, EntryType::Regular, bytes), bytes.to_vec()));
    }

    /// Adds an entry that the manifest knows nothing of.
    fn entry(&mut self, name: &str, kind: EntryType, bytes: &[u8]) -> &mut Header {
        self.entries
            .push((header(name, kind, bytes), bytes.to_vec()));
        &mut self.entries.last_mut().unwrap().0
    }

    /// The manifest's entry for libemily.
    fn listed(&mut self) -> &mut File {
        self.manifest
            .files
            .iter_mut()
            .find(|file| file.name == "libemily.so")
            .unwrap()
    }

    pub fn tar(&self) -> Vec<u8> {
        let manifest = self.manifest.to_bytes().unwrap();
        let first = (
            header(manifest::NAME, EntryType::Regular, &manifest),
            manifest,
        );
        archive(std::iter::once(&first).chain(&self.entries))
    }
}

fn archive<'a>(entries: impl Iterator<Item = &'a (Header, Vec<u8>)>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (header, bytes) in entries {
        let mut header = header.clone();
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A header whose name is written as it is, also where the tar crate would refuse it.
fn header(name: &str, kind: EntryType, bytes: &[u8]) -> Header {
    let mut header = Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(xtask::archive::mode(name));
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn unpacked(world: &World, tarball: &[u8], max: u64) -> Contents {
    let path = world.path("hostile.tar.gz");
    fs::write(&path, tarball).unwrap();
    let rules = Rules {
        version: VERSION,
        selection: &world.selection,
        max_unpacked_bytes: max,
    };
    // Nothing may appear beside the folder either.
    let around = tempfile::tempdir_in(world.path("app")).unwrap();
    let into = around.path().join("into");
    fs::create_dir(&into).unwrap();
    let contents = unpack(&path, &rules, &into).unwrap();
    assert_eq!(names(around.path()), ["into"]);
    for name in names(&into) {
        assert!(world.selection.variant.files.contains(&name), "{name}");
        assert!(
            into.join(&name).symlink_metadata().unwrap().is_file(),
            "{name}"
        );
    }
    contents
}

const NO_LIMIT: u64 = 1 << 30;

#[test]
fn a_good_archive_is_accepted() {
    let world = World::new();
    let draft = Draft::good(&world);
    let contents = unpacked(&world, &gzip(&draft.tar()), NO_LIMIT);
    assert_eq!(contents.refusals, [""; 0]);
    assert_eq!(contents.irregularities, [""; 0]);
    assert_eq!(contents.manifest, Some(draft.manifest));
}

#[test]
fn hostile_entries_are_refused() {
    type Change = fn(&mut Draft);
    let table: &[(&str, Change)] = &[
        ("\"/etc/passwd\": expected a plain file name", |draft| {
            draft.entry("/etc/passwd", EntryType::Regular, b"x");
        }),
        ("\"../libmlx.so\": expected a plain file name", |draft| {
            draft.entry("../libmlx.so", EntryType::Regular, b"x");
        }),
        ("\"..\": expected a plain file name", |draft| {
            draft.entry("..", EntryType::Regular, b"x");
        }),
        ("\"./libmlx.so\": expected a plain file name", |draft| {
            draft.entry("./libmlx.so", EntryType::Regular, b"x");
        }),
        (
            "libmlx.so: expected a regular file, got: Symlink",
            |draft| {
                draft
                    .entry("libmlx.so", EntryType::Symlink, b"")
                    .set_link_name("/etc/passwd")
                    .unwrap();
            },
        ),
        ("libmlx.so: expected a regular file, got: Link", |draft| {
            draft
                .entry("libmlx.so", EntryType::Link, b"")
                .set_link_name("libemily.so")
                .unwrap();
        }),
        ("libmlx.so: expected a regular file, got: Char", |draft| {
            draft
                .entry("libmlx.so", EntryType::Char, b"")
                .set_device_major(1)
                .unwrap();
        }),
        ("libmlx.so: expected a regular file, got: Block", |draft| {
            draft.entry("libmlx.so", EntryType::Block, b"");
        }),
        ("libmlx.so: expected a regular file, got: Fifo", |draft| {
            draft.entry("libmlx.so", EntryType::Fifo, b"");
        }),
        (
            "libmlx.so: expected a regular file, got: Directory",
            |draft| {
                draft.entry("libmlx.so", EntryType::Directory, b"");
            },
        ),
        ("expected a regular file, got: GNULongName", |draft| {
            draft.entry("././@LongLink", EntryType::GNULongName, b"libmlx.so\0");
        }),
        ("expected a regular file, got: XHeader", |draft| {
            draft.entry("pax", EntryType::XHeader, b"21 path=../libmlx.so\n");
        }),
        ("libemily.so: comes twice", |draft| {
            let bytes = draft
                .entries
                .iter()
                .find(|(header, _)| &*header.path_bytes() == b"libemily.so");
            let bytes = bytes.unwrap().1.clone();
            draft.entry("libemily.so", EntryType::Regular, &bytes);
        }),
        ("manifest.json: comes twice", |draft| {
            draft.entry("manifest.json", EntryType::Regular, b"{}");
        }),
        ("install.sh: not a file of variant cpu", |draft| {
            draft.entry("install.sh", EntryType::Regular, b"x");
        }),
        ("libmlx.so: manifest.json does not list it", |draft| {
            draft.entry("libmlx.so", EntryType::Regular, b"x");
        }),
        ("libemily.so: expected 9 bytes, got: 24", |draft| {
            draft.listed().size = 9
        }),
        ("libemily.so: expected sha256 00", |draft| {
            draft.listed().sha256 = "00".repeat(32)
        }),
        ("LICENSE: the archive lacks it", |draft| {
            draft
                .entries
                .retain(|(header, _)| &*header.path_bytes() != b"LICENSE");
        }),
    ];
    let world = World::new();
    for (refusal, change) in table {
        let mut draft = Draft::good(&world);
        change(&mut draft);
        let refusals = unpacked(&world, &gzip(&draft.tar()), NO_LIMIT).refusals;
        let [only] = refusals.as_slice() else {
            panic!("{refusal}: {refusals:?}")
        };
        assert!(only.contains(refusal), "{refusal}: {only}");
    }
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    type Change = fn(&mut Manifest);
    let table: &[(&str, Change)] = &[
        ("expected schema 1, got: 2", |manifest| manifest.schema = 2),
        ("expected package emily, got: emlx", |manifest| {
            manifest.package = "emlx".into()
        }),
        ("expected variant cpu, got: aot", |manifest| {
            manifest.variant = "aot".into()
        }),
        (
            "expected target linux-x86_64, got: linux-arm64",
            |manifest| {
                manifest.target = "linux-arm64".into();
            },
        ),
        ("got: 0.0.1", |manifest| manifest.version = "0.0.1".into()),
        ("expected files sorted by name, each once", |manifest| {
            manifest.files.reverse()
        }),
        ("expected files sorted by name, each once", |manifest| {
            let twice = manifest.files[0].clone();
            manifest.files.insert(0, twice);
        }),
        ("glibc 9.99 is above the declared floor", |manifest| {
            manifest.requires.glibc = Some("9.99".into());
        }),
        ("macos 14.0 has no declared floor", |manifest| {
            manifest.requires.macos = Some("14.0".into());
        }),
        ("glibc: expected a version", |manifest| {
            manifest.requires.glibc = Some("new".into())
        }),
    ];
    let world = World::new();
    for (refusal, change) in table {
        let mut draft = Draft::good(&world);
        change(&mut draft.manifest);
        let refusals = unpacked(&world, &gzip(&draft.tar()), NO_LIMIT).refusals;
        let [only] = refusals.as_slice() else {
            panic!("{refusal}: {refusals:?}")
        };
        assert!(only.contains(refusal), "{refusal}: {only}");
    }
}

#[test]
fn a_manifest_may_not_list_foreign_names() {
    let world = World::new();
    let mut draft = Draft::good(&world);
    let digest = "0".repeat(64);
    for name in ["../x", "manifest.json"] {
        draft.manifest.files.push(File {
            name: name.into(),
            size: 1,
            sha256: digest.clone(),
        });
    }
    let refusals = unpacked(&world, &gzip(&draft.tar()), NO_LIMIT).refusals;
    for name in ["../x", "manifest.json"] {
        let refusal = format!("manifest.json: {name} is not a file of variant cpu");
        assert!(refusals.contains(&refusal), "{refusals:?}");
    }
}

#[test]
fn an_archive_starts_with_its_manifest() {
    let world = World::new();
    let draft = Draft::good(&world);
    let bytes = gzip(&archive(draft.entries.iter()));
    let refusals = unpacked(&world, &bytes, NO_LIMIT).refusals;
    assert_eq!(refusals, ["LICENSE: expected manifest.json to come first"]);
    let refusals = unpacked(&world, &gzip(&archive([].iter())), NO_LIMIT).refusals;
    assert_eq!(refusals, ["manifest.json is missing"]);
    let broken = (
        header("manifest.json", EntryType::Regular, b"{"),
        b"{".to_vec(),
    );
    let refusals = unpacked(&world, &gzip(&archive([broken].iter())), NO_LIMIT).refusals;
    assert!(
        refusals[0].starts_with("reading manifest.json"),
        "{refusals:?}"
    );
}

#[test]
fn sizes_are_bounded() {
    let world = World::new();
    let draft = Draft::good(&world);
    let refusals = unpacked(&world, &gzip(&draft.tar()), 100).refusals;
    assert_eq!(
        refusals,
        ["manifest.json: the archive unpacks to more than 100 bytes"]
    );

    // A header that promises far more than there is.
    let mut draft = Draft::good(&world);
    draft
        .entry("libmlx.so", EntryType::Regular, b"")
        .set_size(1 << 32);
    let tar = draft.tar();
    let refusals = unpacked(&world, &gzip(&tar), NO_LIMIT).refusals;
    assert_eq!(
        refusals,
        ["libmlx.so: the archive unpacks to more than 1073741824 bytes"]
    );

    let large = vec![b' '; usize::try_from(manifest::MAX_BYTES + 1).unwrap()];
    let entry = (header("manifest.json", EntryType::Regular, &large), large);
    let refusals = unpacked(&world, &gzip(&archive([entry].iter())), NO_LIMIT).refusals;
    assert_eq!(
        refusals,
        ["manifest.json: expected at most 1048576 bytes, got: 1048577"]
    );
}

#[test]
fn damaged_streams_are_refused() {
    let world = World::new();
    let good = gzip(&Draft::good(&world).tar());
    let mut flipped = good.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    let mut hidden = Draft::good(&world).tar();
    hidden.extend([1; 512]);
    for (bytes, refusal) in [
        (good[..good.len() / 2].to_vec(), "the archive is broken"),
        (good[..good.len() - 4].to_vec(), "the archive is broken"),
        (flipped, "the archive is broken"),
        (b"not gzip at all".to_vec(), "the archive is broken"),
        (Vec::new(), "the archive is broken"),
        (
            gzip(b"not a tar archive, but long enough to be read as one").to_vec(),
            "the archive is broken",
        ),
        (
            [good.as_slice(), b"more"].concat(),
            "there are bytes after the gzip stream",
        ),
        (gzip(&hidden), "the archive goes on after its end"),
    ] {
        let refusals = unpacked(&world, &bytes, NO_LIMIT).refusals;
        assert!(
            refusals.iter().any(|text| text.starts_with(refusal)),
            "{refusal}: {refusals:?}"
        );
    }
}
