//! A copy of the Elixir package, as Hex would ship it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    keyring::{self, Entries},
    process, workspace,
};

/// Copies the files of mix.exs's package list into the empty folder `into`, with `keys` in
/// the place of the release keys.
pub fn copy(into: &Path, keys: &Entries) -> Result<()> {
    for name in files()? {
        let (from, to) = (workspace::root().join(&name), into.join(&name));
        if from.is_dir() {
            fs::create_dir_all(&to)?;
            workspace::copy_folder(&from, &to)?;
        } else {
            ensure!(
                from.is_file(),
                "mix.exs ships {name}, which is not in the repository"
            );
            workspace::folder_of(&to)?;
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
    }
    let name = keyring::NAME;
    let text = keys.text()?;
    fs::write(into.join(name), text).with_context(|| format!("writing {name}"))
}

/// The package's files and folders, by Mix's own account.
fn files() -> Result<Vec<String>> {
    let code = "Mix.start(); Code.require_file(\"mix.exs\"); \
                IO.puts(Enum.join(Mix.Project.config()[:package][:files], \"\\n\"))";
    let printed = process::output(
        Command::new("elixir")
            .current_dir(workspace::root())
            .args(["-e", code]),
    )
    .context("mix.exs did not say what the package holds")?;
    Ok(printed.lines().map(str::to_owned).collect())
}
