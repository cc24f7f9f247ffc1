//! The client API: HTTPS, versions 1 and 2.

mod answer;
mod auditing;
mod authentication;
mod counter;
mod encoded;
mod pieces;
mod recover;
mod secrets;
mod sign_quote;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use marblerun_api::rest::{
    CoordinatorState, MAX_REQUEST_BODY_BYTES, ManifestAnswer, QuoteAnswer, SetManifestAnswer, SetManifestRequest,
    StatusAnswer, UpdateLogAnswer, decode_nonce, decode_request, v1, v2,
};
use marblerun_coordinator_core::snapshot::Status;
use marblerun_coordinator_core::update::PendingUpdate;
use tokio::sync::Semaphore;
use tracing::debug;

use self::answer::{Failure, Version, success};
use self::auditing::{Asker, audit_manifest};
use self::encoded::Encoded;
use self::pieces::Pieces;
pub use self::sign_quote::QuoteSigner;
use crate::audit::Audit;
use crate::body_budget::BodyAccount;
use crate::manifest_setter::ManifestSetter;
use crate::quoter::Quoter;
use crate::recovery::Recoverer;
use crate::report;
use crate::view::{SharedView, View};
use crate::writer::WriterHandle;

/// Quotes in the making; making one costs the platform about a millisecond and is open to anyone.
const MAX_QUOTES_IN_FLIGHT: usize = 4;

/// A body without the member is legal JSON, so the error is one about an empty manifest.
const NO_MANIFEST_HINT: &str =
    "version 2 of this API expects the manifest in base64 as the member \"manifest\", version 1 expects it as the body";

/// What the handlers share.
pub struct ClientApi {
    /// The newest state.
    pub view: SharedView,
    /// Makes quotes.
    pub quoter: Arc<Quoter>,
    /// Verifies quotes of others.
    pub signer: QuoteSigner,
    /// Sets the manifest.
    pub setter: ManifestSetter,
    /// Takes recovery secrets.
    pub recoverer: Recoverer,
    /// Makes changes durable.
    pub writer: WriterHandle,
    /// Takes note of refusals and changes.
    pub audit: Audit,
    /// The class of our own evidence.
    pub trust_class: &'static str,
    /// A request body must have arrived after this time.
    pub body_timeout: Duration,
}

/// Bytes of a body that is too long which are read so that the client can read the answer.
const MAX_BYTES_READ_ON: usize = 1 << 20;

struct Shared {
    api: ClientApi,
    quotes: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    /// The long answers that everyone gets, by version.
    manifest_answers: [Encoded<Vec<u8>>; 2],
    quote_answers: [Encoded<QuoteAnswer>; 2],
    /// Known by the newest line: no two states have the same one and other lines before it.
    update_log_answers: [Encoded<str>; 2],
    /// The same in both versions.
    pending_answer: Encoded<PendingUpdate>,
    updates: Arc<Semaphore>,
}

/// Everything that the client listener answers.
pub fn router(api: ClientApi) -> Router {
    let quotes = Arc::new(Semaphore::new(MAX_QUOTES_IN_FLIGHT));
    let (manifest_answers, quote_answers, update_log_answers, pending_answer) = Default::default();
    let shared = Shared {
        api,
        quotes,
        uploads: secrets::places(),
        manifest_answers,
        quote_answers,
        update_log_answers,
        pending_answer,
        updates: updates::places(),
    };
    Router::new().fallback(dispatch).with_state(Arc::new(shared))
}

/// Paths are compared exactly, and whatever is not in the table is 405: clients take that for an older server.
async fn dispatch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    use Version::{V1, V2};
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().map(str::to_owned);
    let asker = Asker::of(&request);
    let (version, result) = match (method.as_str(), path.as_str()) {
        ("GET", v1::STATUS) => (V1, Ok(shared.status(V1).into())),
        ("GET", v2::STATUS) => (V2, Ok(shared.status(V2).into())),
        ("GET", v1::MANIFEST) => (V1, shared.manifest(V1)),
        ("GET", v2::MANIFEST) => (V2, shared.manifest(V2)),
        ("POST", v1::MANIFEST) => (V1, shared.set_manifest(V1, request).await.map(Bytes::from)),
        ("POST", v2::MANIFEST) => (V2, shared.set_manifest(V2, request).await.map(Bytes::from)),
        ("GET", v1::QUOTE) => (V1, shared.quote(V1, None).await),
        ("GET", v2::QUOTE) => (V2, shared.quote(V2, query.as_deref()).await),
        ("GET", v1::UPDATE) => (V1, shared.update_log(V1)),
        ("GET", v2::UPDATE) => (V2, shared.update_log(V2)),
        ("GET", v1::SECRETS) => (V1, shared.secrets(V1, &request).map(Bytes::from)),
        ("GET", v2::SECRETS) => (V2, shared.secrets(V2, &request).map(Bytes::from)),
        ("POST", v1::SECRETS) => (V1, shared.set_secrets(V1, request).await.map(Bytes::from)),
        ("POST", v2::SECRETS) => (V2, shared.set_secrets(V2, request).await.map(Bytes::from)),
        ("POST", v1::UPDATE) => (V1, shared.update(V1, request).await.map(Bytes::from)),
        ("POST", v2::UPDATE) => (V2, shared.update(V2, request).await.map(Bytes::from)),
        ("GET", v1::UPDATE_MANIFEST) => (V1, shared.pending_update()),
        ("GET", v2::UPDATE_MANIFEST) => (V2, shared.pending_update()),
        ("POST", v1::UPDATE_MANIFEST) => (V1, shared.acknowledge_update(V1, request).await.map(Bytes::from)),
        ("POST", v2::UPDATE_MANIFEST) => (V2, shared.acknowledge_update(V2, request).await.map(Bytes::from)),
        ("POST", v1::UPDATE_CANCEL) => (V1, shared.cancel_update(V1, request).await.map(Bytes::from)),
        ("POST", v2::UPDATE_CANCEL) => (V2, shared.cancel_update(V2, request).await.map(Bytes::from)),
        ("POST", v2::MONOTONIC_COUNTER) => (V2, shared.raise_counter(request).await.map(Bytes::from)),
        ("POST", v2::SIGN_QUOTE) => (V2, shared.sign_quote(request).await.map(Bytes::from)),
        ("POST", v1::RECOVER) => (V1, Err(Failure::Gone)),
        ("POST", v2::RECOVER) => (V2, shared.recover(request).await.map(Bytes::from)),
        ("GET", v2::RECOVER_PUBLIC_KEY) => (V2, shared.recovery_key().await.map(Bytes::from)),
        _ => (V2, Err(Failure::NotAllowed)),
    };
    match result {
        Ok(body) => success(body),
        Err(failure) => {
            shared.audit_refusal(&asker, &method, &path, version, &failure);
            failure.into_response(&method, version)
        }
    }
}

impl Shared {
    fn status(&self, version: Version) -> String {
        let state = match self.api.view.load().status() {
            Status::Recovery => CoordinatorState::Recovery,
            Status::AcceptingManifest => CoordinatorState::AcceptingManifest,
            Status::AcceptingMarbles => CoordinatorState::AcceptingMarbles,
        };
        let answer = StatusAnswer { trust_class: Some(self.api.trust_class.to_owned()), ..state.into() };
        match version {
            Version::V1 => answer.to_v1(),
            Version::V2 => answer.to_v2(),
        }
    }

    fn manifest(&self, version: Version) -> Result<Bytes, Failure> {
        let view = self.api.view.load();
        let Some(deployment) = view.snapshot.deployment() else {
            return match version {
                Version::V1 => Ok(ManifestAnswer::default().to_v1().into()),
                Version::V2 => Err(no_manifest(&view)),
            };
        };
        // Uploads of secrets leave it as it is.
        Ok(self.manifest_answers[version as usize].of(&deployment.raw_manifest, |raw| {
            let answer = ManifestAnswer {
                signature: Some(deployment.manifest_signature.clone()),
                fingerprint: deployment.fingerprint.clone(),
                manifest: Some(raw.clone()),
            };
            match version {
                Version::V1 => answer.to_v1(),
                Version::V2 => answer.to_v2(),
            }
        }))
    }

    async fn set_manifest(&self, version: Version, request: Request) -> Result<String, Failure> {
        let asker = Asker::of(&request);
        let body = read_request(request, self.api.body_timeout).await?;
        let raw = decode_manifest(version, body).await?;
        let has_manifest = !raw.is_empty();
        let is_recovery = self.api.view.load().status() == Status::Recovery;
        let (audit, view) = (self.api.audit.clone(), self.api.view.clone());
        let told = move || audit_manifest(&audit, &view, &asker, is_recovery);
        match self.api.setter.set_then(raw, told).await {
            Ok(recovery_secrets) => {
                let answer = SetManifestAnswer { recovery_secrets };
                Ok(match version {
                    Version::V1 => answer.to_v1(),
                    Version::V2 => answer.to_v2(),
                })
            }
            Err(error) => {
                let hint = if has_manifest { error.hint() } else { Some(NO_MANIFEST_HINT) };
                Err(Failure::Write(report::with_hint(&error, hint)))
            }
        }
    }

    async fn quote(&self, version: Version, query: Option<&str>) -> Result<Bytes, Failure> {
        let nonce = match version {
            Version::V1 => None,
            Version::V2 => decode_nonce(query).map_err(|error| Failure::BadRequest(error.to_string()))?,
        };
        let quoter = Arc::clone(&self.api.quoter);
        let is_kept = nonce.is_none();
        let answer = match nonce {
            None => quoter.answer(&[]),
            Some(nonce) => {
                let place = Arc::clone(&self.quotes).acquire_owned().await;
                let place = place.map_err(|_| Failure::Read("no quote".to_owned()))?;
                // The place goes with the work: a caller that hangs up does not stop it.
                let fresh = tokio::task::spawn_blocking(move || (quoter.answer(&nonce), place)).await;
                fresh
                    .map(|(answer, _place)| answer)
                    .map_err(|_| Failure::Read("the quote was interrupted".to_owned()))?
            }
        };
        let answer = answer.map_err(|error| Failure::Read(report::with_hint(&error, error.hint())))?;
        let encode = |answer: &QuoteAnswer| match version {
            Version::V1 => answer.to_v1(),
            Version::V2 => answer.to_v2(),
        };
        // A quote over a nonce is for the one who asked.
        Ok(if is_kept { self.quote_answers[version as usize].of(&answer, encode) } else { encode(&answer).into() })
    }

    fn update_log(&self, version: Version) -> Result<Bytes, Failure> {
        let view = self.api.view.load();
        let log = &view.snapshot.update_log;
        // The first manifest writes the first line.
        let Some(newest) = log.last() else {
            return Err(no_manifest(&view));
        };
        Ok(self.update_log_answers[version as usize].of(newest, |_| {
            let answer = UpdateLogAnswer { update_log: log.iter().map(|line| line.to_string()).collect() };
            match version {
                Version::V1 => answer.to_v1(),
                Version::V2 => answer.to_v2(),
            }
        }))
    }
}

/// The manifest in the body of a request.
async fn decode_manifest(version: Version, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if version == Version::V1 {
        return Ok(body);
    }
    // Megabytes of base64: too long for a thread that serves others.
    let decoded = tokio::task::spawn_blocking(move || decode_request::<SetManifestRequest>(&body)).await;
    let decoded = decoded.map_err(|_| Failure::Read("decoding the request was interrupted".to_owned()))?;
    decoded
        .map(|request| request.manifest)
        .map_err(|error| Failure::BadRequest(format!("request body: {}", report::chain(&error))))
}

async fn read_request(request: Request, limit: Duration) -> Result<Vec<u8>, Failure> {
    read_request_within(MAX_REQUEST_BODY_BYTES, request, limit).await
}

/// The state has no manifest, or has it where nobody can read it.
fn no_manifest(view: &View) -> Failure {
    Failure::Read(match view.status() {
        Status::Recovery => "expected a Coordinator with a manifest, got one in recovery mode".to_owned(),
        _ => "expected a Coordinator with a manifest, got one without".to_owned(),
    })
}

/// [`read_request`] for an endpoint whose body has at most `max_bytes`.
async fn read_request_within(max_bytes: usize, request: Request, limit: Duration) -> Result<Vec<u8>, Failure> {
    let account = request.extensions().get::<BodyAccount>().cloned();
    read_body(max_bytes, request.into_body(), limit).await.map_err(|failure| match account {
        Some(account) if account.is_exceeded() => Failure::Busy,
        _ => failure,
    })
}

async fn read_body(max_bytes: usize, mut body: Body, limit: Duration) -> Result<Vec<u8>, Failure> {
    let reading = async {
        let mut pieces = Pieces::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                debug!(error = &error as &dyn std::error::Error, "request body ended early");
                Failure::BadRequest("request body: expected it to be complete".to_owned())
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > max_bytes - pieces.length() {
                drop((data, pieces));
                read_on(&mut body).await;
                return Err(Failure::TooLarge(max_bytes));
            }
            pieces.push(&data);
        }
        Ok(pieces.concat())
    };
    tokio::time::timeout(limit, reading).await.unwrap_or(Err(Failure::Slow))
}

/// Reads what a client still sends and drops it, up to a bound: a connection that is closed before may take the answer
/// with it.
async fn read_on(body: &mut Body) {
    let mut left = MAX_BYTES_READ_ON;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
        if left == 0 {
            return;
        }
    }
}
