//! The audit stream: each refusal with its reason, each change with who made it.
//!
//! Whoever handles a request says what happened; that costs one short lock. Whether it becomes a line is decided by
//! cause and budget, so that nobody fills the log or a disk by being refused. A thread of its own writes the lines;
//! nobody waits for it, and its failures stop nothing.

mod aggregate;
mod budget;
mod file;
mod record;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use self::aggregate::{Aggregator, Moment};
pub use self::aggregate::{Peer, Refusal};
use self::file::{MAX_FILE_BYTES, RotatingFile};
use self::record::Record;
use crate::clock;

/// Lines that wait for the disk; what comes beyond is dropped and counted.
const QUEUE: usize = 1024;
/// How often counts that wait for their line are looked at.
const TICK: Duration = Duration::from_secs(5);
/// Lost lines are reported at most once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Where the stream goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditTarget {
    /// Into the process log, as its events.
    #[default]
    Log,
    /// To standard error as JSON, beside the process log.
    Stderr,
    /// Into the process log and, as JSON, into this file.
    File(PathBuf),
}

/// The way into the audit stream. It ends with the last handle.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    start: Instant,
    counts: Counts,
}

#[derive(Debug)]
struct State {
    aggregator: Aggregator,
    queue: SyncSender<(u64, Record)>,
    /// Of the newest line, those that were dropped included.
    number: u64,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    over_budget: AtomicU64,
    queue_full: AtomicU64,
    failed: AtomicU64,
}

impl Audit {
    /// Starts the stream on a thread of its own: its work is waiting for the disk.
    ///
    /// # Errors
    ///
    /// If the system gives no thread. A file that cannot be written is no error: it is said in the log, counted, and
    /// tried again.
    pub fn start(target: AuditTarget) -> io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { aggregator: Aggregator::new(), queue, number: 0 }),
            start: Instant::now(),
            counts: Counts::default(),
        });
        let sink = Sink::new(target);
        let weak = Arc::downgrade(&shared);
        thread::Builder::new().name("audit".to_owned()).spawn(move || run(&records, &weak, sink))?;
        Ok(Self(shared))
    }

    /// Something was refused.
    pub fn refused(&self, refusal: &Refusal<'_>) {
        let now = self.0.now();
        self.0.with_state(|state| {
            let record = state.aggregator.refused(now, refusal);
            self.0.enqueue(state, record);
        });
    }

    /// Something is different now, and durable: `action` says what, `details` name it. No secrets.
    pub fn changed(&self, peer: Peer<'_>, action: &'static str, details: &[(&'static str, &str)]) {
        let now = self.0.now();
        self.0.with_state(|state| match state.aggregator.changed(now, peer, action, details) {
            None => {
                state.number += 1;
                self.0.counts.over_budget.fetch_add(1, Ordering::Relaxed);
            }
            record => self.0.enqueue(state, record),
        });
    }

    /// Appends the counts in the text format of metrics.
    pub(crate) fn write_metrics(&self, text: &mut String) {
        let Counts { written, over_budget, queue_full, failed } = &self.0.counts;
        let name = "coordinator_audit_lines_total";
        let _ = writeln!(text, "# HELP {name} Lines of the audit stream.\n# TYPE {name} counter");
        let _ = writeln!(text, "{name} {}", written.load(Ordering::Relaxed));
        let name = "coordinator_audit_lines_dropped_total";
        let _ = writeln!(text, "# HELP {name} Lines of the audit stream that were lost.\n# TYPE {name} counter");
        for (cause, count) in [("budget", over_budget), ("queue", queue_full), ("write", failed)] {
            let _ = writeln!(text, "{name}{{cause=\"{cause}\"}} {}", count.load(Ordering::Relaxed));
        }
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment { wall: clock::now(), uptime: self.start.elapsed() }
    }

    /// No step under this lock can leave a half-done change.
    fn with_state(&self, work: impl FnOnce(&mut State)) {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn enqueue(&self, state: &mut State, records: impl IntoIterator<Item = Record>) {
        for record in records {
            state.number += 1;
            if state.queue.try_send((state.number, record)).is_err() {
                self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn enqueue_due(&self) {
        let now = self.now();
        self.with_state(|state| {
            let records = state.aggregator.due(now);
            self.enqueue(state, records);
        });
    }
}

fn run(records: &Receiver<(u64, Record)>, shared: &Weak<Shared>, mut sink: Sink) {
    loop {
        let record = records.recv_timeout(TICK);
        if matches!(record, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let written = record.ok().map(|(number, record)| sink.write(number, &record));
        // The last handle may be gone while lines still wait; they are written.
        let Some(shared) = shared.upgrade() else { continue };
        match written {
            Some(true) => drop(shared.counts.written.fetch_add(1, Ordering::Relaxed)),
            Some(false) => drop(shared.counts.failed.fetch_add(1, Ordering::Relaxed)),
            None => {}
        }
        sink.report_lost(&shared.counts);
        shared.enqueue_due();
    }
}

struct Sink {
    is_logged: bool,
    json: Option<Json>,
    /// When a failing file was reported.
    reported: Option<Instant>,
    /// Lines that were dropped before the disk and are reported, and when.
    lost: (u64, Option<Instant>),
}

enum Json {
    Stderr,
    File(RotatingFile),
}

impl Sink {
    fn new(target: AuditTarget) -> Self {
        let (is_logged, json) = match target {
            AuditTarget::Log => (true, None),
            AuditTarget::Stderr => (false, Some(Json::Stderr)),
            AuditTarget::File(path) => (true, Some(Json::File(RotatingFile::new(path, MAX_FILE_BYTES)))),
        };
        Self { is_logged, json, reported: None, lost: (0, None) }
    }

    /// Says in the log that lines were dropped.
    fn report_lost(&mut self, counts: &Counts) {
        let (over_budget, queue_full) =
            (counts.over_budget.load(Ordering::Relaxed), counts.queue_full.load(Ordering::Relaxed));
        let (reported, when) = self.lost;
        if over_budget + queue_full > reported && when.is_none_or(|when| when.elapsed() >= REPORT_INTERVAL) {
            self.lost = (over_budget + queue_full, Some(Instant::now()));
            warn!(over_budget, queue_full, "lines of the audit stream were lost");
        }
    }

    /// Whether the line is where it belongs.
    fn write(&mut self, number: u64, record: &Record) -> bool {
        if self.is_logged {
            record.log();
        }
        let result = match &mut self.json {
            None => Ok(()),
            Some(Json::Stderr) => io::stderr().write_all(record.to_json(number).as_bytes()),
            Some(Json::File(file)) => file.append(&record.to_json(number)),
        };
        let Err(failure) = result else { return true };
        if self.reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            error!(error = &failure as &dyn std::error::Error, "the audit stream cannot be written; lines are lost");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use super::*;

    fn refusal(reason: &'static str) -> Refusal<'static> {
        Refusal {
            peer: Peer::Client,
            action: "GET /secrets",
            reason,
            code: "401",
            text: "no",
            details: &[("address", "10.0.0.1:1")],
        }
    }

    /// A stream without its thread.
    fn unwritten(queue: usize) -> (Audit, Receiver<(u64, Record)>) {
        let (queue, records) = sync_channel(queue);
        let state = Mutex::new(State { aggregator: Aggregator::new(), queue, number: 0 });
        (Audit(Arc::new(Shared { state, start: Instant::now(), counts: Counts::default() })), records)
    }

    fn metrics(audit: &Audit) -> String {
        let mut text = String::new();
        audit.write_metrics(&mut text);
        text
    }

    /// Runs the writing side until everything is written.
    fn write_all(audit: Audit, records: &Receiver<(u64, Record)>, target: AuditTarget) -> Arc<Shared> {
        let shared = Arc::clone(&audit.0);
        let weak = Arc::downgrade(&shared);
        // A disconnected queue ends the loop once it is empty.
        let (closed, _) = sync_channel(1);
        shared.with_state(|state| state.queue = closed);
        run(records, &weak, Sink::new(target));
        shared
    }

    #[test]
    fn lines_reach_the_file_in_order_with_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (audit, records) = unwritten(10);
        audit.refused(&refusal("unauthorized"));
        audit.refused(&refusal("unauthorized"));
        audit.changed(Peer::User("alice"), "secrets set", &[("number", "2")]);
        let shared = write_all(audit, &records, AuditTarget::File(path.clone()));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["number"], &lines[1]["number"]), (&1.into(), &2.into()));
        assert_eq!((&lines[0]["reason"], &lines[0]["count"]), (&"unauthorized".into(), &1.into()));
        assert_eq!((&lines[1]["name"], &lines[1]["details"]["number"]), (&"alice".into(), &"2".into()));
        let text = metrics(&Audit(shared));
        assert!(text.contains("coordinator_audit_lines_total 2\n"), "{text}");
    }

    #[test]
    fn a_full_queue_stops_nobody_and_is_counted() {
        let (audit, records) = unwritten(2);
        for reason in ["a", "b", "c", "d"] {
            audit.refused(&refusal(reason));
        }
        assert_eq!(records.try_iter().map(|(number, _)| number).collect::<Vec<_>>(), [1, 2]);
        assert!(metrics(&audit).contains("dropped_total{cause=\"queue\"} 2\n"), "{}", metrics(&audit));
        audit.refused(&refusal("e"));
        assert_eq!(records.try_recv().unwrap().0, 5, "the gap in the numbers tells of the loss");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_counted_and_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (audit, records) = unwritten(10);
        audit.refused(&refusal("a"));
        audit.refused(&refusal("b"));
        let shared = write_all(audit, &records, AuditTarget::File(directory.path().to_owned()));
        let text = metrics(&Audit(shared));
        assert!(text.contains("dropped_total{cause=\"write\"} 2\n"), "{text}");
    }

    #[test]
    fn changes_above_the_budget_are_counted() {
        let (audit, _records) = unwritten(1000);
        (0..100).for_each(|_| audit.changed(Peer::Client, "manifest set", &[]));
        let text = metrics(&audit);
        let dropped = text.split("cause=\"budget\"} ").nth(1).unwrap().lines().next().unwrap();
        assert!((60..=70).contains(&dropped.parse::<u64>().unwrap()), "{text}");
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (queue, records) = sync_channel(QUEUE);
        let state = Mutex::new(State { aggregator: Aggregator::new(), queue, number: 0 });
        let audit = Audit(Arc::new(Shared { state, start: Instant::now(), counts: Counts::default() }));
        let weak = Arc::downgrade(&audit.0);
        let sink = Sink::new(AuditTarget::File(path.clone()));
        let writing = thread::spawn(move || run(&records, &weak, sink));
        audit.refused(&refusal("a"));
        drop(audit);
        writing.join().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
