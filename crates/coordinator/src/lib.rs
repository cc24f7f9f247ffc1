//! The Coordinator: listeners, wiring, configuration.
//!
//! Decisions are made in the pure crates; this one moves bytes. `start` opens the state and binds the listeners,
//! [`writer`] is the one owner of writing, [`client_api`] and [`marble_api`] answer.

pub mod answer_budget;
pub mod audit;
mod bind;
pub mod body_budget;
pub mod client_api;
mod clock;
pub mod config;
mod connection;
mod fair;
mod handshake;
pub mod listener;
pub mod log;
pub mod manifest_setter;
pub mod marble_api;
pub mod metrics;
pub mod own_collateral;
pub mod quoter;
pub mod recovery;
pub mod report;
mod seal_keys;
pub mod start;
mod stuck_writes;
pub mod tls;
pub mod trust;
pub mod view;
pub mod writer;
