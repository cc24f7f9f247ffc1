//! The program as its operator and the application see it.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

#[expect(dead_code, reason = "shared with the tests of the library, which use all of it")]
#[path = "../../../marble/tests/it/coordinator.rs"]
mod coordinator;
mod dependencies;
mod init;
mod occlum;
mod plain_linux;
