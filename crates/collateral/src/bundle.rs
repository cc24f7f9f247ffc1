//! A bundle directory, and what was verified of it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use marblerun_attestation::{CollateralError, PlatformId, TrustRoots, TrustedCollateral};
use rustls_pki_types::UnixTime;

use crate::base_url::BaseUrl;
use crate::error::{BundleError, LookupError};
use crate::file::{self, Stamp};
use crate::name;
use crate::prove::{ProofError, prove_aged};

/// How often a file is looked at for changes.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// For how many kinds of platforms collateral is kept in memory. The one that was added first gives way.
pub const MAX_KEPT: usize = 64;

pub(crate) const SUBDIRECTORY: &str = "dcap";

/// Where collateral came from.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of a bundle.
    Bundle(PathBuf),
    /// A file that was written when a service had answered.
    Cache(PathBuf),
    /// A service.
    Service(BaseUrl),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(path) | Self::Cache(path) => path.display().fmt(f),
            Self::Service(url) => url.fmt(f),
        }
    }
}

/// Collateral that was proven.
#[derive(Debug)]
pub struct KeptCollateral {
    /// Where it came from.
    pub origin: Origin,
    /// Its exact bytes, to pass them on.
    pub text: Vec<u8>,
    /// What they prove.
    pub trusted: Arc<TrustedCollateral>,
}

/// A directory of collateral files, verified under one set of roots.
///
/// All methods may be called from any thread. They read files and verify signatures, up to a few milliseconds at a
/// change, and never wait for another thread's reading or verifying.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
    roots: TrustRoots,
    max_age: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<PlatformId, Entry>,
    order: VecDeque<PlatformId>,
    listing: Option<Listing>,
}

/// What one look at a file gave.
#[derive(Clone, Debug)]
struct Entry {
    checked: Instant,
    path: PathBuf,
    stamp: Stamp,
    outcome: Result<Arc<KeptCollateral>, LookupError>,
}

/// What one look at the directory gave. Anybody can ask for platforms that do not exist, so this is kept, too.
#[derive(Clone, Debug)]
struct Listing {
    checked: Instant,
    files: Result<Arc<HashMap<PlatformId, Vec<PathBuf>>>, LookupError>,
}

impl Bundle {
    /// Opens the directory that holds `dcap/`. The files may come and go later.
    ///
    /// # Errors
    ///
    /// The path must be a directory.
    pub fn open(directory: impl Into<PathBuf>, roots: TrustRoots) -> Result<Self, BundleError> {
        let directory = directory.into();
        match std::fs::metadata(&directory) {
            Ok(metadata) if metadata.is_dir() => {
                Ok(Self { directory, roots, max_age: Duration::ZERO, kept: Mutex::default() })
            }
            Ok(_) => Err(BundleError::NotADirectory { directory }),
            Err(error) => Err(BundleError::Unreadable { directory, reason: error.to_string() }),
        }
    }

    /// Also takes TCB info and QE identity that are older by up to `max_age`; see
    /// [`marblerun_attestation::Collateral::dangerous_verify_aged`].
    #[must_use]
    pub fn dangerous_with_max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// The directory that was opened.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The roots under which the collateral is proven.
    pub fn roots(&self) -> &TrustRoots {
        &self.roots
    }

    /// Until when the collateral in memory may be used.
    pub(crate) fn expirations(&self) -> Vec<(PlatformId, UnixTime)> {
        let kept = self.lock();
        let entries = kept.entries.iter();
        entries
            .filter_map(|(platform, entry)| Some((*platform, entry.outcome.as_ref().ok()?.trusted.expires())))
            .collect()
    }

    /// The platforms for which there are files, in order. Nothing is read or proven.
    ///
    /// # Errors
    ///
    /// The directory must be readable and not too full.
    pub fn platforms(&self) -> Result<Vec<PlatformId>, LookupError> {
        let mut platforms: Vec<_> = name::list(&self.subdirectory())?.into_keys().collect();
        platforms.sort_unstable();
        Ok(platforms)
    }

    /// The collateral for a platform, valid at `now`.
    ///
    /// A file is read and verified when it is first asked for and when it has changed. File and directory are looked
    /// at once per [`RECHECK_INTERVAL`] of `clock`.
    ///
    /// # Errors
    ///
    /// Missing, unacceptable and expired collateral are different [`LookupError`]s.
    pub fn lookup(
        &self,
        platform: &PlatformId,
        clock: Instant,
        now: UnixTime,
    ) -> Result<Arc<KeptCollateral>, LookupError> {
        let outcome = match self.claim(platform, clock) {
            Claim::Fresh(outcome) => outcome,
            Claim::Check(entry) if entry.is_current() => entry.outcome,
            Claim::Check(_) | Claim::Unknown => self.load(platform, clock, now),
        };
        let kept = outcome?;
        // It may have expired since it was proven.
        match kept.trusted.check_time(now) {
            Ok(()) => Ok(kept),
            Err(source) => Err(LookupError::Expired { path: kept.origin.to_string().into(), source }),
        }
    }

    /// Decides under the lock whether this thread has to look at the file; the others take what is there meanwhile.
    fn claim(&self, platform: &PlatformId, clock: Instant) -> Claim {
        let mut kept = self.lock();
        let Some(entry) = kept.entries.get_mut(platform) else { return Claim::Unknown };
        if is_recent(entry.checked, clock) {
            return Claim::Fresh(entry.outcome.clone());
        }
        entry.checked = clock;
        Claim::Check(entry.clone())
    }

    fn load(&self, platform: &PlatformId, clock: Instant, now: UnixTime) -> Result<Arc<KeptCollateral>, LookupError> {
        let read = self.find(platform, clock).and_then(|path| {
            let (text, stamp) = file::read(&path)?;
            Ok((path, text, stamp))
        });
        match read {
            Ok((path, text, stamp)) => {
                let outcome = self.prove(platform, &path, text, now).map(Arc::new);
                self.lock().put(*platform, Entry { checked: clock, path, stamp, outcome: outcome.clone() });
                outcome
            }
            Err(error) => {
                self.lock().remove(platform);
                Err(error)
            }
        }
    }

    fn find(&self, platform: &PlatformId, clock: Instant) -> Result<PathBuf, LookupError> {
        let directory = self.subdirectory();
        let listing = self.lock().listing.clone().filter(|listing| is_recent(listing.checked, clock));
        let listing = listing.unwrap_or_else(|| {
            let listing = Listing { checked: clock, files: name::list(&directory).map(Arc::new) };
            self.lock().listing = Some(listing.clone());
            listing
        });
        match listing.files?.get(platform).map_or(&[][..], Vec::as_slice) {
            [path] => Ok(path.clone()),
            [] => {
                let path = directory.join(name::file_name(platform));
                Err(LookupError::Missing { platform: *platform, path })
            }
            several => Err(LookupError::Ambiguous { platform: *platform, directory, files: several.len() }),
        }
    }

    /// The file's text, whatever it is.
    pub(crate) fn text(&self, platform: &PlatformId, clock: Instant) -> Option<Vec<u8>> {
        let path = self.find(platform, clock).ok()?;
        Some(file::read(&path).ok()?.0)
    }

    fn prove(
        &self,
        platform: &PlatformId,
        path: &Path,
        text: Vec<u8>,
        now: UnixTime,
    ) -> Result<KeptCollateral, LookupError> {
        let trusted = prove_aged(&text, platform, &self.roots, now, self.max_age);
        let trusted = trusted.map_err(|error| match error {
            ProofError::Collateral(CollateralError::Validity(source)) => {
                LookupError::Expired { path: path.to_owned(), source }
            }
            ProofError::Collateral(source) => LookupError::Invalid { path: path.to_owned(), source },
            ProofError::Mismatch { expected, got } => LookupError::Mismatch { path: path.to_owned(), expected, got },
        })?;
        Ok(KeptCollateral { origin: Origin::Bundle(path.to_owned()), text, trusted: Arc::new(trusted) })
    }

    fn subdirectory(&self) -> PathBuf {
        self.directory.join(SUBDIRECTORY)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every critical section leaves the maps in a usable state, so a panic elsewhere does not matter.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Claim {
    Fresh(Result<Arc<KeptCollateral>, LookupError>),
    Check(Entry),
    Unknown,
}

impl Entry {
    /// True if the file is the one that was read and another look would give the same.
    fn is_current(&self) -> bool {
        // Time heals validity, so such an outcome is worth another try although the file is the same.
        !matches!(self.outcome, Err(LookupError::Expired { .. })) && Stamp::of(&self.path) == Some(self.stamp)
    }
}

impl Kept {
    fn put(&mut self, platform: PlatformId, entry: Entry) {
        if self.entries.insert(platform, entry).is_some() {
            return;
        }
        self.order.push_back(platform);
        if self.order.len() > MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn remove(&mut self, platform: &PlatformId) {
        if self.entries.remove(platform).is_some() {
            self.order.retain(|kept| kept != platform);
        }
    }
}

fn is_recent(checked: Instant, clock: Instant) -> bool {
    clock.saturating_duration_since(checked) < RECHECK_INTERVAL
}
