//! Unified differences of two texts, for people.

use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT: usize = 3;

/// Largest table of line pairs; beyond it everything between the common ends counts as changed.
const MAX_PAIRS: usize = 4_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The difference between `old` and `new` in the unified format, the files named `old_name` and `new_name`; empty if they
/// are equal.
pub fn unified(old_name: &str, old: &str, new_name: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let lines = compare(&split(old), &split(new));
    let changed = |line: &Line<'_>| !matches!(line, Line::Same(_));
    let mut result = format!("--- {old_name}\n+++ {new_name}\n");
    let mut at = 0;
    while let Some(first) = lines.iter().skip(at).position(changed).map(|offset| at + offset) {
        let start = first.saturating_sub(CONTEXT).max(at);
        let mut end = first;
        // Changes so close that their context would meet are one hunk.
        while let Some(offset) = lines.iter().skip(end).take(2 * CONTEXT + 1).position(changed) {
            end += offset + 1;
        }
        let end = (end + CONTEXT).min(lines.len());
        hunk(&mut result, &lines, start, end);
        at = end;
    }
    result
}

fn split(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn hunk(result: &mut String, lines: &[Line<'_>], start: usize, end: usize) {
    let count =
        |lines: &[Line<'_>], is_counted: fn(&Line<'_>) -> bool| lines.iter().filter(|line| is_counted(line)).count();
    let is_old: fn(&Line<'_>) -> bool = |line| !matches!(line, Line::New(_));
    let is_new: fn(&Line<'_>) -> bool = |line| !matches!(line, Line::Old(_));
    let (before, inside) = (lines.get(..start).unwrap_or_default(), lines.get(start..end).unwrap_or_default());
    let place = |is_counted| {
        let len = count(inside, is_counted);
        // An empty side names the line before it (POSIX diff).
        let first = count(before, is_counted) + usize::from(len > 0);
        if len == 1 { first.to_string() } else { format!("{first},{len}") }
    };
    writeln!(result, "@@ -{} +{} @@", place(is_old), place(is_new)).expect("a text takes every line");
    for line in inside {
        let (mark, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Old(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        result.push(mark);
        result.push_str(text);
        if !text.ends_with('\n') {
            result.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// Longest common subsequence between the common beginning and end.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) = (&old_rest[..old_rest.len() - tail], &new_rest[..new_rest.len() - tail]);
    let mut lines: Vec<_> = old[..head].iter().map(|text| Line::Same(text)).collect();
    if old_middle.len().saturating_mul(new_middle.len()) > MAX_PAIRS {
        lines.extend(old_middle.iter().map(|text| Line::Old(text)));
        lines.extend(new_middle.iter().map(|text| Line::New(text)));
    } else {
        middle(old_middle, new_middle, &mut lines);
    }
    lines.extend(old_rest[old_rest.len() - tail..].iter().map(|text| Line::Same(text)));
    lines
}

fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    // `common[i * width + j]`: length of the longest common subsequence of `old[i..]` and `new[j..]`.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1] {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(unified("a", "x\n", "b", "x\n"), "");
    }

    #[test]
    fn a_change_stands_between_three_lines_of_context() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let expected = "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        assert_eq!(unified("a", old, "b", new), expected);
    }

    #[test]
    fn distant_changes_are_two_hunks() {
        let old: String = (0..30).map(|line| format!("{line}\n")).collect();
        let new = old.replace("\n3\n", "\nthree\n").replace("\n25\n", "\n");
        let text = unified("a", &old, "b", &new);
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
        assert!(text.contains("@@ -23,7 +23,6 @@"), "{text}");
    }

    #[test]
    fn a_missing_line_end_is_said() {
        let text = unified("a", "x", "b", "x\n");
        assert_eq!(text, "--- a\n+++ b\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n");
    }

    #[test]
    fn an_empty_side_names_the_line_before() {
        assert_eq!(unified("a", "", "b", "x\n"), "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
    }
}
