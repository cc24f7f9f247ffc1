//! Where a verifier that runs for months gets collateral: files, memory, services, in this order.
//!
//! ```text
//! at_hand (any thread, no network)            obtain (async, bounded)
//!   bundle directory of the operator            one flight per platform:
//!   memory                                        each service in order, until one answer is proven
//!   cache directory on untrusted disk               → memory, cache directory
//!   else: wanted, or failing and pausing           else pause, twice as long each time
//! ```
//!
//! Collateral at hand is used at once and refreshed behind the user's back. Only platforms that the vendor certified
//! are asked for ([`Request`]), so strangers cannot make us ask for names that they invent.

mod error;
mod flight;
mod pace;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use marblerun_attestation::{
    CollateralError, CollateralFloor, PckError, PlatformId, Quote, TrustRoots, TrustedCollateral,
};
use rustls_pki_types::UnixTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

pub use error::{ServiceFailure, SupplyError};
pub use pace::MAX_REFRESH;

use self::flight::Service;
use self::state::State;
use crate::bundle::{Bundle, KeptCollateral, Origin};
use crate::cache::CacheDirectory;
use crate::client::{Client, ClientOptions};
use crate::error::{BundleError, LookupError};
use crate::prove::{ProofError, prove, prove_aged};

/// How long one caller waits for collateral.
pub const MAX_WAIT: Duration = Duration::from_secs(15);
/// How many may wait for one platform; more are told to come again.
pub const MAX_WAITING_PER_PLATFORM: usize = 128;
/// How many may wait at all.
pub const MAX_WAITING: usize = 512;
/// For how many platforms services are asked at the same time.
pub const MAX_FLIGHTS: usize = 16;

/// Where collateral may come from. Without anything there is none.
#[derive(Clone, Debug, Default)]
pub struct SupplyOptions {
    /// A bundle that the operator maintains. It comes first.
    pub bundle: Option<PathBuf>,
    /// A directory for what services answered; it is made if there is none.
    pub cache: Option<PathBuf>,
    /// Services, the preferred one first.
    pub services: Vec<ClientOptions>,
    /// For how long TCB info and QE identity count after their next update was due; see
    /// [`marblerun_attestation::Collateral::dangerous_verify_aged`].
    pub dangerous_max_age: Duration,
}

/// What an operator wants to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How often the services were asked for a platform with success.
    pub fetched: u64,
    /// How often in vain.
    pub failed: u64,
    /// When it last succeeded.
    pub last_success: Option<UnixTime>,
    /// Platforms for which it failed the last time.
    pub failing: usize,
    /// Until when what is in memory may be used; at most twice [`MAX_KEPT`](crate::MAX_KEPT) platforms.
    pub expires: BTreeMap<PlatformId, UnixTime>,
}

/// A platform whose certificate chain is the vendor's.
#[derive(Clone, Debug)]
pub struct Request {
    platform: PlatformId,
    quote: Arc<Quote>,
}

impl Request {
    /// The platform.
    pub fn platform(&self) -> PlatformId {
        self.platform
    }
}

/// Collateral from files and services, proven under one set of roots. Clones share everything.
#[derive(Clone, Debug)]
pub struct Supply {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roots: TrustRoots,
    bundle: Option<Bundle>,
    cache: Option<CacheDirectory>,
    services: Vec<Service>,
    max_age: Duration,
    state: Mutex<State>,
    waiting: Arc<Semaphore>,
}

impl Supply {
    /// A supply that has looked at nothing yet.
    ///
    /// # Errors
    ///
    /// If a directory cannot be used.
    pub fn new(roots: TrustRoots, options: SupplyOptions) -> Result<Self, BundleError> {
        let max_age = options.dangerous_max_age;
        let bundle = options.bundle.map(|directory| Bundle::open(directory, roots.clone())).transpose()?;
        let inner = Inner {
            bundle: bundle.map(|bundle| bundle.dangerous_with_max_age(max_age)),
            cache: options.cache.as_deref().map(CacheDirectory::open).transpose()?,
            services: options.services.into_iter().map(|options| Service::new(Client::new(options))).collect(),
            roots,
            max_age,
            state: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The roots under which collateral is proven.
    pub fn roots(&self) -> &TrustRoots {
        &self.inner.roots
    }

    /// The collateral for `platform` that needs no network, valid at `now` and not below `floor`.
    ///
    /// May read and prove a file, so call it where a few milliseconds do not matter.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Wanted`] means that [`Self::obtain`] may help.
    pub fn at_hand(
        &self,
        platform: &PlatformId,
        floor: &CollateralFloor,
        now: UnixTime,
    ) -> Result<Arc<KeptCollateral>, SupplyError> {
        let mut stale = None;
        let mut take = |kept: Arc<KeptCollateral>| {
            if !kept.trusted.is_stale(now) {
                return Some(kept);
            }
            stale.get_or_insert(kept);
            None
        };
        let from_files = self.inner.in_bundle(platform, floor, now);
        if let Ok(Some(kept)) = &from_files
            && let Some(kept) = take(Arc::clone(kept))
        {
            return Ok(kept);
        }
        if let Err(error) = &from_files
            && !self.inner.services.is_empty()
        {
            debug!(%platform, error = error as &dyn std::error::Error, "the collateral bundle is of no use");
        }
        if let Some(kept) = self.inner.in_memory(platform, floor, now)
            && let Some(kept) = take(kept)
        {
            return Ok(kept);
        }
        let outlook = self.inner.outlook(platform);
        match (stale, outlook, from_files) {
            // Somebody may have a newer one by now.
            (_, Outlook::Worthwhile, _) => Err(SupplyError::Wanted { platform: *platform }),
            (Some(stale), ..) => Ok(stale),
            // What was asked for lately is of no use for this caller, who knows a higher floor or another time.
            (None, Outlook::AskedLately, _) => Err(SupplyError::Wanted { platform: *platform }),
            (None, Outlook::Pausing(last), _) => Err(SupplyError::Failing { platform: *platform, last }),
            (None, Outlook::NoService, Err(error)) => Err(error),
            (None, Outlook::NoService, Ok(_)) => match &self.inner.cache {
                None => Err(SupplyError::NotConfigured { platform: *platform }),
                Some(cache) => Err(LookupError::Missing { platform: *platform, path: cache.path(platform) }.into()),
            },
        }
    }

    /// The text of collateral for `platform` that is genuine but past its date at `now`: whoever verifies it then knows
    /// which part ended when. Nobody should rely on it. May read and prove files.
    pub fn out_of_date(&self, platform: &PlatformId, now: UnixTime) -> Option<Vec<u8>> {
        let inner = &self.inner;
        let in_memory = inner.lock().get(platform).and_then(|entry| entry.kept.clone());
        if let Some(kept) = in_memory.filter(|kept| kept.trusted.is_stale(now)) {
            return Some(kept.text.clone());
        }
        let in_bundle = || inner.bundle.as_ref()?.text(platform, Instant::now().into_std());
        let in_cache = || inner.cache.as_ref()?.read(platform).ok()?;
        let is_past = |text: &Vec<u8>| {
            let outcome = prove(text, platform, &inner.roots, now);
            matches!(outcome, Err(ProofError::Collateral(CollateralError::Validity(_))))
        };
        in_bundle().filter(is_past).or_else(|| in_cache().filter(is_past))
    }

    /// Figures for operators.
    pub fn figures(&self) -> Figures {
        let mut expires: BTreeMap<PlatformId, UnixTime> = BTreeMap::new();
        let in_bundle = self.inner.bundle.as_ref().map(Bundle::expirations).unwrap_or_default();
        let state = self.inner.lock();
        let in_memory = state.entries().filter_map(|(id, entry)| Some((*id, entry.kept.as_ref()?.trusted.expires())));
        for (platform, end) in in_bundle.into_iter().chain(in_memory) {
            expires.entry(platform).and_modify(|known| *known = end.max(*known)).or_insert(end);
        }
        Figures {
            fetched: state.fetched,
            failed: state.failed,
            last_success: state.last_success,
            failing: state.entries().filter(|(_, entry)| entry.failing.is_some()).count(),
            expires,
        }
    }

    /// True if collateral that was fetched for `platform` should be asked for again.
    pub fn is_refresh_due(&self, platform: &PlatformId) -> bool {
        let clock = Instant::now();
        let state = self.inner.lock();
        let Some(entry) = state.get(platform) else { return false };
        !self.inner.services.is_empty()
            && entry.refresh_at.is_some_and(|at| at <= clock)
            && entry.pausing(clock).is_none()
            && !entry.is_flying()
    }

    /// Proves that the vendor certified the platform of `quote`, so that somebody may be asked about it.
    ///
    /// # Errors
    ///
    /// See [`Quote::certified_platform`].
    pub fn request(&self, quote: Quote, now: UnixTime) -> Result<Request, PckError> {
        let platform = quote.certified_platform(&self.inner.roots, now)?;
        Ok(Request { platform, quote: Arc::new(quote) })
    }

    /// Asks the services, or waits for those who do, for [`MAX_WAIT`] at most. Afterwards [`Self::at_hand`] has it.
    ///
    /// # Errors
    ///
    /// Why there is nothing. The asking goes on where only the waiting ended.
    pub async fn obtain(&self, request: &Request, floor: &CollateralFloor, now: UnixTime) -> Result<(), SupplyError> {
        let platform = request.platform;
        let busy = || SupplyError::Busy { platform };
        let _place = Arc::clone(&self.inner.waiting).try_acquire_owned().map_err(|_| busy())?;
        let (mut flight, _waiting) = {
            let mut state = self.inner.lock();
            let flight = flight::join(&self.inner, &mut state, request, floor, now)?;
            let entry = state.entry(&platform);
            if entry.waiting >= MAX_WAITING_PER_PLATFORM {
                return Err(busy());
            }
            entry.waiting += 1;
            (flight, Waiting { inner: Arc::clone(&self.inner), platform })
        };
        let outcome = tokio::time::timeout(MAX_WAIT, flight.wait_for(Option::is_some)).await;
        let failed = |last| SupplyError::Failing { platform, last };
        match outcome {
            Err(_) => Err(SupplyError::Waited { platform, limit: MAX_WAIT }),
            Ok(Err(_)) => Err(failed(Arc::new(ServiceFailure::Interrupted))),
            Ok(Ok(outcome)) => match &*outcome {
                Some(Err(last)) => Err(failed(Arc::clone(last))),
                _ => Ok(()),
            },
        }
    }

    /// Starts asking for newer collateral if that is due; nobody waits for it. Needs a runtime.
    pub fn refresh(&self, request: &Request, floor: &CollateralFloor, now: UnixTime) {
        if self.is_refresh_due(&request.platform) {
            let mut state = self.inner.lock();
            if let Err(error) = flight::join(&self.inner, &mut state, request, floor, now) {
                debug!(%error, "collateral is not refreshed now");
            }
        }
    }
}

/// What comes of asking a service for a platform's collateral now.
enum Outlook {
    NoService,
    /// The services failed; they are left alone for a while.
    Pausing(Arc<ServiceFailure>),
    /// What a service had lately is what it has.
    AskedLately,
    Worthwhile,
}

/// One who waits.
struct Waiting {
    inner: Arc<Inner>,
    platform: PlatformId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(entry) = self.inner.lock().get_mut(&self.platform) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
    }
}

impl Inner {
    /// `Ok(None)` without a bundle.
    fn in_bundle(
        &self,
        platform: &PlatformId,
        floor: &CollateralFloor,
        now: UnixTime,
    ) -> Result<Option<Arc<KeptCollateral>>, SupplyError> {
        let Some(bundle) = &self.bundle else { return Ok(None) };
        let kept = bundle.lookup(platform, Instant::now().into_std(), now)?;
        floor.check(&kept.trusted)?;
        Ok(Some(kept))
    }

    fn in_memory(&self, platform: &PlatformId, floor: &CollateralFloor, now: UnixTime) -> Option<Arc<KeptCollateral>> {
        let usable =
            |kept: &Arc<KeptCollateral>| kept.trusted.check_time(now).is_ok() && floor.check(&kept.trusted).is_ok();
        let (kept, was_read) = match self.lock().get(platform) {
            Some(entry) => (entry.kept.clone(), entry.was_read),
            None => (None, false),
        };
        if let Some(kept) = kept.filter(usable) {
            return Some(kept);
        }
        let cache = self.cache.as_ref().filter(|_| !was_read)?;
        let read = self.in_cache(cache, platform, now);
        let mut state = self.lock();
        if let Some(entry) = state.get_mut(platform) {
            entry.was_read = true;
        }
        // Anybody may name platforms here. Only what was proven gets an entry, so that nothing useful gives way.
        let kept = read?;
        let entry = state.entry(platform);
        entry.was_read = true;
        if entry.kept.is_none() {
            entry.kept = Some(Arc::clone(&kept));
            // Nobody knows how long it lay there.
            entry.refresh_at = Some(Instant::now());
        }
        Some(kept).filter(usable)
    }

    fn in_cache(&self, cache: &CacheDirectory, platform: &PlatformId, now: UnixTime) -> Option<Arc<KeptCollateral>> {
        let path = cache.path(platform);
        let text = cache.read(platform).unwrap_or_else(|error| {
            warn!(%platform, error = &error as &dyn std::error::Error, "kept collateral cannot be read");
            None
        })?;
        match self.prove(&text, platform, now) {
            Ok(trusted) => {
                Some(Arc::new(KeptCollateral { origin: Origin::Cache(path), text, trusted: Arc::new(trusted) }))
            }
            Err(error) => {
                // Expiry is nothing special; everything else was done by somebody.
                debug!(%platform, path = %path.display(), error = &error as &dyn std::error::Error, "kept collateral is of no use");
                None
            }
        }
    }

    fn prove(&self, text: &[u8], platform: &PlatformId, now: UnixTime) -> Result<TrustedCollateral, ProofError> {
        prove_aged(text, platform, &self.roots, now, self.max_age)
    }

    /// True if what is in memory is as good as `other` at `now`, and a part of it is newer.
    fn has_newer(
        &self,
        platform: &PlatformId,
        other: &TrustedCollateral,
        floor: &CollateralFloor,
        now: UnixTime,
    ) -> bool {
        let kept = self.lock().get(platform).and_then(|entry| entry.kept.clone());
        kept.is_some_and(|kept| {
            let kept = &kept.trusted;
            let is_usable = kept.check_time(now).is_ok() && floor.check(kept).is_ok();
            is_usable && (!kept.is_stale(now) || other.is_stale(now)) && other.is_older_than(kept)
        })
    }

    fn outlook(&self, platform: &PlatformId) -> Outlook {
        if self.services.is_empty() {
            return Outlook::NoService;
        }
        let clock = Instant::now();
        let state = self.lock();
        let Some(entry) = state.get(platform) else { return Outlook::Worthwhile };
        match entry.pausing(clock) {
            Some(failing) => Outlook::Pausing(Arc::clone(&failing.last)),
            None if entry.refresh_at.is_some_and(|at| clock < at) => Outlook::AskedLately,
            None => Outlook::Worthwhile,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the maps in a usable state, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
