//! Times as templates see them (Go `time.Time` in UTC).

use marblerun_template::{Budget, HostError, IntType, Object, Param, Value};

/// Seconds from 1970 back to the start of year 1, which is what an unset time shows.
const UNSET: i64 = -62_135_596_800;
const DAY_SECONDS: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time with a resolution of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeValue {
    unix: i64,
}

/// The parts of a time.
struct Civil {
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    year_day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl TimeValue {
    pub(super) fn from_unix(unix: u64) -> Self {
        Self { unix: i64::try_from(unix).unwrap_or(i64::MAX) }
    }

    pub(super) fn unset() -> Self {
        Self { unix: UNSET }
    }

    /// Proleptic Gregorian calendar; years count from March, so that the leap day comes last.
    fn civil(self) -> Civil {
        let days = self.unix.div_euclid(DAY_SECONDS);
        let seconds = self.unix.rem_euclid(DAY_SECONDS);
        // Days since 0000-03-01, in eras of 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let year_day = if month <= 2 { day_of_year - 305 } else { day_of_year + 60 + i64::from(leap) };
        Civil {
            year,
            month: month as usize,
            day,
            year_day,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// The time in a Go layout (Go package time, "Constants").
    fn format(self, layout: &[u8]) -> Vec<u8> {
        let civil = self.civil();
        let mut out = Vec::with_capacity(layout.len() + 16);
        let mut rest = layout;
        while let Some(byte) = rest.first() {
            match civil.chunk(rest) {
                Some((text, length)) => {
                    out.extend_from_slice(text.as_bytes());
                    rest = &rest[length..];
                }
                None => {
                    out.push(*byte);
                    rest = &rest[1..];
                }
            }
        }
        out
    }
}

/// Longest text that one byte of a layout can become.
const MAX_GROWTH: usize = 9;

impl Civil {
    fn month_name(&self) -> &'static str {
        MONTHS.get(self.month.wrapping_sub(1)).copied().unwrap_or_default()
    }

    fn weekday_name(&self) -> &'static str {
        WEEKDAYS.get(self.weekday).copied().unwrap_or_default()
    }

    fn hour12(&self) -> i64 {
        match self.hour % 12 {
            0 => 12,
            hour => hour,
        }
    }

    /// What the start of `layout` stands for, and how many bytes of it; `None` if the first byte stands for itself.
    fn chunk(&self, layout: &[u8]) -> Option<(String, usize)> {
        let lower_follows = layout.get(3).is_some_and(u8::is_ascii_lowercase);
        let starts = |prefix: &str| layout.starts_with(prefix.as_bytes());
        let text = |text: &str, length: usize| Some((text.to_owned(), length));
        match layout.first()? {
            b'J' if starts("January") => text(self.month_name(), 7),
            b'J' if starts("Jan") && !lower_follows => text(&self.month_name()[..3], 3),
            b'M' if starts("Monday") => text(self.weekday_name(), 6),
            b'M' if starts("Mon") && !lower_follows => text(&self.weekday_name()[..3], 3),
            b'M' if starts("MST") => text("UTC", 3),
            b'0' => self.zero_padded(layout),
            b'1' if starts("15") => Some((format!("{:02}", self.hour), 2)),
            b'1' => Some((self.month.to_string(), 1)),
            b'2' if starts("2006") => Some((format!("{:04}", self.year), 4)),
            b'2' => Some((self.day.to_string(), 1)),
            b'_' if starts("_2006") => Some((format!("_{:04}", self.year), 5)),
            b'_' if starts("_2") => Some((format!("{:2}", self.day), 2)),
            b'_' if starts("__2") => Some((format!("{:3}", self.year_day), 3)),
            b'3' => Some((self.hour12().to_string(), 1)),
            b'4' => Some((self.minute.to_string(), 1)),
            b'5' => Some((self.second.to_string(), 1)),
            b'P' if starts("PM") => text(if self.hour >= 12 { "PM" } else { "AM" }, 2),
            b'p' if starts("pm") => text(if self.hour >= 12 { "pm" } else { "am" }, 2),
            b'-' | b'Z' => zone(layout),
            b'.' | b',' => fraction(layout),
            _ => None,
        }
    }

    fn zero_padded(&self, layout: &[u8]) -> Option<(String, usize)> {
        if layout.starts_with(b"002") {
            return Some((format!("{:03}", self.year_day), 3));
        }
        let number = match layout.get(1)? {
            b'1' => self.month as i64,
            b'2' => self.day,
            b'3' => self.hour12(),
            b'4' => self.minute,
            b'5' => self.second,
            b'6' => self.year.max(0) % 100,
            _ => return None,
        };
        Some((format!("{number:02}"), 2))
    }
}

/// Offsets from UTC, which are always zero here.
fn zone(layout: &[u8]) -> Option<(String, usize)> {
    const FORMS: [(&str, &str); 5] =
        [("070000", "000000"), ("07:00:00", "00:00:00"), ("0700", "0000"), ("07:00", "00:00"), ("07", "00")];
    let (sign, rest) = layout.split_first()?;
    let (form, zeros) = FORMS.into_iter().find(|(form, _)| rest.starts_with(form.as_bytes()))?;
    let text = if *sign == b'Z' { "Z".to_owned() } else { format!("+{zeros}") };
    Some((text, 1 + form.len()))
}

/// Fractions of a second, which are always zero here: `.000` keeps the digits, `.999` drops them.
fn fraction(layout: &[u8]) -> Option<(String, usize)> {
    let (separator, rest) = layout.split_first()?;
    let digit = *rest.first().filter(|b| matches!(b, b'0' | b'9'))?;
    let count = rest.iter().take_while(|b| **b == digit).count();
    if rest.get(count).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let text = if digit == b'9' { String::new() } else { format!("{}{}", char::from(*separator), "0".repeat(count)) };
    Some((text, 1 + count))
}

impl Object for TimeValue {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str) -> Option<&'static [Param]> {
        match name {
            "Format" => Some(&[Param::String]),
            "Unix" | "Year" => Some(&[]),
            _ => None,
        }
    }

    fn call(&self, name: &str, arguments: &[Value], budget: &mut Budget) -> Result<Value, HostError> {
        match (name, arguments) {
            ("Format", [Value::String(layout)]) => {
                let layout = layout.as_slice();
                budget.charge_value(layout.len().saturating_mul(MAX_GROWTH))?;
                Ok(Value::string_from(self.format(layout)))
            }
            ("Unix", _) => Ok(Value::Int(self.unix, IntType::Int64)),
            _ => Ok(Value::int(self.civil().year)),
        }
    }

    fn text(&self) -> Option<String> {
        let text = self.format(b"2006-01-02 15:04:05 -0700 MST");
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some((other as &dyn std::any::Any).downcast_ref::<Self>() == Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix: i64, layout: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&TimeValue { unix }.format(layout.as_bytes())), expected);
    }

    #[test]
    fn times_are_formatted_by_example() {
        check(0, "2006-01-02 15:04:05 Monday", "1970-01-01 00:00:00 Thursday");
        check(1_709_208_000, "Mon Jan _2 002", "Thu Feb 29 060");
        check(1_709_294_400, "2 Jan 002", "1 Mar 061");
        check(1_735_603_200, "Jan 2 __2", "Dec 31 366");
        check(UNSET, "2006-01-02 002", "0001-01-01 001");
    }
}
