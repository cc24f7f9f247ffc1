//! How often a service is asked.

use std::time::Duration;

use marblerun_attestation::TrustedCollateral;
use rustls_pki_types::UnixTime;

/// Collateral is asked for again after this time at the latest.
pub const MAX_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// Where half of its life is over already, this much is waited at most.
const LATE_REFRESH: Duration = Duration::from_secs(60 * 60);
/// Short-lived collateral does not make us ask all the time.
const MIN_REFRESH: Duration = Duration::from_secs(10);
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause while somebody has to do without: Marbles come again for five minutes.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The pauses where haste is of no use are longer by this factor.
const CALM: u32 = 10;

/// What is known of failures when the next pause is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failures {
    /// How many in a row, this one included.
    pub(crate) count: u32,
    /// True if nobody suffers, or the service will say the same again.
    pub(crate) is_calm: bool,
    /// How long what is at hand may still be used.
    pub(crate) left: Option<Duration>,
}

/// Until the next request after failures; `chance` (0 to 255) takes up to a quarter away.
pub(crate) fn pause(failures: Failures, chance: u8) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.count.saturating_sub(1).min(8)).min(MAX_PAUSE);
    let calm = if failures.is_calm { doubled * CALM } else { doubled };
    shortened(failures.left.map_or(calm, |left| calm.min(left.max(FIRST_PAUSE))), chance)
}

/// Until collateral that is valid at `now` is asked for again: at half of its life, with the same chance.
pub(crate) fn refresh(collateral: &TrustedCollateral, now: UnixTime, chance: u8) -> Duration {
    let (issued, ends, now) =
        (collateral.earliest_issue().as_secs(), collateral.fresh_until().as_secs(), now.as_secs());
    let half = issued + ends.saturating_sub(issued) / 2;
    let until = match half.saturating_sub(now) {
        // It is stale already, so the service has nothing better.
        0 if now > ends => LATE_REFRESH,
        0 => LATE_REFRESH.min(Duration::from_secs((ends - now) / 2)),
        seconds => Duration::from_secs(seconds),
    };
    shortened(until.min(MAX_REFRESH), chance).max(MIN_REFRESH)
}

fn shortened(duration: Duration, chance: u8) -> Duration {
    duration - duration / 4 * u32::from(chance) / u32::from(u8::MAX)
}

/// A random number, so that many Coordinators do not ask at the same time.
pub(crate) fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness it is as good as another.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_chance_shortens_them() {
        let seconds = |count, is_calm, chance| pause(Failures { count, is_calm, left: None }, chance).as_secs();
        let grown: Vec<u64> = (1..=6).map(|count| seconds(count, false, 0)).collect();
        assert_eq!(grown, [5, 10, 20, 40, 60, 60]);
        assert_eq!(seconds(u32::MAX, false, 0), 60);
        assert_eq!((seconds(1, true, 0), seconds(9, true, 0)), (50, 600));
        assert_eq!(seconds(9, false, 255), 45);
        // Whoever has some until then is asked again by then, but not without a pause.
        let left =
            |left| pause(Failures { count: 9, is_calm: true, left: Some(Duration::from_secs(left)) }, 0).as_secs();
        assert_eq!((left(3600), left(90), left(0)), (600, 90, 5));
    }
}
