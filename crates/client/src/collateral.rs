//! Where the collateral for a quote comes from.

use std::sync::Arc;
use std::time::Instant;

use marblerun_attestation::{Collateral, PlatformId, TrustRoots, TrustedCollateral};
use marblerun_collateral::{Bundle, LookupError};
use rustls_pki_types::UnixTime;

use crate::error::AttestError;

/// Where to look for collateral. Wherever it comes from, it is verified under the policy's roots.
#[derive(Debug, Default)]
pub struct CollateralSource {
    bundle: Option<Bundle>,
}

impl CollateralSource {
    /// Only what the Coordinator sends with its quote.
    pub fn offered() -> Self {
        Self::default()
    }

    /// A directory first; where it has nothing or only expired files, what the Coordinator sends.
    pub fn directory(bundle: Bundle) -> Self {
        Self { bundle: Some(bundle) }
    }

    pub(crate) fn lookup(
        &self,
        platform: &PlatformId,
        offered: Option<&[u8]>,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<Arc<TrustedCollateral>, AttestError> {
        let failed = match &self.bundle {
            None => None,
            Some(bundle) => match bundle.lookup(platform, Instant::now(), now) {
                Ok(kept) => return Ok(kept.trusted.clone()),
                Err(error @ (LookupError::Missing { .. } | LookupError::Expired { .. })) => Some(error),
                // Anything else is a fault that another source must not hide.
                Err(error) => return Err(AttestError::Lookup(error)),
            },
        };
        let Some(text) = offered else {
            return Err(failed.map_or(AttestError::NoCollateral { platform: *platform }, AttestError::Lookup));
        };
        Collateral::parse(text)
            .and_then(|collateral| collateral.verify(roots, now))
            .map(Arc::new)
            .map_err(|error| failed.map_or(AttestError::Collateral(error), AttestError::Lookup))
    }
}
