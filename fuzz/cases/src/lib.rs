//! What must hold for every input of every parser of outside bytes.
//!
//! Each function of [`TARGETS`] takes any bytes, hands them to one parser and to what usually comes right after it, and
//! panics if something is broken: a parser that panics, a limit that does not hold, a round trip that loses something,
//! evidence that is accepted although nobody signed it. Everything is judged at fixed times with fixed keys and roots, so
//! that an input gives the same verdict today and in ten years.
//!
//! The same functions serve three callers: `cargo test` replays the committed inputs of `fuzz/corpus`, then changes
//! them a little; the fuzzer (`cargo xtask fuzz`) searches for inputs that nobody thought of.

mod activation;
mod attestation;
mod environment;
mod image;
mod manifest;
mod pki;
mod program;
mod qcnl;
mod record;
mod rest;
pub mod sealed;
mod set_manifest;
mod simulator;
mod template;

pub use activation::activation;
pub use attestation::{collateral, quote};
pub use environment::marble_environment;
pub use image::{pin_file, restrictions_file, trust_file, uuid_file};
pub use manifest::{certificate_template, manifest, user_secrets};
pub use pki::{REQUEST_KEY_PKCS8, certificate, certificate_request, pem};
pub use program::{copy_bom, elf_program, occlum_check, occlum_json, occlum_json_edit, program_file};
pub use qcnl::qcnl;
pub use record::{marble_uuid, record};
pub use rest::{api_answer, api_request, nonce_query};
pub use sealed::{sealed_log, wrapped_keys};
pub use set_manifest::set_manifest;
pub use simulator::{canaries, hostile_plan};
pub use template::template;

/// What the parser said about an input.
///
/// Both are right answers; a corpus in which one of them never occurs has lost its use, which a test notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The input was understood; all that follows from it was checked.
    Accepted,
    /// The input was refused with an error.
    Refused,
}

impl Verdict {
    /// Accepted if `result` is a value. The error is formatted as a log would, because that must not panic either.
    fn of<T, E: std::error::Error + 'static>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(error) => {
                let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
                while let Some(error) = source {
                    assert!(!error.to_string().is_empty(), "an error says nothing: {error:?}");
                    source = error.source();
                }
                Self::Refused
            }
        }
    }

    /// Accepted if one of both is.
    fn or(self, other: Self) -> Self {
        if self == Self::Accepted { self } else { other }
    }
}

/// One parser with what must hold for its inputs.
pub type Case = fn(&[u8]) -> Verdict;

/// All targets; the name is that of the fuzzer's program and of the directory below `fuzz/corpus`.
pub const TARGETS: &[(&str, Case)] = &[
    ("activation", activation),
    ("api_answer", api_answer),
    ("api_request", api_request),
    ("canaries", canaries),
    ("certificate", certificate),
    ("certificate_request", certificate_request),
    ("certificate_template", certificate_template),
    ("collateral", collateral),
    ("copy_bom", copy_bom),
    ("elf_program", elf_program),
    ("hostile_plan", hostile_plan),
    ("manifest", manifest),
    ("marble_environment", marble_environment),
    ("marble_uuid", marble_uuid),
    ("nonce_query", nonce_query),
    ("occlum_check", occlum_check),
    ("occlum_json", occlum_json),
    ("occlum_json_edit", occlum_json_edit),
    ("pem", pem),
    ("pin_file", pin_file),
    ("program_file", program_file),
    ("qcnl", qcnl),
    ("quote", quote),
    ("record", record),
    ("restrictions_file", restrictions_file),
    ("sealed_log", sealed_log),
    ("set_manifest", set_manifest),
    ("template", template),
    ("trust_file", trust_file),
    ("user_secrets", user_secrets),
    ("uuid_file", uuid_file),
    ("wrapped_keys", wrapped_keys),
];
