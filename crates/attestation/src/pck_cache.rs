//! Kept PCK chains, so that the second quote of a platform costs two signature checks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls_pki_types::UnixTime;

use crate::collateral::TrustedCollateral;
use crate::pck::{PckError, PlatformId, VerifiedPck, chain_for, sha256, verify_pck};
use crate::quote::Quote;
use crate::verify::{VerifiedReport, VerifyError, verify_with_pck};

/// How many chains are kept, about 400 bytes each. The one that was added first gives way.
pub const MAX_CACHED_PCKS: usize = 1024;

/// PEM bytes of the chain, collateral that it was checked against.
type Key = ([u8; 32], [u8; 32]);

/// Verified PCK chains by their exact bytes and the collateral that they were checked against.
///
/// It changes the cost of [`Self::verify`] and never its result: time is checked at every use, and new collateral
/// (with new revocation lists) makes every kept chain useless. Only chains that verify are kept, so a stranger can
/// fill it only with platforms that the vendor certified. The lock is held for a look-up, never while verifying.
#[derive(Debug, Default)]
pub struct PckCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    chains: HashMap<Key, Arc<VerifiedPck>>,
    /// By the PEM bytes of chains that are kept.
    platforms: HashMap<[u8; 32], PlatformId>,
    order: VecDeque<Key>,
}

impl PckCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Same as [`Quote::unverified_platform`], faster for a platform that was seen before.
    ///
    /// # Errors
    ///
    /// As [`Quote::unverified_platform`].
    pub fn platform(&self, quote: &Quote) -> Result<PlatformId, PckError> {
        let chain = sha256(quote.pck_chain_pem()?);
        let found = self.lock().platforms.get(&chain).copied();
        found.map_or_else(|| quote.unverified_platform(), Ok)
    }

    /// Same as [`crate::verify()`], faster for a platform that was seen before.
    ///
    /// # Errors
    ///
    /// As [`crate::verify()`].
    pub fn verify(
        &self,
        quote: &Quote,
        collateral: &TrustedCollateral,
        now: UnixTime,
    ) -> Result<VerifiedReport, VerifyError> {
        collateral.check_time(now)?;
        let key = (sha256(chain_for(quote, collateral)?), collateral.id());
        let found = self.lock().chains.get(&key).cloned();
        let pck = match found {
            Some(pck) => pck,
            None => {
                let pck = Arc::new(verify_pck(quote, collateral, now)?);
                // Without a chain of its own the quote does not name its platform.
                self.lock().insert(key, Arc::clone(&pck), quote.unverified_platform().ok());
                pck
            }
        };
        verify_with_pck(quote, collateral, &pck, now)
    }

    /// How many chains are kept.
    pub fn len(&self) -> usize {
        self.lock().chains.len()
    }

    /// True if no chain is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every critical section leaves the maps in a usable state, so a panic elsewhere does not matter.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, key: Key, pck: Arc<VerifiedPck>, platform: Option<PlatformId>) {
        if let Some(platform) = platform {
            self.platforms.insert(key.0, platform);
        }
        if self.chains.insert(key, pck).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_CACHED_PCKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.chains.remove(&oldest);
            // It may still be kept against newer collateral; then its platform is read from the quote, as at first.
            self.platforms.remove(&oldest.0);
        }
    }
}
