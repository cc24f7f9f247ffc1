//! Judging Marbles' evidence: the trust class of this process, its roots and its collateral.
//!
//! The class is decided once at start and never changes: a failure concerns the call in which it happens.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use marblerun_attestation::{
    Admission, AdmitError, ClockFloor, CollateralFloor, ErrorClass, Package, PckCache, PckError, PlatformId, Quote,
    QuoteError, ReportDigest, RootError, TcbStatus, TrustRoots, VerifiedReport, VerifyError, admit, is_raw_sgx_quote,
    with_oe_header,
};
use marblerun_collateral::{BundleError, KeptCollateral, Request, Supply, SupplyError, SupplyOptions};
use marblerun_coordinator_core::record::CollateralAccepted;
use marblerun_json::RawJson;
use marblerun_sealing::{TrustClass, TrustContext};
use rustls::pki_types::UnixTime;
use thiserror::Error;
use tracing::warn;

/// No clock is earlier: this version did not exist before.
const BUILD_TIME: u64 = 1_795_132_800;

/// What is at hand for a platform.
type LookUp = Result<Arc<KeptCollateral>, SupplyError>;

/// What this process believes.
pub enum Trust {
    /// No TEE: evidence of Marbles is not looked at.
    Simulation,
    /// Evidence must verify under the roots of one class.
    Attested(Box<Verifier>),
}

/// Verifies evidence under the roots of one class.
pub struct Verifier {
    roots: TrustRoots,
    supply: Supply,
    max_collateral_age: Duration,
    chains: PckCache,
}

/// Why the trust of this process cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrustSetupError {
    /// The roots of `trust.json` cannot be used.
    #[error("trust.json")]
    Roots(#[from] RootError),
    /// A directory for collateral cannot be used.
    #[error("EDG_COORDINATOR_COLLATERAL_DIR or EDG_COORDINATOR_COLLATERAL_CACHE")]
    Collateral(#[from] BundleError),
}

/// Why evidence was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// There is no evidence.
    #[error("expected a quote, got none")]
    Empty,
    /// It cannot be read.
    #[error("quote cannot be read")]
    Quote(#[from] QuoteError),
    /// It does not say which platform made it.
    #[error("the quote's platform cannot be read")]
    Platform(#[from] PckError),
    /// It names a platform that the vendor did not certify, so nobody is asked about it.
    #[error("the quote's platform is not certified")]
    Uncertified(#[source] PckError),
    /// There is no usable collateral.
    #[error("no usable collateral")]
    Collateral(#[from] SupplyError),
    /// The collateral is older than its vendor wants, and a signature over the verdict could not say so.
    #[error("expected current collateral, got some whose next update was due before")]
    StaleCollateral,
    /// The quote is not genuine.
    #[error("quote is not genuine")]
    Verify(#[from] VerifyError),
    /// The quote is genuine, but not what the manifest asks for.
    #[error("quote does not fit the package")]
    Admit(#[from] AdmitError),
    /// This process has no roots under which a quote could be genuine.
    #[error("expected a Coordinator that verifies evidence, got one in simulation")]
    Simulation,
}

impl EvidenceError {
    /// True where the evidence was not judged because current collateral is missing; the Marble may try again.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Collateral(error) => error.is_unavailable(),
            Self::StaleCollateral => true,
            Self::Verify(error) => error.class().is_collateral_unavailable(),
            Self::Empty
            | Self::Quote(_)
            | Self::Platform(_)
            | Self::Uncertified(_)
            | Self::Admit(_)
            | Self::Simulation => false,
        }
    }

    /// True where asking a service for collateral may help; see [`Trust::obtain`].
    pub fn wants_collateral(&self) -> bool {
        matches!(self, Self::Collateral(SupplyError::Wanted { .. }))
    }

    /// A stable word for logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => ErrorClass::Malformed.code(),
            Self::Quote(error) => error.code(),
            Self::Platform(error) => error.code(),
            Self::Uncertified(error) => error.code(),
            Self::Collateral(error) => error.code(),
            Self::StaleCollateral => ErrorClass::ExpiredCollateral.code(),
            Self::Verify(error) => error.code(),
            Self::Admit(error) => error.code(),
            Self::Simulation => "simulation",
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("a Marble outside a TEE is accepted only by a Coordinator in simulation"),
            Self::Uncertified(error) => error.hint(),
            Self::StaleCollateral => Some("refresh the collateral"),
            Self::Quote(error) => error.hint(),
            Self::Platform(error) => error.hint(),
            Self::Collateral(SupplyError::NotConfigured { .. }) => {
                Some("set EDG_COORDINATOR_COLLATERAL_DIR, EDG_COORDINATOR_PCCS_URL, or EDG_COORDINATOR_QCNL")
            }
            Self::Collateral(error) => error.hint(),
            Self::Verify(error) => error.hint(),
            Self::Admit(error) => error.hint(),
            Self::Simulation => Some("ask a Coordinator that runs in a TEE"),
        }
    }
}

/// Evidence that was accepted, and what to remember of it.
#[derive(Debug)]
pub struct Accepted {
    /// What was admitted; `None` in simulation.
    pub admission: Option<Admission>,
    /// Collateral that raises the floor, to be made durable before the answer.
    pub news: Option<CollateralAccepted>,
}

/// A quote that is genuine, whatever its enclave is and however its platform is patched.
#[derive(Debug)]
pub struct Genuine {
    /// The vendor's verdict.
    pub tcb_status: TcbStatus,
    /// Collateral that raises the floor, to be made durable before the answer.
    pub news: Option<CollateralAccepted>,
}

impl Trust {
    /// The trust that the TEE says this process has, with collateral from a directory only.
    ///
    /// # Errors
    ///
    /// If the roots or the collateral directory cannot be used.
    pub fn new(class: &marblerun_tee::TrustClass, collateral: Option<&Path>) -> Result<Self, TrustSetupError> {
        Self::with_sources(class, SupplyOptions { bundle: collateral.map(Path::to_owned), ..SupplyOptions::default() })
    }

    /// The trust that the TEE says this process has, with collateral from these sources.
    ///
    /// # Errors
    ///
    /// If the roots or a directory cannot be used.
    pub fn with_sources(class: &marblerun_tee::TrustClass, sources: SupplyOptions) -> Result<Self, TrustSetupError> {
        let roots = match class {
            marblerun_tee::TrustClass::Simulation => return Ok(Self::Simulation),
            marblerun_tee::TrustClass::Hardware => TrustRoots::hardware(),
            marblerun_tee::TrustClass::Software { roots } => {
                let names: Vec<String> = (0..roots.len()).map(|index| format!("Roots[{index}]")).collect();
                TrustRoots::software(names.iter().map(String::as_str).zip(roots.iter().map(Vec::as_slice)))?
            }
        };
        let max_collateral_age = sources.dangerous_max_age;
        let supply = Supply::new(roots.clone(), sources)?;
        Ok(Self::Attested(Box::new(Verifier { roots, supply, max_collateral_age, chains: PckCache::new() })))
    }

    /// The word for the class.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Simulation => "simulation",
            Self::Attested(verifier) => verifier.roots.class().name(),
        }
    }

    /// Where collateral comes from; `None` in simulation.
    pub fn supply(&self) -> Option<&Supply> {
        match self {
            Self::Simulation => None,
            Self::Attested(verifier) => Some(&verifier.supply),
        }
    }

    /// For how long collateral counts after its next update was due; `None` where it does not.
    pub fn max_collateral_age(&self) -> Option<Duration> {
        match self {
            Self::Simulation => None,
            Self::Attested(verifier) => Some(verifier.max_collateral_age).filter(|age| !age.is_zero()),
        }
    }

    /// SHA-256 of each software root; empty for the other classes.
    pub fn software_root_hashes(&self) -> Vec<[u8; 32]> {
        match self {
            Self::Attested(verifier) if verifier.roots.class() == marblerun_attestation::TrustClass::Software => {
                verifier.roots.sha256_sorted()
            }
            _ => Vec::new(),
        }
    }

    /// What sealed state is bound to: a state made under one class never opens under another.
    pub fn context(&self) -> TrustContext {
        let class = match self {
            Self::Simulation => TrustClass::Simulation,
            Self::Attested(verifier) => match verifier.roots.class() {
                marblerun_attestation::TrustClass::Hardware => TrustClass::Hardware,
                marblerun_attestation::TrustClass::Software => TrustClass::Software,
            },
        };
        TrustContext::new(class, self.software_root_hashes())
    }

    /// Judges a Marble's evidence: genuine, current, bound to `certificate`, and what `package` asks for.
    ///
    /// # Errors
    ///
    /// See [`EvidenceError`].
    pub fn judge(
        &self,
        evidence: &[u8],
        certificate: &[u8],
        package: &Package,
        floor: &CollateralFloor,
    ) -> Result<Accepted, EvidenceError> {
        let Self::Attested(verifier) = self else { return Ok(Accepted { admission: None, news: None }) };
        verifier.judge(evidence, certificate, package, floor, system_time())
    }

    /// Verifies a quote of anybody: genuine and current, nothing more. The Open Enclave header may be missing.
    ///
    /// # Errors
    ///
    /// See [`EvidenceError`]; in simulation always.
    pub fn vouch(&self, quote: &[u8], floor: &CollateralFloor) -> Result<Genuine, EvidenceError> {
        let Self::Attested(verifier) = self else { return Err(EvidenceError::Simulation) };
        verifier.vouch(quote, floor, effective_now(floor, system_time()))
    }

    /// What is to be asked for, where judging or vouching said that it
    /// [wants collateral](EvidenceError::wants_collateral).
    ///
    /// # Errors
    ///
    /// If the vendor did not certify the quote's platform: strangers must not make us ask for names that they invent.
    pub fn wanted(&self, quote: &[u8], floor: &CollateralFloor) -> Result<Request, EvidenceError> {
        let Self::Attested(verifier) = self else { return Err(EvidenceError::Simulation) };
        let now = effective_now(floor, system_time());
        verifier.supply.request(Quote::parse(quote)?, now).map_err(EvidenceError::Uncertified)
    }

    /// Waits until a service answered. The time is limited, and so is the number of those who wait.
    ///
    /// # Errors
    ///
    /// Why there is no collateral now.
    pub async fn obtain(&self, request: &Request, floor: &CollateralFloor) -> Result<(), EvidenceError> {
        let Self::Attested(verifier) = self else { return Err(EvidenceError::Simulation) };
        Ok(verifier.supply.obtain(request, floor, effective_now(floor, system_time())).await?)
    }

    /// The collateral of the platform that made our own `evidence`, for clients that have none; best effort. Where it has
    /// expired, the client is to see what expired when, so it is given all the same: clients verify it.
    pub fn own_collateral(&self, evidence: &[u8], floor: &CollateralFloor) -> Option<RawJson> {
        let Self::Attested(verifier) = self else { return None };
        let (platform, kept) = verifier.look_up(evidence, floor)?;
        let text = match kept {
            Ok(kept) => kept.text.clone(),
            Err(_) => verifier.supply.out_of_date(&platform, effective_now(floor, system_time()))?,
        };
        Some(RawJson(text))
    }

    /// What is to be asked for so that [`Self::own_collateral`] has something new to give.
    pub fn wanted_for_us(&self, evidence: &[u8], floor: &CollateralFloor) -> Option<Request> {
        let Self::Attested(verifier) = self else { return None };
        let (platform, kept) = verifier.look_up(evidence, floor)?;
        let is_wanted = match kept {
            Err(SupplyError::Wanted { .. }) => true,
            Err(_) => false,
            Ok(_) => verifier.supply.is_refresh_due(&platform),
        };
        if is_wanted { self.wanted(evidence, floor).ok() } else { None }
    }
}

impl Verifier {
    /// What is at hand for the platform that made our own `evidence`.
    fn look_up(&self, evidence: &[u8], floor: &CollateralFloor) -> Option<(PlatformId, LookUp)> {
        let platform = Quote::parse(evidence).ok()?.unverified_platform().ok()?;
        let kept = self.supply.at_hand(&platform, floor, effective_now(floor, system_time()));
        Some((platform, kept))
    }

    fn judge(
        &self,
        evidence: &[u8],
        certificate: &[u8],
        package: &Package,
        floor: &CollateralFloor,
        system: UnixTime,
    ) -> Result<Accepted, EvidenceError> {
        if evidence.is_empty() {
            return Err(EvidenceError::Empty);
        }
        let (report, kept) = self.verify(&Quote::parse(evidence)?, floor, effective_now(floor, system))?;
        let admission = admit(&report, ReportDigest::of(certificate), package)?;
        Ok(Accepted { admission: Some(admission), news: news(floor, &kept) })
    }

    fn vouch(&self, quote: &[u8], floor: &CollateralFloor, now: UnixTime) -> Result<Genuine, EvidenceError> {
        if quote.is_empty() {
            return Err(EvidenceError::Empty);
        }
        let framed = if is_raw_sgx_quote(quote) { Cow::Owned(with_oe_header(quote)) } else { Cow::Borrowed(quote) };
        let (report, kept) = self.verify(&Quote::parse_with_oe_header(&framed)?, floor, now)?;
        if report.has_stale_collateral() {
            return Err(EvidenceError::StaleCollateral);
        }
        Ok(Genuine { tcb_status: report.tcb_status(), news: news(floor, &kept) })
    }

    fn verify(
        &self,
        quote: &Quote,
        floor: &CollateralFloor,
        now: UnixTime,
    ) -> Result<(VerifiedReport, Arc<KeptCollateral>), EvidenceError> {
        let platform = self.chains.platform(quote)?;
        let kept = self.supply.at_hand(&platform, floor, now)?;
        let report = self.chains.verify(quote, &kept.trusted, now)?;
        if self.supply.is_refresh_due(&platform)
            && let Ok(request) = self.supply.request(quote.clone(), now)
        {
            self.supply.refresh(&request, floor, now);
        }
        Ok((report, kept))
    }
}

/// What the collateral adds to the floor.
fn news(floor: &CollateralFloor, kept: &KeptCollateral) -> Option<CollateralAccepted> {
    floor.clone().observe(&kept.trusted).then(|| CollateralAccepted::of(&kept.trusted))
}

/// The system's clock; in a TEE it belongs to the host.
pub fn system_time() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The time to judge at: the system's, but never before this build or collateral that was trusted.
fn effective_now(floor: &CollateralFloor, system: UnixTime) -> UnixTime {
    let build = UnixTime::since_unix_epoch(std::time::Duration::from_secs(BUILD_TIME));
    let time = ClockFloor::new(build, floor.newest_issue()).effective_now(system);
    if time.is_suspicious() {
        warn!(behind_seconds = time.behind.as_secs(), "the system clock is behind collateral that was trusted before");
    }
    time.now
}

#[cfg(test)]
mod tests;
