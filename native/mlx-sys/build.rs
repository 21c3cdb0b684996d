//! Binds mlx-c and compiles it against the headers of an MLX prefix.
//!
//! The prefix is `EMILY_MLX_PREFIX`, else the one that `cargo xtask mlx` fills for this host. Crates
//! that link executables read `DEP_MLX_LIB`, the folder of `libmlx`, to set their run path.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

const PREFIX: &str = "EMILY_MLX_PREFIX";

fn main() {
    println!("cargo::rerun-if-env-changed={PREFIX}");
    println!("cargo::rerun-if-changed=shim");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let prefix = prefix(&root);
    let mlx_c = root.join("mlx_src/mlx-c");
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim");
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
    compile(&prefix, &mlx_c, &shim);
    bind(&mlx_c, &shim);

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

/// Compiles mlx-c as one translation unit: each of its files includes all of MLX's headers, which
/// cost far more to read than the files themselves.
fn compile(prefix: &Path, mlx_c: &Path, shim: &Path) {
    let unit = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("mlxc.cpp");
    let includes: String = sources(mlx_c, "cpp")
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
        .include(prefix.join("include"))
        .include(mlx_c)
        .flag("-include")
        .flag(shim.join("half.h"));
    if !has_std_format(shim) {
        build
            .flag("-include")
            .flag(shim.join("format.h"))
            .define("FMT_HEADER_ONLY", None);
    }
    build.file(unit).compile("mlxc");
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

fn bind(mlx_c: &Path, shim: &Path) {
    let mut builder = bindgen::Builder::default()
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_arg("-include")
        .clang_arg(shim.join("half.h").display().to_string())
        .allowlist_item("_?mlx_.*|b?float16_t")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for header in sources(mlx_c, "h") {
        builder = builder.header(header.display().to_string());
    }
    let bindings = builder
        .generate()
        .unwrap_or_else(|error| fail(&format!("bindgen could not read mlx-c's headers: {error}")));
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    bindings
        .write_to_file(&out)
        .unwrap_or_else(|error| fail(&format!("could not write {}: {error}", out.display())));
}

/// mlx-c's files with this extension, sorted so that builds are reproducible.
fn sources(mlx_c: &Path, extension: &str) -> Vec<PathBuf> {
    let dir = mlx_c.join("mlx/c");
    let entries = fs::read_dir(&dir)
        .unwrap_or_else(|error| fail(&format!("reading {}: {error}", dir.display())));
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
