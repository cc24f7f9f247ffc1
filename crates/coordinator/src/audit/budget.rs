//! How many lines a class of peers may cause. Pure: time comes in.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A number of lines that is given back evenly over a minute.
///
/// In any minute it admits at most twice its number: what was saved, and what came back.
#[derive(Debug)]
pub(super) struct Budget {
    lines_per_minute: u32,
    left: u32,
    /// Up to here lines were given back, as time since the start.
    counted: Duration,
}

impl Budget {
    /// A full budget at the start of the process.
    pub(super) fn new(lines_per_minute: u32) -> Self {
        Self { lines_per_minute, left: lines_per_minute, counted: Duration::ZERO }
    }

    /// Takes one line, if there is one.
    pub(super) fn take(&mut self, uptime: Duration) -> bool {
        let step = MINUTE / self.lines_per_minute.max(1);
        let steps = uptime.saturating_sub(self.counted).as_nanos() / step.as_nanos().max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let room = self.lines_per_minute - self.left;
        if steps >= room {
            self.left = self.lines_per_minute;
            self.counted = self.counted.max(uptime);
        } else {
            self.left += steps;
            self.counted += step * steps;
        }
        let is_taken = self.left > 0;
        self.left -= u32::from(is_taken);
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, uptime: Duration, wanted: u32) -> u32 {
        (0..wanted).map(|_| u32::from(budget.take(uptime))).sum()
    }

    #[test]
    fn lines_come_back_evenly_and_are_saved_up_to_the_number() {
        let mut budget = Budget::new(6);
        let at = Duration::from_secs;
        assert_eq!(taken(&mut budget, at(0), 10), 6);
        assert_eq!(taken(&mut budget, at(9), 10), 0);
        assert_eq!(taken(&mut budget, at(10), 10), 1);
        assert_eq!(taken(&mut budget, at(35), 10), 2, "half a step is not lost");
        assert_eq!(taken(&mut budget, at(40), 10), 1);
        assert_eq!(taken(&mut budget, at(100_000), 10), 6);
    }

    #[test]
    fn asking_often_gives_no_more_than_asking_once() {
        let mut budget = Budget::new(6);
        let total: u32 =
            (0..60_000).map(|milliseconds| u32::from(budget.take(Duration::from_millis(milliseconds)))).sum();
        assert_eq!(total, 6 + 5);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut budget = Budget::new(1);
        assert!(budget.take(Duration::from_secs(600)));
        assert!(!budget.take(Duration::ZERO) && !budget.take(Duration::from_secs(600)));
    }
}
