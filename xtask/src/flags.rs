//! The command line of `cargo xtask`, declared in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds, tests and releases Emily.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, max_term_width = 100)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find, and if agreed install, the tools that Emily is built with
    Setup(Setup),
    /// Fill the prefix (headers and libraries) that the native code links against
    Mlx(Mlx),
    /// Build libemily and put it, with its companions, into priv/
    Nif(Nif),
    /// Build, audit, pack, hash and sign one variant for one target
    Release(Release),
    /// Sign what was released without a signature
    Sign(Sign),
    /// Print the cells of a release, for the workflows
    Matrix(Matrix),
    /// Install from a release folder as consumers do, and look whether it works
    Prove(Prove),
    /// Check a tarball or a release folder against every rule of the install contract
    Verify(Verify),
    /// Install a published variant as a consumer would, from Rust
    Install(Install),
    /// Serve a release folder over HTTP on loopback
    Serve(Serve),
    /// Make a key that signs releases, or replace or retire one
    Keygen(Keygen),
    /// Build, release, serve, install and compute, end to end, in a fresh consumer project
    Demo(Demo),
    /// Run every test that this machine can run
    Test(Test),
    /// Measure against baselines of the same run
    Bench(Bench),
    /// Check the repository's own rules
    Tidy,
}

/// What a native build is for. Both default to this host.
#[derive(Debug, Clone, Default, Args)]
pub struct Cell {
    /// A variant of release/targets.json; the target's default when absent
    #[arg(long, value_name = "V")]
    pub variant: Option<String>,
    /// A target of release/targets.json; this host when absent
    #[arg(long, value_name = "T")]
    pub target: Option<String>,
}

#[derive(Debug, Args)]
pub struct Setup {
    /// Carry the plan out without asking
    #[arg(long)]
    pub yes: bool,
    /// Print the plan and stop; exit status 1 if anything is missing
    #[arg(long, conflicts_with = "yes")]
    pub check: bool,
    /// Also what `mlx --from source` takes
    #[arg(long)]
    pub from_source: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// The official PyPI package at the pin
    Wheel,
    /// A CMake build of the pinned sources
    Source,
}

impl Provider {
    /// As the options and `prefix.json` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wheel => "wheel",
            Self::Source => "source",
        }
    }
}

#[derive(Debug, Args)]
pub struct Mlx {
    #[command(flatten)]
    pub cell: Cell,
    /// Where MLX comes from; otherwise EMILY_MLX_FROM says it
    #[arg(long)]
    pub from: Option<Provider>,
    /// Build this revision of MLX's sources in place of the pinned tag
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Fill the prefix again even if it is complete
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Nif {
    #[command(flatten)]
    pub cell: Cell,
    /// Where MLX comes from; otherwise EMILY_MLX_FROM says it
    #[arg(long)]
    pub from: Option<Provider>,
}

#[derive(Debug, Args)]
pub struct Release {
    #[command(flatten)]
    pub cell: Cell,
    /// Where MLX comes from; otherwise EMILY_MLX_FROM says it
    #[arg(long)]
    pub from: Option<Provider>,
    /// The folder that receives the tarball, its sidecar and its signature
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The secret key's file; otherwise EMILY_SECRET_KEY holds the key itself
    #[arg(long, value_name = "FILE")]
    pub secret_key: Option<PathBuf>,
    /// Leave the signature to `cargo xtask sign`
    #[arg(long, conflicts_with = "secret_key")]
    pub unsigned: bool,
}

#[derive(Debug, Args)]
pub struct Sign {
    /// A tarball, or a folder that holds a release
    pub path: PathBuf,
    /// The secret key's file; otherwise EMILY_SECRET_KEY holds the key itself
    #[arg(long, value_name = "FILE")]
    pub secret_key: Option<PathBuf>,
    /// The one public key to trust, in minisign's form; the keys of release/keys.json when absent
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Matrix {
    /// Fail unless this is the tag of this version, and a key signs it
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

#[derive(Debug, Args)]
pub struct Prove {
    /// A folder that holds a release
    pub path: PathBuf,
    #[command(flatten)]
    pub cell: Cell,
    /// The one public key to trust, in minisign's form; the keys of release/keys.json when absent
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// Install what is missing without asking
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// A tarball, or a folder that holds a release
    pub path: PathBuf,
    /// The one public key to trust, in minisign's form; the keys of release/keys.json when absent
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Install {
    #[command(flatten)]
    pub cell: Cell,
    /// Where the release is published; the address of release/targets.json when absent
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The folder that receives the files; priv/ when absent
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// The one public key to trust, in minisign's form; the keys of release/keys.json when absent
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// The folder to serve
    pub dir: PathBuf,
    /// The port; a free one when 0
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

#[derive(Debug, Args)]
pub struct Keygen {
    /// The file that receives the secret key; it must not be inside the repository
    #[arg(long, value_name = "FILE", required_unless_present = "retire")]
    pub secret_key: Option<PathBuf>,
    /// The list of public keys; release/keys.json when absent
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The first version that the key signs; this one when absent
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// Let the keys that are there sign no version from that one on
    #[arg(long)]
    pub rotate: bool,
    /// Instead, let a key sign nothing any more
    #[arg(long, value_name = "ID", requires = "reason", conflicts_with_all = ["secret_key", "from", "rotate"])]
    pub retire: Option<String>,
    /// Why; consumers read it
    #[arg(long, value_name = "TEXT", requires = "retire")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Install what is missing without asking
    #[arg(long)]
    pub yes: bool,
    /// Keep the consumer project and print where it is
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// Install what is missing without asking
    #[arg(long)]
    pub yes: bool,
    /// Run the native tests under a detector instead: of memory errors and leaks, or of data races
    #[arg(long, value_name = "DETECTOR")]
    pub sanitize: Option<Sanitizer>,
    /// What the detector builds with: a name of rustup's, or a toolchain's folder
    #[arg(
        long,
        value_name = "NAME",
        default_value = "nightly",
        requires = "sanitize"
    )]
    pub toolchain: String,
    /// The `library` folder of the standard library's sources, where the toolchain has none
    #[arg(long, value_name = "DIR", requires = "sanitize")]
    pub rust_src: Option<PathBuf>,
    /// Only the suites of these names; the closing table lists them
    #[arg(value_name = "SUITE")]
    pub only: Vec<String>,
}

/// A detector that compilers build into a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sanitizer {
    /// AddressSanitizer, with its detector of leaks
    Address,
    /// ThreadSanitizer
    Thread,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Install what is missing without asking
    #[arg(long)]
    pub yes: bool,
    /// Exit with status 1 when a ratio misses its goal
    #[arg(long)]
    pub check: bool,
}
