use std::fmt;

use marblerun_json::{Decode, DecodeError, DecodeErrorKind, Decoder};

/// What was given is repeated in messages up to this length.
const MAX_SHOWN_CHARS: usize = 60;

/// Cuts a text that is repeated in a message.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A point in time from year 0 to 9999, as RFC 3339 writes it.
///
/// The default, 0001-01-01T00:00:00Z, is Go's zero time and stands for "not given".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted; negative before.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanoseconds: u32,
}

const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    const UNSET: Self = Self { seconds: -62_135_596_800, nanoseconds: 0 };

    /// True if no time was given.
    pub fn is_unset(&self) -> bool {
        *self == Self::UNSET
    }

    /// Reads the form of RFC 3339 with upper-case `T` and `Z`; digits beyond nanoseconds are dropped.
    fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let (year, month, day) = split_digits(date.as_bytes(), b'-')?;
        let (clock, rest) = rest.strip_prefix('T')?.split_at_checked(8)?;
        let (hour, minute, second) = clock_digits(clock.as_bytes())?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (nanoseconds, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
                let (digits, zone) = rest.split_at(end);
                if digits.is_empty() {
                    return None;
                }
                let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
                (nine.parse().ok()?, zone)
            }
            None => (0, rest),
        };
        let offset_minutes = match zone.as_bytes() {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let hours = two_digits(&[*h1, *h2])?;
                let minutes = two_digits(&[*m1, *m2])?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let ahead = hours * 60 + minutes;
                if *sign == b'+' { ahead } else { -ahead }
            }
            _ => return None,
        };
        let days = days_since_1970(year, month, day)?;
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset_minutes * 60;
        Some(Self { seconds, nanoseconds })
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::UNSET
    }
}

/// RFC 3339 in UTC, the fraction without trailing zeros.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        if self.nanoseconds > 0 {
            let fraction = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Decode for Timestamp {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.take_null() {
            return Ok(());
        }
        let offset = decoder.offset();
        let text = decoder.string()?;
        *self = Self::parse(&text)
            .ok_or_else(|| decoder.error_at(DecodeErrorKind::Time { got: shorten(&text) }, offset))?;
        Ok(())
    }
}

fn two_digits(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

fn split_digits(date: &[u8], separator: u8) -> Option<(i64, i64, i64)> {
    let [y1, y2, y3, y4, s1, m1, m2, s2, d1, d2] = date else {
        return None;
    };
    if *s1 != separator || *s2 != separator {
        return None;
    }
    Some((two_digits(&[*y1, *y2, *y3, *y4])?, two_digits(&[*m1, *m2])?, two_digits(&[*d1, *d2])?))
}

fn clock_digits(clock: &[u8]) -> Option<(i64, i64, i64)> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else {
        return None;
    };
    Some((two_digits(&[*h1, *h2])?, two_digits(&[*m1, *m2])?, two_digits(&[*s1, *s2])?))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` if there is no such date.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days_in_month {
        return None;
    }
    // Years begin in March here, so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// The reverse of [`days_since_1970`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year_shift, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (era * 400 + year_of_era + year_shift, month, day)
}

/// An object identifier in dotted form with arcs of any size; empty if not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DottedOid(String);

impl DottedOid {
    /// The dotted text without superfluous zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// At least two arcs, the first at most 2, the second below 40 under 0 and 1 (X.660).
    fn parse(text: &str) -> Option<Self> {
        let arcs: Vec<&str> = text
            .split('.')
            .map(|arc| {
                let digits = !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| match arc.trim_start_matches('0') {
                    "" => "0",
                    significant => significant,
                })
            })
            .collect::<Option<_>>()?;
        let [first, second, ..] = arcs.as_slice() else {
            return None;
        };
        let second_fits = match *first {
            "0" | "1" => second.parse::<u8>().is_ok_and(|arc| arc < 40),
            "2" => true,
            _ => false,
        };
        second_fits.then(|| Self(arcs.join(".")))
    }
}

impl Decode for DottedOid {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if decoder.take_null() {
            return Ok(());
        }
        let offset = decoder.offset();
        let text = decoder.string()?;
        *self =
            Self::parse(&text).ok_or_else(|| decoder.error_at(DecodeErrorKind::Oid { got: shorten(&text) }, offset))?;
        Ok(())
    }
}

/// An integer of any size, as decimal text; `None` if not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BigInteger(pub Option<String>);

impl Decode for BigInteger {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        const EXPECTED: &str = "an integer";
        if decoder.take_null() {
            self.0 = None;
            return Ok(());
        }
        let offset = decoder.offset();
        let literal = decoder.number(EXPECTED)?;
        if literal.contains(['.', 'e', 'E']) {
            let kind = DecodeErrorKind::Range { expected: EXPECTED, got: shorten(literal) };
            return Err(decoder.error_at(kind, offset));
        }
        self.0 = Some(if literal == "-0" { "0" } else { literal }.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_survive_the_way_out_and_in(
            seconds in -62_167_219_200_i64..=253_402_300_799, // years 0 to 9999
            nanoseconds in 0_u32..1_000_000_000,
        ) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>()) {
            let _ = (Timestamp::parse(&text), DottedOid::parse(&text));
        }
    }

    #[test]
    fn days_that_do_not_exist_are_no_times() {
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00Z").map(|time| time.seconds), Some(0));
        assert!(Timestamp::parse("2000-02-29T00:00:00Z").is_some());
        for text in ["1900-02-29T00:00:00Z", "2031-04-31T00:00:00Z", "2031-00-01T00:00:00Z", "2031-01-00T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
