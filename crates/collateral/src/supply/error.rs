//! Why there is no collateral at the moment.

use std::sync::Arc;
use std::time::Duration;

use marblerun_attestation::{ErrorClass, FloorError, PckError, PlatformId};

use crate::base_url::BaseUrl;
use crate::error::LookupError;
use crate::fetch_error::FetchError;
use crate::prove::ProofError;

/// Why one service's answer was of no use.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceFailure {
    /// There was no answer, or a wrong one.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The service asked to be left alone for a while.
    #[error("{url}: not asked, because it asked to come again later")]
    Paused {
        /// The service.
        url: BaseUrl,
    },
    /// The answer is not acceptable.
    #[error("{url}: the service's collateral is not acceptable")]
    Proof {
        /// The service.
        url: BaseUrl,
        /// Why.
        source: ProofError,
    },
    /// The answer is older than what was accepted before.
    #[error("{url}: the service's collateral is old")]
    Floor {
        /// The service.
        url: BaseUrl,
        /// Which part.
        source: FloorError,
    },
    /// The answer is valid, but older than what is at hand and valid, too.
    #[error("{url}: the service's collateral was issued before what is at hand, which is kept")]
    Older {
        /// The service.
        url: BaseUrl,
    },
    /// The answer does not speak for the platform.
    #[error("{url}: the service's collateral does not speak for the platform's certificates")]
    PckCrl {
        /// The service.
        url: BaseUrl,
        /// Why.
        source: PckError,
    },
    /// The asking ended early.
    #[error("asking for collateral was interrupted")]
    Interrupted,
}

impl ServiceFailure {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Fetch(_) | Self::Paused { .. } | Self::Interrupted => ErrorClass::NoCollateral,
            Self::Proof { source, .. } => source.class(),
            Self::Floor { source, .. } => source.class(),
            Self::Older { .. } => ErrorClass::CollateralRollback,
            Self::PckCrl { source, .. } => source.class(),
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Fetch(error) => error.hint(),
            Self::Paused { .. } => Some("wait, or use a caching service (PCCS) of your own"),
            Self::Proof { source, .. } => source.hint(),
            Self::Floor { source, .. } => source.hint(),
            Self::Older { .. } => {
                Some("the service, or a cache before it, lags behind: ask the vendor's, or another one")
            }
            Self::PckCrl { source, .. } => source.hint(),
            Self::Interrupted => None,
        }
    }
}

/// Why there is no collateral at the moment.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum SupplyError {
    /// Nothing was configured that could have any.
    #[error("collateral unavailable for FMSPC {}: no bundle, no cache, and no service are configured", platform.fmspc)]
    NotConfigured {
        /// The platform.
        platform: PlatformId,
    },
    /// The files have none, and no service is configured.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The files have only collateral that is older than what was accepted before, and no service is configured.
    #[error("old collateral")]
    Floor(#[from] FloorError),
    /// Nothing is at hand, but a service can be asked; see [`crate::Supply::obtain`].
    #[error("collateral unavailable for FMSPC {}: no service was asked yet", platform.fmspc)]
    Wanted {
        /// The platform.
        platform: PlatformId,
    },
    /// The services were asked in vain, and will be asked again.
    #[error("collateral unavailable for FMSPC {}", platform.fmspc)]
    Failing {
        /// The platform.
        platform: PlatformId,
        /// What the last service did.
        #[source]
        last: Arc<ServiceFailure>,
    },
    /// The services are still being asked.
    #[error("collateral unavailable for FMSPC {}: no service answered within {} s", platform.fmspc, limit.as_secs())]
    Waited {
        /// The platform.
        platform: PlatformId,
        /// How long one waits.
        limit: Duration,
    },
    /// Too many wait already.
    #[error("collateral unavailable for FMSPC {}: too many wait for collateral already", platform.fmspc)]
    Busy {
        /// The platform.
        platform: PlatformId,
    },
}

impl SupplyError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Lookup(error) => error.class(),
            Self::Floor(error) => error.class(),
            Self::Failing { last, .. } => match last.class() {
                class @ (ErrorClass::ExpiredCollateral | ErrorClass::CollateralRollback) => class,
                // Whatever a service sends: there is no collateral.
                _ => ErrorClass::NoCollateral,
            },
            Self::NotConfigured { .. } | Self::Wanted { .. } | Self::Waited { .. } | Self::Busy { .. } => {
                ErrorClass::NoCollateral
            }
        }
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// True if there may be collateral later, so that a caller answers `UNAVAILABLE`.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Lookup(error) => error.is_unavailable(),
            _ => true,
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured { .. } => Some("configure a bundle directory or a collateral service"),
            Self::Lookup(error) => error.hint(),
            Self::Floor(error) => error.hint(),
            Self::Failing { last, .. } => last.hint(),
            Self::Wanted { .. } | Self::Waited { .. } | Self::Busy { .. } => Some("try again"),
        }
    }
}
