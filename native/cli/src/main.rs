//! `emily`; everything is in the library, where tests reach it.

fn main() {
    emily_cli::main()
}
