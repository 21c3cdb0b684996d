//! `THIRD-PARTY`: the licences and notices of what a release is made of.

use std::collections::BTreeMap;

use super::Component;
use crate::targets::Selection;

/// The file's name in the archive.
pub const NAME: &str = "THIRD-PARTY";

const RULE: &str =
    "================================================================================";

/// The file's text: a table, then every text once, under all that it covers.
pub fn text(selection: &Selection, components: &[Component]) -> String {
    let mut out = format!(
        "Emily's native library, {} for {}, is under the licence in LICENSE and contains:\n\n",
        selection.variant_name, selection.target_name
    );
    let width = components
        .iter()
        .map(|one| one.title().len())
        .max()
        .unwrap_or(0);
    for component in components {
        out.push_str(&format!(
            "  {:<width$}  {}\n",
            component.title(),
            component.license
        ));
    }
    for (text, titles) in by_text(components) {
        out.push_str(&format!("\n{RULE}\n"));
        for title in titles {
            out.push_str(&format!("{title}\n"));
        }
        out.push_str(&format!("{RULE}\n\n{text}\n"));
    }
    out
}

/// The different texts in the order of the components that they first cover.
fn by_text(components: &[Component]) -> Vec<(String, Vec<String>)> {
    let mut places = BTreeMap::new();
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    for component in components {
        for text in &component.texts {
            let clean = clean(text);
            // How lines are broken and indented makes no other licence.
            let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
            let place = *places.entry(words).or_insert_with(|| {
                texts.push((clean, Vec::new()));
                texts.len() - 1
            });
            if let Some((_, titles)) = texts.get_mut(place) {
                titles.push(component.title());
            }
        }
    }
    for (_, titles) in &mut texts {
        titles.dedup();
    }
    texts
}

/// Without carriage returns, spaces at the ends of lines, and empty lines around.
fn clean(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Whether `notices` have a text that stands under `title`.
pub fn covers(notices: &str, title: &str) -> bool {
    let mut in_heading = false;
    notices.lines().any(|line| {
        if line == RULE {
            in_heading = !in_heading;
        }
        in_heading && line == title
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Targets;

    #[test]
    fn a_text_that_covers_several_comes_once() {
        let component = |name: &str, texts: &[&str]| Component {
            name: name.to_owned(),
            version: Some("1.0".to_owned()),
            purl: String::new(),
            license: "MIT".to_owned(),
            sha256: None,
            within: None,
            files: vec![],
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let selection = Targets::load()
            .unwrap()
            .selection("cpu", "linux-x86_64")
            .unwrap();
        let components = [
            component("a", &["Do as\n  you like. \r\n", "Mine"]),
            component("b", &["\nDo as you\nlike.\n"]),
        ];
        let text = text(&selection, &components);
        assert_eq!(
            text,
            format!(
                "Emily's native library, cpu for linux-x86_64, is under the licence in LICENSE and \
                 contains:\n\n  a 1.0  MIT\n  b 1.0  MIT\n\n{RULE}\na 1.0\nb 1.0\n{RULE}\n\nDo as\n  \
                 you like.\n\n{RULE}\na 1.0\n{RULE}\n\nMine\n"
            )
        );
        assert!(covers(&text, "a 1.0") && covers(&text, "b 1.0"));
        assert!(!covers(&text, "Mine") && !covers(&text, "a"));
    }
}
