//! `docs/limits.md` says what the sources say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The one limit that is no constant.
const COMPUTED: &str = "max_computed_handshakes";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value of a constant or of a structure's member: `NAME: usize = 16 * 1024;`, `name: Duration::from_secs(10),`.
fn value(source: &str, name: &str) -> Option<String> {
    let declaration = source.split_inclusive([';', ',', '{']).find_map(|part| {
        let rest = part.split_once(&format!("{name}:"))?;
        // The whole name, and not the declaration of a member's type.
        let is_name = rest.0.ends_with([' ', '\n']);
        let text = rest.1.rsplit_once('=').map_or(rest.1, |(_, value)| value);
        let text = text.trim();
        let is_value = text.starts_with(|first: char| first.is_ascii_digit()) || text.starts_with("Duration::from");
        (is_name && is_value).then(|| text.to_owned())
    })?;
    Some(declaration.trim_end_matches([',', ';', '}', ' ']).to_owned())
}

/// `16 * 1024`, `15 << 20`, `100_000`, `Duration::from_secs(10)`, in bytes, things or seconds.
fn evaluate(expression: &str) -> u64 {
    let inner = expression.strip_prefix("Duration::from_secs(").map_or(expression, |rest| rest.trim_end_matches(')'));
    let number = |text: &str| -> u64 {
        text.trim().replace('_', "").parse().unwrap_or_else(|_| panic!("not a number: {expression:?}"))
    };
    let factor = |text: &str| match text.split_once("<<") {
        Some((value, bits)) => number(value) << number(bits),
        None => number(text),
    };
    inner.split('*').map(factor).product()
}

/// `16 MiB`, `10 s`, `10,000`.
fn shown(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "s" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => panic!("unknown unit in {text:?}"),
    };
    number.replace(',', "").parse::<u64>().unwrap_or_else(|_| panic!("not a number: {text:?}")) * factor
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn has_test(folder: &Path, name: &str) -> bool {
    fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            has_test(&path, name)
        } else {
            path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path).unwrap().contains(&format!("fn {name}("))
        }
    })
}

#[test]
fn the_page_of_limits_agrees_with_the_sources_and_names_tests_that_exist() {
    let page = read("docs/limits.md");
    let mut named = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| What")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, limit, _over, set_by, shown_by] = cells[..] else { panic!("expected five cells: {row}") };
        let (path, name) = quoted(set_by).next().and_then(|text| text.split_once(": ")).expect(row);
        let source = read(path);
        // Before its tests, which may have constants of the same name.
        let source = source.split("#[cfg(test)]").next().unwrap();
        let expression = value(source, name).unwrap_or_else(|| panic!("{path} has no {name}"));
        assert_eq!(evaluate(&expression), shown(limit), "{what}: {expression}");
        named.insert(name.to_owned());
        for test in quoted(shown_by) {
            let (place, name) = test.split_once(": ").expect(row);
            let folder = if place == "e2e" { "tests/e2e".to_owned() } else { format!("crates/{place}") };
            assert!(has_test(&workspace().join(folder), name), "there is no test {test}");
        }
    }
    let source = read("crates/coordinator/src/listener.rs");
    let fields = source.split_once("pub struct Limits {").unwrap().1.split_once("\n}").unwrap().0;
    for field in fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
        let name = field.split(':').next().unwrap();
        assert!(named.contains(name) || (name == COMPUTED && page.contains(name)), "{name} is not on the page");
    }
}
