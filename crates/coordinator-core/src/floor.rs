//! Collateral and time never go back: what was seen once is the least that is accepted later.

use std::collections::BTreeMap;

use rustls_pki_types::UnixTime;

use crate::record::CollateralAccepted;

/// The newest collateral seen, per kind of platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollateralFloor {
    platforms: BTreeMap<String, u32>,
    newest_issue_date: u64,
}

impl CollateralFloor {
    /// The lowest acceptable `tcbEvaluationDataNumber` for a platform; `fmspc` in upper-case hex.
    pub fn evaluation_number(&self, fmspc: &str) -> Option<u32> {
        self.platforms.get(fmspc).copied()
    }

    /// The newest issue date of any collateral that was trusted: it is not earlier than that.
    pub fn newest_issue_date(&self) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.newest_issue_date))
    }

    /// True if `accepted` says something new, so that it is worth a record.
    pub fn is_raised_by(&self, accepted: &CollateralAccepted) -> bool {
        accepted.newest_issue_date > self.newest_issue_date
            || self.evaluation_number(&accepted.fmspc).is_none_or(|number| accepted.evaluation_number > number)
    }

    /// Takes `accepted` in; nothing is ever lowered.
    pub fn raise(&mut self, accepted: &CollateralAccepted) {
        self.newest_issue_date = self.newest_issue_date.max(accepted.newest_issue_date);
        let number = self.platforms.entry(accepted.fmspc.clone()).or_default();
        *number = accepted.evaluation_number.max(*number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(fmspc: &str, evaluation_number: u32, newest_issue_date: u64) -> CollateralAccepted {
        CollateralAccepted { fmspc: fmspc.to_owned(), evaluation_number, newest_issue_date }
    }

    #[test]
    fn nothing_lowers_the_floor() {
        let mut floor = CollateralFloor::default();
        floor.raise(&accepted("00906ED50000", 17, 2_000));
        floor.raise(&accepted("00906ED50000", 16, 1_000));
        assert_eq!(floor.evaluation_number("00906ED50000"), Some(17));
        assert_eq!(floor.newest_issue_date().as_secs(), 2_000);
    }

    #[test]
    fn only_news_are_worth_a_record() {
        let mut floor = CollateralFloor::default();
        assert!(floor.is_raised_by(&accepted("A", 0, 0)));
        floor.raise(&accepted("A", 5, 100));
        assert!(!floor.is_raised_by(&accepted("A", 5, 100)));
        assert!(!floor.is_raised_by(&accepted("A", 4, 99)));
        assert!(floor.is_raised_by(&accepted("A", 6, 100)));
        assert!(floor.is_raised_by(&accepted("A", 5, 101)));
        assert!(floor.is_raised_by(&accepted("B", 1, 100)));
    }
}
