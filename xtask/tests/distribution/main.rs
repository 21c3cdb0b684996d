//! Releasing, verifying and installing, with libraries made by hand and servers on loopback.
//!
//! One program, because linking is what takes long.

// Clippy knows test functions by their attribute; their fixtures may panic just as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archives;
mod audits;
mod caches;
mod downloads;
mod images;
mod installs;
mod keyring;
mod keys;
mod releases;
mod scripted;
mod serving;
mod world;
