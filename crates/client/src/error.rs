//! Why a call failed.

use std::net::SocketAddr;
use std::time::Duration;

use marblerun_attestation::{
    ClientAdmitError, CollateralError, PckError, PlatformId, QuoteError, TrustClass, VerifyError,
};
use marblerun_collateral::LookupError;
use marblerun_json::DecodeError;
use marblerun_pki::certificate::CertificateError;
use marblerun_pki::signature::SignatureError;

use crate::chain::ChainError;
use crate::tls::ServerIdentityError;

/// What is waited for once the connection stands.
pub(crate) const ANSWER: &str = "answer";

/// One address that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct ConnectAttempt {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub reason: String,
}

/// Why a call to a Coordinator failed.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The name has no address.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody listens.
    #[error("cannot connect to {address} ({})", join(attempts))]
    Connect {
        /// As it was given.
        address: String,
        /// Each address that was tried.
        attempts: Vec<ConnectAttempt>,
    },
    /// It took too long.
    #[error("no {what} from {address} within {} s", after.as_secs_f64())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// As it was given.
        address: String,
        /// The limit.
        after: Duration,
    },
    /// The handshake failed.
    #[error("TLS handshake with {address} failed: {reason}")]
    Tls {
        /// As it was given.
        address: String,
        /// What the library said.
        reason: String,
    },
    /// The server is not the Coordinator that was attested.
    #[error("{address} is not the attested Coordinator")]
    Server {
        /// As it was given.
        address: String,
        /// The difference.
        #[source]
        source: ServerIdentityError,
    },
    /// The HTTP exchange broke.
    #[error("request to {url} failed: {reason}")]
    Http {
        /// The request.
        url: String,
        /// What the library said.
        reason: String,
    },
    /// The answer is longer than any real one.
    #[error("expected an answer of at most {max} bytes from {url}, got more")]
    AnswerTooLong {
        /// The request.
        url: String,
        /// The limit.
        max: usize,
    },
    /// The answer is not in the form of a Coordinator.
    #[error("expected the JSON answer of a Coordinator from {url}, got something else with status {status}")]
    NotACoordinator {
        /// The request.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The answer's data have another form.
    #[error("the Coordinator's answer to {url} does not have the expected form")]
    AnswerData {
        /// The request.
        url: String,
        /// The difference.
        #[source]
        source: DecodeError,
    },
    /// The Coordinator does not know this user.
    #[error("authorizing user at {url}: {message}")]
    Unauthorized {
        /// The request.
        url: String,
        /// The Coordinator's words.
        message: String,
    },
    /// The Coordinator refused.
    #[error("{method} {url} was refused with {status} {}: {jsend_status}{}", reason_phrase(*status), prefixed(message))]
    Refused {
        /// `GET` or `POST`.
        method: String,
        /// The request.
        url: String,
        /// HTTP status.
        status: u16,
        /// `fail` or `error`.
        jsend_status: String,
        /// The Coordinator's words.
        message: String,
    },
    /// An old Coordinator cannot answer with a nonce.
    #[error("expected a Coordinator with API version 2 because a nonce was given, {address} has only version 1")]
    NonceNeedsVersion2 {
        /// As it was given.
        address: String,
    },
    /// An old Coordinator lacks the endpoint.
    #[error("expected a Coordinator with API version 2 for {what}, {address} has only version 1")]
    NeedsVersion2 {
        /// What was asked for.
        what: &'static str,
        /// As it was given.
        address: String,
    },
    /// The Coordinator's words have no meaning here.
    #[error("expected known words in the Coordinator's answer to {url}, got {got:?}")]
    Words {
        /// The request.
        url: String,
        /// What it said.
        got: String,
    },
    /// The chain in the quote answer is not in order.
    #[error("the certificate chain of {address} is not acceptable")]
    Chain {
        /// As it was given.
        address: String,
        /// The reason.
        #[source]
        source: ChainError,
    },
    /// The Coordinator's evidence was refused.
    #[error("cannot verify the Coordinator at {address}")]
    Attestation {
        /// As it was given.
        address: String,
        /// The reason.
        #[source]
        source: Box<AttestError>,
    },
    /// The Coordinator has no manifest.
    #[error("no manifest is set at {address}")]
    NoManifest {
        /// As it was given.
        address: String,
    },
    /// The Coordinator's fingerprint does not belong to the manifest that it sent.
    #[error("expected a manifest with the reported fingerprint {reported}, got one with {computed}")]
    Fingerprint {
        /// What the Coordinator reported.
        reported: String,
        /// SHA-256 of what it sent.
        computed: String,
    },
    /// The root did not sign the manifest.
    #[error("the manifest's signature does not verify with the Coordinator's root certificate")]
    ManifestSignature(#[source] SignatureError),
    /// The Coordinator has another manifest.
    #[error("expected the manifest with signature {expected}, the Coordinator has {got}")]
    OtherManifest {
        /// SHA-256 of the expected one, hexadecimal.
        expected: String,
        /// SHA-256 of the one that is set.
        got: String,
    },
    /// The root did not sign the verdict on a quote.
    #[error("the signature over the quote's verdict does not verify with the Coordinator's root certificate")]
    QuoteSignature(#[source] SignatureError),
    /// A root certificate cannot be read.
    #[error("the Coordinator's root certificate cannot be read")]
    RootCertificate(#[source] CertificateError),
    /// The provider refused its own settings; a broken build.
    #[error("TLS cannot be configured: {reason}")]
    TlsConfiguration {
        /// What the library said.
        reason: String,
    },
    /// No randomness.
    #[error("the cryptographic provider gave no random nonce")]
    Randomness,
}

impl ClientError {
    /// The HTTP status of a refusal; `None` if the Coordinator did not refuse.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Resolve { .. } => Some("check the host name"),
            Self::Timeout { what: ANSWER, .. } => Some(
                "what was asked for may have been done nevertheless, look before you repeat it; check that this is the \
                 client API of a Coordinator, usually port 4433",
            ),
            Self::Connect { .. } | Self::Timeout { .. } => {
                Some("check that the Coordinator runs and that this is its client API, usually port 4433")
            }
            Self::Tls { .. } | Self::Http { .. } | Self::NotACoordinator { .. } => {
                Some("check that this is the client API of a Coordinator, usually port 4433; Marbles use port 2001")
            }
            Self::Server { source, .. } => source.hint(),
            Self::Unauthorized { .. } => Some("use the certificate of a user in the manifest"),
            Self::NeedsVersion2 { .. } => Some("update the Coordinator"),
            Self::OtherManifest { .. } => Some("`marblerun manifest get` shows the Coordinator's manifest"),
            Self::QuoteSignature(_) => Some("do not rely on this verdict"),
            Self::NonceNeedsVersion2 { .. } => Some("leave out the nonce, or update the Coordinator"),
            Self::Attestation { source, .. } => source.hint(),
            Self::NoManifest { .. } => Some("set one with `marblerun manifest set`"),
            Self::Fingerprint { .. } | Self::ManifestSignature(_) => {
                Some("do not trust this manifest; the answer was changed or the Coordinator is broken")
            }
            Self::Chain { source: ChainError::Expired { .. }, .. } => Some("check this machine's clock"),
            Self::Refused { .. }
            | Self::AnswerTooLong { .. }
            | Self::AnswerData { .. }
            | Self::Chain { .. }
            | Self::Words { .. }
            | Self::RootCertificate(_)
            | Self::TlsConfiguration { .. }
            | Self::Randomness => None,
        }
    }
}

/// Why evidence was refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// A Coordinator in simulation mode.
    #[error("expected a quote, got none: the Coordinator runs in simulation mode")]
    NoQuote,
    /// The quote is malformed.
    #[error("the Coordinator's quote is malformed")]
    Quote(#[source] QuoteError),
    /// The quote does not say from which platform it comes.
    #[error("the platform of the Coordinator's quote cannot be told")]
    Platform(#[source] PckError),
    /// No source has collateral.
    #[error(
        "no collateral for the Coordinator's platform {platform}: no directory was given and the Coordinator sent none"
    )]
    NoCollateral {
        /// The platform.
        platform: PlatformId,
    },
    /// The directory has no usable collateral, and the Coordinator sent none.
    #[error("the collateral directory cannot serve the Coordinator's platform")]
    Lookup(#[source] LookupError),
    /// What the Coordinator sent as collateral is not acceptable.
    #[error("the collateral that the Coordinator sent is not acceptable")]
    Collateral(#[source] CollateralError),
    /// The quote does not verify.
    #[error("the Coordinator's quote does not verify")]
    Verify(#[source] VerifyError),
    /// The quote is genuine, but not that of the expected Coordinator.
    #[error("the Coordinator is not the expected one")]
    Admit(#[source] ClientAdmitError),
    /// Nothing says which Coordinator is expected.
    #[error("expected a UniqueID or a SignerID of the Coordinator, got neither")]
    NoIdentity,
    /// The statement is not the one in the quote.
    #[error("the Coordinator's statement is not the one that its quote covers")]
    StatementHash,
    /// The quote covers a statement that did not come.
    #[error("the Coordinator's quote covers a statement, which is missing in the answer")]
    StatementMissing,
    /// The statement cannot be read.
    #[error("the Coordinator's statement cannot be read")]
    Statement(#[source] DecodeError),
    /// The Coordinator accepts evidence of another class than its own.
    #[error("expected a Coordinator of class {expected}, got one whose statement says {got:?}")]
    TrustClass {
        /// The class of its evidence.
        expected: TrustClass,
        /// What it says.
        got: String,
    },
    /// Somebody stands between client and Coordinator.
    #[error("the server's certificate is not the root certificate in the Coordinator's answer")]
    ServerNotTheRoot,
}

impl AttestError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoQuote => Some("use --insecure for a simulated Coordinator; then nothing is verified"),
            Self::Quote(error) => error.hint(),
            Self::Platform(error) => error.hint(),
            Self::NoCollateral { .. } => Some("give a directory with --collateral"),
            Self::Lookup(error) => error.hint(),
            Self::Collateral(error) => error.hint(),
            Self::Verify(error) => error.hint(),
            Self::Admit(error) => error.hint(),
            Self::NoIdentity => Some("take the expected properties from the Coordinator's release"),
            Self::StatementHash | Self::StatementMissing => {
                Some("the answer was changed on its way, or the Coordinator is broken")
            }
            Self::Statement(_) => None,
            Self::TrustClass { .. } => Some("such a Coordinator would admit Marbles that you do not trust"),
            Self::ServerNotTheRoot => ServerIdentityError::NotTheRoot.hint(),
        }
    }
}

fn join(attempts: &[ConnectAttempt]) -> String {
    if attempts.is_empty() {
        return "the name has no address".to_owned();
    }
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

fn prefixed(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
