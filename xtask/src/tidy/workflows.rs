//! The rules for `.github/workflows/`.

use super::{Breaks, tree::Tree};
use crate::targets::Targets;

/// The workflows, by path.
fn files(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.select(&[".github/workflows/"], &[".yml", ".yaml"])
}

/// What a step decides belongs into xtask.
pub fn logic(tree: &Tree) -> Breaks {
    let mut breaks = Vec::new();
    for (path, text) in files(tree) {
        for (number, line) in text.lines().enumerate() {
            let step = line.trim_start().trim_start_matches("- ");
            let Some(command) = step.strip_prefix("run:").map(str::trim) else {
                continue;
            };
            let block = command.is_empty() || command.starts_with(['|', '>']);
            if block
                || ["&&", "||", ";", "$(", "`", " if ", " | "]
                    .iter()
                    .any(|word| command.contains(word))
            {
                breaks.push(format!(
                    "{path}:{}: what a step decides belongs into xtask",
                    number + 1
                ));
            }
        }
    }
    breaks
}

/// An action is a commit, with its version in a comment: a tag may become another one.
pub fn pins(tree: &Tree) -> Breaks {
    let mut breaks = Vec::new();
    for (path, text) in files(tree) {
        for (number, line) in text.lines().enumerate() {
            let step = line.trim_start().trim_start_matches("- ");
            let Some(used) = step.strip_prefix("uses:").map(str::trim) else {
                continue;
            };
            let pinned = used.split_once('@').is_some_and(|(_, rest)| {
                let (commit, version) = rest.split_once(" # ").unwrap_or((rest, ""));
                let is_hex = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
                commit.len() == 40 && commit.chars().all(is_hex) && version.starts_with('v')
            });
            // What lies in the repository is of the same commit.
            if !pinned && !used.starts_with("./") {
                breaks.push(format!(
                    "{path}:{}: expected an action at a commit, with # and its version, got: {used}",
                    number + 1
                ));
            }
        }
    }
    breaks
}

/// A workflow has none, and each job says which it takes.
pub fn permissions(tree: &Tree) -> Breaks {
    let mut breaks = Vec::new();
    for (path, text) in files(tree) {
        if !text.lines().any(|line| line == "permissions: {}") {
            breaks.push(format!("{path}: expected permissions: {{}} at the top"));
        }
        for (job, lines) in jobs(text) {
            if !lines
                .iter()
                .any(|line| line.starts_with("    permissions:"))
            {
                breaks.push(format!(
                    "{path}: the job {job} does not say its permissions"
                ));
            }
        }
    }
    breaks
}

/// The jobs of a workflow with their lines.
fn jobs(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut jobs: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines().skip_while(|line| *line != "jobs:").skip(1) {
        let name = line
            .strip_prefix("  ")
            .and_then(|rest| rest.strip_suffix(':'));
        match name.filter(|name| !name.starts_with([' ', '#'])) {
            Some(name) => jobs.push((name, Vec::new())),
            None => {
                if let Some((_, lines)) = jobs.last_mut() {
                    lines.push(line);
                }
            }
        }
    }
    jobs
}

/// The cells come from `release/targets.json`, by `cargo xtask matrix`: nothing names one, nor its
/// machine.
pub fn cells(tree: &Tree) -> Breaks {
    let targets = match Targets::load() {
        Ok(targets) => targets,
        Err(error) => return vec![format!("{error:#}")],
    };
    let machines = targets.targets.values().map(|target| &target.runner);
    let others = targets.variants.values();
    let others = others.flat_map(|one| one.runners.values().chain(one.proving_runners.values()));
    let names: Vec<_> = targets
        .targets
        .keys()
        .chain(targets.variants.keys())
        .chain(machines)
        .chain(others)
        .collect();
    let mut breaks = Vec::new();
    for (path, text) in files(tree) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split(" #").next().unwrap_or_default();
            let code = if code.starts_with('#') { "" } else { code };
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            let mut words = code.split(|letter: char| !is_part(letter));
            if let Some(word) = words.find(|word| names.iter().any(|name| name == word)) {
                breaks.push(format!(
                    "{path}:{}: {word} is release/targets.json's to say; take it from the matrix",
                    number + 1
                ));
            }
        }
    }
    breaks
}
