//! Debian's apt: the sources a machine has, and the files that add a newer suite beside them.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::process;

/// A place that packages of some suites come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub uris: String,
    pub suites: Vec<String>,
    pub components: String,
    /// The keyring, where the machine names one.
    pub signed_by: Option<String>,
}

/// The keyring that Debian installs itself with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The machine's binary package sources.
pub fn sources(etc: &Path) -> Vec<Source> {
    let listed = |extension: &str| {
        let mut paths: Vec<_> = fs::read_dir(etc.join("sources.list.d"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        paths.sort();
        paths
    };
    let mut sources = Vec::new();
    for path in [etc.join("sources.list")].into_iter().chain(listed("list")) {
        let text = fs::read_to_string(path).unwrap_or_default();
        sources.extend(text.lines().filter_map(one_line));
    }
    for path in listed("sources") {
        let text = fs::read_to_string(path).unwrap_or_default();
        sources.extend(text.split("\n\n").filter_map(stanza));
    }
    sources
}

/// `deb [signed-by=…] URI suite component…`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    Some(Source {
        uris: words.next()?.to_owned(),
        suites: vec![words.next()?.to_owned()],
        components: words.collect::<Vec<_>>().join(" "),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
    })
}

/// A paragraph of a `.sources` file.
fn stanza(text: &str) -> Option<Source> {
    let field = |name: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
    };
    if field("Enabled").is_some_and(|enabled| enabled == "no") {
        return None;
    }
    field("Types")?
        .split_whitespace()
        .find(|kind| *kind == "deb")?;
    Some(Source {
        uris: field("URIs")?,
        suites: field("Suites")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        components: field("Components").unwrap_or_default(),
        signed_by: field("Signed-By").filter(|path| path.starts_with('/')),
    })
}

/// A `.sources` file with the suites of the release `new`, from where those of `old` come from.
///
/// `None` when the machine has no source for `old` itself, or has one for `new` already.
pub fn newer_suites(sources: &[Source], old: &str, new: &str) -> Option<String> {
    let has = |suite: &str| {
        sources
            .iter()
            .any(|source| source.suites.iter().any(|one| one == suite))
    };
    if !has(old) || has(new) {
        return None;
    }
    let mut stanzas = Vec::new();
    for source in sources {
        // `bookworm`, `bookworm-updates` and `bookworm-security`; not backports or the like.
        let suites: Vec<_> = source
            .suites
            .iter()
            .filter_map(|suite| suite.strip_prefix(old))
            .filter(|rest| ["", "-updates", "-security"].contains(rest))
            .map(|rest| format!("{new}{rest}"))
            .collect();
        if suites.is_empty()
            || !source
                .components
                .split_whitespace()
                .any(|name| name == "main")
        {
            continue;
        }
        stanzas.push(format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n",
            source.uris,
            suites.join(" "),
            source.signed_by.as_deref().unwrap_or(KEYRING)
        ));
    }
    Some(format!(
        "# Written by `cargo xtask setup` of Emily; remove it together with\n\
         # /etc/apt/preferences.d/emily-{new}.\n{}",
        stanzas.join("\n")
    ))
}

/// Suites of Debian's own, by which its sources are known.
const DEBIAN: [&str; 8] = [
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// A line of a `sources.list` for Debian's `suite`, from where the machine has Debian's packages.
pub fn line(sources: &[Source], suite: &str) -> Option<String> {
    let source = sources.iter().find(|source| {
        source
            .suites
            .iter()
            .any(|name| DEBIAN.contains(&name.as_str()))
            && source
                .components
                .split_whitespace()
                .any(|name| name == "main")
    })?;
    Some(format!(
        "deb [signed-by={}] {} {suite} main",
        source.signed_by.as_deref().unwrap_or(KEYRING),
        source.uris.split_whitespace().next()?
    ))
}

/// A preferences file that keeps apt from taking anything of the release `new` by itself, while
/// what was once taken from there is still kept up to date.
pub fn preferences(new: &str) -> String {
    ["", "-updates", "-security"]
        .map(|rest| format!("Package: *\nPin: release n={new}{rest}\nPin-Priority: 100\n"))
        .join("\n")
}

/// Whether libc is of a later release than the machine, so that what must match it is too.
pub fn newer_libc(release: &BTreeMap<String, String>) -> bool {
    let own = match (
        release.get("ID").map(String::as_str),
        release.get("VERSION_ID"),
    ) {
        (Some("debian"), Some(version)) if version == "12" => "2.36",
        _ => return false,
    };
    process::output(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "libc6"]))
        .is_ok_and(|version| !version.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_sources_are_read() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        fs::write(
            etc.path().join("sources.list"),
            "# deb http://commented.invalid/ bookworm main\n\
             deb-src http://mirror.invalid/debian bookworm main\n\
             deb [arch=amd64 signed-by=/keys/one.gpg] http://mirror.invalid/debian bookworm main contrib\n",
        )
        .unwrap();
        fs::write(
            etc.path().join("sources.list.d/debian.sources"),
            "Types: deb deb-src\n# a note: ignored\nURIs: http://other.invalid/debian\n\
             Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys/two.gpg\n\n\
             Types: deb\nEnabled: no\nURIs: http://off.invalid/\nSuites: x\nComponents: main\n",
        )
        .unwrap();
        let source = |uris: &str, suites: &[&str], components: &str, key: &str| Source {
            uris: uris.into(),
            suites: suites.iter().map(ToString::to_string).collect(),
            components: components.into(),
            signed_by: Some(key.into()),
        };
        assert_eq!(
            sources(etc.path()),
            [
                source(
                    "http://mirror.invalid/debian",
                    &["bookworm"],
                    "main contrib",
                    "/keys/one.gpg"
                ),
                source(
                    "http://other.invalid/debian",
                    &["bookworm", "bookworm-updates"],
                    "main",
                    "/keys/two.gpg"
                ),
            ]
        );
    }

    fn source(suites: &[&str], components: &str) -> Source {
        Source {
            uris: "http://mirror.invalid/debian".into(),
            suites: suites.iter().map(ToString::to_string).collect(),
            components: components.into(),
            signed_by: None,
        }
    }

    #[test]
    fn the_newer_suites_come_from_where_the_old_ones_do() {
        let text = newer_suites(
            &[
                source(
                    &["bookworm", "bookworm-updates", "bookworm-backports"],
                    "main",
                ),
                source(&["nodistro"], "main"),
                source(&["bookworm"], "contrib"),
            ],
            "bookworm",
            "trixie",
        );
        assert_eq!(
            text.unwrap(),
            "# Written by `cargo xtask setup` of Emily; remove it together with\n\
             # /etc/apt/preferences.d/emily-trixie.\n\
             Types: deb\nURIs: http://mirror.invalid/debian\nSuites: trixie trixie-updates\n\
             Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn any_suite_comes_from_where_debians_own_do() {
        let line = |suites: &[&str], components: &str| line(&[source(suites, components)], "forky");
        assert_eq!(
            line(&["bookworm", "bookworm-updates"], "main contrib").unwrap(),
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
             http://mirror.invalid/debian forky main"
        );
        // Security updates come from elsewhere, and Ubuntu has no suites of these names.
        for suites in ["bookworm-security", "noble", "nodistro"] {
            assert_eq!(line(&[suites], "main"), None, "{suites}");
        }
        assert_eq!(line(&["bookworm"], "contrib"), None);
    }

    #[test]
    fn a_machine_that_has_the_newer_suite_keeps_its_own_file() {
        for sources in [
            vec![source(&["bookworm"], "main"), source(&["trixie"], "main")],
            vec![source(&["nodistro"], "main")],
        ] {
            assert_eq!(newer_suites(&sources, "bookworm", "trixie"), None);
        }
    }
}
