//! What goes to stdout and stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use serde_json::Value;

use crate::progress::Progress;

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document on stdout; everything else on stderr.
    Json,
}

/// A colour; it only repeats what the words say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    /// For headings.
    Bold,
    /// For errors.
    Red,
    /// For warnings.
    Yellow,
    /// For notes.
    Cyan,
}

impl Colour {
    /// Number of the terminal's command (ECMA-48 8.3.117, SGR).
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Red => "1;31",
            Self::Yellow => "1;33",
            Self::Cyan => "36",
        }
    }
}

/// False where the user asks for none (no-color.org).
fn colour_is_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where a command writes.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    progress: Progress,
}

impl Output {
    /// With `quiet`, lines of progress are left out.
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet, progress: Progress::start(quiet) }
    }

    /// Ends the spinner for good: the command shows by itself that it goes on.
    pub(crate) fn end_progress(&mut self) {
        self.progress = Progress::start(true);
    }

    /// Whether lines of progress are left out.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of progress, which MarbleRun v1.9.1 prints on stdout; on stderr beside JSON.
    pub(crate) fn step(&mut self, line: &str) -> io::Result<()> {
        if self.quiet { Ok(()) } else { self.note(line) }
    }

    /// A note that must be seen, which MarbleRun v1.9.1 prints on stdout; on stderr beside JSON. Where nobody reads it, the
    /// command goes on: what it is for is not done yet.
    pub(crate) fn note(&mut self, line: &str) -> io::Result<()> {
        unless_unread(self.progress.suspend(|| match self.format {
            Format::Text => writeln!(io::stdout(), "{}", printable(line)),
            Format::Json => writeln!(io::stderr(), "{}", printable(line)),
        }))
    }

    /// A line of progress where stdout belongs to somebody else.
    pub(crate) fn aside(&mut self, line: &str) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        unless_unread(self.progress.suspend(|| writeln!(io::stderr(), "marblerun: {}", printable(line))))
    }

    /// A warning where stdout holds the result and nothing else.
    pub(crate) fn warn(&mut self, line: &str) -> io::Result<()> {
        unless_unread(self.progress.suspend(|| writeln!(io::stderr(), "Warning: {}", printable(line))))
    }

    /// A line of the result, for people.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{}", printable(line)))
    }

    /// A line of the result in parts, some with a colour: only on a terminal, and if nobody forbids it.
    pub(crate) fn coloured_line(&mut self, parts: &[(Option<Colour>, &str)]) -> io::Result<()> {
        let has_colour = io::stdout().is_terminal() && colour_is_allowed();
        let text: String = parts
            .iter()
            .map(|(colour, text)| match colour {
                Some(colour) if has_colour => format!("\x1b[{}m{}\x1b[0m", colour.code(), printable(text)),
                _ => printable(text).into_owned(),
            })
            .collect();
        self.progress.suspend(|| writeln!(io::stdout(), "{text}"))
    }

    /// Bytes of the result as they are, followed by a line end.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw(&[bytes, b"\n"])
    }

    /// Bytes of the result as they are, one part behind the other.
    pub(crate) fn raw(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.progress.suspend(|| {
            let mut stdout = io::stdout().lock();
            parts.iter().try_for_each(|part| stdout.write_all(part))?;
            stdout.flush()
        })
    }

    /// A part of the result as JSON in one line, for commands that go on after it.
    pub(crate) fn json_line(&mut self, value: &Value) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{value}"))
    }

    /// The result as JSON.
    pub(crate) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.progress.suspend(|| writeln!(io::stdout(), "{value:#}"))
    }
}

fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// `text` with control characters escaped, line ends and tabs aside: parts of it come from servers and files, which must
/// not command the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| if is_command(c) { c.escape_default().collect() } else { String::from(c) });
    Cow::Owned(escaped.collect())
}

/// One error: a line that begins with `Error:`, then what to do. Colour only on a terminal and if nobody forbids it.
pub(crate) fn print_error(message: &str, hint: Option<&str>, is_terminal: bool) {
    let has_colour = is_terminal && colour_is_allowed();
    let (red, off) = if has_colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let one_line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut text = format!("{red}Error:{off} {}\n", printable(&one_line));
    if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
        text.push_str(&format!("Hint: {}\n", printable(hint)));
    }
    // Nothing is left to tell it to.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Help goes to stdout.
pub(crate) fn print_help(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_command_the_terminal() {
        assert_eq!(printable("1: ready\té\n"), "1: ready\té\n");
        assert_eq!(printable("1: \u{1b}[2Jready\r\u{9b}1A"), "1: \\u{1b}[2Jready\\r\\u{9b}1A");
    }
}
