//! Proving collateral text for one kind of platform.

use std::time::Duration;

use marblerun_attestation::{
    Collateral, CollateralError, ErrorClass, Fmspc, PlatformId, TrustRoots, TrustedCollateral,
};
use rustls_pki_types::UnixTime;

/// Why text is not the collateral that was asked for.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not acceptable at all.
    #[error(transparent)]
    Collateral(#[from] CollateralError),
    /// It is for another kind of platform.
    #[error("expected collateral for FMSPC {expected}, got {got}")]
    Mismatch {
        /// What was asked for.
        expected: Fmspc,
        /// What came.
        got: Fmspc,
    },
}

impl ProofError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Collateral(error) => error.class(),
            Self::Mismatch { .. } => ErrorClass::CollateralMismatch,
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Collateral(error) => error.hint(),
            Self::Mismatch { .. } => Some("fetch the collateral of this platform again"),
        }
    }
}

/// Proves `text` for `platform` under `roots` at `now`.
///
/// # Errors
///
/// See [`ProofError`].
pub fn prove(
    text: &[u8],
    platform: &PlatformId,
    roots: &TrustRoots,
    now: UnixTime,
) -> Result<TrustedCollateral, ProofError> {
    prove_aged(text, platform, roots, now, Duration::ZERO)
}

/// [`prove`], with TCB info and QE identity that are older by up to `max_age`.
pub(crate) fn prove_aged(
    text: &[u8],
    platform: &PlatformId,
    roots: &TrustRoots,
    now: UnixTime,
    max_age: Duration,
) -> Result<TrustedCollateral, ProofError> {
    let trusted = Collateral::parse(text)?.dangerous_verify_aged(roots, now, max_age)?;
    if trusted.fmspc() != platform.fmspc {
        return Err(ProofError::Mismatch { expected: platform.fmspc, got: trusted.fmspc() });
    }
    Ok(trusted)
}
