//! What apt would do to the packages of this machine, told before it does it.

use std::{fmt, process::Command};

use anyhow::Result;

use crate::process;

/// The outcome of `apt-get --simulate`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub new: usize,
    pub upgraded: usize,
    /// The names of the packages that stand in the way.
    pub removed: Vec<String>,
}

impl Changes {
    /// What the command `words`, which runs apt-get, would change; needs no rights.
    pub fn simulate(words: &[String]) -> Result<Self> {
        let mut apt = Command::new("env");
        apt.args(words.iter().skip_while(|word| *word == "env"))
            .arg("--simulate");
        process::output(&mut apt).map(|printed| Self::read(&printed))
    }

    /// `Inst name (…)`, `Inst name [old] (…)` and `Remv name [old]`, among other lines.
    fn read(printed: &str) -> Self {
        let mut changes = Self::default();
        for line in printed.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("Inst"), Some(_), Some(old)) if old.starts_with('[') => changes.upgraded += 1,
                (Some("Inst"), Some(_), _) => changes.new += 1,
                (Some("Remv"), Some(name), _) => changes.removed.push(name.to_owned()),
                _ => {}
            }
        }
        changes
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            new,
            upgraded,
            removed,
        } = self;
        write!(
            formatter,
            "{new} new, {upgraded} upgraded, {} removed",
            removed.len()
        )?;
        if !removed.is_empty() {
            write!(formatter, ": {}", removed.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Changes;

    #[test]
    fn what_apt_would_do_is_counted() {
        let printed = "Reading package lists...\n\
                       The following packages will be REMOVED:\n  libc6-i386\n\
                       1 upgraded, 1 newly installed, 2 to remove and 7 not upgraded.\n\
                       Remv libc6-i386 [2.36-9]\n\
                       Inst libc6 [2.36-9] (2.41-12 Debian:13/stable [amd64]) []\n\
                       Inst elixir (1.18.3 Debian:13/stable [all])\n\
                       Remv old-tool [1.0] [other:amd64 ]\n\
                       Conf libc6 (2.41-12 Debian:13/stable [amd64])\n";
        let changes = Changes::read(printed);
        assert_eq!(
            changes.to_string(),
            "1 new, 1 upgraded, 2 removed: libc6-i386 old-tool"
        );
        assert_eq!(
            Changes::read("").to_string(),
            "0 new, 0 upgraded, 0 removed"
        );
    }
}
