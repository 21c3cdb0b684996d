//! An error in three parts: what failed on what, the facts, and the one command to run next.

use std::fmt;

/// An error whose reader wants to know the way out.
#[derive(Debug)]
pub struct Failure {
    what: String,
    facts: Vec<(String, String)>,
    next: String,
}

impl Failure {
    /// `what` failed; run `next`.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            facts: Vec::new(),
            next: next.into(),
        }
    }

    /// Adds a fact. A value of several lines continues under its first one.
    pub fn fact(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.facts.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds the error that stands behind it.
    pub fn because(self, error: &anyhow::Error) -> Self {
        self.fact("cause", format!("{error:#}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.what)?;
        writeln!(formatter)?;
        let width = self
            .facts
            .iter()
            .map(|(name, _)| name.len() + 1)
            .max()
            .unwrap_or(0);
        for (name, value) in &self.facts {
            let mut label = format!("{name}:");
            for line in value.lines() {
                writeln!(formatter, "  {label:<width$} {line}")?;
                label.clear();
            }
        }
        if !self.facts.is_empty() {
            writeln!(formatter)?;
        }
        write!(formatter, "Run next: {}", self.next)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn the_three_parts_stand_apart() {
        let failure = Failure::new("the checksum of a.tar.gz is wrong", "cargo xtask install")
            .fact("url", "http://127.0.0.1/a.tar.gz")
            .fact("expected", "aa")
            .fact("rules", "one\ntwo");
        assert_eq!(
            failure.to_string(),
            "the checksum of a.tar.gz is wrong\n\
             \n  url:      http://127.0.0.1/a.tar.gz\n  expected: aa\n  rules:    one\n            two\n\
             \nRun next: cargo xtask install"
        );
    }
}
