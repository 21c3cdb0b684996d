//! What `Emily.Generation` costs beside the compiled step that it calls.

use anyhow::Result;
use serde::Deserialize;

use super::{
    report::{Goal, Row},
    script,
};

/// A token may take so much, as a part of what a step takes.
const MOST: f64 = 1.05;

/// What bench/generation.exs prints.
#[derive(Deserialize)]
struct Measured {
    step_us: f64,
    ratio: f64,
}

impl Measured {
    fn row(self) -> Row {
        Row {
            name: "a token through Emily.Generation".into(),
            baseline_name: "its compiled step".into(),
            unit: "µs".into(),
            ours: self.step_us * self.ratio,
            baseline: self.step_us,
            goal: Goal::RatioAtMost(MOST),
        }
    }
}

/// The rows of the table; none without Nx's sources.
pub fn rows() -> Result<Vec<Row>> {
    let measured: Option<Measured> = script::run("generation.exs", || Ok(Vec::new()))?;
    Ok(measured.map(Measured::row).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_held_against_its_step() {
        let met = |text| {
            let measured: Measured = serde_json::from_str(text).unwrap();
            measured.row().met()
        };
        assert!(met(r#"{"step_us": 17000, "ratio": 1.04}"#));
        assert!(!met(r#"{"step_us": 17000, "ratio": 1.06}"#));
    }
}
