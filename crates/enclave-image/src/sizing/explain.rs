//! A figure with its sum.

use std::fmt;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

/// One summand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is for.
    pub what: &'static str,
    /// How much.
    pub amount: u64,
}

impl Term {
    pub(super) fn new(what: &'static str, amount: u64) -> Self {
        Self { what, amount }
    }
}

/// A number of `Occlum.json` and why it is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The member, from the root of the file, or another name where it is none.
    pub member: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What is needed: the sum of the terms.
    pub need: u64,
    /// What to write.
    pub value: u64,
    /// The summands; none for a constant.
    pub terms: Vec<Term>,
    /// What it is and how it is changed.
    pub note: &'static str,
}

impl Figure {
    /// The value as `Occlum.json` writes it: `64MB`, or the number.
    pub fn text(&self) -> String {
        match self.unit {
            Unit::Bytes => size_text(self.value),
            Unit::Count => self.value.to_string(),
        }
    }

    /// The sum, a line for each summand that is not zero, then the note.
    pub fn explanation(&self) -> Vec<String> {
        let amount = |amount| match self.unit {
            Unit::Bytes => Mebibytes(amount).to_string(),
            Unit::Count => amount.to_string(),
        };
        let terms = self.terms.iter().filter(|term| term.amount > 0);
        let mut lines: Vec<_> = terms.map(|term| format!("{} {}", amount(term.amount), term.what)).collect();
        if lines.len() > 1 {
            lines.push(format!("{} together", amount(self.need)));
        }
        lines.push(self.note.to_owned());
        lines
    }
}

/// `bytes` in the largest unit of `Occlum.json` that loses nothing.
pub fn size_text(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    let whole = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        // "1GB" would be right as well, but people compare megabytes.
        Some((30.., _)) if bytes >> 20 < 100_000 => format!("{}MB", bytes >> 20),
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// Bytes for people: KiB below a tenth of a MiB, else MiB with one digit.
struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TENTH: u64 = (1 << 20) / 10;
        if self.0 < 1024 {
            write!(f, "{} bytes", self.0)
        } else if self.0 < TENTH {
            write!(f, "{:.1} KiB", self.0 as f64 / 1024.0)
        } else {
            write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_without_loss_in_the_units_of_the_file() {
        for (bytes, text) in
            [(0, "0B"), (4097, "4097B"), (4096, "4KB"), (64 << 20, "64MB"), (2 << 30, "2048MB"), (3 << 40, "3TB")]
        {
            assert_eq!(size_text(bytes), text);
            assert_eq!(text.parse::<crate::occlum_json::Size>().unwrap().0, bytes);
        }
    }
}
