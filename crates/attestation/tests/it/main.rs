//! Integration tests: vectors of real and fabricated evidence, changed bytes, and a second implementation as oracle.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod admission;
mod differential;
mod exhaustive;
mod fixtures;
mod kept;
mod parsing;
mod pki;
mod refusals;
mod vectors;
