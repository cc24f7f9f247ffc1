//! One GET: connect, perhaps TLS, one request, one answer, all within a time limit.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, DATE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use marblerun_attestation::{MAX_COLLATERAL_BYTES, PlatformId};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::base_url::Location;
use crate::fetch_error::FetchError;
use crate::resolver::Resolver;
use crate::service::Answer;

/// The longest body that is read (PCS API: a TCB info has about 10 KiB).
pub(crate) const MAX_BODY_BYTES: usize = MAX_COLLATERAL_BYTES;
/// For the head of an answer and each piece of its body; an issuer chain has about 3 KiB.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Between the attempts to connect to the addresses of one name (RFC 8305 5: 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// A service may not send us away for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// What all requests of one fetch share.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) tls: &'a Arc<rustls::ClientConfig>,
    pub(crate) resolver: &'a Resolver,
    pub(crate) timeout: Duration,
    pub(crate) platform: &'a PlatformId,
}

/// Asks for `location`; only HTTP 200 is an answer.
pub(crate) async fn get(exchange: Exchange<'_>, location: &Location) -> Result<Answer, FetchError> {
    let timeout = exchange.timeout;
    let answer = Box::pin(exchange.attempt(location));
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::Timeout { url: location.to_string(), limit: timeout }),
    }
}

impl Exchange<'_> {
    async fn attempt(&self, location: &Location) -> Result<Answer, FetchError> {
        let tcp = connect(self.resolver, location).await?;
        // Without this the last segment of a request may wait for an acknowledgement.
        let _ = tcp.set_nodelay(true);
        if !location.https {
            return self.send(location, tcp).await;
        }
        let refuse = |reason| FetchError::Tls { url: location.to_string(), reason };
        let name = ServerName::try_from(location.host.clone()).map_err(|error| refuse(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(self.tls)).connect(name, tcp).await;
        self.send(location, stream.map_err(|error| refuse(tls_reason(&error)))?).await
    }

    async fn send<S>(&self, location: &Location, stream: S) -> Result<Answer, FetchError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let url = location.to_string();
        let broken = |reason: String| FetchError::Http { url: url.clone(), reason };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(chain(&error)))?;
        // Ends with this function.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::get(&location.path)
            .header(HOST, &location.authority)
            .header(USER_AGENT, concat!("marblerun/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(chain(&error)))?;
        let answer = sender.send_request(request).await.map_err(|error| broken(chain(&error)))?;
        let (head, body) = answer.into_parts();
        self.check_status(&url, head.status, &head.headers)?;
        let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(FetchError::TooLarge { url, max: MAX_BODY_BYTES });
            }
            Err(error) => return Err(broken(chain(&*error))),
        };
        Ok(Answer { url, headers: head.headers, body })
    }

    /// Status codes as the PCS describes them.
    fn check_status(&self, url: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), FetchError> {
        let url = url.to_owned();
        let code = status.as_u16();
        Err(match status {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                FetchError::UnknownPlatform { url, platform: *self.platform, status: code }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                FetchError::Throttled { url, status: code, retry_after: retry_after(headers) }
            }
            status if status.is_redirection() => FetchError::Redirect { url, status: code },
            _ => FetchError::Status { url, status: code },
        })
    }
}

/// The header's seconds, or the time until its date by the service's own clock (RFC 9110 10.2.3): ours need not agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    let pause = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, now) = (httpdate::parse_http_date(value).ok()?, httpdate::parse_http_date(text(DATE)?).ok()?);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// Tries all addresses of the host, each a moment after the one before, and takes the first that answers.
async fn connect(resolver: &Resolver, location: &Location) -> Result<TcpStream, FetchError> {
    let url = || location.to_string();
    let resolved = resolver.resolve(&location.host, location.port).await;
    let resolved =
        resolved.map_err(|reason| FetchError::Resolve { url: url(), host: location.host.clone(), reason })?;
    let mut attempts = JoinSet::new();
    for (turn, address) in (0_u32..).zip(resolved) {
        attempts.spawn(async move {
            tokio::time::sleep(ATTEMPT_DELAY * turn).await;
            TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
        });
    }
    let mut reasons = Vec::new();
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(reason)) => reasons.push(reason),
            // A task is neither cancelled while its set lives, nor does connecting panic.
            Err(error) => reasons.push(error.to_string()),
        }
    }
    reasons.sort();
    Err(FetchError::Connect { url: url(), reason: reasons.join("; ") })
}

fn tls_reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
        Some(tls) => tls.to_string(),
        None => error.to_string(),
    }
}

/// An error with its causes in one line: what the HTTP library says itself is too little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_a_service_asks_for_is_read_in_seconds_and_limited() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("30"), Some(Duration::from_secs(30)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("999999999"), Some(MAX_RETRY_AFTER));
        for other in ["", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999999"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
        let dated = |until: &str, now: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, until.parse().unwrap());
            headers.insert(DATE, now.parse().unwrap());
            retry_after(&headers)
        };
        let (earlier, later) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT");
        assert_eq!(dated(later, earlier), Some(Duration::from_secs(30)));
        assert_eq!(dated(earlier, later), Some(Duration::ZERO));
        assert_eq!(dated("Thu, 22 Oct 2099 07:28:00 GMT", earlier), Some(MAX_RETRY_AFTER));
        assert_eq!(dated(later, "now"), None);
    }
}
