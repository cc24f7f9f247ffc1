use std::collections::BTreeMap;

use marblerun_json::{Encode, ObjectEncoder};
use marblerun_secret::SecretBytes;

use crate::rest::envelope::{success, success_of};

/// A secret as it is read through the client API: its definition and its value.
#[derive(Debug, Default)]
pub struct Secret {
    /// The word for its kind.
    pub type_word: String,
    /// Size in bits as in the manifest.
    pub size: u64,
    /// One value for all Marbles.
    pub shared: bool,
    /// Uploaded by a user.
    pub user_defined: bool,
    /// Certificate, DER.
    pub cert: Option<Vec<u8>>,
    /// Validity in days.
    pub valid_for: u64,
    /// The value, or the private key in PKCS#8 DER.
    pub private: Option<SecretBytes>,
    /// The value again, or the public key as SubjectPublicKeyInfo DER.
    pub public: Option<SecretBytes>,
}

/// All eight members, unset ones as `null`: existing clients cannot read an empty certificate.
impl Encode for Secret {
    fn encode(&self, out: &mut String) {
        ObjectEncoder::new(out)
            .member("Type", &self.type_word)
            .member("Size", &self.size)
            .member("Shared", &self.shared)
            .member("UserDefined", &self.user_defined)
            .member("Cert", &self.cert)
            .member("ValidFor", &self.valid_for)
            .member("Private", &self.private.as_ref().map(SecretBytes::expose))
            .member("Public", &self.public.as_ref().map(SecretBytes::expose))
            .finish();
    }
}

/// The body of GET secrets in version 1. It holds the secrets in plain text.
pub fn encode_secrets_v1(secrets: &BTreeMap<String, Secret>) -> String {
    success(secrets)
}

/// The body of GET secrets in version 2. It holds the secrets in plain text.
pub fn encode_secrets_v2(secrets: &BTreeMap<String, Secret>) -> String {
    success_of(|object| object.member("secrets", secrets))
}
