//! A Marble against Coordinators of every kind, through real sockets.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod activation;
mod coordinator;
mod pin;
