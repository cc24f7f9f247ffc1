//! One try of an activation: resolve, connect, handshake, call.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use marblerun_api::rpc::{ActivationReq, ActivationResp};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::CoordinatorAddress;
use crate::grpc::{self, CallError, Code};
use crate::tls::ALPN_H2;

/// A dead address costs this much while another one is left to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The last address may be far away.
const LAST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that accepts and then says nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// More addresses than a name for one service has.
const MAX_ADDRESSES: usize = 16;
/// A gRPC status with its message fits; nothing else of use is in headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// What came back from the Coordinator.
pub(crate) struct Answer {
    pub(crate) response: ActivationResp,
    /// DER of the certificate whose key the server proved to hold.
    pub(crate) server_certificate: Vec<u8>,
    /// When the answer was complete.
    pub(crate) received: std::time::Instant,
}

/// Why a try failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// The name has no address.
    #[error("cannot resolve {address}")]
    Resolve {
        /// Host and port.
        address: CoordinatorAddress,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address accepts connections.
    #[error("cannot connect to {address} ({})", list(failures))]
    Connect {
        /// Host and port as configured.
        address: CoordinatorAddress,
        /// Each address that was tried, with its error.
        failures: Vec<(SocketAddr, io::Error)>,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake with {peer} failed")]
    Handshake {
        /// The address.
        peer: SocketAddr,
        /// TLS or transport error.
        source: io::Error,
    },
    /// The peer does not speak HTTP/2.
    #[error("expected a server that speaks HTTP/2 at {peer}, got one that does not")]
    NoHttp2 {
        /// The address.
        peer: SocketAddr,
    },
    /// The call failed.
    #[error(transparent)]
    Call(CallError),
    /// No answer within the time that was left.
    #[error("no answer from {peer} within {:.1} seconds", waited.as_secs_f64())]
    Deadline {
        /// The address.
        peer: SocketAddr,
        /// How long it was waited for the answer.
        waited: Duration,
    },
}

fn list(failures: &[(SocketAddr, io::Error)]) -> String {
    let failures: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    failures.join(", ")
}

impl TryError {
    /// True if the same call may succeed a little later. Everything else is an answer, and repeating the question
    /// would only hide it.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } => true,
            Self::Handshake { source, .. } => may_pass(source),
            Self::Call(CallError::Connection(_)) => true,
            Self::Call(CallError::Status { code, .. }) => [Code::UNAVAILABLE, Code::RESOURCE_EXHAUSTED].contains(code),
            // Proxies answer so for a server that is not up (gRPC, "HTTP to gRPC Status Code Mapping").
            Self::Call(CallError::NotGrpc { status, .. }) => [429, 502, 503, 504].contains(&status.as_u16()),
            Self::Call(_) | Self::NoHttp2 { .. } | Self::Deadline { .. } => false,
        }
    }

    /// What failed, in a word; failures of one class are reported once.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "name resolution",
            Self::Connect { .. } => "connection",
            Self::Handshake { .. } | Self::NoHttp2 { .. } => "TLS handshake",
            Self::Call(CallError::Status { code, .. }) => code.name(),
            Self::Call(_) | Self::Deadline { .. } => "call",
        }
    }

    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        const PORT: &str = "check EDG_MARBLE_COORDINATOR_ADDR: it names the Coordinator's Marble API, by default port \
                            2001, not its client API (4433)";
        match self {
            Self::Resolve { .. } => Some("check EDG_MARBLE_COORDINATOR_ADDR and the name resolution inside the image"),
            Self::Connect { .. } => Some("check that the Coordinator runs and EDG_MARBLE_COORDINATOR_ADDR names it"),
            Self::Handshake { .. } | Self::NoHttp2 { .. } | Self::Call(CallError::NotGrpc { .. }) => Some(PORT),
            Self::Call(CallError::Status { code, .. }) => match *code {
                Code::PERMISSION_DENIED => Some(
                    "trying again changes nothing; the Coordinator's log has this refusal with the Marble's type and UUID",
                ),
                Code::FAILED_PRECONDITION => Some("the Coordinator needs a manifest, or its recovery, first"),
                Code::UNIMPLEMENTED => Some(PORT),
                _ => None,
            },
            Self::Call(_) | Self::Deadline { .. } => None,
        }
    }
}

/// True if the handshake broke off, or the peer ended it for a reason that may pass. What our own side objects to (no
/// TLS at all, a signature that does not verify) stays wrong.
fn may_pass(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        None => true,
        Some(rustls::Error::AlertReceived(alert)) => *alert != rustls::AlertDescription::NoApplicationProtocol,
        Some(_) => false,
    }
}

/// Resolves with the C library: tokio's resolver would start a thread.
pub(crate) fn resolve(address: &CoordinatorAddress) -> Result<Vec<SocketAddr>, TryError> {
    let failed = |source| TryError::Resolve { address: address.clone(), source };
    let mut found: Vec<SocketAddr> = Vec::new();
    for candidate in (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)? {
        if !found.contains(&candidate) && found.len() < MAX_ADDRESSES {
            found.push(candidate);
        }
    }
    if found.is_empty() {
        return Err(failed(io::Error::other("the name has no addresses")));
    }
    Ok(found)
}

/// Activates over a connection of its own.
pub(crate) async fn call(
    address: &CoordinatorAddress,
    candidates: &[SocketAddr],
    tls: Arc<ClientConfig>,
    message: &ActivationReq,
    time_left: Duration,
) -> Result<Answer, TryError> {
    let started = tokio::time::Instant::now();
    let (stream, peer) = connect(address, candidates, time_left).await?;
    let stream = handshake(address, stream, peer, tls, time_left).await?;
    let server_certificate = match stream.get_ref().1.peer_certificates() {
        Some([certificate, ..]) => certificate.to_vec(),
        _ => Vec::new(),
    };
    let deadline = time_left.saturating_sub(started.elapsed());
    let response = timeout(deadline, exchange(address, stream, message, deadline))
        .await
        .map_err(|_| TryError::Deadline { peer, waited: deadline })?
        .map_err(TryError::Call)?;
    Ok(Answer { response, server_certificate, received: std::time::Instant::now() })
}

async fn connect(
    address: &CoordinatorAddress,
    candidates: &[SocketAddr],
    time_left: Duration,
) -> Result<(TcpStream, SocketAddr), TryError> {
    let mut failures = Vec::new();
    for (index, &candidate) in candidates.iter().enumerate() {
        let is_last = index + 1 == candidates.len();
        let limit = if is_last { LAST_CONNECT_TIMEOUT } else { CONNECT_TIMEOUT }.min(time_left);
        match timeout(limit, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                // Preface and request are small; one must not wait for the peer's delayed acknowledgement of the other.
                let _ = stream.set_nodelay(true);
                return Ok((stream, candidate));
            }
            Ok(Err(error)) => failures.push((candidate, error)),
            Err(_) => failures.push((candidate, io::ErrorKind::TimedOut.into())),
        }
    }
    Err(TryError::Connect { address: address.clone(), failures })
}

async fn handshake(
    address: &CoordinatorAddress,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<ClientConfig>,
    time_left: Duration,
) -> Result<TlsStream<TcpStream>, TryError> {
    // The name is only sent, never compared. One that TLS cannot carry is replaced by the address, which is not sent.
    let name = ServerName::try_from(address.host.clone()).unwrap_or(ServerName::IpAddress(peer.ip().into()));
    let connecting = TlsConnector::from(tls).connect(name, stream);
    let stream = timeout(HANDSHAKE_TIMEOUT.min(time_left), connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| TryError::Handshake { peer, source })?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
        return Err(TryError::NoHttp2 { peer });
    }
    Ok(stream)
}

async fn exchange(
    address: &CoordinatorAddress,
    stream: TlsStream<TcpStream>,
    message: &ActivationReq,
    deadline: Duration,
) -> Result<ActivationResp, CallError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(MAX_HEADER_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(CallError::Connection)?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    // The authority is what Go's client sends; servers do not look at it.
    let authority = http::uri::Authority::try_from(address.to_string())
        .unwrap_or_else(|_| http::uri::Authority::from_static("coordinator"));
    let uri = http::Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query(marblerun_api::ACTIVATE_PATH)
        .build()
        .expect("scheme, authority and path are all given");
    let response = sender.send_request(grpc::request(uri, message, deadline)).await.map_err(CallError::Connection)?;
    let answer = grpc::response(response).await;
    drop(driver);
    answer
}

/// The task that drives a connection ends with the call, whichever way that ends.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Arc<ClientConfig> {
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let credentials = crate::Credentials::generate(&["localhost".to_owned()], &[], now).unwrap();
        Arc::new(crate::tls::client_config(&credentials).unwrap())
    }

    #[tokio::test]
    async fn a_peer_that_accepts_and_says_nothing_does_not_hold_us() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let address = CoordinatorAddress { host: "localhost".into(), port: peer.port() };
        let time_left = Duration::from_millis(20);
        let error = call(&address, &[peer], tls(), &ActivationReq::default(), time_left).await.err().unwrap();
        assert!(matches!(&error, TryError::Handshake { source, .. } if source.kind() == io::ErrorKind::TimedOut));
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn every_address_is_tried_and_told() {
        let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let candidates: Vec<SocketAddr> = (0..2).map(free).collect();
        let address = CoordinatorAddress { host: "localhost".into(), port: 1 };
        let time_left = Duration::from_secs(5);
        let error = call(&address, &candidates, tls(), &ActivationReq::default(), time_left).await.err().unwrap();
        let text = error.to_string();
        assert!(candidates.iter().all(|candidate| text.contains(&candidate.to_string())), "{text}");
        assert!(text.starts_with("cannot connect to localhost:1 (") && error.is_retryable(), "{text}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        let address = CoordinatorAddress { host: "localhost".into(), port: live.port() };
        let (stream, peer) = connect(&address, &[refusing, live], Duration::from_secs(5)).await.unwrap();
        assert_eq!(peer, live);
        assert!(stream.nodelay().unwrap(), "each small message would wait for an acknowledgement, 40 ms in all");
    }

    #[test]
    fn a_name_without_address_is_told_and_tried_again() {
        let address = CoordinatorAddress { host: "name.invalid".into(), port: 1 };
        let error = resolve(&address).unwrap_err();
        assert_eq!(error.to_string(), "cannot resolve name.invalid:1");
        assert!(error.is_retryable());
    }

    #[test]
    fn only_handshake_failures_that_may_pass_are_tried_again() {
        let handshake = |error: rustls::Error| TryError::Handshake {
            peer: "127.0.0.1:1".parse().unwrap(),
            source: io::Error::other(error),
        };
        assert!(handshake(rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)).is_retryable());
        for error in [
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature),
        ] {
            assert!(!handshake(error.clone()).is_retryable(), "{error}");
        }
    }
}
