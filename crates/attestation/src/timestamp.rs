//! Reading and showing points in time.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads an RFC 3339 date; dates before 1970 are refused.
pub(crate) fn parse_rfc3339(text: &str) -> Option<UnixTime> {
    // The library takes any character between date and time.
    if text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let seconds = u64::try_from(date.unix_timestamp()).ok()?;
    Some(from_seconds(seconds))
}

/// Shows a time as RFC 3339 in UTC, or as seconds where it lies beyond the year 9999.
pub(crate) fn rfc3339(time: UnixTime) -> String {
    let seconds = time.as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("second {seconds}"))
}

pub(crate) fn from_seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_dates_are_read_and_shown_in_utc() {
        let time = parse_rfc3339("2025-06-19T10:56:11Z").unwrap();
        assert_eq!(time.as_secs(), 1_750_330_571);
        assert_eq!(rfc3339(time), "2025-06-19T10:56:11Z");
        assert_eq!(parse_rfc3339("2025-06-19T12:56:11+02:00"), Some(time));
    }

    #[test]
    fn dates_in_another_form_or_before_1970_are_refused() {
        for text in [
            "",
            "2025-06-19",
            "2025-13-19T10:56:11Z",
            "2025-06-19 10:56:11Z",
            "2025-06-19T10:56:11",
            "1969-12-31T23:59:59Z",
            "tomorrow",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_that_no_calendar_holds_is_shown_in_seconds() {
        assert_eq!(rfc3339(from_seconds(u64::MAX)), "second 18446744073709551615");
    }
}
