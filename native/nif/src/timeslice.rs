//! A process' turns on its scheduler.

use std::time::Instant;

use rustler::{Env, schedule::consume_timeslice};

/// Counts the time until it is dropped as part of the caller's turn.
///
/// The BEAM takes a call of a NIF for a step like any other: a process that makes many would keep its
/// scheduler for thousands of them, and everyone else waiting for tens of milliseconds.
pub struct Timeslice<'a> {
    env: Env<'a>,
    begun: Instant,
}

/// A turn is a millisecond, and its hundredth part the least that can be counted.
const MICROSECONDS_PER_PERCENT: u128 = 10;

impl<'a> Timeslice<'a> {
    pub fn begin(env: Env<'a>) -> Self {
        Self {
            env,
            begun: Instant::now(),
        }
    }
}

impl Drop for Timeslice<'_> {
    fn drop(&mut self) {
        let percent = self.begun.elapsed().as_micros() / MICROSECONDS_PER_PERCENT;
        if percent > 0 {
            consume_timeslice(self.env, percent.min(100) as i32);
        }
    }
}
