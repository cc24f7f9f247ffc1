//! Integration tests through the public API.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

mod language;
mod limits;
mod random;
mod references;
mod values;
