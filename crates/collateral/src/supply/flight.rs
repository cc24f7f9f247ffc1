//! Asking the services for one platform's collateral, once for all who want it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use marblerun_attestation::{CollateralFloor, PckError, PlatformId, verify_pck};
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::{ServiceFailure, SupplyError};
use super::pace::{self, Failures};
use super::state::{Failing, Outcome, State};
use super::{Inner, MAX_FLIGHTS, Request};
use crate::bundle::{KeptCollateral, Origin};
use crate::client::Client;

/// A service, and until when it wants to be left alone.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    paused_until: Mutex<Option<Instant>>,
}

/// Everything that a flight takes along.
struct Flight {
    inner: Arc<Inner>,
    request: Request,
    floor: CollateralFloor,
    /// What time it was when the flight began.
    departure: (UnixTime, Instant),
}

impl Service {
    pub(super) fn new(client: Client) -> Self {
        Self { client, paused_until: Mutex::default() }
    }

    fn pause(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins the flight for the platform, or starts one.
pub(super) fn join(
    inner: &Arc<Inner>,
    state: &mut State,
    request: &Request,
    floor: &CollateralFloor,
    now: UnixTime,
) -> Result<watch::Receiver<Outcome>, SupplyError> {
    let platform = request.platform;
    if let Some(entry) = state.get(&platform)
        && entry.is_flying()
        && let Some(flight) = &entry.flight
    {
        return Ok(flight.clone());
    }
    if inner.services.is_empty() {
        return Err(SupplyError::NotConfigured { platform });
    }
    if let Some(failing) = state.get(&platform).and_then(|entry| entry.pausing(Instant::now())) {
        return Err(SupplyError::Failing { platform, last: Arc::clone(&failing.last) });
    }
    if state.flights() >= MAX_FLIGHTS {
        return Err(SupplyError::Busy { platform });
    }
    let (sender, receiver) = watch::channel(None);
    // Not before: an entry may displace another one.
    state.entry(&platform).flight = Some(receiver.clone());
    let flight = Flight {
        inner: Arc::clone(inner),
        request: request.clone(),
        floor: floor.clone(),
        departure: (now, Instant::now()),
    };
    // It ends by itself: every service has its time limit. Those who wait know when it ended without a word.
    tokio::spawn(async move {
        let outcome = flight.fly().await;
        let outcome = flight.land(outcome);
        let _ = sender.send(Some(outcome));
    });
    Ok(receiver)
}

impl Flight {
    fn platform(&self) -> PlatformId {
        self.request.platform
    }

    fn now(&self) -> UnixTime {
        let (now, clock) = self.departure;
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + clock.elapsed())
    }

    /// The first good answer, or, where old ones are allowed, the first good old one.
    async fn fly(&self) -> Result<Arc<KeptCollateral>, ServiceFailure> {
        let mut last = ServiceFailure::Interrupted;
        let mut stale = None;
        for service in &self.inner.services {
            match self.ask(service).await {
                Ok(kept) if !kept.trusted.is_stale(self.now()) => return Ok(kept),
                Ok(kept) => {
                    stale.get_or_insert(kept);
                }
                Err(failure) => {
                    if self.inner.services.len() > 1 {
                        let platform = self.platform();
                        let error = &failure as &dyn std::error::Error;
                        info!(%platform, error, "a collateral service was of no use, asking the next one");
                    }
                    last = failure;
                }
            }
        }
        stale.ok_or(last)
    }

    async fn ask(&self, service: &Service) -> Result<Arc<KeptCollateral>, ServiceFailure> {
        let url = service.client.base_url();
        if service.pause().is_some_and(|until| Instant::now() < until) {
            return Err(ServiceFailure::Paused { url: url.clone() });
        }
        let text = service.client.fetch(&self.platform()).await.inspect_err(|error| {
            if let Some(pause) = error.retry_after() {
                *service.pause() = Some(Instant::now() + pause);
            }
        })?;
        // About a millisecond of signatures.
        let (inner, request) = (Arc::clone(&self.inner), self.request.clone());
        let (floor, now, url) = (self.floor.clone(), self.now(), url.clone());
        let work = move || {
            let platform = request.platform;
            let trusted = inner
                .prove(&text, &platform, now)
                .map_err(|source| ServiceFailure::Proof { url: url.clone(), source })?;
            floor.check(&trusted).map_err(|source| ServiceFailure::Floor { url: url.clone(), source })?;
            if inner.has_newer(&platform, &trusted, &floor, now) {
                return Err(ServiceFailure::Older { url });
            }
            // The list's own signature is proven with the first chain only, so it is now. What else may be wrong with
            // the chain concerns the quote.
            if let Err(
                source @ (PckError::Signature { .. }
                | PckError::UnknownRevocationStatus
                | PckError::UntrustedRoot { .. }),
            ) = verify_pck(&request.quote, &trusted, now)
            {
                return Err(ServiceFailure::PckCrl { url, source });
            }
            let kept = KeptCollateral { origin: Origin::Service(url), text, trusted: Arc::new(trusted) };
            if let Some(cache) = &inner.cache
                && let Err(error) = cache.write(&platform, &kept.text)
            {
                warn!(%platform, path = %cache.path(&platform).display(), %error, "collateral cannot be kept on disk");
            }
            Ok(Arc::new(kept))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| ServiceFailure::Interrupted)?
    }

    /// Takes note of the outcome, and tells the operator.
    fn land(&self, outcome: Result<Arc<KeptCollateral>, ServiceFailure>) -> Result<(), Arc<ServiceFailure>> {
        let (platform, clock, now) = (self.platform(), Instant::now(), self.now());
        let mut state = self.inner.lock();
        match &outcome {
            Ok(_) => {
                state.fetched += 1;
                state.last_success = Some(now);
            }
            Err(_) => state.failed += 1,
        }
        let entry = state.entry(&platform);
        match outcome {
            Ok(kept) => {
                let until = pace::refresh(&kept.trusted, now, pace::chance());
                entry.refresh_at = Some(clock + until);
                let was_failing = entry.failing.take();
                let stale = kept.trusted.is_stale(now);
                let source = kept.origin.to_string();
                entry.kept = Some(kept);
                drop(state);
                match was_failing {
                    None => info!(%platform, source, stale, next_in_seconds = until.as_secs(), "collateral fetched"),
                    Some(failing) => info!(
                        %platform,
                        source,
                        stale,
                        failures = failing.count,
                        failed_for_seconds = clock.duration_since(failing.since).as_secs(),
                        "collateral is available again"
                    ),
                }
                Ok(())
            }
            Err(failure) => {
                let usable = entry.kept.as_ref().map(|kept| &kept.trusted).filter(|kept| kept.check_time(now).is_ok());
                let has_some = usable.is_some();
                let lasting = matches!(&failure, ServiceFailure::Fetch(error) if error.is_lasting());
                let (count, since) = match &entry.failing {
                    None => (1, clock),
                    Some(failing) => (failing.count.saturating_add(1), failing.since),
                };
                // When the older one ends, somebody suffers.
                let left = usable.map(|kept| Duration::from_secs(kept.expires().as_secs() - now.as_secs()));
                let pause = pace::pause(Failures { count, is_calm: has_some || lasting, left }, pace::chance());
                let last = Arc::new(failure);
                entry.failing = Some(Failing { last: Arc::clone(&last), count, since, retry_at: clock + pause });
                drop(state);
                warn!(
                    %platform,
                    error = &*last as &dyn std::error::Error,
                    hint = last.hint().unwrap_or_default(),
                    failures = count,
                    failing_for_seconds = clock.duration_since(since).as_secs(),
                    again_in_seconds = pause.as_secs(),
                    has_older_collateral = has_some,
                    "no service has collateral"
                );
                Err(last)
            }
        }
    }
}
