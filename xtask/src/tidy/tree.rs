//! The text files of a checkout, which the rules look at.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{process, workspace};

/// Text by path; the paths are relative to the root, with `/`.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    /// What git tracks or would track.
    pub fn of_checkout() -> Result<Self> {
        let listed = process::output(Command::new("git").arg("-C").arg(workspace::root()).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .context("tidy looks at what git tracks")?;
        let texts = listed
            .split('\0')
            .filter(|path| !path.is_empty())
            .filter_map(|path| {
                // What is no text, or was just deleted, has nothing to say.
                let text = fs::read_to_string(workspace::root().join(path)).ok()?;
                Some((path.to_owned(), text))
            });
        Ok(Self(texts.collect()))
    }

    /// The file's text, empty if there is no such file.
    pub fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// Every file as (path, text).
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose path begins with one of `folders` and ends with one of `endings`.
    pub fn select<'tree>(
        &'tree self,
        folders: &'tree [&str],
        endings: &'tree [&str],
    ) -> impl Iterator<Item = (&'tree str, &'tree str)> {
        self.files().filter(move |(path, _)| {
            folders.iter().any(|folder| path.starts_with(folder))
                && endings.iter().any(|ending| path.ends_with(ending))
        })
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text)| (path.to_string(), text.to_string()))
                .collect(),
        )
    }
}
