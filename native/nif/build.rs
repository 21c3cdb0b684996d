//! libemily finds libmlx beside itself, wherever both are installed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let origin = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-rpath,{origin}");
}
