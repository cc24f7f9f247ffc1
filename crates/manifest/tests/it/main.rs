//! Tests through the public API against recorded results.

mod canonical;
mod oracle;
