//! Binds mlx-c, and our own functions beside it, and compiles both against the headers of an MLX prefix.
//!
//! The prefix is `EMILY_MLX_PREFIX`, else the one that `cargo xtask mlx` fills for this host. Crates
//! that link executables read `DEP_MLX_LIB`, the folder of `libmlx`, to set their run path.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

const PREFIX: &str = "EMILY_MLX_PREFIX";

fn main() {
    println!("cargo::rerun-if-env-changed={PREFIX}");
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-changed=extra");
    println!("cargo::rerun-if-changed=kernels");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let prefix = prefix(&root);
    // Compilers may leave files where they run: zig's does when it is asked for its version.
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    env::set_current_dir(&out)
        .unwrap_or_else(|error| fail(&format!("could not enter {}: {error}", out.display())));
    let mlx_c = root.join("mlx_src/mlx-c");
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (shim, extra) = (own.join("shim"), own.join("extra"));
    for (what, path) in [
        ("MLX's headers", prefix.join("include/mlx/mlx.h")),
        ("mlx-c's sources", mlx_c.join("mlx/c/mlx.h")),
    ] {
        println!("cargo::rerun-if-changed={}", path.display());
        if !path.exists() {
            fail(&format!(
                "{what} are missing: expected {}. Run `cargo xtask mlx` first.",
                path.display()
            ));
        }
    }
    let units = [mlx_c.join("mlx/c"), extra];
    compile(&prefix, &mlx_c, &shim, &units);
    compile_kernels(&own.join("kernels/table.cpp"));
    write_elements(&prefix.join("include"));
    bind(&mlx_c, &shim, &units);

    let lib = prefix.join("lib");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=dylib=mlx");
    println!("cargo::metadata=lib={}", lib.display());
}

/// The MLX prefix to build against, absolute.
fn prefix(root: &Path) -> PathBuf {
    let prefix = env::var_os(PREFIX).map_or_else(
        || {
            let (os, arch) = (target("OS"), target("ARCH"));
            let arch = if arch == "aarch64" {
                "arm64".into()
            } else {
                arch
            };
            let variant = if os == "macos" { "aot" } else { "cpu" };
            root.join(format!("target/mlx/{variant}-{os}-{arch}"))
        },
        PathBuf::from,
    );
    fs::canonicalize(&prefix).unwrap_or_else(|error| {
        fail(&format!(
            "no MLX prefix at {} ({error}). Run `cargo xtask mlx` first.",
            prefix.display()
        ))
    })
}

fn target(what: &str) -> String {
    env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default()
}

/// Compiles the sources in `folders` as one translation unit: each of them includes all of MLX's
/// headers, which cost far more to read than the files themselves.
fn compile(prefix: &Path, mlx_c: &Path, shim: &Path, folders: &[PathBuf]) {
    let unit = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("mlxc.cpp");
    let includes: String = sources(folders, "cpp")
        .iter()
        .map(|file| format!("#include \"{}\"\n", file.display()))
        .collect();
    fs::write(&unit, includes)
        .unwrap_or_else(|error| fail(&format!("could not write {}: {error}", unit.display())));
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        // Notes on what compilers of before 2020 did.
        .flag_if_supported("-Wno-psabi")
        .include(prefix.join("include"))
        .include(mlx_c)
        .flag("-include")
        .flag(shim.join("glibc.h"))
        .flag("-include")
        .flag(shim.join("half.h"));
    if !has_std_format(shim) {
        build
            .flag("-include")
            .flag(shim.join("format.h"))
            .define("FMT_HEADER_ONLY", None);
    }
    // A revision of MLX that was asked for in place of the pinned one.
    let fast = prefix.join("include/mlx/fast.h");
    if !fs::read_to_string(fast).is_ok_and(|text| text.contains("cross_entropy")) {
        build
            .flag("-include")
            .flag(shim.join("without_cross_entropy.h"));
    }
    hide_folders(&mut build, Some(prefix));
    build.file(unit).compile("mlxc");
}

/// Has messages name no folder of this machine: two builds in different ones are the same bytes. Where
/// folders are in one another, the last one counts.
fn hide_folders(build: &mut cc::Build, prefix: Option<&Path>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let out = env::var_os("OUT_DIR").map(PathBuf::from);
    for (folder, name) in [(root, "/emily"), (out.as_deref(), "/out"), (prefix, "/mlx")] {
        if let Some(folder) = folder {
            build.flag(format!("-ffile-prefix-map={}={name}", folder.display()));
        }
    }
}

/// Compiles our loops over numbers once for each instruction set that is asked for at run time.
///
/// They include no header that has code in it: of two copies of a function the linker keeps one, which
/// might be the one that not every processor can run.
fn compile_kernels(unit: &Path) {
    let plain = ("plain", &[][..]);
    let avx2 = ("avx2", &["-mavx2", "-mfma", "-mf16c"][..]);
    let sets = match target("ARCH").as_str() {
        "x86_64" => vec![plain, avx2],
        _ => vec![plain],
    };
    for (name, flags) in sets {
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++20")
            .opt_level(3)
            .debug(false)
            .warnings(false)
            // Nobody asks after a loop which exceptions there were, and who skips one may vectorize it.
            .flag("-fno-math-errno")
            .flag("-fno-trapping-math")
            .flag("-ffp-contract=fast")
            .flag_if_supported("-Wno-psabi")
            .define("KERNELS_NAME", name);
        for flag in flags {
            build.flag(flag);
        }
        hide_folders(&mut build, None);
        build.file(unit).compile(&format!("kernels_{name}"));
    }
}

/// Writes MLX's functions of elements, which fused kernels call, as one file: its headers are not where
/// the library runs. The headers of the system are, wherever there is a compiler.
fn write_elements(include: &Path) {
    let mut known = HashSet::new();
    let text = expanded(include, "mlx/backend/cpu/compiled_preamble.h", &mut known);
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("elements.h");
    fs::write(&out, text)
        .unwrap_or_else(|error| fail(&format!("could not write {}: {error}", out.display())));
}

/// A header of MLX's with those that it includes, each once.
fn expanded(include: &Path, header: &str, known: &mut HashSet<String>) -> String {
    if !known.insert(header.to_owned()) {
        return String::new();
    }
    let path = include.join(header);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| fail(&format!("reading {}: {error}", path.display())));
    let lines = text.lines().map(|line| {
        let inner = line.trim().strip_prefix("#include \"");
        match inner.and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) => expanded(include, inner, known),
            None if line.trim() == "#pragma once" => String::new(),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Whether the C++ compiler has `<format>` (g++ 13, clang 17); g++ 12 of Debian 12 has not.
fn has_std_format(shim: &Path) -> bool {
    let mut probe = cc::Build::new();
    probe
        .cpp(true)
        .std("c++20")
        .cargo_metadata(false)
        .cargo_warnings(false)
        .warnings(false)
        .file(shim.join("probe_format.cpp"));
    probe.try_compile("probe_format").is_ok()
}

fn bind(mlx_c: &Path, shim: &Path, folders: &[PathBuf]) {
    let mut builder = bindgen::Builder::default()
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_arg("-include")
        .clang_arg(shim.join("half.h").display().to_string())
        .allowlist_item("_?mlx_.*|emily_.*|b?float16_t")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for header in sources(folders, "h") {
        builder = builder.header(header.display().to_string());
    }
    let bindings = builder
        .generate()
        .unwrap_or_else(|error| fail(&format!("bindgen could not read the headers: {error}")));
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    bindings
        .write_to_file(&out)
        .unwrap_or_else(|error| fail(&format!("could not write {}: {error}", out.display())));
}

/// The files with this extension, sorted in each folder so that builds are reproducible.
fn sources(folders: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    let listed = folders.iter().flat_map(|folder| {
        let entries = fs::read_dir(folder)
            .unwrap_or_else(|error| fail(&format!("reading {}: {error}", folder.display())));
        let mut files: Vec<_> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort();
        files
    });
    listed.collect()
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
