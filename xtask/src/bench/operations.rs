//! What operations cost from Elixir, against the MLX Python package and NumPy.

use std::process::Command;

use anyhow::Result;
use serde::Deserialize;

use super::{
    report::{Goal, Row},
    script::{self, last_line},
};
use crate::{pin::Pin, process, python, settings, workspace};

/// What bench/emily.exs prints.
#[derive(Deserialize)]
struct Ours {
    add_us: f64,
    matmul_us: f64,
    to_binary_us: f64,
    from_binary_us: f64,
    copy_us: f64,
}

/// What bench/baseline.py prints.
#[derive(Deserialize)]
struct Baseline {
    mlx_add_us: f64,
    numpy_matmul_us: f64,
}

/// Multiplications and additions of a product of 1024 × 1024 matrices, in units of 10⁹ a second
/// when divided by microseconds and 1000.
const MATMUL_FLOP: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;

/// The rows of the table.
pub fn rows() -> Result<Vec<Row>> {
    let mlx = format!("mlx[cpu]=={}", Pin::load()?.mlx.version);
    let python = python::with("bench", &[python::NUMPY, &mlx])?;
    let bench = workspace::root().join("bench");
    let baseline = process::output(python.command().arg(bench.join("baseline.py")))?;
    let baseline: Baseline = last_line(&baseline)?;
    let ours = process::output(
        Command::new("mix")
            .current_dir(workspace::root())
            .args(["run", "bench/emily.exs"])
            .env(settings::BARE, "1")
            .env("MIX_ENV", "prod")
            .env("MIX_BUILD_PATH", workspace::root().join("_build/bench")),
    )?;
    let ours: Ours = last_line(&ours)?;
    let gflops = |microseconds: f64| MATMUL_FLOP / microseconds / 1e3;
    Ok(vec![
        Row {
            name: "one add of 8 floats, of a chain of 2,000 without a read".into(),
            baseline_name: "the MLX Python package".into(),
            unit: "µs".into(),
            ours: ours.add_us,
            baseline: baseline.mlx_add_us,
            goal: Goal::AtMost(2.5),
        },
        Row {
            name: "product of 1024 × 1024 matrices, f32".into(),
            baseline_name: "NumPy with OpenBLAS".into(),
            unit: "GFLOP/s".into(),
            ours: gflops(ours.matmul_us),
            baseline: gflops(baseline.numpy_matmul_us),
            goal: Goal::RatioAtLeast(0.8),
        },
        Row {
            name: "to_binary of 1 GiB".into(),
            baseline_name: "copying them".into(),
            unit: "µs".into(),
            ours: ours.to_binary_us,
            baseline: ours.copy_us,
            goal: Goal::AtMost(100.0),
        },
        Row {
            name: "from_binary of 1 GiB, on the CPU".into(),
            baseline_name: "copying them".into(),
            unit: "µs".into(),
            ours: ours.from_binary_us,
            baseline: ours.copy_us,
            goal: Goal::AtMost(100.0),
        },
    ])
}

/// What bench/nx.exs prints.
#[derive(Deserialize)]
struct BesideBinaryBackend {
    add: Pair,
    operations: Vec<Pair>,
}

/// Microseconds of one operation.
#[derive(Deserialize)]
struct Pair {
    name: String,
    ours: f64,
    baseline: f64,
}

impl Pair {
    fn row(self, goal: Goal) -> Row {
        Row {
            name: self.name,
            baseline_name: "Nx.BinaryBackend".into(),
            unit: "µs".into(),
            ours: self.ours,
            baseline: self.baseline,
            goal,
        }
    }
}

/// The rows of Nx's operations; none without Nx's sources.
pub fn rows_of_nx() -> Result<Vec<Row>> {
    let Some(measured) = script::run::<BesideBinaryBackend>("nx.exs", || Ok(Vec::new()))? else {
        return Ok(Vec::new());
    };
    let operations = measured.operations.into_iter();
    let operations = operations.map(|pair| pair.row(Goal::RatioAtMost(1.5)));
    Ok([measured.add.row(Goal::AtMost(4.0))]
        .into_iter()
        .chain(operations)
        .collect())
}
