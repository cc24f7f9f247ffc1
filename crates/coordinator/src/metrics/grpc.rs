//! Calls of the Marble API by status code.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Counts of the one method.
#[derive(Debug, Default)]
pub(crate) struct GrpcCounts {
    started: AtomicU64,
    received: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

impl GrpcCounts {
    /// A call began.
    pub(crate) fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Its message was read.
    pub(crate) fn receive(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered. A refusal has its status in the headers, a success in the trailers.
    pub(crate) fn handle(&self, headers: &http::HeaderMap) {
        let code = match headers.get("grpc-status") {
            None => 0,
            Some(code) => code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2),
        };
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
