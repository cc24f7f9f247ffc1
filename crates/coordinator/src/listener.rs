//! Accepting connections: TLS, limits, and handing each connection to hyper.
//!
//! One loop serves both listeners. Whoever says nothing costs one permit for a bounded time; whoever is over a limit
//! is closed at once, so that the others are served.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::body_budget::{BodyBudget, BudgetedBody};
use crate::tls::{Generation, ListenerTls};

/// Receive window of HTTP/2, for a stream and for a connection: the protocol's own default (RFC 9113 6.9.2).
const HTTP2_WINDOW_BYTES: u32 = 65_535;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; the next one is closed at once.
    pub max_connections: usize,
    /// Handshakes in flight; the next one waits for a place within its own handshake time.
    pub max_handshakes: usize,
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
    /// Concurrent requests of one HTTP/2 connection.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 64 * 1024,
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            // Five of the longest bodies of the client API, thirty of the Marble API.
            max_body_bytes_in_flight: 128 * 1024 * 1024,
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
        let socket = match TcpListener::bind(address).await {
            // Without IPv6 `[::]` cannot be bound, and all IPv4 interfaces are what was meant.
            Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_no_ipv6(&error) => {
                TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await?
            }
            result => result?,
        };
        Ok(Self { socket, tls, protocols, limits, router })
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
        let connections = Arc::new(Semaphore::new(self.limits.max_connections));
        let handshakes = Arc::new(Semaphore::new(self.limits.max_handshakes));
        let bodies = BodyBudget::new(self.limits.max_body_bytes_in_flight);
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
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                debug!(peer.addr = %peer, limit = self.limits.max_connections, "connection refused: too many are open");
                continue;
            };
            let connection = Connection {
                shown: self.tls.subscribe(),
                protocols: self.protocols,
                limits: self.limits,
                router: self.router.clone(),
                handshakes: Arc::clone(&handshakes),
                bodies: bodies.clone(),
                _permit: permit,
            };
            // The task ends with its connection; each step of it is bounded in time.
            tokio::spawn(connection.run(stream, peer));
        }
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}

struct Connection {
    shown: watch::Receiver<Option<Arc<Generation>>>,
    protocols: Protocols,
    limits: Limits,
    router: Router,
    handshakes: Arc<Semaphore>,
    bodies: BodyBudget,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, peer: SocketAddr) {
        // Small answers must not wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let Some((stream, shown)) = self.handshake(stream, peer).await else { return };
        let session = stream.get_ref().1;
        if self.protocols == Protocols::Http2Only && session.alpn_protocol() != Some(b"h2") {
            debug!(peer.addr = %peer, "connection closed: HTTP/2 was not negotiated");
            return;
        }
        let leaf = session.peer_certificates().and_then(<[_]>::first).map(|leaf| Arc::from(leaf.as_ref()));
        self.http(stream, PeerCertificate(leaf), shown, peer).await;
    }

    async fn handshake(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<(TlsStream<TcpStream>, ShownCertificate)> {
        let handshake = async {
            // Whoever says nothing takes no place from those who do.
            stream.peek(&mut [0]).await.ok()?;
            let _place = self.handshakes.acquire().await.ok()?;
            // Taken here and not at the hello, so that it is certain which certificate the client saw.
            let generation = self.shown.borrow_and_update().clone()?;
            match TlsAcceptor::from(generation.config()).accept(stream).await {
                Ok(stream) => Some((stream, ShownCertificate(Arc::clone(generation.certificate())))),
                Err(error) => {
                    debug!(peer.addr = %peer, error = &error as &dyn std::error::Error, "TLS handshake failed");
                    None
                }
            }
        };
        timeout(self.limits.handshake_timeout, handshake).await.ok().flatten()
    }

    async fn http(
        self,
        stream: TlsStream<TcpStream>,
        certificate: PeerCertificate,
        shown: ShownCertificate,
        peer: SocketAddr,
    ) {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (router, bodies) = (self.router.clone(), self.bodies.clone());
        let asked = Arc::new(AtomicBool::new(false));
        let first_request = Arc::clone(&asked);
        let service = TowerToHyperService::new(tower::service_fn(move |mut request: hyper::Request<Incoming>| {
            first_request.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(certificate.clone());
            request.extensions_mut().insert(shown.clone());
            request.extensions_mut().insert(PeerAddress(peer));
            let account = bodies.account();
            request.extensions_mut().insert(account.clone());
            let body = |body| axum::body::Body::new(BudgetedBody::new(body, account.clone()));
            let answer = router.clone().oneshot(request.map(body) as Request);
            async move {
                let answer = answer.await;
                // What was read may be in use until the answer is there.
                drop(account);
                answer
            }
        }));
        let io = TokioIo::new(stream);
        let (http1, http2, mut other_certificate) = (self.http1(), self.http2(), self.shown.clone());
        let served = async {
            if is_http2 {
                until_another_certificate(http2.serve_connection(io, service), &mut other_certificate).await
            } else {
                until_another_certificate(http1.serve_connection(io, service), &mut other_certificate).await
            }
        };
        // A client may finish the handshake and then say nothing; HTTP/2 would wait for its preface without end.
        let idle = async {
            tokio::time::sleep(self.limits.idle_timeout).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                debug!(peer.addr = %peer, error = &error as &dyn std::error::Error, "connection ended with an error");
            },
            () = idle => debug!(peer.addr = %peer, "connection closed: no request came"),
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.max_header_bytes.max(8192));
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.idle_timeout)
            .keep_alive_timeout(self.limits.idle_timeout)
            .max_header_list_size(u32::try_from(self.limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(self.limits.max_streams)
            // What a client may send before anybody asked for it, which no budget counts.
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES);
        builder
    }
}

/// Serves a connection to its end. Once another certificate is shown, it ends after the requests that it carries: what
/// it was built on is no longer ours to speak for.
async fn until_another_certificate<C: GracefulConnection>(
    connection: C,
    shown: &mut watch::Receiver<Option<Arc<Generation>>>,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        Ok(()) = shown.changed() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// The other end of the connection that carries a request, as a request extension.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);
