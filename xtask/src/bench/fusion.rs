//! What compiled calls of small operations cost beyond MLX's own work, plain and fused, against MLX's Python.

use anyhow::Result;
use serde::Deserialize;

use super::{
    report::{Goal, Row},
    script,
};

/// A call may cost so much, as a part of what it costs in MLX's Python.
const MOST: f64 = 1.2;

/// What bench/fuse.exs prints of one way to compute one function.
#[derive(Deserialize)]
struct Measured {
    name: String,
    emily_us: f64,
    mlx_us: f64,
}

impl Measured {
    fn row(self) -> Row {
        Row {
            name: format!("small operations, {}, one call", self.name),
            baseline_name: "MLX's Python".into(),
            unit: "µs".into(),
            ours: self.emily_us,
            baseline: self.mlx_us,
            // Python's loop has no condition.
            goal: Goal::RatioAtMost(if self.name.starts_with("loop") {
                2.0 * MOST
            } else {
                MOST
            }),
        }
    }
}

/// The rows of the table; none without Nx's sources.
pub fn rows() -> Result<Vec<Row>> {
    let measured: Option<Vec<Measured>> = script::run("fuse.exs", || Ok(vec![script::mlx()?]))?;
    let measured = measured.unwrap_or_default().into_iter();
    Ok(measured.map(Measured::row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_held_against_the_same_call_in_python() {
        let text = r#"noise
[{"name": "chain plain", "emily_us": 110, "mlx_us": 100}, {"name": "loop fused", "emily_us": 250, "mlx_us": 100}]"#;
        let measured: Vec<Measured> = script::last_line(text).unwrap();
        let rows: Vec<Row> = measured.into_iter().map(Measured::row).collect();
        let met: Vec<bool> = rows.iter().map(Row::met).collect();
        assert_eq!(met, [true, false]);
        assert_eq!(rows[0].name, "small operations, chain plain, one call");
    }
}
