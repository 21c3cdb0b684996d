//! What a suite came to, read from its runner's own words, and the closing table.

use std::{fmt, process::ExitStatus};

/// Counts of test cases, with a reason where one is due.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub reason: String,
}

impl Outcome {
    /// One case that passed.
    pub fn passed() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// One case that failed, or a runner that did not get to its summary.
    pub fn broken(reason: &str) -> Self {
        Self {
            failed: 1,
            reason: reason.lines().next().unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    /// A suite that this machine cannot run.
    pub fn skipped(reason: &str) -> Self {
        Self {
            skipped: 1,
            reason: reason.to_owned(),
            ..Self::default()
        }
    }

    /// A program that is one case: its status is the result.
    pub fn of_status(status: ExitStatus) -> Self {
        if status.success() {
            Self::passed()
        } else {
            Self::broken(&format!("ended with {status}"))
        }
    }

    /// What two runs come to together.
    pub fn and(self, other: Self) -> Self {
        let reasons = [self.reason, other.reason];
        let said: Vec<_> = reasons.into_iter().filter(|one| !one.is_empty()).collect();
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            reason: said.join("; "),
        }
    }

    /// A runner's counts. One that fails without saying which case failed has broken down, and so
    /// has one that says nothing at all.
    pub fn of_runner(counts: Option<Self>, success: bool, status: &str) -> Self {
        match counts {
            None => Self::broken(&format!(
                "the runner printed no summary and ended with {status}"
            )),
            Some(counts) if !success && counts.failed == 0 => Self {
                failed: 1,
                reason: format!("the runner ended with {status}"),
                ..counts
            },
            Some(counts) => counts,
        }
    }
}

/// The sum of Cargo's `test result:` lines.
pub fn of_cargo(text: &str) -> Option<Outcome> {
    let results: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("test result: "))
        .collect();
    if results.is_empty() {
        return None;
    }
    let sum = |word: &str| results.iter().map(|line| count(line, word)).sum();
    let skipped = sum("ignored");
    Some(Outcome {
        passed: sum("passed"),
        failed: sum("failed"),
        skipped,
        reason: if skipped > 0 {
            "ignored by their attribute".to_owned()
        } else {
            String::new()
        },
    })
}

/// ExUnit's summary, such as `2 doctests, 40 tests, 1 failure, 3 excluded, 1 skipped`.
///
/// Excluded and skipped cases are among the tests there.
pub fn of_ex_unit(text: &str) -> Option<Outcome> {
    let line = text.lines().rev().find(|line| {
        line.contains(" failure") && line.starts_with(|first: char| first.is_ascii_digit())
    })?;
    let total: u64 = ["doctest", "propert", "test"]
        .iter()
        .map(|word| count(line, word))
        .sum();
    let failed = count(line, "failure") + count(line, "invalid");
    let skipped = count(line, "excluded") + count(line, "skipped");
    // The tests say themselves, in lines of this form, why they are left out.
    let reasons = text.lines().filter(|line| {
        ["Excluded: ", "Skipped: "]
            .iter()
            .any(|word| line.starts_with(word))
    });
    Some(Outcome {
        passed: total.saturating_sub(failed + skipped),
        failed,
        skipped,
        reason: if skipped > 0 {
            reasons.collect::<Vec<_>>().join(" ")
        } else {
            String::new()
        },
    })
}

/// The number before a word that begins with `word`.
fn count(line: &str, word: &str) -> u64 {
    let words: Vec<_> = line
        .split([' ', ',', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .filter(|pair| pair[1].starts_with(word))
        .filter_map(|pair| pair[0].parse::<u64>().ok())
        .sum()
}

/// What the whole run came to.
#[derive(Debug)]
pub struct Report {
    /// What runs one suite again, but for the suite's name.
    command: String,
    rows: Vec<(&'static str, Outcome)>,
}

impl Report {
    pub fn of(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, suite: &'static str, outcome: Outcome) {
        self.rows.push((suite, outcome));
    }

    pub fn failed(&self) -> bool {
        self.rows.iter().any(|(_, outcome)| outcome.failed > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<12} {:>7} {:>7} {:>8}  reason",
            "suite", "passed", "failed", "skipped"
        )?;
        let mut all = Outcome::default();
        for (suite, outcome) in &self.rows {
            let again = format!("again alone: {} {suite}", self.command);
            let reason = match (outcome.failed, outcome.reason.as_str()) {
                (0, reason) => reason.to_owned(),
                (_, "") => again,
                (_, reason) => format!("{reason}; {again}"),
            };
            let row = format!(
                "{suite:<12} {:>7} {:>7} {:>8}  {reason}",
                outcome.passed, outcome.failed, outcome.skipped
            );
            writeln!(formatter, "{}", row.trim_end())?;
            all.passed += outcome.passed;
            all.failed += outcome.failed;
            all.skipped += outcome.skipped;
        }
        write!(
            formatter,
            "\n{} passed, {} failed, {} skipped",
            all.passed, all.failed, all.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, skipped: u64, reason: &str) -> Outcome {
        Outcome {
            passed,
            failed,
            skipped,
            reason: reason.into(),
        }
    }

    #[test]
    fn cargos_summaries_are_added_up() {
        let text = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 1 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        assert_eq!(
            of_cargo(text),
            Some(outcome(5, 1, 4, "ignored by their attribute"))
        );
        assert_eq!(of_cargo("error: could not compile\n"), None);
    }

    #[test]
    fn exunits_summary_is_read_in_all_its_forms() {
        for (text, expected) in [
            (
                "Finished in 0.1 seconds\n3 tests, 0 failures\n",
                outcome(3, 0, 0, ""),
            ),
            (
                "1 doctest, 1 test, 1 failure\nRandomized with seed 0\n",
                outcome(1, 1, 0, ""),
            ),
            (
                "Excluded: no library.\n2 doctests, 1 property, 9 tests, 2 failures, 3 excluded, 1 skipped\n",
                outcome(6, 2, 4, "Excluded: no library."),
            ),
            ("5 tests, 0 failures, 2 invalid\n", outcome(3, 2, 0, "")),
            ("5 tests, 0 failures (1 excluded)\n", outcome(5, 0, 0, "")),
        ] {
            assert_eq!(of_ex_unit(text), Some(expected), "{text}");
        }
        assert_eq!(of_ex_unit("** (Mix) could not compile\n"), None);
    }

    #[test]
    fn a_runner_that_breaks_down_counts_as_a_failure() {
        let signal = "signal: 11 (SIGSEGV)";
        assert_eq!(
            Outcome::of_runner(None, false, signal),
            outcome(
                0,
                1,
                0,
                "the runner printed no summary and ended with signal: 11 (SIGSEGV)"
            )
        );
        assert_eq!(
            Outcome::of_runner(Some(outcome(7, 0, 0, "")), false, signal),
            outcome(7, 1, 0, "the runner ended with signal: 11 (SIGSEGV)")
        );
        let failing = outcome(7, 2, 0, "");
        assert_eq!(
            Outcome::of_runner(Some(failing.clone()), false, "exit status: 2"),
            failing
        );
        assert_eq!(
            Outcome::of_runner(None, true, "exit status: 0").failed,
            1,
            "a silent runner proves nothing"
        );
    }

    #[test]
    fn the_report_ends_with_the_sum() {
        let mut report = Report::of("cargo xtask test");
        report.add("format", Outcome::passed());
        report.add("bare", outcome(40, 1, 2, ""));
        report.add("nx", Outcome::skipped("EMILY_DEPS_PATH is not set"));
        assert!(report.failed());
        assert_eq!(
            report.to_string(),
            "suite         passed  failed  skipped  reason\n\
             format             1       0        0\n\
             bare              40       1        2  again alone: cargo xtask test bare\n\
             nx                 0       0        1  EMILY_DEPS_PATH is not set\n\
             \n41 passed, 1 failed, 3 skipped"
        );
    }
}
