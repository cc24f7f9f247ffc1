//! Replays the committed corpus, then changes it a little.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod corpus;
mod mutation;
