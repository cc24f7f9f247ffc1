//! Comments and markers that say which rules a test covers.

use std::fmt;

use super::catalogue::is_id;

/// A comment with the test below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The source, relative to the workspace.
    pub path: String,
    /// Line of the test's `fn` or `def`, from 1.
    pub line: usize,
    /// Name of the test.
    pub test: String,
    /// The rules that the comment names.
    pub ids: Vec<String>,
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.path, self.line, self.test)
    }
}

/// What the sources say.
#[derive(Debug, Default)]
pub struct Found {
    /// In order of path and line.
    pub annotations: Vec<Annotation>,
    /// Comments that cannot be read or belong to no test, each with its place.
    pub problems: Vec<String>,
}

/// How a source writes comments and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `// rules:` above a function with `#[test]` or `#[tokio::test]`.
    Rust,
    /// `# rules:` above a function whose name begins with `test_`, or above everything else of a file for all its tests;
    /// or the markers `rule` and `deviation` of a function.
    Python,
}

impl Language {
    /// The only accepted beginning of the comment.
    fn marker(self) -> &'static str {
        match self {
            Self::Rust => "// rules: ",
            Self::Python => "# rules: ",
        }
    }

    /// The text of a line that is a comment.
    fn comment(self, line: &str) -> Option<&str> {
        let line = line.trim_start();
        match self {
            Self::Rust => line.strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!'])),
            Self::Python => line.strip_prefix('#'),
        }
    }

    /// Where an attribute or a decorator begins.
    fn attribute(self) -> &'static str {
        match self {
            Self::Rust => "#[",
            Self::Python => "@",
        }
    }

    /// The name of the function whose head stands in this line.
    fn function(self, line: &str) -> Option<&str> {
        let keyword = match self {
            Self::Rust => "fn ",
            Self::Python => "def ",
        };
        let (before, rest) = line.trim_start().split_once(keyword)?;
        before.split_whitespace().all(|word| matches!(word, "pub" | "async")).then_some(())?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some(&rest[..end])
    }
}

/// Adds the annotations of one source.
pub fn collect(path: &str, text: &str, language: Language, found: &mut Found) {
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if language == Language::Python && MARKERS.iter().any(|marker| line.trim_start().starts_with(marker)) {
            collect_marker(path, &lines, index, found);
            continue;
        }
        if !language.comment(line).is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("rules:")) {
            continue;
        }
        let place = format!("{path}:{}", index + 1);
        let ids = match read_ids(line, language) {
            Ok(ids) => ids,
            Err(reason) => {
                found.problems.push(format!("{place}: {reason}"));
                continue;
            }
        };
        let annotation = |(line, test): (usize, &str)| Annotation {
            path: path.into(),
            line: line + 1,
            test: test.into(),
            ids: ids.clone(),
        };
        if let Some(test) = test_below(&lines, index + 1, language) {
            found.annotations.push(annotation(test));
        } else if language == Language::Python && is_top(&lines[..index]) {
            let tests = lines.iter().enumerate().filter_map(|(index, line)| Some((index, language.function(line)?)));
            found.annotations.extend(tests.filter(|(_, name)| name.starts_with("test_")).map(annotation));
        } else {
            found.problems.push(format!("{place}: no test stands directly below the comment"));
        }
    }
}

/// Markers of pytest. A deviation may also be named in words; those are not for us.
const MARKERS: [&str; 2] = ["@pytest.mark.rule(", "@pytest.mark.deviation("];

fn collect_marker(path: &str, lines: &[&str], index: usize, found: &mut Found) {
    let place = format!("{path}:{}", index + 1);
    let marker = lines[index..index + attribute_lines(&lines[index..])].join(" ");
    let texts: Vec<&str> = marker.split('"').skip(1).step_by(2).collect();
    let is_rule = marker.trim_start().starts_with(MARKERS[0]);
    if is_rule && (texts.is_empty() || !texts.iter().all(|text| is_id(text))) {
        found.problems.push(format!("{place}: expected identifiers in double quotes, got `{}`", marker.trim()));
        return;
    }
    let ids: Vec<String> = texts.into_iter().filter(|text| is_id(text)).map(str::to_owned).collect();
    if ids.is_empty() {
        return;
    }
    match test_below(lines, index, Language::Python) {
        Some((line, test)) => {
            found.annotations.push(Annotation { path: path.into(), line: line + 1, test: test.into(), ids });
        }
        None => found.problems.push(format!("{place}: no test stands directly below the marker")),
    }
}

fn read_ids(line: &str, language: Language) -> Result<Vec<String>, String> {
    let Some(list) = line.trim_start().strip_prefix(language.marker()) else {
        return Err(format!("expected `{}ID, ID`, got `{}`", language.marker(), line.trim()));
    };
    let mut ids: Vec<String> = Vec::new();
    for id in list.split(", ").map(str::trim_end) {
        if !is_id(id) {
            return Err(format!("expected identifiers separated by a comma and a blank, got `{id}`"));
        }
        if ids.iter().any(|other| other == id) {
            return Err(format!("{id} stands twice"));
        }
        ids.push(id.to_owned());
    }
    Ok(ids)
}

/// Line and name of the test that begins at `start`, after further comments and attributes.
fn test_below<'a>(lines: &[&'a str], start: usize, language: Language) -> Option<(usize, &'a str)> {
    let mut is_test = false;
    let mut index = start;
    while let Some(line) = lines.get(index) {
        if line.trim_start().starts_with(language.attribute()) {
            is_test |= ["#[test]", "#[tokio::test"].iter().any(|test| line.trim_start().starts_with(test));
            index += attribute_lines(&lines[index..]);
        } else if language.comment(line).is_some() {
            index += 1;
        } else {
            let name = language.function(line)?;
            let counts = match language {
                Language::Rust => is_test,
                Language::Python => name.starts_with("test_"),
            };
            return counts.then_some((index, name));
        }
    }
    None
}

/// How many lines the attribute or decorator takes that begins in the first one: until its brackets are closed.
/// Brackets inside of texts do not count; a text ends in the line in which it began.
fn attribute_lines(lines: &[&str]) -> usize {
    let mut depth = 0_i64;
    for (index, line) in lines.iter().enumerate() {
        let mut quote = None;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match (quote, character) {
                (Some(_), '\\') => {
                    characters.next();
                }
                (Some(open), _) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(character),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ']' | '}') => depth -= 1,
                (None, _) => {}
            }
        }
        if depth <= 0 {
            return index + 1;
        }
    }
    lines.len()
}

/// Whether nothing but comments and empty lines stands above.
fn is_top(above: &[&str]) -> bool {
    above.iter().all(|line| line.trim().is_empty() || line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(language: Language, lines: &[&str], expected: &[(usize, &str, &str)]) {
        let mut found = Found::default();
        collect("p", &lines.join("\n"), language, &mut found);
        let got: Vec<_> = found.annotations.iter().map(|a| (a.line, a.test.as_str(), a.ids.join(" "))).collect();
        let got: Vec<_> = got.iter().map(|(line, test, ids)| (*line, *test, ids.as_str())).collect();
        assert_eq!((got.as_slice(), found.problems.as_slice()), (expected, [].as_slice()));
    }

    #[track_caller]
    fn check_problem(language: Language, lines: &[&str], expected: &str) {
        let mut found = Found::default();
        collect("p", &lines.join("\n"), language, &mut found);
        assert_eq!(found.annotations, []);
        assert_eq!(found.problems, [expected]);
    }

    #[test]
    fn a_comment_belongs_to_the_rust_test_below_it() {
        check(
            Language::Rust,
            &["// rules: A-1, B-2.3, R4", "#[test]", "fn holds() {"],
            &[(3, "holds", "A-1 B-2.3 R4")],
        );
        check(
            Language::Rust,
            &[
                "    /// Words.",
                "    // rules: A-1",
                "    // rules: A-2",
                "    #[tokio::test(flavor = \"multi_thread\")]",
                "    #[expect(",
                "        clippy::x,",
                "    )]",
                "    async fn holds() {",
            ],
            &[(8, "holds", "A-1"), (8, "holds", "A-2")],
        );
    }

    #[test]
    fn a_comment_without_a_rust_test_is_a_problem() {
        let reason = "p:1: no test stands directly below the comment";
        check_problem(Language::Rust, &["// rules: A-1", "fn no_test() {"], reason);
        check_problem(Language::Rust, &["// rules: A-1", "", "#[test]", "fn test() {"], reason);
        check_problem(Language::Rust, &["// rules: A-1", "#[cfg(test)]", "mod tests {"], reason);
        check_problem(Language::Rust, &["// rules: A-1"], reason);
    }

    #[test]
    fn a_comment_belongs_to_the_python_test_below_it() {
        check(
            Language::Python,
            &[
                "import x",
                "# rules: A-1",
                "@pytest.mark.parametrize(\"a\", [",
                "    (1, 2), b'{\"', \"\\\"]\",",
                "])",
                "def test_it(a):",
                "    # rules: A-2",
                "    async def test_inner():",
            ],
            &[(6, "test_it", "A-1"), (8, "test_inner", "A-2")],
        );
    }

    #[test]
    fn markers_belong_to_the_python_test_below_them() {
        check(
            Language::Python,
            &[
                "import x",
                "@pytest.mark.rule(\"A-1\", \"A-2\")",
                "@pytest.mark.deviation(\"SAFE-5\", certain=False)",
                "@pytest.mark.deviation(\"in words\")",
                "def test_it():",
            ],
            &[(5, "test_it", "A-1 A-2"), (5, "test_it", "SAFE-5")],
        );
        check_problem(
            Language::Python,
            &["@pytest.mark.rule(\"first\")", "def test_it():"],
            "p:1: expected identifiers in double quotes, got `@pytest.mark.rule(\"first\")`",
        );
        check_problem(
            Language::Python,
            &["@pytest.mark.rule(\"A-1\")", "def helper():"],
            "p:1: no test stands directly below the marker",
        );
    }

    #[test]
    fn a_comment_at_the_top_belongs_to_all_tests_of_the_python_file() {
        check(
            Language::Python,
            &[
                "#!/usr/bin/python3",
                "# rules: A-1",
                "\"\"\"Words.\"\"\"",
                "def test_a():",
                "def help():",
                "def test_b():",
            ],
            &[(4, "test_a", "A-1"), (6, "test_b", "A-1")],
        );
    }

    #[test]
    fn a_comment_without_a_python_test_is_a_problem() {
        let reason = "p:2: no test stands directly below the comment";
        check_problem(Language::Python, &["import x", "# rules: A-1", "def helper():"], reason);
        check_problem(Language::Python, &["import x", "# rules: A-1", "", "def test_a():"], reason);
    }

    #[test]
    fn a_comment_of_another_form_is_a_problem() {
        for (line, reason) in [
            ("/// rules: A-1", "expected `// rules: ID, ID`, got `/// rules: A-1`"),
            ("//rules: A-1", "expected `// rules: ID, ID`, got `//rules: A-1`"),
            ("// Rules: A-1", "expected `// rules: ID, ID`, got `// Rules: A-1`"),
            ("// rules: A-1,A-2", "expected identifiers separated by a comma and a blank, got `A-1,A-2`"),
            ("// rules: A-1, ", "expected identifiers separated by a comma and a blank, got ``"),
            ("// rules: A-1, A-1", "A-1 stands twice"),
        ] {
            check_problem(Language::Rust, &[line, "#[test]", "fn test() {"], &format!("p:1: {reason}"));
        }
    }
}
