use std::fmt;

/// The kinds of secrets that a manifest can define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretType {
    /// `symmetric-key`: random or derived bytes.
    SymmetricKey,
    /// `cert-rsa`: an RSA key pair with a certificate.
    CertRsa,
    /// `cert-ecdsa`: a NIST curve key pair with a certificate.
    CertEcdsa,
    /// `cert-ed25519`: an Ed25519 key pair with a certificate.
    CertEd25519,
    /// `plain`: bytes uploaded by a user.
    Plain,
}

impl SecretType {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::SymmetricKey, Self::CertRsa, Self::CertEcdsa, Self::CertEd25519, Self::Plain];

    /// The word that stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SymmetricKey => "symmetric-key",
            Self::CertRsa => "cert-rsa",
            Self::CertEcdsa => "cert-ecdsa",
            Self::CertEd25519 => "cert-ed25519",
            Self::Plain => "plain",
        }
    }

    /// True for the kinds that have a certificate.
    pub fn is_certificate(self) -> bool {
        match self {
            Self::CertRsa | Self::CertEcdsa | Self::CertEd25519 => true,
            Self::SymmetricKey | Self::Plain => false,
        }
    }

    /// The kind with this word, compared exactly.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for SecretType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
