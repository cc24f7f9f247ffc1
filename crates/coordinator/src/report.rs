//! Errors as one line of text: what happened, why, and what to do.

use std::error::Error;
use std::fmt::Write as _;

/// A report is cut to this many bytes: parts of it may come from outside, and it goes into logs and headers.
pub const MAX_BYTES: usize = 4096;

/// The message of `error` and of all its causes, joined by colons. A cause that its error already shows (a transparent
/// one) is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    one_line(cut(text, MAX_BYTES))
}

/// `text` with control characters escaped: parts of it may come from outside, and a line break would let them forge
/// lines of the log, or an escape sequence command the terminal that shows it.
pub fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len() + 16), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

/// `text` without what lies behind `max` bytes; a cut is marked.
pub fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// [`chain`], followed by a hint if there is one.
pub fn with_hint(error: &(dyn Error + 'static), hint: Option<&str>) -> String {
    match hint {
        Some(hint) => one_line(format!("{}; {hint}", chain(error))),
        None => chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Inner(String);

    #[test]
    fn causes_follow_their_effect_and_the_hint_comes_last() {
        let error = Outer(Inner("expected 1, got 2".to_owned()));
        assert_eq!(with_hint(&error, Some("try 1")), "outer: expected 1, got 2; try 1");
        assert_eq!(chain(&error), "outer: expected 1, got 2");
    }

    #[test]
    fn texts_from_outside_cannot_begin_a_line_or_command_a_terminal() {
        let error = Inner("Secrets.a\nINFO Marble activated\r\u{1b}[2J\u{9b}é".to_owned());
        let expected = "Secrets.a\\nINFO Marble activated\\r\\u{1b}[2J\\u{9b}é";
        assert_eq!(chain(&error), expected);
        assert_eq!(with_hint(&error, Some("a\nb")), format!("{expected}; a\\nb"));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let error = Inner("é".repeat(MAX_BYTES));
        let text = chain(&error);
        assert!(text.len() <= MAX_BYTES + '…'.len_utf8() && text.ends_with("é…"), "{}", text.len());
    }
}
