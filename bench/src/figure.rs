//! What was measured, beside what it should be and what it cannot be less than.

use std::fmt;

use serde_json::{Value, json};

use crate::machine::Machine;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// 1,000,000 bytes.
    Megabytes,
    /// Things.
    Count,
    /// Things in a second.
    PerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::Count => "",
            Self::PerSecond => "/s",
        }
    }

    fn show(self, value: f64) -> String {
        let number = match self {
            Self::Count | Self::PerSecond => format!("{value:.0}"),
            Self::Milliseconds if value < 10.0 => format!("{value:.3}"),
            Self::Milliseconds | Self::Megabytes => format!("{value:.1}"),
        };
        format!("{number} {}", self.name()).trim_end().to_owned()
    }
}

/// One number.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: Unit,
    limit: Option<f64>,
    /// The limit is the least value instead of the greatest.
    is_least: bool,
    floor: Option<f64>,
}

impl Figure {
    /// A number without limit: for information.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, limit: None, is_least: false, floor: None }
    }

    /// The number must not be more than `limit`.
    #[must_use]
    pub fn limit(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The number must not be less than `limit`.
    #[must_use]
    pub fn at_least(self, limit: f64) -> Self {
        Self { limit: Some(limit), is_least: true, ..self }
    }

    /// The part of the number that cannot be avoided; for a rate, what is possible without our part.
    #[must_use]
    pub fn floor(self, floor: f64) -> Self {
        Self { floor: Some(floor), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }

    fn verdict(&self) -> &'static str {
        match self.limit {
            None => "",
            Some(limit) if self.is_least && self.value >= limit => "ok",
            Some(limit) if !self.is_least && self.value <= limit => "ok",
            Some(_) => "missed",
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit.name(),
            "limit": self.limit,
            "limit_is_least": self.is_least,
            "floor": self.floor,
            "ratio": self.ratio(),
            "missed": self.verdict() == "missed",
        })
    }
}

/// Figures that belong together; shown as a table in Markdown, so that it can be copied into a document.
pub struct Group {
    /// The word on the command line.
    pub name: &'static str,
    /// The heading.
    pub title: &'static str,
    /// The lines.
    pub figures: Vec<Figure>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["", "measured", "limit", "floor", "ratio", ""].map(str::to_owned)];
        rows[0][0] = self.title.to_owned();
        for figure in &self.figures {
            let show = |value: Option<f64>| value.map_or_else(String::new, |value| figure.unit.show(value));
            rows.push([
                figure.name.clone(),
                figure.unit.show(figure.value),
                show(figure.limit),
                show(figure.floor),
                figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                figure.verdict().to_owned(),
            ]);
        }
        let widths: [usize; 6] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(2));
        for (index, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    0 | 5 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            writeln!(f, "| {} |", cells.join(" | "))?;
            if index == 0 {
                let rules: Vec<String> = widths
                    .iter()
                    .enumerate()
                    .map(|(column, width)| match column {
                        0 | 5 => "-".repeat(*width),
                        _ => "-".repeat(width - 1) + ":",
                    })
                    .collect();
                writeln!(f, "| {} |", rules.join(" | "))?;
            }
        }
        Ok(())
    }
}

/// Everything for programs.
pub fn json(machine: &Machine, groups: &[Group]) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .map(|group| {
            let figures: Vec<Value> = group.figures.iter().map(Figure::json).collect();
            json!({ "name": group.name, "title": group.title, "figures": figures })
        })
        .collect();
    json!({ "machine": machine.json(), "groups": groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_below_its_limit_is_called_missed() {
        let verdict = |value: f64| Figure::new("rate", value, Unit::PerSecond).at_least(10.0).verdict();
        assert_eq!((verdict(9.9), verdict(10.0), verdict(11.0)), ("missed", "ok", "ok"));
    }

    #[test]
    fn a_figure_above_its_limit_is_called_missed() {
        let group = |value: f64| Group {
            name: "x",
            title: "Example",
            figures: vec![Figure::new("one", value, Unit::Milliseconds).limit(1.5).floor(0.5)],
        };
        assert!(group(1.6).to_string().contains("| missed |"), "{}", group(1.6));
        assert!(!group(1.5).to_string().contains("missed"));
        assert!(group(1.5).to_string().contains("| one     | 1.500 ms | 1.500 ms | 0.500 ms |  3.00 | ok |"));
    }
}
