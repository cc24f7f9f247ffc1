//! Accepting connections, and the limits of what they may take.
//!
//! One loop serves both listeners. When all places are taken, whoever has most connections that do nothing loses one, so
//! that the others are served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tracing::warn;

use crate::answer_budget::AnswerBudget;
use crate::audit::{Audit, Peer};
use crate::bind::bind;
use crate::body_budget::BodyBudget;
use crate::connection::{Connection, Serving};
use crate::fair::{Connections, Source};
use crate::handshake::Handshakes;
use crate::tls::ListenerTls;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections. For the next one, one without a request is closed: of the address that has most of them, the
    /// oldest that never asked; if all carry requests, the next one is closed at once.
    pub max_connections: usize,
    /// Open connections of one address (IPv6: of one network of 64 bits), with the same rule.
    pub max_connections_of_one_address: usize,
    /// Handshakes in flight; the next one waits for a place within its own handshake time, or takes that of an address
    /// with more of them.
    pub max_handshakes: usize,
    /// Handshakes whose cryptography is computed at the same time; others wait, and addresses take turns.
    pub max_computed_handshakes: usize,
    /// Handshakes that are begun within a second; others wait, and addresses take turns.
    pub max_handshakes_per_second: u32,
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request head to its end.
    pub header_timeout: Duration,
    /// Size of a request head in bytes.
    pub max_header_bytes: usize,
    /// From the TLS handshake to the first request; between keep-alive probes of HTTP/2, and for their answer.
    pub idle_timeout: Duration,
    /// From a request's head to the end of its body.
    pub body_timeout: Duration,
    /// Bytes of all request bodies that are being read or worked on; beyond it requests are told to come again.
    pub max_body_bytes_in_flight: usize,
    /// Bytes of all answers that clients have not taken; beyond it requests are told to come again.
    pub max_answer_bytes_in_flight: usize,
    /// How long a client may take for an answer, beside the time for its bytes at
    /// [`MIN_BYTES_PER_SECOND`](crate::answer_budget::MIN_BYTES_PER_SECOND); a sixteenth of it while more than half of
    /// the bytes above are in use.
    pub answer_timeout: Duration,
    /// How long a client may take nothing at all that was sent to it.
    pub write_timeout: Duration,
    /// Concurrent requests of one HTTP/2 connection.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_connections: 8192,
            max_connections_of_one_address: 6144,
            max_handshakes: 256,
            // The other half of the processors is for those who are connected.
            max_computed_handshakes: (processors / 2).max(1),
            max_handshakes_per_second: 2000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 64 * 1024,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            // Five of the longest bodies of the client API, thirty of the Marble API.
            max_body_bytes_in_flight: 128 * 1024 * 1024,
            // Eight of the longest activations, and eight of the longest lists of secrets for others.
            max_answer_bytes_in_flight: 256 * 1024 * 1024,
            answer_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_streams: 64,
        }
    }
}

/// The leaf certificate (DER) of the TLS connection that carries a request, as a request extension.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificate(pub Option<Arc<[u8]>>);

/// The certificate (DER) that we showed on the TLS connection that carries a request, as a request extension.
#[derive(Clone, Debug)]
pub struct ShownCertificate(pub Arc<[u8]>);

/// Which protocols a listener speaks after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 and HTTP/1.1, the latter also without ALPN.
    Http,
    /// HTTP/2 selected by ALPN, or nothing: gRPC clients drop a connection without it, and so do we.
    Http2Only,
}

impl Protocols {
    /// The ALPN names in order of preference.
    pub fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http => &[b"h2", b"http/1.1"],
            Self::Http2Only => &[b"h2"],
        }
    }
}

/// A bound socket with everything needed to serve it.
pub struct Listener {
    socket: TcpListener,
    tls: Arc<ListenerTls>,
    protocols: Protocols,
    limits: Limits,
    router: Router,
    audit: Option<(Audit, Peer<'static>)>,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    ///
    /// The socket's error, for example that the port is in use.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<ListenerTls>,
        protocols: Protocols,
        limits: Limits,
        router: Router,
    ) -> io::Result<Self> {
        let socket = bind(address)?;
        Ok(Self { socket, tls, protocols, limits, router, audit: None })
    }

    /// Refused connections are told to `audit`, as those of `peer`.
    #[must_use]
    pub fn audited(self, audit: Audit, peer: Peer<'static>) -> Self {
        Self { audit: Some((audit, peer)), ..self }
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
        let limits = self.limits;
        let connections = Connections::new(limits.max_connections, limits.max_connections_of_one_address);
        let serving = Arc::new(Serving {
            protocols: self.protocols,
            limits,
            router: self.router,
            handshakes: Handshakes::new(&limits),
            bodies: BodyBudget::new(limits.max_body_bytes_in_flight),
            answers: AnswerBudget::new(limits.max_answer_bytes_in_flight),
            audit: self.audit,
        });
        loop {
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would spin.
                    warn!(error = &error as &dyn std::error::Error, "connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = connections.admit(Source::from(peer.ip())) else {
                serving.refused(peer, "connection-limit", "too many are open, and all of them at work");
                continue;
            };
            let connection = Connection { serving: Arc::clone(&serving), shown: self.tls.subscribe(), peer };
            // The task ends with its connection; each step of it is bounded in time.
            tokio::spawn(connection.run(stream, place));
        }
    }
}

/// The other end of the connection that carries a request, as a request extension.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);
