//! Why a collateral service gave no collateral.

use std::time::Duration;

use marblerun_attestation::{CollateralError, PlatformId};

/// Why a collateral service gave no collateral. Every variant names the URL that was asked.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The host's name is unknown.
    #[error("{url}: host {host} cannot be resolved: {reason}")]
    Resolve {
        /// What was asked.
        url: String,
        /// The name.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing answers there.
    #[error("{url}: cannot connect: {reason}")]
    Connect {
        /// What was asked.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The server cannot be trusted, or does not speak TLS.
    #[error("{url}: TLS failed: {reason}")]
    Tls {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// There was no complete answer in time.
    #[error("{url}: expected an answer within {} s, got none", limit.as_secs())]
    Timeout {
        /// What was asked.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// The answer is not HTTP, or it breaks off.
    #[error("{url}: expected an HTTP answer: {reason}")]
    Http {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The service wants us to ask somebody else.
    #[error("{url}: expected an answer, got a redirect (HTTP {status})")]
    Redirect {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The service does not know the platform.
    #[error("{url}: the service has no collateral for {platform} (HTTP {status})")]
    UnknownPlatform {
        /// What was asked.
        url: String,
        /// Which platform.
        platform: PlatformId,
        /// 404 or 410.
        status: u16,
    },
    /// The service has had enough.
    #[error("{url}: the service asks to come again later (HTTP {status})")]
    Throttled {
        /// What was asked.
        url: String,
        /// 429 or 503.
        status: u16,
        /// When to come again, if the service says so.
        retry_after: Option<Duration>,
    },
    /// The service refuses or fails.
    #[error("{url}: expected HTTP 200, got {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The answer is too long.
    #[error("{url}: expected at most {max} bytes, got more")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The limit.
        max: usize,
    },
    /// The chain of the signer is missing.
    #[error("{url}: expected the header {header} with a certificate chain, got {got}")]
    IssuerChain {
        /// What was asked.
        url: String,
        /// The header's name.
        header: &'static str,
        /// What is wrong with it.
        got: &'static str,
    },
    /// A signed text is not in the form that was expected.
    #[error("{url}: expected a JSON object with the members {member} and signature: {reason}")]
    SignedText {
        /// What was asked.
        url: String,
        /// The member's name.
        member: &'static str,
        /// What the reader says.
        reason: String,
    },
    /// A revocation list is in no known form.
    #[error("{url}: expected a revocation list as DER, hex, or PEM, got {got}")]
    Crl {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        got: String,
    },
    /// The parts do not make a whole.
    #[error("{url}: the answers are no collateral")]
    Collateral {
        /// The base that was asked.
        url: String,
        /// Why.
        source: CollateralError,
    },
}

impl FetchError {
    /// When the service wants to be asked again, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// True if asking the same service again soon is of no use.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::UnknownPlatform { .. })
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } => {
                "check the URL and the network, or put the collateral into a bundle directory"
            }
            Self::Tls { .. } => {
                "public certificate authorities are trusted; for a service with a certificate of its own use a QCNL \
                 file with \"use_secure_cert\": false (collateral is signed, so it cannot be forged)"
            }
            Self::Redirect { .. } => "configure the address that answers itself; redirects are not followed",
            Self::UnknownPlatform { .. } => "check the FMSPC, or ask another service, for example Intel's",
            Self::Throttled { .. } => "wait, or use a caching service (PCCS) of your own",
            Self::IssuerChain { .. } => "something between this host and the service removes or changes the header",
            Self::Http { .. } => "check the URL: a TLS port needs https://, a plain one http://",
            Self::Status { .. } => "look at the service's log",
            Self::TooLarge { .. } | Self::SignedText { .. } | Self::Crl { .. } => {
                "check that the URL is that of a PCS or PCCS with API version 4"
            }
            Self::Collateral { source, .. } => return source.hint(),
        })
    }
}
