//! The certificates that a Coordinator answers with, and that a cache file keeps.

use marblerun_pki::Certificate;
use marblerun_pki::certificate::CertificateError;
use marblerun_pki::pem::{self, PemError};
use marblerun_pki::signature::SignatureError;
use rustls_pki_types::UnixTime;

/// Why a chain was refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not PEM.
    #[error("the Coordinator's certificate chain is not PEM")]
    Pem(#[source] PemError),
    /// Fewer than two certificates.
    #[error("expected intermediate and root certificate in the Coordinator's chain, got {got} certificates")]
    Count {
        /// How many there are.
        got: usize,
    },
    /// A certificate is malformed.
    #[error("the Coordinator's {which} certificate cannot be read")]
    Certificate {
        /// `intermediate` or `root`.
        which: &'static str,
        /// The reason.
        #[source]
        source: CertificateError,
    },
    /// The intermediate names another issuer.
    #[error("the Coordinator's intermediate certificate was not issued by its root certificate")]
    IssuerName,
    /// The intermediate was signed by another key.
    #[error("the Coordinator's intermediate certificate is not signed by its root certificate")]
    Signature(#[source] SignatureError),
    /// The intermediate is no CA.
    #[error("the Coordinator's intermediate certificate is not one of a CA")]
    NotCa,
    /// A certificate is not valid now.
    #[error(
        "the Coordinator's {which} certificate is valid from {not_before} to {not_after}, now is {now} (seconds since 1970)"
    )]
    Expired {
        /// `intermediate` or `root`.
        which: &'static str,
        /// First moment of validity.
        not_before: u64,
        /// Last moment of validity.
        not_after: u64,
        /// The time of the check.
        now: u64,
    },
}

/// Intermediate and root certificate of a Coordinator, DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain {
    intermediate: Vec<u8>,
    root: Vec<u8>,
}

impl CertificateChain {
    /// Reads two PEM blocks, intermediate first, and verifies the one under the other; further blocks are ignored.
    ///
    /// Says nothing about the root, which only a quote or a cache can vouch for.
    ///
    /// # Errors
    ///
    /// See [`ChainError`].
    pub fn parse_and_verify(text: &[u8], now: UnixTime) -> Result<Self, ChainError> {
        let certificates = pem::decode_certificates(text).map_err(ChainError::Pem)?;
        let [intermediate, root, ..] = certificates.as_slice() else {
            return Err(ChainError::Count { got: certificates.len() });
        };
        let chain = Self { intermediate: intermediate.clone(), root: root.clone() };
        chain.verify(now)?;
        Ok(chain)
    }

    fn verify(&self, now: UnixTime) -> Result<(), ChainError> {
        let root = read("root", &self.root, now)?;
        let intermediate = read("intermediate", &self.intermediate, now)?;
        if intermediate.issuer_der() != root.subject_der() {
            return Err(ChainError::IssuerName);
        }
        intermediate.verify_signed_by(root.public_key_der()).map_err(ChainError::Signature)?;
        let is_ca = intermediate.is_ca().map_err(|source| ChainError::Certificate { which: "intermediate", source })?;
        if is_ca { Ok(()) } else { Err(ChainError::NotCa) }
    }

    /// The intermediate certificate, DER.
    pub fn intermediate(&self) -> &[u8] {
        &self.intermediate
    }

    /// The root certificate, DER.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Both as PEM, intermediate first: the form of answers and cache files.
    pub fn to_pem(&self) -> String {
        self.intermediate_pem() + &self.root_pem()
    }

    /// The root as PEM.
    pub fn root_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.root)
    }

    /// The intermediate as PEM.
    pub fn intermediate_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.intermediate)
    }
}

fn read<'a>(which: &'static str, der: &'a [u8], now: UnixTime) -> Result<Certificate<'a>, ChainError> {
    let error = |source| ChainError::Certificate { which, source };
    let certificate = Certificate::parse(der).map_err(error)?;
    let validity = certificate.validity().map_err(error)?;
    if now < validity.not_before || now > validity.not_after {
        return Err(ChainError::Expired {
            which,
            not_before: validity.not_before.as_secs(),
            not_after: validity.not_after.as_secs(),
            now: now.as_secs(),
        });
    }
    Ok(certificate)
}
