//! The Coordinator's parts together, and the whole behind real sockets.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod auditing;
mod authorisation;
mod client_api;
mod concurrent;
mod flood;
mod hanging_up;
mod limits;
mod limits_page;
mod marble_api;
mod observing;
mod recovery;
mod recovery_secrets;
mod running;
mod setting;
mod sign_quote;
mod starting;
mod transport;
mod updates;
mod writing;
