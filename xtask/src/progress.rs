//! What a long step shows while it runs: a spinner or a bar on a terminal, plain lines elsewhere.
//!
//! Everything goes to standard error, so that standard output stays what a command answers. A
//! step that is dropped unfinished (an error passed through `?`) leaves no half-drawn line.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A step of unknown length. Do not let another program write to the terminal meanwhile.
#[derive(Debug)]
pub struct Step {
    label: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

/// Starts a step; `label` says what is happening, as in `packing emily-nif-….tar.gz`.
pub fn step(label: impl Into<String>) -> Step {
    let label = label.into();
    let bar = if std::io::stderr().is_terminal() {
        let bar = ProgressBar::new_spinner().with_message(label.clone());
        bar.enable_steady_tick(TICK);
        Some(bar)
    } else {
        eprintln!("{label} …");
        None
    };
    Step {
        label,
        since: Instant::now(),
        bar,
    }
}

impl Step {
    /// Ends the step with its outcome in a few words.
    pub fn finish(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{}: {outcome} ({:.1} s)",
            self.label,
            self.since.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A transfer of bytes.
#[derive(Debug)]
pub struct Bytes {
    label: String,
    since: Instant,
    bar: ProgressBar,
    shown: bool,
}

/// Starts a transfer of `total` bytes; `None` when the length is not known.
pub fn bytes(label: impl Into<String>, total: Option<u64>) -> Bytes {
    let label = label.into();
    let shown = std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
        .with_message(label.clone());
    if shown {
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        // The templates are constants; one that indicatif refuses falls back to its default.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr());
    } else {
        eprintln!("{label} …");
    }
    Bytes {
        label,
        since: Instant::now(),
        bar,
        shown,
    }
}

impl Bytes {
    /// `count` more bytes have arrived.
    pub fn advance(&self, count: u64) {
        self.bar.inc(count);
    }

    /// The transfer stands at `position`, for instance because it was resumed.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Ends the transfer and says how much came in what time.
    pub fn finish(self) {
        let seconds = self.since.elapsed().as_secs_f64();
        let amount = size(self.bar.position());
        self.bar.finish_and_clear();
        eprintln!("{}: {amount} ({seconds:.1} s)", self.label);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.shown {
            self.bar.finish_and_clear();
        }
    }
}

/// A number of bytes in the unit that reads best.
pub fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.50 kB"),
            (24_300_000, "24.30 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
