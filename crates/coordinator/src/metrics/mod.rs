//! What is counted for operators: names and labels of MarbleRun v1.9.1, in bounded memory.
//!
//! The text format is written by hand: the names end as they end (`_total` included), and the set is small and fixed.
//! Counting takes atomics or one short lock and never waits for a reader's socket.

mod activations;
mod collateral;
mod events;
mod grpc;
mod listener;
mod requests;

pub use events::Event;
pub use listener::MetricsListener;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use marblerun_collateral::Supply;
use marblerun_coordinator_core::snapshot::Status;

use crate::audit::Audit;
use activations::Activations;
use events::Events;
pub(crate) use grpc::Call;
use grpc::GrpcCounts;
use requests::Requests;
pub(crate) use requests::count_requests;

/// The commit that this was built from, if the build said so.
const COMMIT: &str = match option_env!("MARBLERUN_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Everything that is counted since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    activations: Mutex<Activations>,
    events: Mutex<Events>,
    requests: Requests,
    grpc: GrpcCounts,
    scrapes: AtomicU64,
    audit: Option<Audit>,
    collateral: Option<Supply>,
}

impl Metrics {
    /// Metrics that include those of the audit stream and of collateral.
    pub fn of(audit: Audit, collateral: Option<Supply>) -> Self {
        Self { audit: Some(audit), collateral, ..Self::default() }
    }

    /// Counts an activation that succeeded and keeps it as an event; `uuid` is the canonical form.
    pub fn activated(&self, uuid: &str, event: Event) {
        locked(&self.activations).count(&event.marble_type, uuid, true);
        locked(&self.events).push(event);
    }

    /// Counts a refused activation. `verified` holds type and UUID, if the evidence of the Marble was accepted.
    pub fn refused(&self, verified: Option<(&str, &str)>) {
        let (marble_type, uuid) = verified.unwrap_or_default();
        locked(&self.activations).count(marble_type, uuid, false);
    }

    /// The events as a JSON array with a newline; `null` if there are none.
    fn events_json(&self) -> String {
        let events = locked(&self.events).all();
        events::json(&events)
    }

    /// The text exposition, version 0.0.4.
    fn text(&self, status: Status) -> String {
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed);
        let mut text = String::new();
        head(&mut text, "coordinator_version_info", "gauge", "Version of the Coordinator.");
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(text, "coordinator_version_info{{commit=\"{COMMIT}\",version=\"{version}\"}} 0");
        head(&mut text, "coordinator_state", "gauge", "State of the Coordinator.");
        let state = match status {
            Status::Recovery => 1,
            Status::AcceptingManifest => 2,
            Status::AcceptingMarbles => 3,
        };
        let _ = writeln!(text, "coordinator_state {state}");
        locked(&self.activations).write(&mut text);
        self.grpc.write(&mut text);
        self.requests.write(&mut text);
        if let Some(audit) = &self.audit {
            audit.write_metrics(&mut text);
        }
        if let Some(supply) = &self.collateral {
            collateral::write(&supply.figures(), &mut text);
        }
        head(&mut text, "promhttp_metric_handler_requests_total", "counter", "Answered scrapes by status code.");
        for (code, count) in [(200, scrapes), (500, 0), (503, 0)] {
            let _ = writeln!(text, "promhttp_metric_handler_requests_total{{code=\"{code}\"}} {count}");
        }
        head(&mut text, "promhttp_metric_handler_requests_in_flight", "gauge", "Scrapes being answered.");
        text.push_str("promhttp_metric_handler_requests_in_flight 1\n");
        head(&mut text, "promhttp_metric_handler_errors_total", "counter", "Scrapes that failed; none can.");
        for cause in ["encoding", "gathering"] {
            let _ = writeln!(text, "promhttp_metric_handler_errors_total{{cause=\"{cause}\"}} 0");
        }
        text
    }
}

/// No step under these locks can leave a half-done change.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two lines before the samples of a metric.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
