//! Types of the client API: paths, envelope, requests and answers of both versions.
//!
//! Version 1 writes member names in PascalCase, version 2 in lower camel case; reading is without regard to case, so that
//! one structure reads both. A client skips members that it does not know.

mod answer;
pub mod describe;
mod envelope;
mod paths;
mod query;
mod request;
mod secret;
mod update;

pub use answer::{
    CoordinatorState, MAX_ANSWER_BYTES, ManifestAnswer, QuoteAnswer, RecoverAnswer, RecoveryKeyAnswer,
    SetManifestAnswer, SignQuoteAnswer, StatusAnswer,
};
pub use envelope::{
    Envelope, EnvelopeKind, decode_envelope, error, fail, fail_with_data, success, success_without_data,
};
pub use paths::{v1, v2};
pub use query::{NonceError, decode_nonce, encode_nonce, encode_secret_names, query_values};
pub use request::{
    MAX_RECOVER_BODY_BYTES, MAX_REQUEST_BODY_BYTES, MonotonicCounterRequest, RecoverRequest, SetManifestRequest,
    SignQuoteRequest, decode_request,
};
pub use secret::{
    Secret, SecretsAnswer, SecretsObject, UserSecretValue, encode_secrets_v1, encode_secrets_v2, set_secrets_body_v1,
    set_secrets_body_v2,
};
pub use update::{AcknowledgeAnswer, CounterAnswer, MessageAnswer, PendingUpdateAnswer, UpdateAnswer, UpdateLogAnswer};
