//! Releasing, verifying and installing, with libraries made by hand and servers on loopback.
//!
//! One program, because linking is what takes long.

mod archives;
mod audits;
mod downloads;
mod images;
mod installs;
mod keys;
mod releases;
mod scripted;
mod serving;
mod world;
