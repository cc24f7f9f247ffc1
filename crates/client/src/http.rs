//! One HTTPS exchange: connect, TLS, one request, one answer, all within a time limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use marblerun_api::rest::{Envelope, MAX_ANSWER_BYTES, decode_envelope};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::error::{ANSWER, ClientError, ConnectAttempt};
use crate::tls::identity_error;

/// Between the attempts to connect to the addresses of one name (RFC 8305 5: 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the TLS handshake is done.
    pub connect: Duration,
    /// Until the whole answer is there, connecting included.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_secs(60) }
    }
}

/// A request without its host.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// JSON, or nothing.
    pub(crate) body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: Vec::new() }
    }

    pub(crate) fn post(path: &'a str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path, body }
    }
}

/// An answer whose body is an envelope.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) envelope: Envelope,
}

/// Sends `call` over a new connection and reads the answer.
pub(crate) async fn exchange(
    address: &Address,
    config: &Arc<ClientConfig>,
    timeouts: Timeouts,
    call: Call<'_>,
) -> Result<Answer, ClientError> {
    let url = format!("https://{address}{}", call.path);
    let limit = timeouts.total;
    tokio::time::timeout(limit, async {
        let stream = tokio::time::timeout(timeouts.connect, connect(address, config)).await.map_err(|_| {
            ClientError::Timeout { what: "connection", address: address.to_string(), after: timeouts.connect }
        })??;
        send(address, stream, call, &url).await
    })
    .await
    .map_err(|_| ClientError::Timeout { what: ANSWER, address: address.to_string(), after: limit })?
}

async fn connect(address: &Address, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, ClientError> {
    let tcp = connect_tcp(address).await?;
    // Without this the last segment of a request may wait for an acknowledgement.
    let _ = tcp.set_nodelay(true);
    let connector = TlsConnector::from(config.clone());
    connector.connect(address.server_name().clone(), tcp).await.map_err(|error| tls_error(address, &error))
}

fn tls_error(address: &Address, error: &std::io::Error) -> ClientError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(identity) = tls.and_then(identity_error) {
        return ClientError::Server { address: address.to_string(), source: identity };
    }
    let reason = match tls {
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
        Some(tls) => tls.to_string(),
        None => error.to_string(),
    };
    ClientError::Tls { address: address.to_string(), reason }
}

/// Tries all addresses of the host, each a moment after the one before, and takes the first that answers.
async fn connect_tcp(address: &Address) -> Result<TcpStream, ClientError> {
    let target = (address.host(), address.port());
    let resolved = tokio::net::lookup_host(target)
        .await
        .map_err(|error| ClientError::Resolve { host: address.host().to_owned(), reason: error.to_string() })?;
    let mut attempts = JoinSet::new();
    for (turn, socket) in (0_u32..).zip(resolved) {
        attempts.spawn(async move {
            tokio::time::sleep(ATTEMPT_DELAY * turn).await;
            (socket, TcpStream::connect(socket).await)
        });
    }
    let mut failed: Vec<(SocketAddr, String)> = Vec::new();
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok((_, Ok(stream))) => return Ok(stream),
            Ok((socket, Err(error))) => failed.push((socket, error.to_string())),
            // A task is neither cancelled while its set lives, nor does connecting panic.
            Err(error) => failed.push((SocketAddr::from(([0, 0, 0, 0], 0)), error.to_string())),
        }
    }
    failed.sort();
    let attempts = failed.into_iter().map(|(address, reason)| ConnectAttempt { address, reason }).collect();
    Err(ClientError::Connect { address: address.to_string(), attempts })
}

async fn send(
    address: &Address,
    stream: TlsStream<TcpStream>,
    call: Call<'_>,
    url: &str,
) -> Result<Answer, ClientError> {
    let http_error =
        |error: &dyn std::fmt::Display| ClientError::Http { url: url.to_owned(), reason: error.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| http_error(&error))?;
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(call.path)
        .header(HOST, address.to_string())
        .header(CONNECTION, "close");
    if !call.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(call.body))).map_err(|error| http_error(&error))?;

    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| http_error(&error))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| match error
                .downcast_ref::<LengthLimitError>(
            ) {
                Some(_) => ClientError::AnswerTooLong { url: url.to_owned(), max: MAX_ANSWER_BYTES },
                None => http_error(&error),
            })?;
        Ok((status, body.to_bytes()))
    };
    // The connection moves only while it is polled; its own failure also fails the request.
    let (outcome, _) = tokio::join!(answer, connection);
    let (status, body) = outcome?;
    match decode_envelope(&body, MAX_ANSWER_BYTES) {
        Ok(envelope) => Ok(Answer { status, envelope }),
        Err(source) => Err(ClientError::NotACoordinator { url: url.to_owned(), status: status.as_u16(), source }),
    }
}
