//! Programs and their files: what real ones give, and that no others do harm.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod folder;
mod golden;
mod hostile;
mod mutation;
mod optimized;
mod refusals;
mod running;
