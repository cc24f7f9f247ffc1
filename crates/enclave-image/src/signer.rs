//! Signers who are nobody: their private keys are public.

use std::fmt;

/// MRSIGNER of the key that ships with Occlum (`etc/template/Enclave.pem`) and signs where `occlum build` gets no
/// `--sign-key`.
pub const OCCLUM_TEMPLATE_SIGNER: [u8; 32] = [
    0x83, 0xd7, 0x19, 0xe7, 0x7d, 0xea, 0xca, 0x14, 0x70, 0xf6, 0xba, 0xf6, 0x2a, 0x4d, 0x77, 0x43, 0x03, 0xc8, 0x99,
    0xdb, 0x69, 0x02, 0x0f, 0x9c, 0x70, 0xee, 0x1d, 0xfc, 0x08, 0xc7, 0xce, 0x9e,
];

/// MRSIGNER of the key with which `marble-sim` signs where it gets none.
pub const DEVELOPMENT_SIGNER: [u8; 32] = [
    0x62, 0xe0, 0xf4, 0xc7, 0xba, 0x82, 0x78, 0x1b, 0x99, 0x05, 0xaa, 0xfd, 0xdb, 0x14, 0x5b, 0xc3, 0xea, 0xc1, 0x73,
    0xcf, 0xc2, 0x05, 0xce, 0x36, 0x06, 0x22, 0x34, 0x82, 0x49, 0x2a, 0xdb, 0xf8,
];

/// A signing key that everybody has: whoever trusts its signer trusts everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedKey {
    /// The key that ships with Occlum.
    OcclumTemplate,
    /// The development key of `marble-sim`.
    Development,
}

impl PublishedKey {
    /// The published key of this signer; `None` if it is none that is known.
    ///
    /// ```
    /// use marblerun_enclave_image::{PublishedKey, DEVELOPMENT_SIGNER};
    ///
    /// assert_eq!(PublishedKey::of(&DEVELOPMENT_SIGNER), Some(PublishedKey::Development));
    /// assert_eq!(PublishedKey::of(&[7; 32]), None);
    /// ```
    pub fn of(mr_signer: &[u8; 32]) -> Option<Self> {
        match *mr_signer {
            OCCLUM_TEMPLATE_SIGNER => Some(Self::OcclumTemplate),
            DEVELOPMENT_SIGNER => Some(Self::Development),
            _ => None,
        }
    }
}

impl fmt::Display for PublishedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OcclumTemplate => "the signing key that is published with Occlum",
            Self::Development => "the published development key of marble-sim",
        })
    }
}
