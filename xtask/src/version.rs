//! Dotted version numbers: what floors are written in and compared as.

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};

/// No number of a version has more digits.
const MAX_DIGITS: usize = 9;

/// Two or three numbers; a missing third one counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u64; 3]);

impl Version {
    /// The version `major.minor.patch`.
    pub fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self([major, minor, patch])
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = [0; 3];
        let mut count = 0;
        for part in text.split('.') {
            match (numbers.get_mut(count), part.parse()) {
                (Some(number), Ok(value))
                    if part.len() <= MAX_DIGITS
                        && part.bytes().all(|byte| byte.is_ascii_digit()) =>
                {
                    *number = value;
                }
                _ => bail!("expected a version such as 2.38 or 3.4.30, got: {text}"),
            }
            count += 1;
        }
        if count < 2 {
            bail!("expected a version such as 2.38 or 3.4.30, got: {text}");
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}")?;
        if patch != 0 {
            write!(formatter, ".{patch}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_compare_by_number() {
        let ordered = [
            "2.2.5", "2.9", "2.34", "2.38", "3.4", "3.4.9", "3.4.30", "14.0", "26.2",
        ];
        let versions: Vec<Version> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted());
        let shown: Vec<String> = versions.iter().map(Version::to_string).collect();
        assert_eq!(shown, ordered);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2",
            "2.",
            ".2",
            "2.38.1.1",
            "2.x",
            "-2.3",
            "+2.3",
            " 2.3",
            "PRIVATE",
            "2.1234567890",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }
}
