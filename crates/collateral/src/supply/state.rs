//! What is known of each platform. Pure bookkeeping behind one short lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use marblerun_attestation::PlatformId;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::ServiceFailure;
use crate::bundle::{KeptCollateral, MAX_KEPT};

/// What a flight ends with; `None` while it goes on.
pub(super) type Outcome = Option<Result<(), Arc<ServiceFailure>>>;

/// One platform.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What was fetched, or read from the cache.
    pub(super) kept: Option<Arc<KeptCollateral>>,
    /// When that is to be asked for again.
    pub(super) refresh_at: Option<Instant>,
    /// True once the cache directory was looked at.
    pub(super) was_read: bool,
    /// What went wrong since the last success.
    pub(super) failing: Option<Failing>,
    /// Those who ask the services, if somebody does.
    pub(super) flight: Option<watch::Receiver<Outcome>>,
    /// How many wait for them.
    pub(super) waiting: usize,
}

/// Failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) last: Arc<ServiceFailure>,
    pub(super) count: u32,
    pub(super) since: Instant,
    pub(super) retry_at: Instant,
}

/// All platforms, a limited number of them.
#[derive(Debug, Default)]
pub(super) struct State {
    entries: HashMap<PlatformId, Entry>,
    order: VecDeque<PlatformId>,
    /// Flights that ended with collateral.
    pub(super) fetched: u64,
    /// Flights in vain.
    pub(super) failed: u64,
    /// When the last one ended well.
    pub(super) last_success: Option<UnixTime>,
}

impl Entry {
    /// True while services are being asked. A flight that ended without a word counts as none.
    pub(super) fn is_flying(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.borrow().is_none() && flight.has_changed().is_ok())
    }

    /// The failure that forbids to ask again already.
    pub(super) fn pausing(&self, clock: Instant) -> Option<&Failing> {
        self.failing.as_ref().filter(|failing| clock < failing.retry_at)
    }

    fn is_in_use(&self) -> bool {
        self.waiting > 0 || self.is_flying()
    }
}

impl State {
    pub(super) fn get(&self, platform: &PlatformId) -> Option<&Entry> {
        self.entries.get(platform)
    }

    pub(super) fn get_mut(&mut self, platform: &PlatformId) -> Option<&mut Entry> {
        self.entries.get_mut(platform)
    }

    /// The platform's entry. Of those that are not in use, one without collateral gives way to a new one, else the one
    /// that was added first: whoever has many platforms must not displace what others need.
    pub(super) fn entry(&mut self, platform: &PlatformId) -> &mut Entry {
        if !self.entries.contains_key(platform) {
            if self.order.len() >= MAX_KEPT {
                let position = |may_go: fn(&Entry) -> bool| {
                    self.order.iter().position(|old| self.entries.get(old).is_none_or(may_go))
                };
                let idle = position(|entry| !entry.is_in_use() && entry.kept.is_none())
                    .or_else(|| position(|entry| !entry.is_in_use()));
                if let Some(old) = idle.and_then(|at| self.order.remove(at)) {
                    self.entries.remove(&old);
                }
            }
            self.order.push_back(*platform);
        }
        self.entries.entry(*platform).or_default()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&PlatformId, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn flights(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_flying()).count()
    }
}

#[cfg(test)]
mod tests {
    use marblerun_attestation::{Fmspc, PckCa, Tee};

    use super::*;

    fn platform(number: usize) -> PlatformId {
        let [low, high, ..] = number.to_le_bytes();
        PlatformId { tee: Tee::Sgx, fmspc: Fmspc([low, high, 0, 0, 0, 0]), ca: PckCa::Platform }
    }

    fn kept() -> Arc<KeptCollateral> {
        let testdata = std::env::var("MARBLERUN_TESTDATA")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata").to_owned());
        let read = |name: &str| std::fs::read(format!("{testdata}/attestation/swtee/{name}")).unwrap();
        let root = read("dcap-root.der");
        let roots = marblerun_attestation::TrustRoots::software([("test", &root[..])]).unwrap();
        let text = read("sgx.collateral.json");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_795_392_000));
        let trusted = marblerun_attestation::Collateral::parse(&text).unwrap().verify(&roots, now).unwrap();
        KeptCollateral { origin: crate::Origin::Cache("x".into()), text, trusted: Arc::new(trusted) }.into()
    }

    #[test]
    fn the_number_of_platforms_is_limited_and_those_in_use_stay() {
        let mut state = State::default();
        let (sender, receiver) = watch::channel(None);
        state.entry(&platform(0)).flight = Some(receiver);
        state.entry(&platform(1)).waiting = 1;
        for number in 2..MAX_KEPT + 10 {
            state.entry(&platform(number)).was_read = true;
        }
        assert_eq!((state.entries.len(), state.order.len()), (MAX_KEPT, MAX_KEPT));
        assert!(state.get(&platform(0)).is_some() && state.get(&platform(1)).is_some());
        assert!(state.get(&platform(2)).is_none());
        assert_eq!(state.flights(), 1);
        // Whoever has many platforms displaces only those without collateral.
        let useful = platform(MAX_KEPT);
        state.entry(&useful).kept = Some(kept());
        for number in 2 * MAX_KEPT..4 * MAX_KEPT {
            state.entry(&platform(number));
        }
        assert!(state.get(&useful).is_some());
        assert_eq!(state.order.len(), MAX_KEPT);
        // A flight that ended without a word does not keep its place.
        drop(sender);
        assert_eq!(state.flights(), 0);
        state.entry(&platform(9999));
        assert!(state.get(&platform(0)).is_none());
    }
}
