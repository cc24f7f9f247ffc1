//! Floors against a host that turns back its clock or replays old collateral.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::collateral::TrustedCollateral;
use crate::error::ErrorClass;
use crate::pck::Fmspc;
use crate::tcb::Tee;

/// How far a clock may lag behind its floor before that is worth a line in the log.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// The earliest time that it can possibly be. In a TEE the clock belongs to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFloor(UnixTime);

impl ClockFloor {
    /// The later of the program's build time and the newest issue date of collateral that was ever verified.
    pub fn new(build_time: UnixTime, newest_issue: Option<UnixTime>) -> Self {
        Self(newest_issue.map_or(build_time, |issue| issue.max(build_time)))
    }

    /// The time to verify at: the system's clock, but never below the floor.
    pub fn effective_now(self, system: UnixTime) -> VerificationTime {
        let behind = Duration::from_secs(self.0.as_secs().saturating_sub(system.as_secs()));
        VerificationTime { now: system.max(self.0), behind }
    }
}

/// What [`ClockFloor::effective_now`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationTime {
    /// The time to verify at.
    pub now: UnixTime,
    /// How far the system's clock lies below the floor; zero for a good clock.
    pub behind: Duration,
}

impl VerificationTime {
    /// True if the clock lags by more than [`CLOCK_TOLERANCE`], which the operator should know.
    pub fn is_suspicious(&self) -> bool {
        self.behind > CLOCK_TOLERANCE
    }
}

/// The vendor's issue numbers of collateral (`tcbEvaluationDataNumber`), which only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvaluationNumbers {
    /// Of the TCB info.
    pub tcb_info: u32,
    /// Of the QE identity.
    pub qe_identity: u32,
}

impl EvaluationNumbers {
    fn max(self, other: Self) -> Self {
        Self { tcb_info: self.tcb_info.max(other.tcb_info), qe_identity: self.qe_identity.max(other.qe_identity) }
    }
}

/// The highest numbers seen for one kind of platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorEntry {
    /// The TEE.
    pub tee: Tee,
    /// The kind of platform.
    pub fmspc: Fmspc,
    /// The highest numbers.
    pub numbers: EvaluationNumbers,
}

/// Collateral is older than collateral that was accepted before.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// The TCB info is older.
    #[error("expected TCB info for {tee} {fmspc} with evaluation number of at least {expected}, got {got}")]
    TcbInfo {
        /// The TEE.
        tee: Tee,
        /// The kind of platform.
        fmspc: Fmspc,
        /// The highest number so far.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The QE identity is older.
    #[error("expected QE identity for {tee} {fmspc} with evaluation number of at least {expected}, got {got}")]
    QeIdentity {
        /// The TEE.
        tee: Tee,
        /// The kind of platform.
        fmspc: Fmspc,
        /// The highest number so far.
        expected: u32,
        /// What came.
        got: u32,
    },
}

impl FloorError {
    /// Always [`ErrorClass::CollateralRollback`].
    pub fn class(&self) -> ErrorClass {
        ErrorClass::CollateralRollback
    }

    /// The stable code of [`Self::class`].
    pub fn code(&self) -> &'static str {
        self.class().code()
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some("fetch the newest collateral; somebody between the vendor and this host serves old data")
    }
}

/// The highest evaluation numbers per TEE and FMSPC, and the newest issue date, of all collateral accepted so far.
///
/// It belongs into sealed state: [`Self::entries`] and [`Self::newest_issue`] take it apart,
/// [`Self::from_parts`] puts it together. It grows by one entry per kind of platform that the vendor signed for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollateralFloor {
    numbers: BTreeMap<(Tee, Fmspc), EvaluationNumbers>,
    newest_issue: Option<UnixTime>,
}

impl CollateralFloor {
    /// Puts a floor together; of several entries for one kind of platform the highest numbers count.
    pub fn from_parts(entries: impl IntoIterator<Item = FloorEntry>, newest_issue: Option<UnixTime>) -> Self {
        let mut floor = Self { numbers: BTreeMap::new(), newest_issue };
        for FloorEntry { tee, fmspc, numbers } in entries {
            floor.raise(tee, fmspc, numbers);
        }
        floor
    }

    /// The highest numbers, sorted by TEE and FMSPC.
    pub fn entries(&self) -> impl Iterator<Item = FloorEntry> {
        self.numbers.iter().map(|(&(tee, fmspc), &numbers)| FloorEntry { tee, fmspc, numbers })
    }

    /// The newest issue date, for [`ClockFloor::new`].
    pub fn newest_issue(&self) -> Option<UnixTime> {
        self.newest_issue
    }

    /// Checks that `collateral` is not older than what was accepted before.
    ///
    /// # Errors
    ///
    /// A lower number, with the highest one so far.
    pub fn check(&self, collateral: &TrustedCollateral) -> Result<(), FloorError> {
        let (tee, fmspc) = (collateral.tee(), collateral.fmspc());
        let Some(floor) = self.numbers.get(&(tee, fmspc)) else { return Ok(()) };
        let numbers = collateral.evaluation_numbers();
        if numbers.tcb_info < floor.tcb_info {
            return Err(FloorError::TcbInfo { tee, fmspc, expected: floor.tcb_info, got: numbers.tcb_info });
        }
        if numbers.qe_identity < floor.qe_identity {
            return Err(FloorError::QeIdentity { tee, fmspc, expected: floor.qe_identity, got: numbers.qe_identity });
        }
        Ok(())
    }

    /// Raises the floor to accepted `collateral`; true if anything changed and the state is to be saved.
    pub fn observe(&mut self, collateral: &TrustedCollateral) -> bool {
        let raised = self.raise(collateral.tee(), collateral.fmspc(), collateral.evaluation_numbers());
        let issue = Some(collateral.newest_issue());
        let newer = issue > self.newest_issue;
        self.newest_issue = self.newest_issue.max(issue);
        raised || newer
    }

    fn raise(&mut self, tee: Tee, fmspc: Fmspc, numbers: EvaluationNumbers) -> bool {
        let before = self.numbers.get(&(tee, fmspc)).copied();
        let after = before.unwrap_or_default().max(numbers);
        self.numbers.insert((tee, fmspc), after);
        before != Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::from_seconds;

    #[test]
    fn a_clock_that_is_turned_back_gains_nothing() {
        let floor = ClockFloor::new(from_seconds(1000), Some(from_seconds(5000)));
        let time = floor.effective_now(from_seconds(10));
        assert_eq!((time.now, time.behind), (from_seconds(5000), Duration::from_secs(4990)));
        assert!(time.is_suspicious());
        let floor = ClockFloor::new(from_seconds(1000), None);
        assert_eq!(floor.effective_now(from_seconds(10)).now, from_seconds(1000));
        let floor = ClockFloor::new(from_seconds(1000), Some(from_seconds(500)));
        assert_eq!(floor.effective_now(from_seconds(10)).now, from_seconds(1000));
    }

    #[test]
    fn a_good_clock_is_taken_as_it_is() {
        let time = ClockFloor::new(from_seconds(1000), None).effective_now(from_seconds(2000));
        assert_eq!((time.now, time.behind), (from_seconds(2000), Duration::ZERO));
    }

    #[test]
    fn a_lag_of_ten_minutes_is_not_yet_suspicious() {
        let floor = ClockFloor::new(from_seconds(1000), None);
        assert!(!floor.effective_now(from_seconds(400)).is_suspicious());
        assert!(floor.effective_now(from_seconds(399)).is_suspicious());
    }

    #[test]
    fn a_floor_survives_being_taken_apart() {
        let entry = |fmspc, tcb_info, qe_identity| FloorEntry {
            tee: Tee::Sgx,
            fmspc: Fmspc([fmspc; 6]),
            numbers: EvaluationNumbers { tcb_info, qe_identity },
        };
        let floor =
            CollateralFloor::from_parts([entry(2, 1, 1), entry(1, 17, 18), entry(1, 20, 3)], Some(from_seconds(7)));
        let entries: Vec<_> = floor.entries().collect();
        assert_eq!(entries, [entry(1, 20, 18), entry(2, 1, 1)]);
        assert_eq!(CollateralFloor::from_parts(entries, floor.newest_issue()), floor);
    }
}
