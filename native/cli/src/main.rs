//! `emily`; everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    emily_cli::main()
}
