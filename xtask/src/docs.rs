//! `cargo xtask docs`: what the documents name must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process::say;

/// Checks links of all documents, and the tests, files and tasks that they name. Other commands are executed by tests.
///
/// # Errors
///
/// Everything that a document names and that is not there.
pub fn run(workspace: &Path) -> Result<()> {
    let documents = documents(workspace)?;
    let mut missing = Vec::new();
    let tests = test_names(workspace)?;
    for document in &documents {
        let text = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
        let folder = document.parent().context("a document lies in a folder")?;
        let place = document.strip_prefix(workspace)?.display();
        for link in links(&text) {
            if !folder.join(link).exists() {
                missing.push(format!("{place}: link to {link}"));
            }
        }
        for name in named_tests(&text) {
            if !tests.contains(name) {
                missing.push(format!("{place}: test {name}"));
            }
        }
        for path in named_paths(&text) {
            if !workspace.join(path).exists() {
                missing.push(format!("{place}: file {path}"));
            }
        }
        for task in named_tasks(&text) {
            if !is_task(task) {
                missing.push(format!("{place}: cargo xtask {task}"));
            }
        }
    }
    if !missing.is_empty() {
        bail!("documents name what does not exist:\n  {}", missing.join("\n  "));
    }
    say(&format!("{} documents name only what exists", documents.len()));
    Ok(())
}

fn documents(workspace: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    let folders = ["", "docs", "docs/adr", "docs/rules", "samples", "fuzz", "tests/conformance"];
    let mut folders: Vec<_> = folders.iter().map(|folder| workspace.join(folder)).collect();
    for sample in fs::read_dir(workspace.join("samples")).context("cannot read samples")? {
        folders.extend(Some(sample?.path()).filter(|path| path.is_dir()));
    }
    for folder in folders {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Targets of Markdown links inside the repository, without anchors.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// Names of tests, written as `` `crate: name` ``.
fn named_tests(text: &str) -> Vec<&str> {
    code_spans(text)
        .filter_map(|span| span.split_once(": "))
        .filter(|(owner, name)| is_word(owner, '-') && is_word(name, '_') && name.matches('_').count() >= 3)
        .map(|(_, name)| name)
        .collect()
}

/// Files and folders of the sources, written as `` `crates/…` `` or `` `tests/…` ``.
fn named_paths(text: &str) -> Vec<&str> {
    code_spans(text)
        .filter(|span| ["crates/", "tests/", "xtask/", "docs/", "samples/"].iter().any(|top| span.starts_with(top)))
        .filter(|span| span.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c)))
        .collect()
}

/// Names of tasks, written as `cargo xtask …`.
fn named_tasks(text: &str) -> Vec<&str> {
    let words = text.split("cargo xtask ").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next());
    words.flatten().filter(|word| !word.is_empty()).collect()
}

fn is_task(name: &str) -> bool {
    let names = crate::USAGE.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|known| !known.is_empty()).any(|known| known == name)
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_word(text: &str, joint: char) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == joint)
}

/// The names of all functions in sources and tests: a test that is named must be one of them.
fn test_names(workspace: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![workspace.join("crates"), workspace.join("tests"), workspace.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let keyword = match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => "fn ",
                Some("py") => "def ",
                _ => continue,
            };
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let starts = text.split(keyword).skip(1);
            names.extend(
                starts.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()),
            );
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_tests_and_paths_are_found_where_they_are_named() {
        let text = "See [a](docs/a.md#top) and [b](https://b.example). `pki: a_test_of_a_name`, `crates/pki`, `fn: x`.";
        assert_eq!(links(text), ["docs/a.md"]);
        assert_eq!(named_tests(text), ["a_test_of_a_name"]);
        assert_eq!(named_paths(text), ["crates/pki"]);
        assert_eq!(named_tasks("`cargo xtask demo`, cargo xtask TASK\n$ cargo xtask dist\n"), ["demo", "dist"]);
        assert!(is_task("demo") && is_task("docs") && !is_task("run") && !is_task(""));
    }
}
