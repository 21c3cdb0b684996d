//! `cargo xtask matrix`: the cells of a release, in the form that the workflows' `fromJSON` reads.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    flags,
    keyring::Keyring,
    targets::{Selection, Targets},
    workspace,
};

/// Runs the command.
pub fn run(flags: &flags::Matrix) -> Result<()> {
    if let Some(tag) = &flags.tag {
        may_be_released(tag)?;
    }
    println!("matrix={}", matrix(&Targets::load()?));
    Ok(())
}

/// Fails unless `tag` is of this version, and somebody can sign it.
fn may_be_released(tag: &str) -> Result<()> {
    let version = workspace::VERSION;
    ensure!(
        tag == version,
        "expected the tag to be {version}, as in Cargo.toml, got: {tag}"
    );
    if Keyring::load(None)?.signs(version) {
        return Ok(());
    }
    let next = format!("cargo xtask keygen --secret-key FILE --from {version}");
    Err(Failure::new(format!("no key signs {version}"), next).into())
}

/// A cell for each variant on each of its targets.
fn matrix(targets: &Targets) -> Value {
    let cells = targets.variants.iter().flat_map(|(name, variant)| {
        let selections = variant.targets.iter();
        selections.filter_map(move |target| targets.selection(name, target))
    });
    json!({"include": cells.map(|cell| self::cell(targets, &cell)).collect::<Vec<_>>()})
}

fn cell(targets: &Targets, cell: &Selection) -> Value {
    json!({
        "variant": cell.variant_name,
        "target": cell.target_name,
        "asset": cell.asset(targets),
        "build": cell.runner(),
        "prove": cell.proving_runner(),
        // What a machine without the variant's hardware can build and package, it cannot load.
        "loads": cell.runner() == cell.proving_runner(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_there_once_with_its_machines() {
        let targets = Targets::load().unwrap();
        let matrix = matrix(&targets);
        let cells = matrix["include"].as_array().unwrap();
        let expected: usize = targets.variants.values().map(|one| one.targets.len()).sum();
        assert_eq!(cells.len(), expected);
        for cell in cells {
            for field in ["variant", "target", "asset", "build", "prove"] {
                assert!(
                    cell[field].as_str().is_some_and(|text| !text.is_empty()),
                    "{cell}"
                );
            }
        }
        let of = |variant: &str| {
            cells
                .iter()
                .find(|cell| cell["variant"] == variant)
                .unwrap()
        };
        assert_eq!(of("cpu")["loads"], true);
        assert_eq!(of("cuda13")["loads"], false);
        // The headers of its floor are no older runner's.
        assert_eq!(of("jit")["build"], "macos-26");
    }

    #[test]
    fn another_versions_tag_is_not_released() {
        assert_eq!(
            may_be_released("0.0.1").unwrap_err().to_string(),
            format!(
                "expected the tag to be {}, as in Cargo.toml, got: 0.0.1",
                workspace::VERSION
            )
        );
    }
}
