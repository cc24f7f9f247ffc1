//! The log of a Coordinator in `marble-sim`: read to its end, shown as the user needs it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::oneshot;

use super::Addresses;
use crate::output;

/// Longest line; the Coordinator's are below 60 KiB.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// How many lines of trouble are kept.
const MAX_KEPT: usize = 20;
/// Before each line that is shown.
const PREFIX: &str = "coordinator: ";

/// What is shown of the log while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// All events.
    All,
    /// Warnings and errors.
    Trouble,
    /// Nothing; trouble is kept for the one who asks.
    Nothing,
}

/// The last lines of trouble.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<Mutex<VecDeque<String>>>);

impl Trouble {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads the log until it ends. The addresses are told as soon as the Coordinator listens.
pub(crate) async fn follow(
    mut log: impl AsyncRead + Unpin,
    show: Show,
    listening: oneshot::Sender<Addresses>,
    trouble: Trouble,
) {
    let mut listening = Some(listening);
    let mut pending = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        let read = match log.read(&mut buffer).await {
            // A log that cannot be read any more ends with its process, which is waited for elsewhere.
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for part in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
            // What is too long is cut: the rest of such a line is no use to anybody.
            let room = MAX_LINE_BYTES.saturating_sub(pending.len());
            pending.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                line(String::from_utf8_lossy(&pending).trim_end(), show, &mut listening, &trouble);
                pending.clear();
            }
        }
    }
    if !pending.is_empty() {
        line(String::from_utf8_lossy(&pending).trim_end(), show, &mut listening, &trouble);
    }
}

fn line(text: &str, show: Show, listening: &mut Option<oneshot::Sender<Addresses>>, trouble: &Trouble) {
    let event = Event::parse(text);
    if let Some(addresses) = event.listening
        && let Some(listening) = listening.take()
    {
        // Nobody waits any more where the start was given up.
        let _ = listening.send(addresses);
    }
    if event.text.is_empty() {
        return;
    }
    if event.is_trouble {
        trouble.push(event.text.clone());
    }
    if show == Show::All || show == Show::Trouble && event.is_trouble {
        // Where nobody reads, there is nobody to tell.
        let _ = writeln!(io::stderr(), "{PREFIX}{}", output::printable(&event.text));
    }
}

/// A line of the log, as far as it matters here.
#[derive(Debug, Default, PartialEq)]
struct Event {
    /// For people; empty for what they need not read.
    text: String,
    is_trouble: bool,
    listening: Option<Addresses>,
}

impl Event {
    fn parse(line: &str) -> Self {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return Self::of_simulator(line) };
        let fields = event["fields"].as_object().cloned().unwrap_or_default();
        let level = event["level"].as_str().unwrap_or("INFO");
        let message = event["message"].as_str().or_else(|| event["fields"]["message"].as_str()).unwrap_or_default();
        let mut text = format!("{level} {message}");
        for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing into a text cannot fail.
            let _ = write!(text, " {name}={value}");
        }
        let address = |name: &str| fields.get(name)?.as_str()?.parse::<SocketAddr>().ok();
        let listening = match (message, address("client"), address("mesh")) {
            ("listening", Some(client), Some(marble)) => Some(Addresses { client, marble }),
            _ => None,
        };
        Self { text, is_trouble: matches!(level, "WARN" | "ERROR") && !is_expected(message), listening }
    }

    /// A line of `marble-sim`, or the last words of the Coordinator.
    fn of_simulator(line: &str) -> Self {
        let text = line.strip_prefix("marble-sim: ").unwrap_or(line);
        let is_notice =
            ["SIMULATION of Occlum", "MRENCLAVE ", "mechanism:"].iter().any(|start| text.starts_with(start));
        // The banner has said what the notices say.
        let is_shown = !is_notice && !text.is_empty();
        Self { text: if is_shown { text.to_owned() } else { String::new() }, is_trouble: is_shown, listening: None }
    }
}

/// Warnings that say what this whole command says.
fn is_expected(message: &str) -> bool {
    message.contains("evidence is that of a software TEE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_the_addresses_is_found() {
        let line = r#"{"level":"INFO","fields":{"message":"listening","client":"127.0.0.1:4433","mesh":"[::1]:2001"}}"#;
        let event = Event::parse(line);
        let expected = Addresses { client: "127.0.0.1:4433".parse().unwrap(), marble: "[::1]:2001".parse().unwrap() };
        assert_eq!(event.listening, Some(expected));
        assert!(!event.is_trouble && event.text.starts_with("INFO listening"), "{event:?}");
        let other = r#"{"level":"INFO","fields":{"message":"listening for scrapes","client":"127.0.0.1:1"}}"#;
        assert_eq!(Event::parse(other).listening, None);
    }

    #[test]
    fn trouble_is_told_from_notices() {
        for (line, text, is_trouble) in [
            (r#"{"level":"WARN","fields":{"message":"denied","n":1}}"#, "WARN denied n=1", true),
            (r#"{"level":"INFO","fields":{"message":"manifest set"}}"#, "INFO manifest set", false),
            (r#"{"level":"WARN","message":"a log line was left out"}"#, "WARN a log line was left out", true),
            ("marble-sim: SIMULATION of Occlum, no protection", "", false),
            ("marble-sim: error: no image", "error: no image", true),
            ("Error: cannot listen", "Error: cannot listen", true),
            ("", "", false),
        ] {
            let event = Event::parse(line);
            assert_eq!((event.text.as_str(), event.is_trouble), (text, is_trouble), "{line}");
        }
    }

    #[tokio::test]
    async fn a_log_of_any_form_is_read_to_its_end_and_the_last_trouble_is_kept() {
        let (listening, is_listening) = oneshot::channel();
        let trouble = Trouble::default();
        let mut log = vec![b'x'; 3 * MAX_LINE_BYTES];
        log.push(b'\n');
        for number in 0..30 {
            log.extend(format!("error: {number}\n").bytes());
        }
        log.extend(b"error: without an end of line");
        follow(log.as_slice(), Show::Nothing, listening, trouble.clone()).await;
        let lines = trouble.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (MAX_KEPT, "error: 11"));
        assert_eq!(lines[MAX_KEPT - 1], "error: without an end of line");
        assert!(is_listening.await.is_err());
    }
}
