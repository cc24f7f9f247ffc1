//! Who the client is: a certificate and its private key.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marblerun_pki::Certificate;
use marblerun_pki::certificate::CertificateError;
use marblerun_pki::pem::{self, Block, PemError};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

/// Longest certificate or key file that is read, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 256 * 1024;

/// Why a certificate and a key are no credentials.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {what} {}: {reason}", path.display())]
    Read {
        /// `client certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file is longer than any real one.
    #[error("expected a {what} of at most {MAX_CREDENTIAL_BYTES} bytes in {}, got more", path.display())]
    TooLong {
        /// `client certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What a file holds is no certificate or no key.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<CredentialsError>,
    },
    /// Not PEM.
    #[error("the {what} is not PEM")]
    Pem {
        /// `client certificate` or `private key`.
        what: &'static str,
        /// The reason.
        #[source]
        source: PemError,
    },
    /// No certificate.
    #[error("expected a PEM block CERTIFICATE as client certificate, got {}", listed(got))]
    NoCertificate {
        /// Labels of the blocks that are there.
        got: Vec<String>,
    },
    /// No key.
    #[error("expected a PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, got {}", listed(got))]
    NoKey {
        /// Labels of the blocks that are there.
        got: Vec<String>,
    },
    /// The key needs a password.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// The key cannot be used.
    #[error("the private key cannot be used: {reason}")]
    Key {
        /// What the library said.
        reason: String,
    },
    /// The certificate cannot be read.
    #[error("the client certificate cannot be read")]
    Certificate(#[source] CertificateError),
    /// Certificate and key are those of two pairs.
    #[error("the private key does not belong to the client certificate")]
    Mismatch,
    /// A Marble's environment lacks a variable.
    #[error("expected the environment of a Marble, got one without {name}")]
    NotAMarble {
        /// The variable.
        name: &'static str,
    },
}

impl CredentialsError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("check the path and its permissions"),
            Self::File { source, .. } => source.hint(),
            Self::NoCertificate { got } | Self::NoKey { got } if got.is_empty() => {
                Some("give the file in PEM form, which begins with -----BEGIN")
            }
            Self::Pem { source: PemError::Headers { .. }, .. } | Self::EncryptedKey => {
                Some("give the key without password, for example from `openssl pkey -in key.pem -out plain.pem`")
            }
            Self::NoCertificate { .. } | Self::NoKey { .. } => Some("were certificate and key exchanged?"),
            Self::Key { .. } => {
                Some("usable are RSA keys from 2048 bits, ECDSA keys on P-256, P-384 and P-521, and Ed25519 keys")
            }
            Self::NotAMarble { .. } => Some("the premain sets these variables for the program that it starts"),
            Self::TooLong { .. } | Self::Pem { .. } | Self::Certificate(_) | Self::Mismatch => None,
        }
    }
}

fn listed(labels: &[String]) -> String {
    if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }
}

/// A client certificate with its private key: a user of the manifest, or a Marble.
///
/// The key stays inside; `Debug` shows none of it.
#[derive(Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate([redacted])")
    }
}

impl ClientCertificate {
    /// Reads PEM texts. The certificate's text may hold a chain, leaf first; a Coordinator looks at the leaf only. The
    /// key may be PKCS#8, SEC1 or PKCS#1; blocks of other kinds beside it, such as `EC PARAMETERS`, are skipped, so that
    /// one file may hold both.
    ///
    /// A certificate is not judged: a Coordinator compares it byte for byte, whatever it says.
    ///
    /// # Errors
    ///
    /// See [`CredentialsError`]; also if the key is not that of the certificate.
    ///
    /// ```
    /// use marblerun_client::{ClientCertificate, CredentialsError};
    ///
    /// let error = ClientCertificate::from_pem(b"", b"").unwrap_err();
    /// assert!(matches!(error, CredentialsError::NoCertificate { .. }));
    /// ```
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        Self::new(Chain::from_pem(certificate)?, private_key(key)?)
    }

    fn new(chain: Chain, key: Arc<dyn SigningKey>) -> Result<Self, CredentialsError> {
        if key.public_key().is_some_and(|of_key| of_key.as_ref() != chain.public_key.as_slice()) {
            return Err(CredentialsError::Mismatch);
        }
        Ok(Self(Arc::new(CertifiedKey::new(chain.certificates, key))))
    }

    /// Reads the PEM texts of two files; both may be the same.
    ///
    /// # Errors
    ///
    /// See [`CredentialsError`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let in_file = |path: &Path| {
            let path = path.to_owned();
            |source| CredentialsError::File { path, source: Box::new(source) }
        };
        let chain = read_file("client certificate", certificate)?;
        let chain = Chain::from_pem(&chain).map_err(in_file(certificate))?;
        let text = marblerun_secret::SecretBytes::new(read_file("private key", key)?);
        Self::new(chain, private_key(text.expose()).map_err(in_file(key))?)
    }

    /// The certificate that is presented first, DER.
    pub fn leaf(&self) -> &[u8] {
        // `from_pem`, which alone makes this type, has found one.
        self.0.cert.first().map_or(&[], AsRef::as_ref)
    }

    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(self.0.clone()))
    }
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let error =
        |error: std::io::Error| CredentialsError::Read { what, path: path.to_owned(), reason: error.to_string() };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(error)?;
    file.take(MAX_CREDENTIAL_BYTES as u64 + 1).read_to_end(&mut content).map_err(error)?;
    if content.len() > MAX_CREDENTIAL_BYTES {
        return Err(CredentialsError::TooLong { what, path: path.to_owned() });
    }
    Ok(content)
}

fn blocks(what: &'static str, text: &[u8]) -> Result<Vec<Block>, CredentialsError> {
    pem::decode_all(text).map_err(|source| CredentialsError::Pem { what, source })
}

fn labels(blocks: Vec<Block>) -> Vec<String> {
    blocks.into_iter().map(|block| block.label).collect()
}

/// The certificates that are shown, leaf first.
struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    /// Of the leaf, SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
}

impl Chain {
    fn from_pem(text: &[u8]) -> Result<Self, CredentialsError> {
        let blocks = blocks("client certificate", text)?;
        let certificates: Vec<_> = blocks
            .iter()
            .filter(|block| block.label == pem::CERTIFICATE)
            .map(|block| CertificateDer::from(block.der.expose().to_vec()))
            .collect();
        let Some(leaf) = certificates.first() else {
            return Err(CredentialsError::NoCertificate { got: labels(blocks) });
        };
        // Read with our parser: users may have certificates that those of TLS libraries refuse.
        let leaf = Certificate::parse(leaf).map_err(CredentialsError::Certificate)?;
        let public_key = leaf.public_key_der().to_vec();
        Ok(Self { certificates, public_key })
    }
}

/// The first private key of a PEM text.
fn private_key(text: &[u8]) -> Result<Arc<dyn SigningKey>, CredentialsError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().key_provider;
    provider
        .load_private_key(private_key_der(text)?)
        .map_err(|error| CredentialsError::Key { reason: error.to_string() })
}

fn private_key_der(text: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let blocks = blocks("private key", text)?;
    for block in &blocks {
        let der = || block.der.expose().to_vec();
        match block.label.as_str() {
            pem::PRIVATE_KEY => return Ok(PrivatePkcs8KeyDer::from(der()).into()),
            "EC PRIVATE KEY" => return Ok(PrivateSec1KeyDer::from(der()).into()),
            "RSA PRIVATE KEY" => return Ok(PrivatePkcs1KeyDer::from(der()).into()),
            "ENCRYPTED PRIVATE KEY" => return Err(CredentialsError::EncryptedKey),
            _ => {}
        }
    }
    Err(CredentialsError::NoKey { got: labels(blocks) })
}
