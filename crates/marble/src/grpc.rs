//! One unary gRPC call over an HTTP/2 connection: framing, deadline and status (gRPC over HTTP/2 protocol).

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prost::Message;

/// Largest answer that is accepted. MarbleRun v1.9.1 stops at 4 MiB; parameters with large files need more.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a message's frame header: compression flag and big-endian length.
const FRAME_HEADER: usize = 5;
/// Longest part of a peer's message that is shown.
const MAX_STATUS_MESSAGE: usize = 4096;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u32);

impl Code {
    /// The caller is not admitted.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// A quota is used up, or the server has too much to do.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The server is not in a state to answer.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// No such method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// The server is broken.
    pub const INTERNAL: Self = Self(13);
    /// The server cannot answer now.
    pub const UNAVAILABLE: Self = Self(14);
    /// The caller has no certificate.
    pub const UNAUTHENTICATED: Self = Self(16);

    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// The code's name; unknown numbers are `UNKNOWN`, as the protocol has it.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self.0 as usize).copied().unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a call gave no answer.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server refused or failed.
    #[error("{code}: {message}")]
    Status {
        /// The status code.
        code: Code,
        /// The server's words, with control characters replaced.
        message: String,
    },
    /// Something else than a gRPC server answered.
    #[error("expected a gRPC answer, got HTTP status {status} with content type {content_type:?}")]
    NotGrpc {
        /// HTTP status.
        status: StatusCode,
        /// Value of the content type header, empty if there is none.
        content_type: String,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[source] hyper::Error),
    /// The answer is larger than accepted.
    #[error("expected an answer of at most {MAX_RESPONSE_BYTES} bytes, got more")]
    TooLarge,
    /// The answer violates the protocol.
    #[error("malformed gRPC answer: {0}")]
    Malformed(&'static str),
    /// The answer is not the expected message.
    #[error("malformed gRPC answer")]
    Decode(#[source] prost::DecodeError),
}

/// Makes the HTTP request of a unary call.
pub(crate) fn request(uri: Uri, message: &impl Message, deadline: Duration) -> Request<Full<Bytes>> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("an activation request has a quote and a CSR of some kilobytes"));
    message.encode(&mut frame).expect("the buffer was sized for the message and grows otherwise");
    let mut request = Request::new(Full::new(frame.freeze()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", timeout_value(deadline));
    request
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_value(deadline: Duration) -> HeaderValue {
    const MAX_DIGITS: u128 = 99_999_999;
    let value = match deadline.as_millis() {
        millis if millis <= MAX_DIGITS => format!("{millis}m"),
        millis => format!("{}S", (millis / 1000).min(MAX_DIGITS)),
    };
    HeaderValue::from_str(&value).expect("digits and one letter")
}

/// Reads the answer of a unary call: exactly one message, then status OK.
pub(crate) async fn response<M: Message + Default>(response: http::Response<Incoming>) -> Result<M, CallError> {
    let (head, mut body) = response.into_parts();
    check_head(head.status, &head.headers)?;
    // A refusal without a message has its status in the headers.
    if head.headers.contains_key("grpc-status") {
        check_status(&head.headers)?;
        return Err(CallError::Malformed("no message"));
    }
    let mut content = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.map_err(CallError::Connection)?.into_data() {
            Ok(data) => {
                if content.len() + data.len() > FRAME_HEADER + MAX_RESPONSE_BYTES {
                    return Err(CallError::TooLarge);
                }
                content.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    check_status(&trailers.ok_or(CallError::Malformed("no grpc-status"))?)?;
    decode(&content)
}

fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), CallError> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    if status == StatusCode::OK && content_type.starts_with(b"application/grpc") {
        return Ok(());
    }
    Err(CallError::NotGrpc { status, content_type: printable(content_type) })
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let status = headers.get("grpc-status").ok_or(CallError::Malformed("no grpc-status"))?;
    let code = status.to_str().ok().and_then(|text| text.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = headers.get("grpc-message").map(|value| percent_decode(value.as_bytes()));
            Err(CallError::Status { code: Code(code), message: printable(&message.unwrap_or_default()) })
        }
        None => Err(CallError::Malformed("grpc-status is not a number")),
    }
}

fn decode<M: Message + Default>(content: &[u8]) -> Result<M, CallError> {
    let Some((header, message)) = content.split_first_chunk::<FRAME_HEADER>() else {
        return Err(CallError::Malformed("no message"));
    };
    let [flag, length @ ..] = header;
    if *flag != 0 {
        return Err(CallError::Malformed("compressed message, although none was asked for"));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(CallError::Malformed("expected exactly one message"));
    }
    M::decode(message).map_err(CallError::Decode)
}

/// Decodes `%XX`; what is no escape stays as it is (gRPC over HTTP/2, `Percent-Encoded`).
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| (byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Makes a peer's text safe for one line of a log.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_STATUS_MESSAGE)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[tokio::test]
    async fn a_request_is_one_uncompressed_frame_with_deadline() {
        let message = Text { text: "hi".into() };
        let request = request("https://a/b".parse().unwrap(), &message, Duration::from_millis(1500));
        assert_eq!(request.headers()["grpc-timeout"], "1500m");
        assert_eq!(request.headers()["te"], "trailers");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body[..], [0, 0, 0, 0, 4, 0x0a, 2, b'h', b'i']);
        assert_eq!(timeout_value(Duration::from_secs(200_000)), "200000S");
    }

    #[test]
    fn a_message_is_decoded_from_exactly_one_frame() {
        let good = [0, 0, 0, 0, 4, 0x0a, 2, b'h', b'i'];
        assert_eq!(decode::<Text>(&good).unwrap().text, "hi");
        let compressed = [&[1], &good[1..]].concat();
        let second = [good, good].concat();
        for wrong in [&[][..], &good[..4], &good[..8], &compressed, &second, &[0, 0xff, 0xff, 0xff, 0xff]] {
            assert!(matches!(decode::<Text>(wrong), Err(CallError::Malformed(_))), "{wrong:?}");
        }
        assert!(matches!(decode::<Text>(&[0, 0, 0, 0, 2, 0x0a, 9]), Err(CallError::Decode(_))));
    }

    #[test]
    fn a_status_carries_the_decoded_message_on_one_line() {
        let trailers = headers(&[("grpc-status", "7"), ("grpc-message", "caf%C3%A9 100%25%0Anext%2")]);
        let error = check_status(&trailers).unwrap_err();
        assert_eq!(error.to_string(), "PERMISSION_DENIED: caf\u{e9} 100% next%2");
        assert!(check_status(&headers(&[("grpc-status", "0")])).is_ok());
    }

    #[test]
    fn a_missing_or_broken_status_is_malformed_and_an_unknown_one_is_unknown() {
        assert!(matches!(check_status(&HeaderMap::new()), Err(CallError::Malformed(_))));
        assert!(matches!(check_status(&headers(&[("grpc-status", "ok")])), Err(CallError::Malformed(_))));
        let error = check_status(&headers(&[("grpc-status", "99")])).unwrap_err();
        assert_eq!(error.to_string(), "UNKNOWN: ");
    }

    #[test]
    fn an_answer_of_a_web_server_is_named() {
        let error = check_head(StatusCode::NOT_FOUND, &headers(&[("content-type", "application/json")])).unwrap_err();
        let message = "expected a gRPC answer, got HTTP status 404 Not Found with content type \"application/json\"";
        assert_eq!(error.to_string(), message);
        assert!(check_head(StatusCode::OK, &headers(&[("content-type", "text/html")])).is_err());
        assert!(check_head(StatusCode::OK, &headers(&[("content-type", "application/grpc+proto")])).is_ok());
    }

    #[test]
    fn an_overlong_status_message_is_cut() {
        assert_eq!(printable(&[b'a'; 10_000]).len(), MAX_STATUS_MESSAGE);
    }
}
