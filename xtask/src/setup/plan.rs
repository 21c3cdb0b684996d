//! What to do about what is missing, decided from the facts alone.

use std::{
    fmt, fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    apt,
    changes::Changes,
    facts::{Facts, Need},
};
use crate::process;

/// How root's part of the plan is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    Root,
    Sudo,
    None,
}

/// One change to the machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Write { path: String, text: String },
    Run(Vec<String>),
}

/// What is missing, the steps that install it, and what to know beforehand.
#[derive(Debug)]
pub struct Plan {
    pub missing: Vec<Need>,
    pub steps: Vec<Step>,
    pub notes: Vec<String>,
    pub privilege: Privilege,
}

/// What of `needs` the machine lacks.
pub fn missing(facts: &Facts, needs: &[Need]) -> Vec<Need> {
    let has = |need: &Need| match need {
        Need::Git => facts.git,
        Need::Python => facts.pip,
        Need::Compiler => facts.compiler,
        Need::Format => facts.format || facts.fmt,
        Need::Libclang => facts.libclang,
        Need::OpenBlas => facts.openblas,
        Need::Cmake => facts.cmake,
        // A Mac's build fetches its own {fmt} and JSON, and uses Accelerate.
        Need::Fmt => facts.fmt || facts.os == "macos",
        Need::Json => facts.json || facts.os == "macos",
        Need::BlasHeaders => facts.blas_headers || facts.os == "macos",
        Need::Elixir => facts
            .elixir
            .as_ref()
            .is_some_and(|found| found.version >= (1, 18) && found.otp >= 27),
        Need::Otp => facts
            .elixir
            .as_ref()
            .is_some_and(|found| found.absent.is_empty()),
    };
    needs.iter().filter(|need| !has(need)).copied().collect()
}

/// The plan that gives a machine what it lacks of `needs`.
pub fn make(facts: &Facts, needs: &[Need]) -> Plan {
    let mut plan = Plan {
        missing: missing(facts, needs),
        steps: Vec::new(),
        notes: Vec::new(),
        privilege: match (facts.root, facts.sudo) {
            (true, _) => Privilege::Root,
            (false, true) => Privilege::Sudo,
            (false, false) => Privilege::None,
        },
    };
    if plan.missing.is_empty() {
        return plan;
    }
    match (facts.os.as_str(), facts.apt) {
        ("macos", _) => plan.notes.extend(macos(&plan.missing)),
        ("linux", true) => debian(facts, &mut plan),
        _ => plan.notes.push(
            "Install them with your system's package manager; Emily knows the commands for \
             Debian, Ubuntu and macOS only."
                .to_owned(),
        ),
    }
    plan
}

/// Where a release of Debian's family gets Elixir 1.18 and OTP 27 from.
enum ElixirFrom {
    /// Its own packages.
    Itself,
    /// The release after it, whose packages can be mixed in.
    Newer {
        own: &'static str,
        newer: &'static str,
    },
    /// Nowhere that apt knows.
    Elsewhere,
}

fn elixir_from(facts: &Facts) -> ElixirFrom {
    let field = |name: &str| facts.release.get(name).map(String::as_str);
    // Testing and unstable have no version.
    let version = field("VERSION_ID").map_or(Some((u32::MAX, 0)), |version| {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    match (field("ID"), version) {
        (Some("debian"), Some((12, _))) => ElixirFrom::Newer {
            own: "bookworm",
            newer: "trixie",
        },
        (Some("debian"), Some((13.., _))) => ElixirFrom::Itself,
        (Some("ubuntu"), Some(version)) if version >= (25, 10) => ElixirFrom::Itself,
        _ => ElixirFrom::Elsewhere,
    }
}

/// Debian's packages for a need.
fn packages(need: Need) -> &'static [&'static str] {
    match need {
        Need::Git => &["git"],
        Need::Python => &["python3", "python3-pip"],
        Need::Compiler => &["g++"],
        Need::Format | Need::Fmt => &["libfmt-dev"],
        Need::Libclang => &["libclang-dev"],
        Need::OpenBlas => &["libopenblas-pthread-dev"],
        Need::Cmake => &["cmake", "ninja-build"],
        Need::Json => &["nlohmann-json3-dev"],
        Need::BlasHeaders => &["liblapacke-dev"],
        Need::Elixir | Need::Otp => &[
            "elixir",
            "erlang-crypto",
            "erlang-dev",
            "erlang-eunit",
            "erlang-inets",
            "erlang-parsetools",
            "erlang-public-key",
            "erlang-ssl",
            "erlang-syntax-tools",
            "erlang-tools",
            "erlang-xmerl",
        ],
    }
}

/// The steps for a machine with apt.
fn debian(facts: &Facts, plan: &mut Plan) {
    let (mut own, mut newer) = (Vec::new(), Vec::new());
    let from = elixir_from(facts);
    for &need in &plan.missing {
        let beam = matches!(need, Need::Elixir | Need::Otp);
        let by_hand = facts.elixir.as_ref().is_some_and(|found| found.by_hand);
        let list = match from {
            _ if beam && by_hand => {
                plan.notes.push(elixir_by_hand(facts));
                continue;
            }
            ElixirFrom::Elsewhere if beam => {
                plan.notes.push(elixir_elsewhere());
                continue;
            }
            // Packages that must match libc exactly come from where libc came from.
            ElixirFrom::Newer { .. } if beam || facts.newer_libc => &mut newer,
            _ => &mut own,
        };
        for package in packages(need) {
            if !list.contains(package) {
                list.push(package);
            }
        }
    }
    plan.notes.dedup();
    if own.is_empty() && newer.is_empty() {
        return;
    }
    if let (false, ElixirFrom::Newer { own, newer }) = (newer.is_empty(), &from) {
        if let Some(text) = apt::newer_suites(&facts.sources, own, newer) {
            let file = |folder: &str, extension: &str| {
                format!("/etc/apt/{folder}/emily-{newer}{extension}")
            };
            plan.steps.push(Step::Write {
                path: file("sources.list.d", ".sources"),
                text,
            });
            plan.steps.push(Step::Write {
                path: file("preferences.d", ""),
                text: apt::preferences(newer),
            });
        }
        plan.notes.push(format!(
            "Debian 12's own Elixir is 1.14 on OTP 25, too old. The plan adds Debian 13 ({newer}) to\n\
             apt at priority 100, so that nothing else ever comes from there by itself, and takes\n\
             Elixir and OTP from it. They bring Debian 13's libc6 and what is tied to it (libc6-dev,\n\
             libstdc++6, libgcc-s1 and their like), which upgrades those on this machine for good, and\n\
             installed packages that stand in the way are removed. Each install is tried out first, and\n\
             tells how many packages are new and upgraded and which ones are removed.\n\
             To keep this system as it is, do this in a container instead."
        ));
    }
    if newer.is_empty() {
        plan.notes.push(OWN_SUITES.to_owned());
    }
    let apt_get = |words: &[&str]| {
        let fixed = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        Step::Run(fixed.iter().chain(words).map(ToString::to_string).collect())
    };
    plan.steps.push(apt_get(&["update"]));
    let install = ["install", "--yes", "--no-install-recommends"];
    // First what comes with the machine's own libc, then what may replace it.
    if !own.is_empty() {
        plan.steps.push(apt_get(&[&install[..], &own].concat()));
    }
    if let (false, ElixirFrom::Newer { newer: suite, .. }) = (newer.is_empty(), from) {
        plan.steps
            .push(apt_get(&[&install[..], &["-t", suite], &newer].concat()));
    }
}

/// Where the packages of a plan come from that adds no source.
const OWN_SUITES: &str = "\
The packages come from this release's own suites; the plan adds no source to apt.";

fn elixir_elsewhere() -> String {
    "This distribution's packages of Elixir and OTP are too old (Debian 13 and Ubuntu 25.10 are the\n\
     first that suffice), so Elixir is left to you: install Elixir 1.18 and OTP 27 with a version\n\
     manager such as mise or asdf, or with your distribution's next release."
        .to_owned()
}

fn elixir_by_hand(facts: &Facts) -> String {
    let found = facts.elixir.clone().unwrap_or_default();
    let absent = match found.absent.as_slice() {
        [] => String::new(),
        absent => format!(", without {}", absent.join(", ")),
    };
    format!(
        "The Elixir in PATH ({}.{} on OTP {}{absent}) does not come from apt. Upgrade it the way it was\n\
         installed, to Elixir 1.18 on a complete OTP 27 or newer.",
        found.version.0, found.version.1, found.otp
    )
}

/// What to do on a Mac; Homebrew is the user's own, so nothing is run.
fn macos(missing: &[Need]) -> Vec<String> {
    let lacks = |needs: &[Need]| missing.iter().any(|need| needs.contains(need));
    let mut notes = Vec::new();
    if lacks(&[Need::Git, Need::Compiler, Need::Format, Need::Libclang]) {
        notes.push("Apple's command line tools: xcode-select --install".to_owned());
    }
    if lacks(&[Need::Cmake]) {
        notes.push("CMake: brew install cmake".to_owned());
    }
    if lacks(&[Need::Python]) {
        notes.push("Python 3 with pip: brew install python".to_owned());
    }
    if lacks(&[Need::Elixir, Need::Otp]) {
        notes.push("Elixir with OTP: brew install elixir".to_owned());
    }
    notes
}

impl Plan {
    /// Whether the machine is ready.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(formatter, "everything that Emily is built with is here");
        }
        writeln!(
            formatter,
            "Emily is built with these, which this machine lacks:"
        )?;
        for need in &self.missing {
            writeln!(formatter, "  - {need}")?;
        }
        for note in &self.notes {
            writeln!(formatter, "\n{note}")?;
        }
        if !self.steps.is_empty() {
            let who = match self.privilege {
                Privilege::Root => "",
                Privilege::Sudo => ", with sudo",
                Privilege::None => ", as root",
            };
            writeln!(formatter, "\nThe plan{who}:")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(formatter, "  {}. {step}", index + 1)?;
            if let Step::Write { text, .. } = step {
                for line in text.lines() {
                    writeln!(formatter, "     | {line}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, .. } => write!(formatter, "write {path}"),
            Self::Run(words) => formatter.write_str(&words.join(" ")),
        }
    }
}

impl Step {
    /// What an install would change.
    ///
    /// `None` for other steps, and where apt cannot tell: the install itself then says why.
    pub fn changes(&self) -> Option<Changes> {
        match self {
            Self::Run(words) if words.iter().any(|word| word == "install") => {
                Changes::simulate(words).ok()
            }
            _ => None,
        }
    }

    /// Does it.
    pub fn carry_out(&self, privilege: Privilege) -> Result<()> {
        if privilege == Privilege::None {
            bail!("expected to run as root or to find sudo, for: {self}");
        }
        match self {
            Self::Write { path, text } if privilege == Privilege::Root => {
                fs::write(path, text).with_context(|| format!("writing {path}"))
            }
            Self::Write { path, text } => {
                let mut tee = Command::new("sudo")
                    .args(["tee", path])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .context("could not start sudo")?;
                if let Some(mut stdin) = tee.stdin.take() {
                    stdin.write_all(text.as_bytes())?;
                }
                let status = tee.wait()?;
                if !status.success() {
                    bail!("`sudo tee {path}` ended with {status}");
                }
                Ok(())
            }
            Self::Run(words) => {
                let sudo = (privilege == Privilege::Sudo).then(|| "sudo".to_owned());
                let mut words = sudo.iter().chain(words);
                let program = words.next().context("expected a command")?;
                process::run(Command::new(program).args(words))
            }
        }
    }
}

#[cfg(test)]
mod tests;
