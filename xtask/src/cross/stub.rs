//! Text stubs (`.tbd`): what a linker reads in place of a library of macOS that is not at hand.

use std::{collections::BTreeSet, fmt};

use anyhow::{Result, ensure};

/// A library by the name that macOS knows it by, and what it exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    pub install_name: String,
    pub symbols: BTreeSet<String>,
}

impl Stub {
    pub fn new(install_name: &str, symbols: BTreeSet<String>) -> Self {
        Self {
            install_name: install_name.to_owned(),
            symbols,
        }
    }

    /// One stub of all that the documents of `text` export on arm64: a library whose parts are libraries
    /// themselves exports what they do.
    ///
    /// Only documents whose names begin with one of `parts` count.
    pub fn gather(install_name: &str, text: &str, parts: &[&str]) -> Result<Self> {
        let mut symbols = BTreeSet::new();
        for document in text.split("--- !tapi-tbd").skip(1) {
            let name = field(document, "install-name:").unwrap_or_default();
            let name = name.trim_matches('\'');
            if parts.iter().any(|part| name.starts_with(part)) {
                symbols.extend(exports(document));
            }
        }
        ensure!(
            !symbols.is_empty(),
            "expected a text stub with symbols of {install_name} for macOS on arm64"
        );
        Ok(Self::new(install_name, symbols))
    }
}

/// What follows `key` on its line.
fn field<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    let mut lines = text.lines();
    lines.find_map(|line| Some(line.trim().strip_prefix(key)?.trim()))
}

/// The symbols of a document's groups for arm64, each a list of targets and then lists of symbols.
fn exports(document: &str) -> BTreeSet<String> {
    let mut symbols = BTreeSet::new();
    for group in document.split("- targets:").skip(1) {
        let mut lists = lists(group);
        let targets = lists.next().map(|(_, items)| items).unwrap_or_default();
        // What is for arm64e is for arm64 as well: the stub's library has both, in one.
        if !targets
            .iter()
            .any(|target| target.starts_with("arm64") && target.ends_with("-macos"))
        {
            continue;
        }
        for (key, items) in lists {
            if ["symbols", "weak-symbols", "thread-local-symbols"].contains(&key) {
                // Those that begin so are orders to Apple's linker about older systems.
                let names = items.into_iter().filter(|name| !name.starts_with("$ld$"));
                symbols.extend(names.map(str::to_owned));
            }
        }
    }
    symbols
}

/// The lists in `text`, each with its key, as in `key: [ a, b ]`.
fn lists(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    text.split_inclusive(']').filter_map(|part| {
        let (before, items) = part.strip_suffix(']')?.split_once('[')?;
        let key = before.trim().trim_end_matches(':');
        let key = key.rsplit(char::is_whitespace).next().unwrap_or_default();
        let items = items.split(',').map(|item| item.trim().trim_matches('\''));
        Some((key, items.filter(|item| !item.is_empty()).collect()))
    })
}

impl fmt::Display for Stub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbols: Vec<_> = self
            .symbols
            .iter()
            .map(|name| format!("'{name}'"))
            .collect();
        write!(
            formatter,
            "--- !tapi-tbd\n\
             tbd-version:     4\n\
             targets:         [ arm64-macos ]\n\
             install-name:    '{}'\n\
             exports:\n  \
             - targets:         [ arm64-macos ]\n    \
             symbols:         [ {} ]\n\
             ...\n",
            self.install_name,
            symbols.join(",\n                       ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "\
--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64e-macos ]
install-name:    '/usr/lib/libSystem.B.dylib'
reexported-libraries:
  - targets:         [ x86_64-macos, arm64e-macos ]
    libraries:       [ '/usr/lib/system/libsystem_c.dylib' ]
exports:
  - targets:         [ x86_64-macos ]
    symbols:         [ _old ]
--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64e-macos ]
install-name:    '/usr/lib/system/libsystem_c.dylib'
parent-umbrella:
  - targets:         [ x86_64-macos, arm64e-macos ]
    umbrella:        System
exports:
  - targets:         [ x86_64-macos ]
    symbols:         [ '_open$INODE64' ]
  - targets:         [ x86_64-macos, arm64e-macos ]
    symbols:         [ _open, '$ld$hide$os10.4$_read', _read,
                       _write ]
    weak-symbols:    [ _may ]
    thread-local-symbols: [ _each ]
    objc-classes:    [ Other ]
--- !tapi-tbd
tbd-version:     4
targets:         [ arm64-macos ]
install-name:    '/usr/lib/libiconv.2.dylib'
exports:
  - targets:         [ arm64-macos ]
    symbols:         [ _iconv ]
...
";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_library_exports_what_its_parts_do() {
        let name = "/usr/lib/libSystem.B.dylib";
        let stub = Stub::gather(name, SYSTEM, &[name, "/usr/lib/system/"]).unwrap();
        assert_eq!(stub.install_name, name);
        assert_eq!(
            stub.symbols,
            set(&["_each", "_may", "_open", "_read", "_write"])
        );
        let absent = Stub::gather("libx.dylib", SYSTEM, &["libx.dylib"]).unwrap_err();
        assert_eq!(
            absent.to_string(),
            "expected a text stub with symbols of libx.dylib for macOS on arm64"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let stub = Stub::new("/usr/lib/libc++.1.dylib", set(&["__Znwm", "_a$b"]));
        let text = stub.to_string();
        assert_eq!(
            text,
            "--- !tapi-tbd\n\
             tbd-version:     4\n\
             targets:         [ arm64-macos ]\n\
             install-name:    '/usr/lib/libc++.1.dylib'\n\
             exports:\n  \
             - targets:         [ arm64-macos ]\n    \
             symbols:         [ '__Znwm',\n                       '_a$b' ]\n...\n"
        );
        let again = Stub::gather(&stub.install_name, &text, &["/usr/lib/libc++"]).unwrap();
        assert_eq!(again, stub);
    }
}
