//! Tests through the public API.

mod generated;
