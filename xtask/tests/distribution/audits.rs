//! What the audit reads from libraries, and what it does not let pass.

use std::{collections::BTreeMap, fs};

use object::{elf, macho};
use xtask::{
    audit::{Audit, binaries_of, folder},
    binary::{Binary, Import},
    targets::{Selection, Targets},
    version::Version,
};

use crate::{
    images::{Elf, MachO},
    world::World,
};

fn linux() -> Selection {
    Targets::load()
        .unwrap()
        .selection("cpu", "linux-x86_64")
        .unwrap()
}

fn macos() -> Selection {
    Targets::load()
        .unwrap()
        .selection("aot", "macos-arm64")
        .unwrap()
}

fn audit(files: &[(&str, Vec<u8>)], selection: &Selection) -> Audit {
    let binaries: BTreeMap<_, _> = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), Binary::read(bytes).unwrap().unwrap()))
        .collect();
    binaries_of(&binaries, selection)
}

#[test]
fn an_elf_library_reads_back() {
    let binary = Binary::read(&Elf::libemily().bytes()).unwrap().unwrap();
    assert_eq!(
        binary,
        Binary {
            os: "linux",
            arch: "x86_64".into(),
            own_name: Some("libemily.so".into()),
            needed: vec![
                "libmlx.so".into(),
                "libstdc++.so.6".into(),
                "libc.so.6".into()
            ],
            run_paths: vec!["$ORIGIN".into()],
            run_paths_inherited: false,
            symbol_versions: vec![
                "GLIBC_2.2.5".into(),
                "GLIBC_2.34".into(),
                "GLIBCXX_3.4.30".into()
            ],
            macos: None,
            signed: false,
            exports: vec!["nif_init".into()],
            imports: vec![],
        }
    );
}

#[test]
fn a_mach_o_library_reads_back() {
    let binary = Binary::read(&MachO::libemily().bytes()).unwrap().unwrap();
    assert_eq!(
        binary,
        Binary {
            os: "macos",
            arch: "aarch64".into(),
            own_name: Some("@rpath/libemily.dylib".into()),
            needed: vec![
                "@rpath/libmlx.dylib".into(),
                "/usr/lib/libSystem.B.dylib".into()
            ],
            run_paths: vec!["@loader_path".into()],
            run_paths_inherited: true,
            symbol_versions: vec![],
            macos: Some(Version::new(14, 0, 0)),
            signed: true,
            exports: vec!["nif_init".into()],
            imports: [
                ("mlx_version", Some("@rpath/libmlx.dylib")),
                ("free", Some("/usr/lib/libSystem.B.dylib")),
                ("enif_send", None),
            ]
            .map(|(symbol, library)| Import {
                symbol: symbol.into(),
                library: library.map(str::to_owned),
            })
            .into(),
        }
    );
}

#[test]
fn other_files_are_no_libraries() {
    assert_eq!(Binary::read(b"MIT License").unwrap(), None);
    assert_eq!(Binary::read(b"").unwrap(), None);
    assert!(Binary::read(&Elf::libemily().bytes()[..80]).is_err());
}

#[test]
fn floors_are_the_highest_of_all_files() {
    let files = [
        ("libemily.so", Elf::libemily().bytes()),
        ("libmlx.so", Elf::libmlx().bytes()),
    ];
    let audit = audit(&files, &linux());
    assert_eq!(audit.violations, [""; 0]);
    assert_eq!(audit.requires.glibc.as_deref(), Some("2.35"));
    assert_eq!(audit.requires.glibcxx.as_deref(), Some("3.4.30"));
    assert_eq!(audit.requires.macos, None);
    assert_eq!(
        audit.requires.libraries,
        ["libc.so.6", "libm.so.6", "libstdc++.so.6"]
    );
}

#[test]
fn relative_relocations_ask_for_the_loader_that_knows_them() {
    let mut libemily = Elf::libemily();
    libemily.needed = vec!["libc.so.6"];
    libemily.symbol_versions.push("GLIBC_ABI_DT_RELR");
    let audit = audit(&[("libemily.so", libemily.bytes())], &linux());
    assert_eq!(audit.requires.glibc.as_deref(), Some("2.36"));
}

#[test]
fn mach_o_floors_and_system_libraries() {
    let files = [
        ("libemily.dylib", MachO::libemily().bytes()),
        ("libmlx.dylib", MachO::libmlx().bytes()),
    ];
    let audit = audit(&files, &macos());
    assert_eq!(audit.violations, [""; 0]);
    assert_eq!(audit.requires.macos.as_deref(), Some("14.0"));
    assert_eq!(audit.requires.libraries, [""; 0]);
}

#[test]
fn elf_violations() {
    type Change = fn(&mut Elf);
    let table: &[(&str, Change)] = &[
        (
            "libemily.so: expected a library for linux on x86_64, got: linux on aarch64",
            |elf| {
                elf.machine = elf::EM_AARCH64;
            },
        ),
        ("libemily.so: nif_init is not exported", |elf| {
            elf.exports = vec!["nif_unload"]
        }),
        (
            "libemily.so: expected run paths to be the library's own folder, got: /usr/local/lib",
            |elf| {
                elf.run_path = Some((elf::DT_RUNPATH, "$ORIGIN:/usr/local/lib"));
            },
        ),
        (
            "libemily.so: expected run paths to be the library's own folder, got: $ORIGIN/..",
            |elf| {
                elf.run_path = Some((elf::DT_RUNPATH, "$ORIGIN/.."));
            },
        ),
        (
            "libemily.so: needs libmlx.so, which is in the archive, but no run path leads to it",
            |elf| {
                elf.run_path = None;
            },
        ),
        (
            "libemily.so: its own name is an absolute path: /opt/libemily.so",
            |elf| {
                elf.own_name = "/opt/libemily.so";
            },
        ),
        (
            "libemily.so: needs /opt/libx.so, a path outside the archive",
            |elf| {
                elf.needed.push("/opt/libx.so");
            },
        ),
        (
            "libemily.so: needs /usr/lib/libx.so, an absolute path",
            |elf| {
                elf.needed.push("/usr/lib/libx.so");
            },
        ),
        (
            "libemily.so: needs libblas.so.3, neither in the archive nor a system library that the \
             target may use",
            |elf| elf.needed.push("libblas.so.3"),
        ),
        ("libemily.so: needs GLIBC_PRIVATE", |elf| {
            elf.symbol_versions.push("GLIBC_PRIVATE")
        }),
    ];
    for (violation, change) in table {
        let mut libemily = Elf::libemily();
        change(&mut libemily);
        let files = [
            ("libemily.so", libemily.bytes()),
            ("libmlx.so", Elf::libmlx().bytes()),
        ];
        assert_eq!(audit(&files, &linux()).violations, [*violation]);
    }
}

#[test]
fn a_run_path_reaches_further_only_if_it_is_inherited() {
    let openblas = Elf {
        own_name: "libopenblas.so.0",
        needed: vec!["libgfortran.so.5"],
        run_path: None,
        ..Elf::libmlx()
    };
    let gfortran = Elf {
        own_name: "libgfortran.so.5",
        needed: vec![],
        ..openblas.clone()
    };
    for (tag, violations) in [
        (elf::DT_RPATH, vec![]),
        (
            elf::DT_RUNPATH,
            vec![
                "libopenblas.so.0: needs libgfortran.so.5, which is in the archive, but no run \
                 path leads to it",
            ],
        ),
    ] {
        let libmlx = Elf {
            needed: vec!["libopenblas.so.0"],
            run_path: Some((tag, "$ORIGIN")),
            ..Elf::libmlx()
        };
        let files = [
            ("libemily.so", Elf::libemily().bytes()),
            ("libmlx.so", libmlx.bytes()),
            ("libopenblas.so.0", openblas.bytes()),
            ("libgfortran.so.5", gfortran.bytes()),
        ];
        assert_eq!(audit(&files, &linux()).violations, violations);
    }
}

#[test]
fn mach_o_violations() {
    type Change = fn(&mut MachO);
    let table: &[(&str, Change)] = &[
        (
            "libemily.dylib: expected a library for macos on aarch64, got: macos on x86_64",
            |image| {
                image.cpu = macho::CPU_TYPE_X86_64;
            },
        ),
        ("libemily.dylib: nif_init is not exported", |image| {
            image.exports = vec!["_other"]
        }),
        (
            "libemily.dylib: there is no oldest macOS that it was built for",
            |image| image.minimum = None,
        ),
        (
            "libemily.dylib: there is no code signature, which macOS on arm64 asks for",
            |image| image.signed = false,
        ),
        (
            "libemily.dylib: expected run paths to be the library's own folder, got: /opt/lib",
            |image| image.run_paths.push("/opt/lib"),
        ),
        (
            "libemily.dylib: its own name is an absolute path: /opt/libemily.dylib",
            |image| {
                image.own_name = "/opt/libemily.dylib";
            },
        ),
        (
            "libemily.dylib: expected its own name to be @rpath/libemily.dylib, got: libemily.dylib",
            |image| image.own_name = "libemily.dylib",
        ),
        (
            "libemily.dylib: needs mlx_gone of libmlx.dylib, which does not export it",
            |image| image.imports.push(("_mlx_gone", 1)),
        ),
        (
            "libemily.dylib: looks mlx_version up in all that is loaded, which only enif_… may be",
            |image| image.imports[0].1 = macho::DYNAMIC_LOOKUP_ORDINAL,
        ),
        (
            "libemily.dylib: needs /usr/lib/libz.1.dylib, a library of macOS that the target may not use",
            |image| image.needed.push("/usr/lib/libz.1.dylib"),
        ),
        (
            "libemily.dylib: needs @rpath/libopenblas.dylib, neither in the archive nor a system \
             library that the target may use",
            |image| image.needed.push("@rpath/libopenblas.dylib"),
        ),
        (
            "libemily.dylib: needs /opt/homebrew/lib/libx.dylib, a path outside the archive",
            |image| {
                image.needed.push("/opt/homebrew/lib/libx.dylib");
            },
        ),
    ];
    for (violation, change) in table {
        let mut libemily = MachO::libemily();
        change(&mut libemily);
        let files = [
            ("libemily.dylib", libemily.bytes()),
            ("libmlx.dylib", MachO::libmlx().bytes()),
        ];
        assert_eq!(audit(&files, &macos()).violations, [*violation]);
    }
    let image = MachO {
        platform: macho::PLATFORM_IOS,
        ..MachO::libemily()
    };
    assert!(Binary::read(&image.bytes()).is_err());
    let image = MachO {
        imports: vec![("_free", 3)],
        ..MachO::libemily()
    };
    assert_eq!(
        format!("{:#}", Binary::read(&image.bytes()).unwrap_err()),
        "reading the Mach-O headers: _free is to come from library 3 of 2"
    );
}

#[test]
fn files_called_libraries_have_to_be_some() {
    let world = World::new();
    let dir = world.path("build");
    fs::write(dir.join("libmlx.so"), "text").unwrap();
    fs::write(dir.join("LICENSE"), "text").unwrap();
    fs::write(dir.join("libemily.so"), &Elf::libemily().bytes()[..80]).unwrap();
    let names = ["LICENSE", "libemily.so", "libmlx.so"].map(str::to_owned);
    let violations = folder(&dir, &names, &world.selection).unwrap().violations;
    let [broken, text] = violations.as_slice() else {
        panic!("{violations:?}")
    };
    assert!(
        broken.starts_with("libemily.so: reading the ELF headers"),
        "{broken}"
    );
    assert_eq!(text, "libmlx.so: expected a shared library");
}
