//! Integration tests through the public API.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixtures must fail")]

mod template_oracle;
