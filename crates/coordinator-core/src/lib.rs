//! The deployment's state and its transitions: state + command + time → new state + record + reply.
//!
//! Pure: no network, files, environment or clock. The edge (`marblerun-coordinator`) verifies evidence, seals records
//! and talks to clients.
//!
//! - [`record`]: what the log remembers; [`ledger`]: how records change the state; [`snapshot`]: what readers see.
//! - [`set_manifest`]: from an uploaded manifest to a record. [`update`]: from the next one. [`activation`]: from admitted evidence to parameters.
//! - [`users`]: who may do what. [`user_secrets`]: secrets that users read and upload.
//! - [`counter`]: monotonic counters of Marbles.
//! - [`parameters`]: what a Marble receives. [`statement`]: what the Coordinator's quote speaks for.

pub mod activation;
pub mod certificate_template;
pub mod counter;
pub mod deployment;
pub mod generate;
pub mod identity;
pub mod ledger;
pub mod parameters;
pub mod record;
pub mod recovery;
pub mod secret;
pub mod secrets;
pub mod set_manifest;
pub mod snapshot;
pub mod statement;
pub mod time;
pub mod update;
pub mod update_log;
pub mod user_secrets;
pub mod users;
pub mod uuid;
