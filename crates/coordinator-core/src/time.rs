//! The time of a command, given by the edge: milliseconds, because the update log shows them.

use rustls_pki_types::UnixTime;
use std::time::Duration;
use time::OffsetDateTime;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `milliseconds` after 1970-01-01 UTC.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The time `since_epoch` after 1970-01-01 UTC.
    pub fn from_duration(since_epoch: Duration) -> Self {
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// The same in whole seconds, as certificates and evidence count.
    pub fn unix(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.0))
    }

    /// ISO 8601 with milliseconds, as in `2026-02-01T09:30:00.125Z`.
    ///
    /// Times after the year 9999 are shown as its last millisecond.
    pub fn to_iso8601(self) -> String {
        const LAST: i128 = 253_402_300_799_999;
        let nanoseconds = i128::from(self.0).min(LAST) * 1_000_000;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_milliseconds_and_ends_in_z() {
        assert_eq!(Timestamp::from_millis(1_769_938_200_125).to_iso8601(), "2026-02-01T09:30:00.125Z");
        assert_eq!(Timestamp::from_millis(0).to_iso8601(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_iso8601(), "9999-12-31T23:59:59.999Z");
    }
}
