//! The rules. Each takes the tree and returns what breaks it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breaks, tree::Tree, workflows};
use crate::{
    keyring::{self, Keyring},
    pin::Pin,
    targets::Targets,
    workspace,
};

/// A file longer than this no longer fits in the head.
const MAX_LINES: usize = 500;

type Rule = fn(&Tree) -> Breaks;

/// Every rule, named as one would say it.
pub const ALL: [(&str, Rule); 14] = [
    ("mix.exs and Cargo.toml say the same version", version),
    (
        "README's table has every EMILY_* variable",
        variables_documented,
    ),
    (
        "EMILY_* variables are read in one module per language",
        variables_read_once,
    ),
    ("no source file is too long", file_length),
    (
        "no module is called utils, helpers, common or misc",
        module_names,
    ),
    ("nothing is left to do in comments", nothing_left),
    ("no secret key is in the tree", secret_keys),
    (
        "the bare folders use neither Nx nor telemetry",
        bare_folders,
    ),
    ("targets.json and pin.json are consistent", data_consistent),
    ("a release key signs this version", release_keys),
    ("workflows hold no logic", workflows::logic),
    ("workflows pin the actions they use", workflows::pins),
    (
        "workflows ask for no permission by default",
        workflows::permissions,
    ),
    ("workflows name no cell of a release", workflows::cells),
];

fn version(tree: &Tree) -> Breaks {
    let said = tree
        .text("mix.exs")
        .lines()
        .find_map(|line| line.trim().strip_prefix("@version \"")?.strip_suffix('"'));
    match said {
        Some(said) if said == workspace::VERSION => vec![],
        said => vec![format!(
            "expected @version in mix.exs to be {}, as in Cargo.toml, got: {}",
            workspace::VERSION,
            said.unwrap_or("none")
        )],
    }
}

/// The `EMILY_…` names in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let is_name =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.match_indices("EMILY_")
        .filter(|(index, _)| !text[..*index].ends_with(is_name))
        .map(|(index, _)| {
            let rest = &text[index..];
            &rest[..rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())]
        })
        .filter(|name| name.len() > "EMILY_".len() && !name.ends_with('_'))
        .collect()
}

fn variables_documented(tree: &Tree) -> Breaks {
    let documented: BTreeSet<_> = tree
        .text("README.md")
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(variables)
        .collect();
    let mut used = BTreeMap::new();
    let folders = [
        "lib/",
        "native/",
        "xtask/src/",
        "mix.exs",
        ".ci/",
        ".github/",
    ];
    for (path, text) in tree.select(&folders, &[".ex", ".exs", ".rs", ".yml", "run"]) {
        if path.ends_with("tests.rs") {
            continue;
        }
        for name in variables(text) {
            used.entry(name).or_insert(path);
        }
    }
    used.iter()
        .filter(|(name, _)| !documented.contains(*name))
        .map(|(name, path)| format!("{name}, used in {path}, has no row in README.md's table"))
        .collect()
}

fn variables_read_once(tree: &Tree) -> Breaks {
    // mix.exs runs before any module of Emily, and a build script beside none of xtask's.
    let allowed = |path: &str| {
        ["lib/emily/settings.ex", "xtask/src/settings.rs", "mix.exs"].contains(&path)
            || path.ends_with("/build.rs")
            || path.ends_with("tests.rs")
    };
    let mut breaks = Vec::new();
    let folders = ["lib/", "native/", "xtask/src/", "mix.exs"];
    for (path, text) in tree.select(&folders, &[".ex", ".exs", ".rs"]) {
        if allowed(path) {
            continue;
        }
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        // The name as a whole literal: to read, or to make a constant of. Prose says more.
        for name in variables(code) {
            if code.contains(&format!("\"{name}\"")) {
                breaks.push(format!(
                    "{path} spells \"{name}\"; its language's settings module does"
                ));
            }
        }
    }
    breaks
}

fn file_length(tree: &Tree) -> Breaks {
    tree.select(&[""], &[".rs", ".ex", ".exs", ".py", ".yml"])
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > MAX_LINES).then(|| {
                format!("{path} has {lines} lines, of at most {MAX_LINES}; split it by concept")
            })
        })
        .collect()
}

fn module_names(tree: &Tree) -> Breaks {
    tree.files()
        .filter(|(path, _)| {
            let stem = path
                .rsplit('/')
                .next()
                .and_then(|name| name.split('.').next());
            let folder = path.rsplit('/').nth(1);
            [stem, folder].into_iter().flatten().any(|name| {
                ["util", "utils", "helper", "helpers", "common", "misc"].contains(&name)
            })
        })
        .map(|(path, _)| format!("{path}; name the thing it holds"))
        .collect()
}

fn nothing_left(tree: &Tree) -> Breaks {
    // Written apart, so that this file does not break its own rule.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
    ];
    let mut breaks = Vec::new();
    for (path, text) in tree.select(&[""], &[".rs", ".ex", ".exs", ".py", ".yml", ".md"]) {
        for (number, line) in text.lines().enumerate() {
            let said = line.split(|letter: char| !letter.is_ascii_alphanumeric());
            if said
                .into_iter()
                .any(|word| words.iter().any(|one| one == word))
            {
                breaks.push(format!(
                    "{path}:{}: do it, or keep it out of the code",
                    number + 1
                ));
            }
        }
    }
    breaks
}

fn secret_keys(tree: &Tree) -> Breaks {
    // How minisign's secret keys begin: the bytes `Ed`, `Sc` or for no password two zeros, `B2`.
    // A whole one is 212 letters.
    let starts = ["RWRTY0Iy", "RWQAAEIy"];
    let is_long = |text: &str| {
        text.chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || "+/=".contains(*letter))
            .count()
            > 100
    };
    tree.files()
        .filter(|(_, text)| {
            starts.iter().any(|start| {
                text.match_indices(start)
                    .any(|(index, _)| is_long(&text[index..]))
            })
        })
        .map(|(path, _)| {
            format!("{path} holds a minisign secret key: remove it, and never use it again")
        })
        .collect()
}

fn release_keys(tree: &Tree) -> Breaks {
    // Before the first release there is no key at all.
    match Keyring::from_text(tree.text(keyring::NAME)) {
        Ok(keys) if keys.is_empty() || keys.signs(workspace::VERSION) => vec![],
        Ok(_) => vec![format!(
            "no key of {} signs {}",
            keyring::NAME,
            workspace::VERSION
        )],
        Err(error) => vec![format!("{}: {error:#}", keyring::NAME)],
    }
}

fn bare_folders(tree: &Tree) -> Breaks {
    let bare = [
        "lib/emily.ex",
        "lib/emily/native",
        "lib/emily/artifact",
        "lib/emily/doctor",
        "lib/mix/tasks/",
    ];
    let mut breaks = Vec::new();
    for (path, text) in tree.select(&bare, &[".ex"]) {
        for (number, line) in elixir_code(text) {
            let mut words =
                line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            if words.any(|word| ["Nx", "telemetry"].contains(&word)) {
                breaks.push(format!(
                    "{path}:{number}: what needs Nx or telemetry belongs elsewhere in lib/"
                ));
            }
        }
    }
    breaks
}

/// The lines of an Elixir file, numbered from 1, without documentation, comments and strings.
fn elixir_code(text: &str) -> Vec<(usize, String)> {
    let mut in_heredoc = false;
    let mut code = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let toggles = line.matches("\"\"\"").count() % 2 == 1;
        let started_inside = in_heredoc;
        in_heredoc ^= toggles;
        if started_inside || toggles {
            continue;
        }
        let outside_strings: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        let before_comment = outside_strings.split('#').next().unwrap_or_default();
        code.push((index + 1, before_comment.to_owned()));
    }
    code
}

fn data_consistent(_tree: &Tree) -> Breaks {
    let (targets, pin) = match (Targets::load(), Pin::load()) {
        (Ok(targets), Ok(pin)) => (targets, pin),
        (Err(error), _) | (_, Err(error)) => return vec![format!("{error:#}")],
    };
    [targets_consistent(&targets), pin_consistent(&pin, &targets)].concat()
}

fn targets_consistent(targets: &Targets) -> Breaks {
    let mut breaks = Vec::new();
    for (name, target) in &targets.targets {
        let default = targets.variants.get(&target.default_variant);
        if !default.is_some_and(|variant| variant.targets.contains(name)) {
            breaks.push(format!(
                "{name}'s default variant, {}, is not built for it",
                target.default_variant
            ));
        }
        let twin = targets.targets.iter().any(|(other, value)| {
            other != name && (&value.os, &value.arch) == (&target.os, &target.arch)
        });
        if twin {
            breaks.push(format!(
                "{name} is not the only target for {} on {}",
                target.os, target.arch
            ));
        }
    }
    for (name, variant) in &targets.variants {
        for target in &variant.targets {
            match targets.targets.get(target) {
                None => breaks.push(format!("{name} is for {target}, which is not a target")),
                Some(target) if !variant.files.contains(&target.library) => {
                    breaks.push(format!("{name} does not ship {}", target.library));
                }
                Some(_) => {}
            }
        }
        if !variant.files.iter().any(|file| file == "manifest.json") {
            breaks.push(format!("{name} does not ship manifest.json"));
        }
        if variant.floors.is_empty() {
            breaks.push(format!("{name} declares no floor"));
        }
    }
    breaks
}

fn pin_consistent(pin: &Pin, targets: &Targets) -> Breaks {
    let mut breaks = Vec::new();
    let is_hex = |text: &str, length| {
        text.len() == length
            && text
                .chars()
                .all(|letter| matches!(letter, '0'..='9' | 'a'..='f'))
    };
    let is_sha256 = |text: &str| is_hex(text, 64);
    for (name, revision) in [("MLX", &pin.mlx.revision), ("mlx-c", &pin.mlx_c.revision)] {
        if let Some(revision) = revision
            && !is_hex(revision, 40)
        {
            breaks.push(format!("{name}'s revision is no whole commit: {revision}"));
        }
    }
    for (variant, wheels) in &pin.mlx.wheels {
        for (target, wheel) in &wheels.files {
            let known = targets
                .variants
                .get(variant)
                .is_some_and(|found| found.targets.contains(target));
            if !known {
                breaks.push(format!(
                    "pin.json has a wheel of {variant} for {target}, which targets.json lacks"
                ));
            }
            if !is_sha256(&wheel.sha256) {
                breaks.push(format!(
                    "the wheel of {variant} for {target} has no sha256: {}",
                    wheel.sha256
                ));
            }
        }
    }
    if !is_sha256(&pin.mlx_c.krate.sha256) {
        breaks.push(format!(
            "mlx-c's crate has no sha256: {}",
            pin.mlx_c.krate.sha256
        ));
    }
    breaks
}

#[cfg(test)]
mod tests;
