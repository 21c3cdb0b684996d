//! The table of a run, and the files it is kept in.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::plot;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Ours, in its unit.
    AtMost(f64),
    /// Ours divided by the baseline.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

/// One measurement beside its baseline of the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub baseline_name: String,
    pub unit: String,
    pub ours: f64,
    pub baseline: f64,
    pub goal: Goal,
}

impl Row {
    /// Ours divided by the baseline.
    pub fn ratio(&self) -> f64 {
        self.ours / self.baseline
    }

    /// How much of what the goal allows was spent: the goal is met up to 1.
    pub fn spent(&self) -> f64 {
        match self.goal {
            Goal::AtMost(most) => self.ours / most,
            Goal::RatioAtMost(most) => self.ratio() / most,
            Goal::RatioAtLeast(least) => least / self.ratio(),
        }
    }

    /// Whether the goal was met; what could not be measured did not meet it.
    pub fn met(&self) -> bool {
        self.spent() <= 1.0
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: String,
    pub target: String,
    pub variant: String,
    pub unix_time: u64,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn met(&self) -> bool {
        self.rows.iter().all(Row::met)
    }

    /// Writes `bench.json`, `bench.md` and `bench.svg`.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, text) in [
            ("bench.json", json),
            ("bench.md", self.to_string()),
            ("bench.svg", plot::svg(&self.rows)),
        ] {
            fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        Ok(folder.to_owned())
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.01 => 3,
        _ => 5,
    };
    format!("{value:.digits$}")
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(formatter, "≤ {most}"),
            Self::RatioAtMost(most) => write!(formatter, "ratio ≤ {most}"),
            Self::RatioAtLeast(least) => write!(formatter, "ratio ≥ {least}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "Emily {} ({}, {})\n",
            self.version, self.variant, self.target
        )?;
        writeln!(
            formatter,
            "| what | Emily | baseline | ratio | goal | met |"
        )?;
        writeln!(formatter, "| --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            writeln!(
                formatter,
                "| {} | {} {unit} | {}: {} {unit} | {} | {} | {} |",
                row.name,
                figure(row.ours),
                row.baseline_name,
                figure(row.baseline),
                figure(row.ratio()),
                row.goal,
                if row.met() { "yes" } else { "no" },
                unit = row.unit,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, baseline: f64, goal: Goal) -> Row {
        Row {
            name: "a".into(),
            baseline_name: "b".into(),
            unit: "s".into(),
            ours,
            baseline,
            goal,
        }
    }

    #[test]
    fn goals_are_met_up_to_their_figure() {
        for (ours, baseline, goal, met) in [
            (2.5, 1.0, Goal::AtMost(2.5), true),
            (2.6, 9.0, Goal::AtMost(2.5), false),
            (-0.1, 1.0, Goal::AtMost(0.15), true),
            (1.5, 1.0, Goal::RatioAtMost(1.5), true),
            (1.6, 1.0, Goal::RatioAtMost(1.5), false),
            (80.0, 100.0, Goal::RatioAtLeast(0.8), true),
            (79.0, 100.0, Goal::RatioAtLeast(0.8), false),
            (f64::NAN, 1.0, Goal::AtMost(1.0), false),
        ] {
            assert_eq!(
                row(ours, baseline, goal).met(),
                met,
                "{ours} {baseline} {goal}"
            );
        }
    }

    #[test]
    fn the_table_has_both_figures_and_their_ratio() {
        let report = Report {
            version: "1.0.0".into(),
            target: "linux-x86_64".into(),
            variant: "cpu".into(),
            unix_time: 0,
            rows: vec![
                row(3.0, 2.0, Goal::RatioAtMost(1.5)),
                row(200.0, 0.5, Goal::AtMost(100.0)),
            ],
        };
        assert_eq!(
            report.to_string(),
            "Emily 1.0.0 (cpu, linux-x86_64)\n\n\
             | what | Emily | baseline | ratio | goal | met |\n\
             | --- | --- | --- | --- | --- | --- |\n\
             | a | 3.00 s | b: 2.00 s | 1.50 | ratio ≤ 1.5 | yes |\n\
             | a | 200 s | b: 0.500 s | 400 | ≤ 100 | no |\n"
        );
        assert!(!report.met());
    }

    #[test]
    fn a_run_is_kept_as_json_table_and_plot() {
        let folder = tempfile::tempdir().unwrap();
        let report = Report {
            version: "1.0.0".into(),
            target: "t".into(),
            variant: "v".into(),
            unix_time: 7,
            rows: vec![row(1.0, 2.0, Goal::AtMost(4.0))],
        };
        report.write(folder.path()).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.path().join("bench.json")).unwrap())
                .unwrap();
        assert_eq!(json["rows"][0]["goal"]["at_most"], 4.0);
        assert!(
            fs::read_to_string(folder.path().join("bench.svg"))
                .unwrap()
                .starts_with("<svg ")
        );
    }
}
