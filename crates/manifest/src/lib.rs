//! The manifest: schema, decoding, validation, warnings.

mod secret_type;

pub use secret_type::SecretType;
