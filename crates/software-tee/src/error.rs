//! What can go wrong while making certificates, quotes and collateral.

/// Evidence or a certificate could not be made.
///
/// None of these depend on secret input; in practice they mean a date outside of X.509's range or a machine without
/// memory or entropy.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The crypto library refused or failed; it gives no reason.
    #[error("the crypto library failed at: {doing}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
    },
    /// A structure could not be encoded or decoded as DER.
    #[error("DER of the {what} cannot be written")]
    Der {
        /// The structure.
        what: &'static str,
        /// Why.
        #[source]
        source: der::Error,
    },
    /// A date cannot be written in a certificate (years 1970 to 2049) or in JSON.
    #[error("time out of range: expected a date from 1970 to 2049, got {seconds} seconds after 1970")]
    TimeOutOfRange {
        /// Seconds since 1970-01-01T00:00:00Z.
        seconds: u64,
    },
    /// The collateral could not be written as JSON.
    #[error("collateral cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl IssueError {
    pub(crate) fn crypto(doing: &'static str) -> impl FnOnce(aws_lc_rs::error::Unspecified) -> Self {
        move |_| Self::Crypto { doing }
    }

    pub(crate) fn der(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Der { what, source }
    }
}
