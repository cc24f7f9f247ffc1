//! The plain HTTP listener for metrics, events, and probes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::any;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use marblerun_coordinator_core::snapshot::Status;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Metrics;
use crate::bind::bind;
use crate::listener::Limits;
use crate::view::SharedView;
use crate::writer::WriterHandle;

/// Open connections; the next one is closed at once. Each may hold one copy of the events.
const MAX_CONNECTIONS: usize = 16;

/// A bound socket that answers one request per connection.
pub struct MetricsListener {
    socket: TcpListener,
    router: Router,
    limits: Limits,
}

#[derive(Clone)]
struct Sources {
    metrics: Arc<Metrics>,
    view: SharedView,
    writer: WriterHandle,
}

impl MetricsListener {
    /// Binds `address`; of `limits` the times count.
    ///
    /// # Errors
    ///
    /// The socket's error, for example that the port is in use.
    pub async fn bind(
        address: SocketAddr,
        limits: Limits,
        metrics: Arc<Metrics>,
        view: SharedView,
        writer: WriterHandle,
    ) -> io::Result<Self> {
        let socket = bind(address)?;
        let router = Router::new()
            .route("/metrics", any(text))
            .route("/events", any(events))
            .route("/healthz", any(|| async { "ok\n" }))
            .route("/readyz", any(ready))
            .with_state(Sources { metrics, view, writer });
        Ok(Self { socket, router, limits })
    }

    /// The bound address, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.max_header_bytes.max(8192))
            .keep_alive(false);
        let longest = self.limits.header_timeout + self.limits.body_timeout;
        loop {
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
                debug!(limit = MAX_CONNECTIONS, "metrics connection refused: too many are open");
                continue;
            };
            let service = TowerToHyperService::new(self.router.clone());
            let served = http.serve_connection(TokioIo::new(stream), service);
            // The task ends with its connection, which is bounded in time.
            tokio::spawn(async move {
                let _ = timeout(longest, served).await;
                drop(place);
            });
        }
    }
}

async fn text(State(sources): State<Sources>) -> impl IntoResponse {
    let text = sources.metrics.text(sources.view.load().status());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn events(State(sources): State<Sources>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], sources.metrics.events_json())
}

async fn ready(State(sources): State<Sources>) -> impl IntoResponse {
    readiness(sources.view.load().status(), sources.writer.has_ended())
}

/// Without a manifest it is ready: whoever sets one must reach it.
fn readiness(status: Status, writer_has_ended: bool) -> (StatusCode, &'static str) {
    match status {
        _ if writer_has_ended => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: the state can no longer be written; restart\n")
        }
        Status::Recovery => (StatusCode::SERVICE_UNAVAILABLE, "not ready: the sealed state needs recovery\n"),
        Status::AcceptingManifest => (StatusCode::OK, "ready: waiting for a manifest\n"),
        Status::AcceptingMarbles => (StatusCode::OK, "ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_has_a_reason() {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        for (status, ended, code, word) in [
            (Status::AcceptingMarbles, false, StatusCode::OK, "ready"),
            (Status::AcceptingManifest, false, StatusCode::OK, "manifest"),
            (Status::Recovery, false, unavailable, "recovery"),
            (Status::AcceptingMarbles, true, unavailable, "written"),
        ] {
            let (got, text) = readiness(status, ended);
            assert!(got == code && text.contains(word), "{status:?}, {ended}: {got} {text}");
        }
    }
}
