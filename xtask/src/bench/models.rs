//! What models cost from Elixir, against the same models in MLX's Python and in JAX.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use super::{
    report::{Goal, Row},
    script,
};
use crate::python;

const JAX: &str = "jax==0.10.2";

/// Of MLX's operations, how many may compute something for one block of a decoder.
const MOST_OPERATIONS: f64 = 12.0;

/// What bench/models.exs prints of a model; the keys are ways of running it, such as `mlx compiled`.
#[derive(Deserialize)]
struct Measured {
    model: String,
    blocks: f64,
    microseconds: BTreeMap<String, Time>,
    operations: BTreeMap<String, Operations>,
}

#[derive(Deserialize)]
struct Time {
    least: f64,
}

#[derive(Deserialize)]
struct Operations {
    compute: f64,
}

impl Measured {
    /// The best of the ways whose names begin so. What a shared machine adds to a call is above its least.
    fn best(&self, program: &str) -> Option<f64> {
        let ways = self.microseconds.iter();
        let own = ways.filter(|(way, _)| way.split(' ').next() == Some(program));
        own.map(|(_, time)| time.least).min_by(f64::total_cmp)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: String, baseline_name: &str, baseline, goal| {
            Some(Row {
                name,
                baseline_name: baseline_name.into(),
                unit: "µs".into(),
                ours: self.best("emily")?,
                baseline,
                goal,
            })
        };
        let mlx = self.best("mlx").and_then(|baseline| {
            let name = format!("{}, one call", self.model);
            row(
                name,
                "MLX's Python, its best",
                baseline,
                Goal::RatioAtMost(1.0),
            )
        });
        // MLX's Python takes 2.2 times as long as JAX.
        let jax = self.best("jax").and_then(|baseline| {
            let name = format!("{}, one call", self.model);
            row(name, "JAX", baseline, Goal::RatioAtMost(1.5))
        });
        mlx.into_iter().chain(jax).chain(self.block()).collect()
    }

    /// How many operations compute something for one block. What a step does once, such as its mask, is less than
    /// one for each of its blocks.
    fn block(&self) -> Option<Row> {
        let fewest = |program: &str| {
            let ways = self.operations.iter();
            let own = ways.filter(|(way, _)| way.split(' ').next() == Some(program));
            own.map(|(_, counts)| (counts.compute / self.blocks).floor())
                .min_by(f64::total_cmp)
        };
        self.model.starts_with("decoder").then_some(())?;
        Some(Row {
            name: format!("{}, operations of MLX's that compute, a block", self.model),
            baseline_name: "MLX's Python, its fewest".into(),
            unit: "operations".into(),
            ours: fewest("emily")?,
            baseline: fewest("mlx")?,
            goal: Goal::AtMost(MOST_OPERATIONS),
        })
    }
}

/// The rows of the table; none without Nx's sources.
pub fn rows() -> Result<Vec<Row>> {
    let measured: Option<Vec<Measured>> = script::run("models.exs", || {
        let jax = python::with("jax", &[python::NUMPY, JAX])?;
        Ok(vec![
            "--mlx".into(),
            script::mlx()?,
            "--jax".into(),
            jax.packages().into(),
        ])
    })?;
    let measured = measured.unwrap_or_default();
    Ok(measured.iter().flat_map(Measured::rows).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_compare_the_best_ways() {
        let measured: Measured = serde_json::from_str(
            r#"{
                "model": "decoder-small",
                "blocks": 2,
                "microseconds": {
                    "emily a": {"median": 3, "least": 1},
                    "emily b": {"median": 2, "least": 2},
                    "mlx a": {"median": 4, "least": 4},
                    "mlx b": {"median": 5, "least": 1}
                },
                "operations": {
                    "emily a": {"compute": 20, "views": 9},
                    "mlx b": {"compute": 50, "views": 9}
                }
            }"#,
        )
        .unwrap();
        let rows = measured.rows();
        let figures: Vec<(f64, f64)> = rows.iter().map(|row| (row.ours, row.baseline)).collect();
        assert_eq!(figures, [(1.0, 1.0), (10.0, 25.0)]);
        assert!(rows.iter().all(Row::met));
    }
}
