//! One connection: the handshake, then HTTP, each step bounded in time and in what it takes.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use marblerun_api::rest::{EnvelopeKind, error};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;
use tracing::debug;

use crate::answer_budget::{AnswerAccount, AnswerBody, AnswerBudget, Unread};
use crate::audit::{Audit, Peer, Refusal};
use crate::body_budget::{BodyBudget, BudgetedBody};
use crate::fair::{Place, Requests, Source};
use crate::handshake::Handshakes;
use crate::listener::{Limits, PeerAddress, PeerCertificate, Protocols, ShownCertificate};
use crate::report;
use crate::stuck_writes::StuckWrites;
use crate::tls::Generation;

/// Receive window of HTTP/2, for a stream and for a connection: the protocol's own default (RFC 9113 6.9.2).
const HTTP2_WINDOW_BYTES: u32 = 65_535;
/// What is kept of one answer of HTTP/2 for a client that opened its window, and does not read.
const HTTP2_SEND_BYTES: usize = 64 * 1024;
/// What TLS keeps of answers that the socket does not take: one record (RFC 8446 5.1).
const TLS_SEND_BYTES: usize = 16 * 1024;
/// How often it is looked whether answers are taken.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

type Stream = TlsStream<StuckWrites<TcpStream>>;

/// What the connections of a listener share.
pub(crate) struct Serving {
    pub(crate) protocols: Protocols,
    pub(crate) limits: Limits,
    pub(crate) router: Router,
    pub(crate) handshakes: Handshakes,
    pub(crate) bodies: BodyBudget,
    pub(crate) answers: AnswerBudget,
    /// Where refused connections are told, and to which class of peers they count.
    pub(crate) audit: Option<(Audit, Peer<'static>)>,
}

impl Serving {
    /// A connection ends before its time: in the audit stream counted by `reason`, one by one for debugging.
    pub(crate) fn refused(&self, peer: SocketAddr, reason: &'static str, text: &str) {
        debug!(peer.addr = %peer, reason, "connection refused: {text}");
        if let Some((audit, class)) = &self.audit {
            let address = peer.to_string();
            let details = [("address", address.as_str())];
            let refusal = Refusal { peer: *class, action: "connect", reason, code: "closed", text, details: &details };
            audit.refused(&refusal);
        }
    }
}

/// A connection that was accepted.
pub(crate) struct Connection {
    pub(crate) serving: Arc<Serving>,
    pub(crate) shown: watch::Receiver<Option<Arc<Generation>>>,
    pub(crate) peer: SocketAddr,
}

impl Connection {
    /// Serves the client until one of both ends it, or until `place` is needed for somebody else.
    pub(crate) async fn run(self, stream: TcpStream, place: Place) {
        let (serving, peer, requests) = (Arc::clone(&self.serving), self.peer, place.requests());
        tokio::select! {
            () = self.serve(stream, requests) => {}
            () = place.closed() => serving.refused(peer, "connection-limit", "too many are open, and this one is idle"),
        }
    }

    async fn serve(mut self, stream: TcpStream, requests: Requests) {
        // Small answers must not wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        // What comes later is allocated when it comes: most connections of a flood never get there.
        let deadline = Instant::now() + self.serving.limits.handshake_timeout;
        if !has_begun(&stream, deadline).await {
            self.serving.refused(self.peer, "silent", "no TLS handshake began");
            return;
        }
        let Some((mut stream, shown)) = Box::pin(self.handshake(stream, deadline)).await else { return };
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(TLS_SEND_BYTES));
        if self.serving.protocols == Protocols::Http2Only && session.alpn_protocol() != Some(b"h2") {
            self.serving.refused(self.peer, "protocol", "expected HTTP/2 by ALPN, got another protocol or none");
            return;
        }
        let leaf = session.peer_certificates().and_then(<[_]>::first).map(|leaf| Arc::from(leaf.as_ref()));
        Box::pin(self.http(stream, PeerCertificate(leaf), shown, requests)).await;
    }

    async fn handshake(&mut self, stream: TcpStream, deadline: Instant) -> Option<(Stream, ShownCertificate)> {
        let (serving, peer) = (Arc::clone(&self.serving), self.peer);
        let handshake = async {
            let mut shown = None;
            // Taken when it is our turn, so that it is certain which certificate the client saw.
            let config = || {
                let generation = self.shown.borrow_and_update().clone()?;
                shown = Some(ShownCertificate(Arc::clone(generation.certificate())));
                Some(generation.config())
            };
            let stream = StuckWrites::new(stream, serving.limits.write_timeout);
            match serving.handshakes.accept(stream, config, Source::from(peer.ip())).await {
                Ok(stream) => Some((stream, shown?)),
                Err(error) => {
                    serving.refused(peer, "handshake", &report::chain(&error));
                    None
                }
            }
        };
        timeout_at(deadline, handshake).await.ok().flatten()
    }

    async fn http(self, stream: Stream, certificate: PeerCertificate, shown: ShownCertificate, requests: Requests) {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (asked, unread) = (Arc::new(AtomicBool::new(false)), Unread::default());
        let (serving, first_request, unread_answers) = (Arc::clone(&self.serving), Arc::clone(&asked), unread.clone());
        let peer = self.peer;
        let service = TowerToHyperService::new(tower::service_fn(move |mut request: Request<Incoming>| {
            first_request.store(true, Ordering::Relaxed);
            let answer_account = serving.answers.account(&unread_answers, requests.begin());
            let body_account = serving.bodies.account(Source::from(peer.ip()));
            let extensions = request.extensions_mut();
            extensions.insert(certificate.clone());
            extensions.insert(shown.clone());
            extensions.insert(PeerAddress(peer));
            extensions.insert(body_account.clone());
            extensions.insert(answer_account.clone());
            let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
            let body = |body| Body::new(BudgetedBody::new(body, body_account.clone()));
            let answer = serving.router.clone().oneshot(request.map(body));
            async move {
                let answer = answer.await;
                // What was read may be in use until the answer is there.
                drop(body_account);
                answer.map(|answer| on_account(answer, answer_account, is_reading))
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
            sleep(self.serving.limits.idle_timeout).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                debug!(peer.addr = %peer, error = &error as &dyn Error, "connection ended with an error");
            },
            () = idle => self.serving.refused(peer, "idle", "no request came in time"),
            () = self.until_overdue(&unread) => self.serving.refused(peer, "unread-answers", "answers are not taken"),
        }
    }

    /// Ends when the client has left an answer untaken for too long, which HTTP/2 allows it for ever.
    async fn until_overdue(&self, unread: &Unread) {
        let Serving { limits, answers, .. } = &*self.serving;
        let interval = LOOK_INTERVAL.min(limits.answer_timeout);
        loop {
            sleep(interval).await;
            if unread.is_overdue(Instant::now(), answers.patience(limits.answer_timeout)) {
                return;
            }
        }
    }

    fn http1(&self) -> http1::Builder {
        let limits = &self.serving.limits;
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.max_header_bytes.max(8192));
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let limits = &self.serving.limits;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.idle_timeout)
            .keep_alive_timeout(limits.idle_timeout)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.max_streams)
            .max_send_buf_size(HTTP2_SEND_BYTES)
            // What a client may send before anybody asked for it, which no budget counts.
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES);
        builder
    }
}

/// True once the client says anything: whoever says nothing takes no place from those who do.
async fn has_begun(stream: &TcpStream, deadline: Instant) -> bool {
    matches!(timeout_at(deadline, stream.peek(&mut [0])).await, Ok(Ok(_)))
}

/// The answer, if there is room for it. What changed something is answered in any case: the client must learn of it,
/// and some of it is said only once.
fn on_account(answer: Response<Body>, account: AnswerAccount, is_reading: bool) -> Response<Body> {
    let (head, body) = answer.into_parts();
    match AnswerBody::new(body, account) {
        Err((over_budget, body)) if is_reading => {
            drop(body);
            let mut answer = Response::new(Body::from(error(&format!("{over_budget}: try again"))));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let content_type = HeaderValue::from_static(EnvelopeKind::Error.content_type());
            answer.headers_mut().insert(CONTENT_TYPE, content_type);
            if let Some(options) = EnvelopeKind::Error.content_type_options() {
                answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static(options));
            }
            answer
        }
        Ok(body) | Err((_, body)) => Response::from_parts(head, Body::new(body)),
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
