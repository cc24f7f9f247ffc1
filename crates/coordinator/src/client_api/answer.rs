//! Answers of the client API: envelopes, and every failure as HTTP status and kind, in one place.
//!
//! Version 1 and 2 differ in both for the same failure; existing clients depend on it.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};
use hyper::body::Bytes;
use marblerun_api::rest::{EnvelopeKind, error, fail, fail_with_data};

/// The version of the client API that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum Failure {
    /// No such path, or another method is expected.
    NotAllowed,
    /// The path existed once.
    Gone,
    /// The body or query is not what the endpoint reads.
    BadRequest(String),
    /// A member of the body is at fault; told as data, where version 2 clients look for it.
    Member { member: &'static str, reason: String, message: &'static str },
    /// The body is longer than the limit in bytes.
    TooLarge(usize),
    /// The body did not arrive in time.
    Slow,
    /// Too many bodies at once.
    Busy,
    /// No client certificate, or not that of a user.
    Unauthorized(&'static str),
    /// The manifest does not switch the feature on.
    Forbidden(&'static str),
    /// A write, or a read of secrets, failed after the request was understood: wrong state, refused manifest, missing
    /// permission, storage.
    Write(String),
    /// A read failed: wrong state, no quote.
    Read(String),
    /// No update waits for acknowledgements.
    NothingPending,
    /// An acknowledgement or cancellation failed after the request was understood.
    Step(String),
}

impl Failure {
    pub(super) fn status(&self, version: Version) -> StatusCode {
        match (self, version) {
            (Self::NotAllowed, _) => StatusCode::METHOD_NOT_ALLOWED,
            (Self::Gone, _) => StatusCode::GONE,
            (Self::Forbidden(_), _) => StatusCode::FORBIDDEN,
            (Self::Unauthorized(_), _) => StatusCode::UNAUTHORIZED,
            (Self::BadRequest(_) | Self::Member { .. }, _) | (Self::Write(_), Version::V1) => StatusCode::BAD_REQUEST,
            (Self::TooLarge(_), _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Self::Slow, _) => StatusCode::REQUEST_TIMEOUT,
            (Self::Busy, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Self::NothingPending, _) => StatusCode::NOT_FOUND,
            (Self::Write(_), Version::V2) | (Self::Read(_) | Self::Step(_), _) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable word for the audit stream.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed => "unknown-endpoint",
            Self::Gone => "gone",
            Self::BadRequest(_) => "bad-request",
            Self::Member { .. } => "bad-member",
            Self::TooLarge(_) => "too-large",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Read(_) => "not-available",
            Self::NothingPending => "nothing-pending",
            Self::Write(_) | Self::Step(_) => "refused",
        }
    }

    /// What is wrong, for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Member { member, reason, .. } => format!("{member}: {reason}"),
            _ => self.message(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotAllowed => String::new(),
            Self::Gone => "this endpoint is gone: use POST /api/v2/recover".to_owned(),
            Self::Unauthorized(text) | Self::Forbidden(text) => (*text).to_owned(),
            Self::TooLarge(limit) => format!("request body: expected at most {limit} bytes, got more"),
            Self::Slow => "request body: expected it to arrive in time".to_owned(),
            Self::Busy => "too many requests at once: try again".to_owned(),
            // Scripts of MarbleRun users look for the first words.
            Self::NothingPending => "no update in progress: expected a pending update, got none".to_owned(),
            Self::BadRequest(text) | Self::Write(text) | Self::Read(text) | Self::Step(text) => text.clone(),
            Self::Member { message, .. } => (*message).to_owned(),
        }
    }

    pub(super) fn into_response(self, method: &Method, version: Version) -> Response {
        let status = self.status(version);
        let message = self.message();
        if let Self::Member { member, reason, .. } = &self {
            respond(status, EnvelopeKind::Fail, fail_with_data(member, reason, &message))
        } else if version == Version::V2 && matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) {
            respond(status, EnvelopeKind::Fail, fail(&message))
        } else if *method == Method::HEAD {
            respond(status, EnvelopeKind::Error, String::new())
        } else {
            respond(status, EnvelopeKind::Error, error(&message))
        }
    }
}

/// A successful answer with a finished envelope.
pub(super) fn success(body: Bytes) -> Response {
    respond(StatusCode::OK, EnvelopeKind::Success, body)
}

fn respond(status: StatusCode, kind: EnvelopeKind, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    if let Some(options) = kind.content_type_options() {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static(options));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failure: Failure, version: Version, status: u16, content_type: &str) {
        let response = failure.into_response(&Method::POST, version);
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()[CONTENT_TYPE], content_type);
    }

    // rules: HTTP-3, HTTP-4, R23
    #[test]
    fn the_same_failure_differs_between_the_versions_as_clients_expect() {
        const JSON: &str = "application/json";
        const TEXT: &str = "text/plain; charset=utf-8";
        check(Failure::Write("x".to_owned()), Version::V1, 400, TEXT);
        check(Failure::Write("x".to_owned()), Version::V2, 500, TEXT);
        check(Failure::BadRequest("x".to_owned()), Version::V1, 400, TEXT);
        check(Failure::BadRequest("x".to_owned()), Version::V2, 400, JSON);
        check(Failure::Read("x".to_owned()), Version::V1, 500, TEXT);
        check(Failure::Read("x".to_owned()), Version::V2, 500, TEXT);
        check(Failure::Unauthorized("x"), Version::V1, 401, TEXT);
        check(Failure::Unauthorized("x"), Version::V2, 401, JSON);
        check(Failure::Forbidden("x"), Version::V2, 403, TEXT);
        for version in [Version::V1, Version::V2] {
            check(Failure::NothingPending, version, 404, TEXT);
            check(Failure::Step("x".to_owned()), version, 500, TEXT);
        }
        check(Failure::NotAllowed, Version::V2, 405, TEXT);
        check(Failure::Gone, Version::V1, 410, TEXT);
        check(Failure::Member { member: "x", reason: "y".to_owned(), message: "" }, Version::V2, 400, JSON);
        check(Failure::TooLarge(1), Version::V2, 413, TEXT);
        check(Failure::Slow, Version::V2, 408, TEXT);
        check(Failure::Busy, Version::V1, 503, TEXT);
    }
}
