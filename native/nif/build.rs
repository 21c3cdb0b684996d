//! libemily finds libmlx beside itself, wherever both are installed.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let macos = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
    let options: &[&str] = if macos {
        // Without a name of its own it would have that of the file that was linked, path and all.
        &[
            "-rpath",
            "@loader_path",
            "-install_name",
            "@rpath/libemily.dylib",
        ]
    } else {
        &["-rpath", "$ORIGIN"]
    };
    // Most links are made by a compiler, which hands options on; a build for macOS on Linux calls LLVM's linker.
    let linker = env::var("RUSTC_LINKER").unwrap_or_default();
    if linker.ends_with("lld") {
        for option in options {
            println!("cargo::rustc-cdylib-link-arg={option}");
        }
    } else {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{}", options.join(","));
    }
}
