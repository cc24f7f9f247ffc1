//! Integration tests through the public API.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixtures must fail")]

mod activation;
mod counter;
mod fixture;
mod ledger_model;
mod records;
mod secrets;
mod set_manifest;
mod template_oracle;
mod update_manifest;
mod update_model;
mod update_packages;
mod update_secrets;
mod user_secrets;
mod users;
