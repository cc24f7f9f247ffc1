//! Tests of the whole system: the real programs, talking through real sockets, in simulated Occlum enclaves.
//!
//! Nothing here is linked into a program. Each test makes a `site::Site` with its own directory, development root and
//! ports, so that all can run at the same time. The programs are those of the workspace's build; `MARBLERUN_BIN` names
//! another directory.

#![cfg(test)]

mod border;
mod cli;
mod cli_recovery;
mod cli_users;
mod collateral;
mod coordinator;
mod deployment;
mod dev;
mod documents;
mod encrypted_image;
mod hostile;
mod main_job;
mod messages;
mod occlum_init;
mod programs;
mod refusals;
mod restart;
mod secrecy;
mod silent_clients;
mod site;
mod start_failures;
mod tls_proxy;
