//! Tests through the public API.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod generated;
mod openapi;
mod oracle;
