//! What this machine has of what Emily is built with.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::apt;
use crate::{mlx, process, targets::Targets};

/// Something that building, testing or running Emily takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Git,
    Python,
    Compiler,
    Format,
    Libclang,
    OpenBlas,
    Cmake,
    Fmt,
    Json,
    BlasHeaders,
    Elixir,
    Otp,
}

impl Need {
    pub const ALL: [Self; 12] = [
        Self::Git,
        Self::Python,
        Self::Compiler,
        Self::Format,
        Self::Libclang,
        Self::OpenBlas,
        Self::Cmake,
        Self::Fmt,
        Self::Json,
        Self::BlasHeaders,
        Self::Elixir,
        Self::Otp,
    ];
    /// What it takes to build libemily.
    pub const BUILD: [Self; 5] = [
        Self::Python,
        Self::Compiler,
        Self::Format,
        Self::Libclang,
        Self::OpenBlas,
    ];
    /// What it takes to build MLX itself.
    pub const SOURCE: [Self; 7] = [
        Self::Git,
        Self::Compiler,
        Self::OpenBlas,
        Self::Cmake,
        Self::Fmt,
        Self::Json,
        Self::BlasHeaders,
    ];

    /// What everyday work takes: on Linux MLX comes ready-made, on a Mac it is built.
    pub fn everyday(os: &str) -> Vec<Self> {
        let for_source_alone = [Self::Cmake, Self::Fmt, Self::Json, Self::BlasHeaders];
        Self::ALL
            .into_iter()
            .filter(|need| os == "macos" || !for_source_alone.contains(need))
            .collect()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Git => "git",
            Self::Python => "Python 3 with pip, which fetches MLX's packages",
            Self::Compiler => "a C++20 compiler, for mlx-c",
            Self::Format => "the C++ header <format> (g++ 13, clang 17) or else {fmt}, for mlx-c",
            Self::Libclang => "libclang with its headers, for bindgen",
            Self::OpenBlas => {
                "OpenBLAS as a static archive, for what MLX leaves to BLAS and LAPACK"
            }
            Self::Cmake => "CMake 3.25 or newer, which builds MLX from its sources",
            Self::Fmt => "{fmt}, for MLX from its sources",
            Self::Json => "nlohmann's <nlohmann/json.hpp>, for MLX from its sources",
            Self::BlasHeaders => "the headers of OpenBLAS and LAPACK, for MLX from its sources",
            Self::Elixir => "Elixir 1.18 or newer, on OTP 27 or newer",
            Self::Otp => "all of OTP that Mix and Emily use, with its headers",
        })
    }
}

/// The applications of OTP that Debian packages apart and that Mix, Emily and its tests use.
pub const OTP: [&str; 9] = [
    "crypto",
    "eunit",
    "inets",
    "parsetools",
    "public_key",
    "ssl",
    "syntax_tools",
    "tools",
    "xmerl",
];

/// The machine, as `plan` sees it; a test makes one up.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `std::env::consts::OS`.
    pub os: String,
    /// `/etc/os-release`.
    pub release: BTreeMap<String, String>,
    pub git: bool,
    pub pip: bool,
    pub compiler: bool,
    /// `<format>` is there.
    pub format: bool,
    /// `<fmt/core.h>` is there.
    pub fmt: bool,
    pub libclang: bool,
    pub openblas: bool,
    pub cmake: bool,
    /// `<nlohmann/json.hpp>` is there.
    pub json: bool,
    /// `<cblas.h>` and `<lapacke.h>` are there.
    pub blas_headers: bool,
    pub elixir: Option<Elixir>,
    /// libc is newer than the distribution's own, so its matching packages come from there too.
    pub newer_libc: bool,
    pub apt: bool,
    /// The machine's apt sources, for the suite to add to them.
    pub sources: Vec<apt::Source>,
    /// Whether this user is root, else whether there is sudo.
    pub root: bool,
    pub sudo: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elixir {
    /// Major and minor.
    pub version: (u32, u32),
    pub otp: u32,
    /// Which of [`OTP`], and whether the headers, are absent.
    pub absent: Vec<String>,
    /// Whether OTP is elsewhere than where Debian's packages put it.
    pub by_hand: bool,
}

impl Facts {
    /// Looks only at what `needs` are judged by.
    pub fn gather_for(needs: &[Need]) -> Self {
        let asked = |need| needs.contains(&need);
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let elixir = (asked(Need::Elixir) || asked(Need::Otp))
            .then(elixir)
            .flatten();
        let release = parse_os_release(&os_release);
        Self {
            os: env::consts::OS.to_owned(),
            git: asked(Need::Git) && works("git", &["--version"]),
            pip: asked(Need::Python) && works("python3", &["-m", "pip", "--version"]),
            compiler: asked(Need::Compiler) && preprocesses(""),
            format: asked(Need::Format) && preprocesses("#include <format>"),
            fmt: (asked(Need::Format) || asked(Need::Fmt)) && preprocesses("#include <fmt/core.h>"),
            libclang: asked(Need::Libclang) && libclang(),
            openblas: asked(Need::OpenBlas) && openblas(),
            cmake: asked(Need::Cmake) && cmake(),
            json: asked(Need::Json) && preprocesses("#include <nlohmann/json.hpp>"),
            blas_headers: asked(Need::BlasHeaders)
                && preprocesses("#include <cblas.h>\n#include <lapacke.h>"),
            elixir,
            newer_libc: apt::newer_libc(&release),
            apt: works("apt-get", &["--version"]),
            sources: apt::sources(Path::new("/etc/apt")),
            root: process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0"),
            sudo: works("sudo", &["--version"]),
            release,
        }
    }
}

/// Whether a program starts and ends with status 0.
fn works(program: &str, arguments: &[&str]) -> bool {
    process::output(Command::new(program).args(arguments)).is_ok()
}

/// Whether the C++ compiler gets through a few lines.
fn preprocesses(code: &str) -> bool {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let child = Command::new(compiler)
        .args(["-x", "c++", "-std=c++20", "-E", "-o", "/dev/null", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.is_ok_and(|mut child| {
        use std::io::Write as _;
        let fed = child
            .stdin
            .take()
            .is_some_and(|mut stdin| writeln!(stdin, "{code}").is_ok());
        child.wait().is_ok_and(|status| fed && status.success())
    })
}

/// libclang where clang-sys looks, together with the compiler's own headers.
fn libclang() -> bool {
    if let Some(path) = env::var_os("LIBCLANG_PATH") {
        return Path::new(&path).exists();
    }
    if cfg!(target_os = "macos") {
        return works("xcode-select", &["-p"]);
    }
    let mut folders = children("/usr/lib", "llvm-");
    folders.iter_mut().for_each(|folder| folder.push("lib"));
    folders.extend(["/usr/lib64", "/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    folders.iter().any(|folder| {
        !children(folder, "libclang").is_empty()
            && children(folder.join("clang"), "")
                .iter()
                .any(|version| version.join("include/stddef.h").is_file())
    })
}

/// The entries of a folder whose names begin with `prefix`.
fn children(folder: impl AsRef<Path>, prefix: &str) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Whether there is a CMake that prefers installed packages when it is told to.
fn cmake() -> bool {
    let printed = process::output(Command::new("cmake").arg("--version"));
    printed.is_ok_and(|printed| parse_cmake(&printed) >= Some((3, 25)))
}

/// Major and minor of `cmake version 3.25.1`.
fn parse_cmake(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.lines().next()?.rsplit(' ').next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn openblas() -> bool {
    if cfg!(target_os = "macos") {
        return true;
    }
    Targets::load().is_ok_and(|targets| {
        let host = targets
            .host()
            .ok()
            .and_then(|name| targets.targets.get(name));
        host.is_some_and(mlx::openblas::found)
    })
}

fn elixir() -> Option<Elixir> {
    // One line a fact: Elixir, OTP, OTP's folder, then each application that is absent.
    let code = format!(
        "IO.puts(System.version()); IO.puts(System.otp_release()); IO.puts(:code.root_dir()); \
         for app <- ~w({})a, match?({{:error, _}}, :code.lib_dir(app)), do: IO.puts(app); \
         unless File.regular?(Path.join(:code.root_dir(), \"usr/include/erl_nif.h\")), \
         do: IO.puts(\"headers\")",
        OTP.join(" ")
    );
    let printed = process::output(Command::new("elixir").args(["-e", &code])).ok()?;
    parse_elixir(&printed)
}

fn parse_elixir(printed: &str) -> Option<Elixir> {
    let mut lines = printed.lines();
    let mut version = lines.next()?.split('.').map(str::parse);
    Some(Elixir {
        version: (version.next()?.ok()?, version.next()?.ok()?),
        otp: lines.next()?.parse().ok()?,
        by_hand: lines.next()? != "/usr/lib/erlang",
        absent: lines.map(str::to_owned).collect(),
    })
}

/// `KEY=value` lines, their quotes removed.
fn parse_os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_without_its_quotes() {
        let read =
            parse_os_release("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\n");
        assert_eq!(read["ID"], "debian");
        assert_eq!(read["VERSION_ID"], "12");
    }

    #[test]
    fn what_cmake_prints_is_read() {
        for (printed, expected) in [
            ("cmake version 3.25.1\n\nCMake suite\n", Some((3, 25))),
            ("cmake version 4.0.0-rc1\n", Some((4, 0))),
            ("", None),
            ("cmake\n", None),
        ] {
            assert_eq!(parse_cmake(printed), expected, "{printed:?}");
        }
    }

    #[test]
    fn what_elixir_prints_is_read() {
        let elixir = |version, otp, absent: &[&str], by_hand| {
            let absent = absent.iter().map(ToString::to_string).collect();
            Some(Elixir {
                version,
                otp,
                absent,
                by_hand,
            })
        };
        for (printed, expected) in [
            (
                "1.18.3\n27\n/usr/lib/erlang\n",
                elixir((1, 18), 27, &[], false),
            ),
            (
                "1.19.0-rc.1\n28\n/opt/otp\nssl\nheaders\n",
                elixir((1, 19), 28, &["ssl", "headers"], true),
            ),
            ("", None),
            ("Erlang/OTP 27\n", None),
        ] {
            assert_eq!(parse_elixir(printed), expected, "{printed:?}");
        }
    }
}
