//! The catalogue of rules; its grammar is described in `docs/rules/README.md`.

use anyhow::{Result, bail, ensure};

/// One line of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// For example `UPD-3`, `ACT-4.6` or `R12`.
    pub id: String,
    /// Name of the file without `.md`.
    pub area: String,
    /// The heading above the table.
    pub section: String,
    /// What holds, in one sentence or two.
    pub meaning: String,
    /// Whether a test must exist.
    pub state: State,
}

/// Whether a rule needs a test.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The product does it, at least one test names the rule.
    Implemented,
    /// The product does not do it yet, for this reason.
    Later(String),
    /// The product does it or decided against it, and no test of ours can tell, for this reason.
    Waived(String),
}

impl State {
    /// The word with which the state begins in the catalogue.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Implemented => "implemented",
            Self::Later(_) => "later",
            Self::Waived(_) => "waived",
        }
    }

    /// Why there is no test.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Implemented => None,
            Self::Later(reason) | Self::Waived(reason) => Some(reason),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let reason = |prefix: &str| {
            let reason = text.strip_prefix(prefix)?.trim();
            (!reason.is_empty()).then(|| reason.to_owned())
        };
        if text == "implemented" {
            return Some(Self::Implemented);
        }
        reason("later:").map(Self::Later).or_else(|| reason("waived:").map(Self::Waived))
    }
}

const HEADER: &str = "| Rule | Meaning | State |";
const SEPARATOR: &str = "|---|---|---|";

/// Reads one file of the catalogue.
///
/// # Errors
///
/// A table line that is not as the grammar says, with its number.
pub fn parse(area: &str, text: &str) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut section: Option<&str> = None;
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = Some(heading.trim());
        }
        if !line.starts_with('|') {
            continue;
        }
        ensure!(line == HEADER, "line {number}: expected `{HEADER}`, got `{line}`");
        let Some(section) = section else { bail!("line {number}: a table needs a heading `## ...` above it") };
        ensure!(lines.next().is_some_and(|(line, _)| line == SEPARATOR), "line {number}: no `{SEPARATOR}` follows");
        while let Some((line, number)) = lines.next_if(|(line, _)| line.starts_with('|')) {
            rules.push(row(area, section, line).map_err(|error| error.context(format!("line {number}")))?);
        }
    }
    Ok(rules)
}

fn row(area: &str, section: &str, line: &str) -> Result<Rule> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", id, meaning, state, ""] = cells[..] else { bail!("expected three cells, got `{line}`") };
    ensure!(is_id(id), "expected an identifier such as UPD-3, ACT-4.6 or R7, got `{id}`");
    ensure!(meaning.ends_with('.'), "expected a meaning that ends with a full stop, got `{meaning}`");
    let Some(state) = State::parse(state) else {
        bail!("expected `implemented`, `later: REASON` or `waived: REASON`, got `{state}`");
    };
    Ok(Rule { id: id.into(), area: area.into(), section: section.into(), meaning: meaning.into(), state })
}

/// Capital letters (and digits after the first), then `-` and numbers joined by dots; or `R` and a number.
pub fn is_id(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((word, numbers)) = text.split_once('-') {
        return word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && numbers.split('.').all(number);
    }
    text.strip_prefix('R').is_some_and(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &str) -> String {
        format!("# Title\n\nProse.\n\n## Section\n\n{HEADER}\n{SEPARATOR}\n{rows}\n\nMore prose.\n")
    }

    #[test]
    fn rows_become_rules_with_area_section_and_state() {
        let text = table(
            "| A-1 | It holds. | implemented |\n| R2 | It may. | later: no hardware |\n| X509-3.1 | Yes. | waived: w |",
        );
        let rules = parse("area", &text).unwrap();
        let states: Vec<_> =
            rules.iter().map(|rule| (rule.id.as_str(), rule.state.word(), rule.state.reason())).collect();
        assert_eq!(
            states,
            [("A-1", "implemented", None), ("R2", "later", Some("no hardware")), ("X509-3.1", "waived", Some("w"))]
        );
        assert_eq!((rules[0].area.as_str(), rules[0].section.as_str()), ("area", "Section"));
        assert_eq!(rules[0].meaning, "It holds.");
    }

    #[test]
    fn rows_of_another_form_are_refused_with_their_line() {
        for (row, reason) in [
            ("| A-1 | It holds. |", "expected three cells"),
            ("| A-1 | It | holds. | implemented |", "expected three cells"),
            ("| a-1 | It holds. | implemented |", "expected an identifier"),
            ("| A-1. | It holds. | implemented |", "expected an identifier"),
            ("| A1 | It holds. | implemented |", "expected an identifier"),
            ("| A-1 | It holds | implemented |", "full stop"),
            ("| A-1 | It holds. | done |", "expected `implemented`"),
            ("| A-1 | It holds. | later |", "expected `implemented`"),
            ("| A-1 | It holds. | waived:  |", "expected `implemented`"),
        ] {
            let error = format!("{:#}", parse("area", &table(row)).unwrap_err());
            assert!(error.starts_with("line 9: ") && error.contains(reason), "{row}: {error}");
        }
    }

    #[test]
    fn tables_need_their_header_and_a_section() {
        for (text, reason) in [
            ("## S\n\n| Id | Meaning | State |\n|---|---|---|\n", "line 3: expected `| Rule"),
            ("## S\n\n| Rule | Meaning | State |\n| A-1 | It. | implemented |\n", "line 3: no `|---"),
            ("| Rule | Meaning | State |\n|---|---|---|\n", "line 1: a table needs a heading"),
        ] {
            let error = format!("{:#}", parse("area", text).unwrap_err());
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }
}
