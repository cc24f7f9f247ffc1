//! The Coordinator's parts together, without sockets.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod recovery_secrets;
