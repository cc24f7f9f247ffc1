//! Tests through the public API.

mod generated;
mod oracle;
