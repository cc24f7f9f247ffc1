//! Calls of the Marble API by status code.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Metrics;

/// The status codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const LABELS: &str = "grpc_method=\"Activate\",grpc_service=\"rpc.Marble\",grpc_type=\"unary\"";

const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

/// Counts of the one method.
#[derive(Debug, Default)]
pub(crate) struct GrpcCounts {
    started: AtomicU64,
    received: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

impl GrpcCounts {
    /// A call began.
    fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    fn handle(&self, code: usize) {
        if let Some(count) = self.handled.get(code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        let [ok, ..] = &self.handled;
        let singles = [
            ("grpc_server_started_total", "Calls that began.", &self.started),
            ("grpc_server_msg_received_total", "Messages that were read.", &self.received),
            ("grpc_server_msg_sent_total", "Messages that were sent.", ok),
        ];
        for (name, help, count) in singles {
            super::head(text, name, "counter", help);
            let _ = writeln!(text, "{name}{{{LABELS}}} {}", count.load(Ordering::Relaxed));
        }
        super::head(text, "grpc_server_handled_total", "counter", "Calls that were answered, by status code.");
        for (code, count) in CODES.iter().zip(&self.handled) {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(text, "grpc_server_handled_total{{grpc_code=\"{code}\",{LABELS}}} {count}");
        }
    }
}

/// A call between its begin and its answer; one that is dropped without an answer was cancelled by its client.
#[derive(Debug)]
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    code: usize,
}

impl Call {
    /// A call began.
    pub(crate) fn start(metrics: Arc<Metrics>) -> Self {
        metrics.grpc.start();
        Self { metrics, code: CANCELED }
    }

    /// Its message was read.
    pub(crate) fn receive(metrics: &Metrics) {
        metrics.grpc.receive();
    }

    /// It is answered. A refusal has its status in the headers, a success in the trailers.
    pub(crate) fn answer(mut self, headers: &http::HeaderMap) {
        self.code = match headers.get("grpc-status") {
            None => 0,
            Some(code) => code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN),
        };
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.grpc.handle(self.code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(metrics: &Metrics, code: &str, count: u64) {
        let mut text = String::new();
        metrics.grpc.write(&mut text);
        let line = format!("grpc_server_handled_total{{grpc_code=\"{code}\",{LABELS}}} {count}\n");
        assert!(text.contains(&line), "expected {line}, got {text}");
    }

    #[test]
    fn every_call_that_began_is_handled_once_also_if_its_client_hangs_up() {
        let metrics = Arc::new(Metrics::default());
        let call = || Call::start(Arc::clone(&metrics));
        let status = |value: &str| {
            http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_str(value).expect("a value"),
            )])
        };
        call().answer(&http::HeaderMap::new());
        call().answer(&status("7"));
        call().answer(&status("none"));
        call().answer(&status("99"));
        drop(call());
        for (code, count) in [("OK", 1), ("PermissionDenied", 1), ("Unknown", 1), ("Canceled", 1), ("Internal", 0)] {
            check(&metrics, code, count);
        }
    }
}
