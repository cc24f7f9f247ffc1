//! Making an existing instance a Marble with the smallest change.

pub mod diff;
pub mod json_text;
