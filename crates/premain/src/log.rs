//! Log lines on stderr, as text or JSON.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::panic::Location;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use marblerun_marble::{Event, Level};

/// `json` (in any case) writes log lines as JSON objects; anything else as text.
pub(crate) const FORMAT: &str = "EDG_LOG_FORMAT";

/// Stands before every line but the last one of a failure.
const PREFIX: &str = "[PreMain] ";

/// Writes one line per event.
pub(crate) struct Logger {
    json: bool,
}

impl Logger {
    /// `format` is the value of the variable [`FORMAT`].
    pub(crate) fn new(format: Option<&OsStr>) -> Self {
        Self { json: format.is_some_and(|format| format.eq_ignore_ascii_case("json")) }
    }

    #[track_caller]
    pub(crate) fn info(&self, message: &str) {
        self.write("info", &format!("{PREFIX}{message}"));
    }

    #[track_caller]
    pub(crate) fn event(&self, event: &Event<'_>) {
        match event.level() {
            Level::Silent => {}
            Level::Info => self.write("info", &format!("{PREFIX}{event}")),
            Level::Warn if self.json => self.write("warn", &format!("{PREFIX}{event}")),
            Level::Warn => self.write("warn", &format!("{PREFIX}warning: {event}")),
        }
    }

    /// The one line that says why the application does not run.
    #[track_caller]
    pub(crate) fn fatal(&self, message: &str) {
        self.write("fatal", message);
    }

    #[track_caller]
    fn write(&self, level: &str, message: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line =
            if self.json { json_line(level, now, Location::caller(), message) } else { text_line(level, now, message) };
        // Where the log goes is not worth the application.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

fn json_line(level: &str, now: Duration, caller: &Location<'_>, message: &str) -> String {
    // `dir/file:line`, as Go programs log it.
    let mut parts = caller.file().rsplit('/');
    let (file, directory) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let caller = format!("{directory}/{file}:{}", caller.line());
    let ts = now.as_secs_f64();
    let mut line = serde_json::json!({"level": level, "ts": ts, "caller": caller, "msg": message}).to_string();
    line.push('\n');
    line
}

fn text_line(level: &str, now: Duration, message: &str) -> String {
    if level == "fatal" {
        return format!("Error: {message}\n");
    }
    // The prefix comes first and the date second.
    let message = message.strip_prefix(PREFIX).unwrap_or(message);
    match der::DateTime::from_unix_duration(now) {
        Ok(date) => format!(
            "{PREFIX}{:04}/{:02}/{:02} {:02}:{:02}:{:02} {message}\n",
            date.year(),
            date.month(),
            date.day(),
            date.hour(),
            date.minutes(),
            date.seconds()
        ),
        // A host may set its clock past the year 9999.
        Err(_) => format!("{PREFIX}{message}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_900_000_000_250);

    #[test]
    fn text_lines_have_prefix_date_and_message() {
        assert_eq!(text_line("info", NOW, "[PreMain] hi"), "[PreMain] 2030/03/17 17:46:40 hi\n");
        assert_eq!(text_line("fatal", NOW, "no"), "Error: no\n");
        assert_eq!(text_line("info", Duration::from_secs(1 << 60), "[PreMain] hi"), "[PreMain] hi\n");
    }

    // rules: ACT-8.11
    #[test]
    fn json_lines_are_objects_that_keep_the_prefix_in_the_message() {
        let line = json_line("info", NOW, Location::caller(), "[PreMain] a \"b\"\n");
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "info");
        assert_eq!(value["ts"], 1_900_000_000.25);
        assert_eq!(value["msg"], "[PreMain] a \"b\"\n");
        assert!(value["caller"].as_str().unwrap().starts_with("src/log.rs:"), "{line}");
    }

    #[test]
    fn only_json_in_any_case_asks_for_json() {
        for (format, json) in [(Some("json"), true), (Some("JSON"), true), (Some("text"), false), (None, false)] {
            assert_eq!(Logger::new(format.map(OsStr::new)).json, json, "{format:?}");
        }
    }
}
