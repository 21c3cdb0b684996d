//! What loading a checkpoint costs, against MLX's Python, and what the BEAM has of it.

use anyhow::Result;
use serde::Deserialize;

use super::{
    report::{Goal, Row},
    script,
};

/// Loading may take so much, as a part of what it takes in MLX's Python.
const MOST: f64 = 1.2;
/// The BEAM may have so much of the file, as a part of it: names, references, and what else a VM does.
const MOST_MEMORY: f64 = 0.01;

/// What bench/loading.exs prints.
#[derive(Deserialize)]
struct Measured {
    bytes: f64,
    emily_us: f64,
    mlx_us: f64,
    beam_bytes: f64,
}

impl Measured {
    fn rows(self) -> Vec<Row> {
        vec![
            Row {
                name: "1 GB from a safetensors file".into(),
                baseline_name: "MLX's Python".into(),
                unit: "µs".into(),
                ours: self.emily_us,
                baseline: self.mlx_us,
                goal: Goal::RatioAtMost(MOST),
            },
            Row {
                name: "what the BEAM's memory grows by meanwhile".into(),
                baseline_name: "the file".into(),
                unit: "bytes".into(),
                ours: self.beam_bytes,
                baseline: self.bytes,
                goal: Goal::RatioAtMost(MOST_MEMORY),
            },
        ]
    }
}

/// The rows of the table; none without Nx's sources.
pub fn rows() -> Result<Vec<Row>> {
    let measured: Option<Measured> = script::run("loading.exs", || Ok(vec![script::mlx()?]))?;
    Ok(measured.map(Measured::rows).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loading_is_held_against_python_and_memory_against_the_file() {
        let text = r#"{"bytes": 1000, "emily_us": 130, "mlx_us": 100, "beam_bytes": -4}"#;
        let measured: Measured = script::last_line(text).unwrap();
        let met: Vec<bool> = measured.rows().iter().map(Row::met).collect();
        assert_eq!(met, [false, true]);
    }
}
