//! A secret of the deployment with its value.

use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;

/// A secret and its value.
///
/// There is no `Clone`: values are shared by `Arc<Secret>`, so that one wipe ends them.
#[derive(Debug)]
pub struct Secret {
    /// What kind of secret it is.
    pub secret_type: SecretType,
    /// Size in bits: of the key, the modulus or the curve.
    pub size: u64,
    /// One value for all Marbles, instead of one per instance.
    pub shared: bool,
    /// Uploaded by a user instead of generated.
    pub user_defined: bool,
    /// Validity of a generated certificate in days.
    pub valid_for: u64,
    /// The certificate as DER.
    pub certificate: Option<Vec<u8>>,
    /// The key: PKCS#8 for certificate types, else the bytes themselves.
    pub private: Option<SecretBytes>,
    /// The public key as DER SubjectPublicKeyInfo for certificate types, else the same bytes as `private`.
    pub public: Option<SecretBytes>,
}

impl Secret {
    /// The same definition without value.
    pub(crate) fn without_value(&self) -> Self {
        Self {
            secret_type: self.secret_type,
            size: self.size,
            shared: self.shared,
            user_defined: self.user_defined,
            valid_for: self.valid_for,
            certificate: None,
            private: None,
            public: None,
        }
    }

    /// True if a package update makes a new key and certificate: it has one that is generated and the same for all
    /// Marbles.
    pub(crate) fn is_reissued(&self) -> bool {
        self.shared && !self.user_defined && self.secret_type.is_certificate()
    }

    /// True if no value was generated, given in the manifest or uploaded.
    pub(crate) fn is_unset(&self) -> bool {
        self.certificate.is_none() && self.private.is_none() && self.public.is_none()
    }

    /// Bytes of its values and certificate.
    pub(crate) fn stored_bytes(&self) -> usize {
        let values = [&self.private, &self.public].into_iter().flatten().map(SecretBytes::len).sum::<usize>();
        values + self.certificate.as_ref().map_or(0, Vec::len)
    }
}
