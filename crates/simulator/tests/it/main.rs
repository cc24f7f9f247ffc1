//! Runs real programs in `marble-sim` and looks at what they see. Needs `cc` and `go`.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod canaries;
mod collateral;
mod fixture;
mod hostile;
mod identity;
mod init_stage;
mod isolation;
mod lifetime;
mod measurement;
mod roots;
mod start;
mod strict;
