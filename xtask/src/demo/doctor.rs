//! The doctor's word on the consumer, which the demo asserts.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{failure::Failure, process};

/// What `mix emily.doctor --json` prints, as far as the demo asks for it.
#[derive(Deserialize)]
struct Document {
    status: String,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    title: String,
    status: String,
    message: String,
}

/// Shows what the doctor says, and fails unless all of it is well.
///
/// `mix` makes a command of Mix's arguments.
pub fn ask(mix: impl Fn(&[&str]) -> Command) -> Result<()> {
    // The exit status says less than the document does, which also knows warnings.
    process::tee(&mut mix(&["emily.doctor"]))?;
    let printed = mix(&["emily.doctor", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("could not start mix")?;
    all_well(&String::from_utf8_lossy(&printed.stdout))
}

fn all_well(document: &str) -> Result<()> {
    let read: Document = serde_json::from_str(document).with_context(|| {
        format!("expected a JSON document from mix emily.doctor --json, got: {document:?}")
    })?;
    // What fails nothing may still be skipped: the bare build has no backend to ask.
    if read.status == "ok" {
        return Ok(());
    }
    let rows = read.checks.iter().filter(|check| check.status != "ok");
    let failure = Failure::new(
        format!(
            "expected mix emily.doctor to find all well, got: {}",
            read.status
        ),
        "cargo xtask demo --keep",
    );
    bail!(rows.fold(failure, |failure, check| {
        failure.fact(&check.title, format!("{}: {}", check.status, check.message))
    }))
}

#[cfg(test)]
mod tests {
    use super::all_well;

    fn document(status: &str, checks: &[(&str, &str, &str)]) -> String {
        let checks: Vec<_> = checks
            .iter()
            .map(|(title, status, message)| {
                serde_json::json!({
                    "id": "x", "title": title, "status": status, "message": message,
                    "details": [], "next": null, "needs": []
                })
            })
            .collect();
        serde_json::json!({"schema": 1, "emily": "1.0.0", "status": status, "checks": checks})
            .to_string()
    }

    #[test]
    fn no_row_may_fail_or_warn() {
        let fine = ("Runtime", "ok", "OTP 27");
        all_well(&document("ok", &[fine, ("Backend", "skipped", "no Nx")])).unwrap();
        for (status, rows, facts) in [
            (
                "warning",
                vec![fine, ("Linear algebra", "warning", "5 GFLOP/s")],
                "\n  Linear algebra: warning: 5 GFLOP/s\n",
            ),
            (
                "error",
                vec![
                    ("Files", "error", "libmlx.so is missing"),
                    ("Load", "skipped", "needs Files"),
                    fine,
                ],
                "\n  Files: error: libmlx.so is missing\n  Load:  skipped: needs Files\n",
            ),
        ] {
            assert_eq!(
                all_well(&document(status, &rows)).unwrap_err().to_string(),
                format!(
                    "expected mix emily.doctor to find all well, got: {status}\n{facts}\n\
                     Run next: cargo xtask demo --keep"
                )
            );
        }
    }

    #[test]
    fn what_is_no_document_is_shown() {
        assert_eq!(
            all_well("** (Mix)").unwrap_err().to_string(),
            "expected a JSON document from mix emily.doctor --json, got: \"** (Mix)\""
        );
    }
}
