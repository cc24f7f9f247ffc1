//! The wire: protobuf messages of the Marble API and, with the feature `rest`, the types of the client API.
//!
//! Nothing here knows a transport: handlers and clients give and take bytes.

/// Messages of the Marble API, generated from `proto/coordinator.proto`.
#[rustfmt::skip] // generated files stay as the generator writes them
#[path = "generated/rpc.rs"]
pub mod rpc;

mod marble;
#[cfg(feature = "rest")]
pub mod rest;

pub use marble::{ACTIVATE_PATH, MAX_MESSAGE_BYTES};
