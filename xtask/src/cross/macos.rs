//! macOS from Linux: zig compiles C++, LLVM's linker links, and stubs stand in for macOS's libraries.
//!
//! zig would link its own libc++ into the library, and an exception of libmlx's, which uses that of the
//! system, would cross from one C++ runtime into the other. So C++ is compiled with zig's headers, held
//! to what the libc++ of the oldest macOS has, and linked to `/usr/lib/libc++.1.dylib`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    for_target, in_path, path_after,
    rust::{self, Rust},
    stub::Stub,
};
use crate::{
    binary::Binary,
    failure::Failure,
    python::{self, Python},
    targets::{Selection, Targets},
    toolchain::Toolchain,
    workspace,
};

/// Both from PyPI: a compiler with headers for macOS, and what translates Cargo's calls for it.
const TOOLS: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.0"];
const LIBCXX: &str = "/usr/lib/libc++.1.dylib";
const LIBSYSTEM: &str = "/usr/lib/libSystem.B.dylib";
/// What of libc++ is used besides what libmlx uses.
const MORE_OF_LIBCXX: &str = include_str!("libcxx.txt");

/// What of the machine's a build takes.
#[derive(Debug)]
pub struct Tools {
    rust: Rust,
    linker: PathBuf,
    packages: Python,
}

/// Finds the tools, or says which one is missing; pip fetches its own.
pub fn tools(selection: &Selection) -> Result<Tools> {
    let rust = rust::find(&selection.target.triple)?;
    let targets = Targets::load()?;
    let host = &targets.targets[targets.host()?].triple;
    let linker = linker(&rust.toolchain, host)?;
    Ok(Tools {
        rust,
        linker,
        packages: python::with("cross", &TOOLS)?,
    })
}

/// LLVM's linker: that of `toolchain`, of the one in use, or of the system.
fn linker(toolchain: &Toolchain, host: &str) -> Result<PathBuf> {
    let of = |toolchain: &Toolchain| {
        let own = toolchain.libraries(host).join("bin/rust-lld");
        own.is_file().then_some(own)
    };
    let found = of(toolchain)
        .or_else(|| of(&Toolchain::named(None).ok()?))
        .or_else(|| in_path("lld"));
    found.ok_or_else(|| {
        Failure::new(
            "LLVM's linker, which links for macOS, is missing",
            "apt-get install lld",
        )
        .fact("looked for", "rust-lld in the toolchain, lld in PATH")
        .into()
    })
}

/// Cargo's `command`, without its target.
pub fn cargo(selection: &Selection, command: &str, prefix: &Path) -> Result<Command> {
    ensure!(
        command == "build",
        "what is built for macOS cannot run here: expected the command build, got: {command}"
    );
    let Tools {
        rust,
        linker,
        packages,
    } = tools(selection)?;
    let floor = selection
        .floor("macos")?
        .with_context(|| format!("expected a macOS floor for {}", selection.variant_name))?;
    let stubs = super::folder("macos-arm64");
    write_stubs(&packages, &prefix.join("lib/libmlx.dylib"), &stubs)?;

    let triple = &selection.target.triple;
    let (zig, own) = (packages.packages().join("ziglang"), rust.toolchain.folder());
    let mut cargo = Command::new(packages.packages().join("bin/cargo-zigbuild"));
    cargo
        .arg("zigbuild")
        .env("CARGO", rust.toolchain.program("cargo"))
        .env("PATH", path_after(&[&own.join("bin"), &zig])?)
        .env("CARGO_ZIGBUILD_CACHE_DIR", super::folder("zigbuild"))
        .env("MACOSX_DEPLOYMENT_TARGET", floor.to_string())
        // Headers of Apple's would come before zig's.
        .env_remove("SDKROOT")
        .env(for_target("CXXFLAGS", triple), cxx_flags())
        // With the target's dashes it wins over what cargo-zigbuild sets.
        .env(
            format!("BINDGEN_EXTRA_CLANG_ARGS_{triple}"),
            clang_arguments(&zig),
        )
        // `-lc++` is zig's word for its own; the stub's name is not.
        .env(for_target("CXXSTDLIB", triple), "c++.1")
        .env(
            format!(
                "{}_LINKER",
                for_target("CARGO_TARGET", triple).to_uppercase()
            ),
            linker,
        )
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&stubs))
        // rustc would call a program of Apple's; the linker leaves out what that removes.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    rust.apply(&mut cargo);
    Ok(cargo)
}

/// How C++ is compiled.
fn cxx_flags() -> String {
    [
        // Otherwise what zig's `<cmath>` undefines of the C header stays so: INFINITY, for one.
        "-include",
        "math.h",
        // libc++'s headers know since which macOS each of its functions is there. zig turns that off.
        "-Wno-macro-redefined",
        "-D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=1",
        "-fno-sized-deallocation",
    ]
    .join(" ")
}

/// Where libclang, which reads the declarations for Rust, finds C's own headers.
fn clang_arguments(zig: &Path) -> String {
    ["lib/include", "lib/libc/include/any-darwin-any"]
        .map(|folder| format!("-isystem{}", zig.join(folder).display()))
        .join(" ")
}

/// How Rust is linked, in the form of `CARGO_ENCODED_RUSTFLAGS`.
fn rust_flags(stubs: &Path) -> String {
    let search = format!("-Lnative={}", stubs.display());
    [
        "-Clinker-flavor=ld64.lld",
        &search,
        "-Clink-arg=-S",
        "-Clink-arg=-dead_strip_dylibs",
    ]
    .join("\x1f")
}

/// Writes a stub for each library that the linker is told to look for.
fn write_stubs(packages: &Python, libmlx: &Path, place: &Path) -> Result<()> {
    let path = packages
        .packages()
        .join("ziglang/lib/libc/darwin/libSystem.tbd");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let system = Stub::gather(LIBSYSTEM, &text, &[LIBSYSTEM, "/usr/lib/system/"])?;
    // Rust's standard library names it and uses nothing of it.
    let iconv = Stub::new("/usr/lib/libiconv.2.dylib", BTreeSet::new());
    let libcxx =
        libcxx(&fs::read(libmlx).with_context(|| format!("reading {}", libmlx.display()))?)?;
    for (name, stub) in [
        ("libSystem", &system),
        // Names of parts of it.
        ("libc", &system),
        ("libm", &system),
        ("libiconv", &iconv),
        ("libc++.1", &libcxx),
    ] {
        let file = place.join(format!("{name}.tbd"));
        workspace::folder_of(&file)?;
        let text = stub.to_string();
        if !fs::read_to_string(&file).is_ok_and(|found| found == text) {
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

/// What macOS's libc++ is known to export: what libmlx takes from it, and what we looked up.
///
/// Anything else fails the link, by name.
fn libcxx(libmlx: &[u8]) -> Result<Stub> {
    let binary = Binary::read(libmlx)?.context("expected libmlx.dylib to be a library")?;
    let mut symbols: BTreeSet<String> = binary
        .imports
        .iter()
        .filter(|import| import.library.as_deref() == Some(LIBCXX))
        // The stub is in the linker's spelling.
        .map(|import| format!("_{}", import.symbol))
        .collect();
    ensure!(
        !symbols.is_empty(),
        "expected libmlx.dylib to use {LIBCXX}, got: {}",
        binary.needed.join(", ")
    );
    let more = MORE_OF_LIBCXX
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    symbols.extend(more.map(str::to_owned));
    Ok(Stub::new(LIBCXX, symbols))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_symbols_as_the_linker_spells_them() {
        let listed: Vec<_> = MORE_OF_LIBCXX
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        for symbol in &listed {
            assert!(symbol.starts_with("__Z"), "{symbol}");
        }
        let different: BTreeSet<_> = listed.iter().collect();
        assert_eq!(different.len(), listed.len());
    }

    #[test]
    fn a_library_that_uses_no_libcxx_tells_nothing_of_it() {
        assert!(libcxx(b"text").is_err());
    }

    #[test]
    fn the_linker_gets_each_option_as_one_word() {
        assert_eq!(
            rust_flags(Path::new("/a folder")),
            "-Clinker-flavor=ld64.lld\x1f-Lnative=/a folder\x1f-Clink-arg=-S\x1f\
             -Clink-arg=-dead_strip_dylibs"
        );
    }
}
