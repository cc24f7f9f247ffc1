//! `cargo xtask rules`: which test covers which rule of `docs/rules/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

mod annotation;
mod catalogue;
mod not_yet;

use annotation::{Annotation, Found, Language};
use catalogue::{Rule, State};
use not_yet::NotYet;

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: each rule, below it its tests.
    Text,
    /// One JSON document, see [`Report`].
    Json,
}

/// Folders whose tests may name rules.
const SOURCES: [&str; 3] = ["crates", "tests", "xtask"];

/// What `--output json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// All rules in the order of the catalogue.
    rules: Vec<Entry<'a>>,
    /// What must be repaired; empty if all is well.
    problems: &'a [String],
}

/// One rule with its tests.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    /// Name of the catalogue's file without `.md`.
    area: &'a str,
    section: &'a str,
    meaning: &'a str,
    /// `implemented`, `later` or `waived`.
    state: &'static str,
    /// Why there is no test; absent for `implemented`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    tests: Vec<Place<'a>>,
}

/// A test that names a rule.
#[derive(Serialize)]
struct Place<'a> {
    path: &'a str,
    line: usize,
    name: &'a str,
    /// False for a conformance test that `not-yet.txt` leaves out; such a test covers nothing.
    counts: bool,
}

/// Prints the rules with their tests.
///
/// # Errors
///
/// A malformed catalogue; an implemented rule without test; a comment with an unknown rule or without a test below it;
/// a test of a rule whose state says that there is none.
pub fn run(workspace: &Path, format: Format) -> Result<()> {
    let rules = read_catalogue(&workspace.join("docs/rules"))?;
    let mut found = Found::default();
    for folder in SOURCES {
        read_sources(workspace, Path::new(folder), &mut found)?;
    }
    let path = workspace.join("tests/conformance/not-yet.txt");
    let not_yet = NotYet::parse(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    let problems = problems(&rules, &found, &not_yet);
    let entries = entries(&rules, &found.annotations, &not_yet);
    match format {
        Format::Text => print_text(&entries),
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&Report { rules: entries, problems: &problems })?);
        }
    }
    if !problems.is_empty() {
        bail!("{} problems with rules:\n  {}", problems.len(), problems.join("\n  "));
    }
    Ok(())
}

fn read_catalogue(folder: &Path) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for path in sorted_entries(folder)? {
        let Some(area) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".md"))
        else {
            continue;
        };
        // It describes the format.
        if area == "README" {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for rule in catalogue::parse(area, &text).with_context(|| format!("docs/rules/{area}.md"))? {
            if let Some(other) = rules.iter().find(|other| other.id == rule.id) {
                bail!("{} stands in docs/rules/{}.md and in docs/rules/{area}.md", rule.id, other.area);
            }
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn read_sources(workspace: &Path, folder: &Path, found: &mut Found) -> Result<()> {
    for path in sorted_entries(&workspace.join(folder))? {
        let relative = path.strip_prefix(workspace).context("a source lies in the workspace")?;
        if path.is_dir() {
            read_sources(workspace, relative, found)?;
            continue;
        }
        let language = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => Language::Rust,
            Some("py") => Language::Python,
            _ => continue,
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        annotation::collect(&relative.to_string_lossy(), &text, language, found);
    }
    Ok(())
}

/// Entries of a folder without those that only tools write, in order of their names.
fn sorted_entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && name != "target" && name != "__pycache__" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Everything that must be repaired, each in one line.
fn problems(rules: &[Rule], found: &Found, not_yet: &NotYet) -> Vec<String> {
    let mut problems = found.problems.clone();
    let known: BTreeMap<&str, &Rule> = rules.iter().map(|rule| (rule.id.as_str(), rule)).collect();
    for annotation in &found.annotations {
        for id in &annotation.ids {
            if !known.contains_key(id.as_str()) {
                problems.push(format!("{annotation}: no rule {id} in docs/rules/"));
            }
        }
    }
    for rule in rules {
        let mut named = found.annotations.iter().filter(|annotation| annotation.ids.contains(&rule.id)).peekable();
        let left_out = named.peek().is_some();
        let counting = named.find(|annotation| !not_yet.leaves_out(annotation));
        match (&rule.state, counting) {
            (State::Implemented, None) if left_out => {
                problems.push(format!("{}: only tests that not-yet.txt leaves out name it", rule.id));
            }
            (State::Implemented, None) => problems.push(format!("{}: no test names it ({})", rule.id, rule.meaning)),
            (State::Later(_) | State::Waived(_), Some(annotation)) => {
                problems.push(format!("{} is {} and has a test: {annotation}", rule.id, rule.state.word()));
            }
            _ => {}
        }
    }
    problems
}

fn entries<'a>(rules: &'a [Rule], annotations: &'a [Annotation], not_yet: &NotYet) -> Vec<Entry<'a>> {
    let entry = |rule: &'a Rule| Entry {
        id: &rule.id,
        area: &rule.area,
        section: &rule.section,
        meaning: &rule.meaning,
        state: rule.state.word(),
        reason: rule.state.reason(),
        tests: annotations
            .iter()
            .filter(|annotation| annotation.ids.contains(&rule.id))
            .map(|annotation| Place {
                path: &annotation.path,
                line: annotation.line,
                name: &annotation.test,
                counts: !not_yet.leaves_out(annotation),
            })
            .collect(),
    };
    rules.iter().map(entry).collect()
}

fn print_text(entries: &[Entry<'_>]) {
    let mut section = "";
    for entry in entries {
        if entry.section != section {
            section = entry.section;
            println!("\n{}: {section}", entry.area);
        }
        match entry.reason {
            Some(reason) => println!("  {}  {} ({}: {reason})", entry.id, entry.meaning, entry.state),
            None => println!("  {}  {}", entry.id, entry.meaning),
        }
        for test in &entry.tests {
            let note = if test.counts { "" } else { " (left out by not-yet.txt)" };
            println!("      {}:{} {}{note}", test.path, test.line, test.name);
        }
    }
    let count = |state: &str| entries.iter().filter(|entry| entry.state == state).count();
    println!(
        "\n{} rules: {} implemented, {} later, {} waived",
        entries.len(),
        count("implemented"),
        count("later"),
        count("waived")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = "## S\n\n| Rule | Meaning | State |\n|---|---|---|\n\
        | A-1 | One. | implemented |\n| A-2 | Two. | later: not built |\n| A-3 | Three. | waived: hardware only |\n";

    /// The problems of [`CATALOGUE`] with one Python test file `t.py` and a `not-yet.txt`.
    fn check(python: &str, not_yet: &str) -> Vec<String> {
        let mut found = Found::default();
        annotation::collect("tests/conformance/t.py", python, Language::Python, &mut found);
        problems(&catalogue::parse("a", CATALOGUE).unwrap(), &found, &NotYet::parse(not_yet))
    }

    #[test]
    fn an_implemented_rule_needs_a_test_and_others_need_none() {
        assert_eq!(check("# rules: A-1\ndef test_a():\n", ""), [""; 0]);
        assert_eq!(check("def test_a():\n", ""), ["A-1: no test names it (One.)"]);
    }

    #[test]
    fn a_test_that_is_left_out_covers_nothing() {
        let only = ["A-1: only tests that not-yet.txt leaves out name it"];
        for line in ["t.py", "t.py::test_a", "t.py::test_a[one case]"] {
            assert_eq!(check("# rules: A-1\ndef test_a():\n", line), only, "{line}");
        }
        assert_eq!(check("# rules: A-1\ndef test_a():\n", "t.py::test_b"), [""; 0]);
    }

    #[test]
    fn a_rule_that_got_a_test_is_no_longer_later_or_waived() {
        assert_eq!(
            check("# rules: A-1, A-2, A-3\ndef test_a():\n", ""),
            [
                "A-2 is later and has a test: tests/conformance/t.py:2 test_a",
                "A-3 is waived and has a test: tests/conformance/t.py:2 test_a"
            ]
        );
        assert_eq!(check("# rules: A-1\ndef test_a():\n# rules: A-2\ndef test_b():\n", "t.py::test_b"), [""; 0]);
    }

    #[test]
    fn a_comment_with_an_unknown_rule_is_a_problem() {
        assert_eq!(
            check("# rules: A-1, A-11\ndef test_a():\n", ""),
            ["tests/conformance/t.py:2 test_a: no rule A-11 in docs/rules/"]
        );
    }
}
