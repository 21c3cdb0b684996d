//! `emily bench`

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{flags::Bench, inspect, load, random, text};

/// Seconds of one run.
#[derive(Debug, Serialize)]
struct Measured {
    iterations: u32,
    median: f64,
    p95: f64,
    /// How many operations the program has; a loop may do each of them more than once.
    operations: usize,
    operations_per_second: f64,
}

/// Runs the program on random inputs, and tells how long that takes.
pub fn bench(flags: &Bench) -> Result<String> {
    let (stream, program) = load(&flags.on)?;
    let arguments = random::arguments(program.interface(), &stream)?;
    let mut counts = BTreeMap::new();
    inspect::count(program.executable().program(), &mut counts);
    let mut times = Vec::new();
    for at in 0..flags.iterations + flags.iterations.div_ceil(10) {
        let begin = Instant::now();
        program
            .run(&stream, &arguments)
            .context("on random inputs")?;
        if at >= flags.iterations.div_ceil(10) {
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    let measured = measured(times, counts.values().sum());
    if flags.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&measured)?));
    }
    Ok(measured.text())
}

fn measured(mut times: Vec<f64>, operations: usize) -> Measured {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (part * times.len() as f64).ceil() as usize;
        times
            .get(index.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    };
    let median = at(0.5);
    Measured {
        iterations: times.len() as u32,
        median,
        p95: at(0.95),
        operations,
        operations_per_second: operations as f64 / median,
    }
}

impl Measured {
    fn text(&self) -> String {
        format!(
            "runs        {}\nmedian      {}\np95         {}\noperations  {}, {:.0} a second\n",
            self.iterations,
            text::seconds(self.median),
            text::seconds(self.p95),
            self.operations,
            self.operations_per_second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_what_all_but_a_twentieth_stay_below() {
        let times = (1..=100).rev().map(f64::from).collect();
        let measured = measured(times, 200);
        assert_eq!((measured.median, measured.p95), (50.0, 95.0));
        assert_eq!(
            measured.text(),
            "runs        100\nmedian      50.00 s\np95         95.00 s\noperations  200, 4 a second\n"
        );
        assert_eq!(super::measured(vec![2.0], 1).p95, 2.0);
    }
}
