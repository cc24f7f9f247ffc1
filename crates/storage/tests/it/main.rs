//! The sealed log against crashes, hostile storage and replay.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod crash;
mod disk;
mod golden;
mod host;
mod nonces;
mod operation;
mod recovery;
mod tamper;
