//! Reading and uploading secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use marblerun_api::rest::{self, encode_secrets_v1, encode_secrets_v2, query_values, success_without_data};
use marblerun_coordinator_core::ledger::{Command, Refusal};
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::user_secrets::{self, UserSecretsError};
use marblerun_manifest::{DecodeError, UserSecret, decode_user_secrets_v1, decode_user_secrets_v2};
use marblerun_secret::SecretBytes;
use tokio::sync::Semaphore;

use super::answer::{Failure, Version};
use super::authentication::certificate;
use super::{Shared, read_request};
use crate::audit::Peer;
use crate::clock::now;
use crate::report;
use crate::writer::WriteError;

/// Uploads at work: decoding a long one and executing the templates of all Marbles may take seconds of processor time.
pub(super) const MAX_UPLOADS_IN_FLIGHT: usize = 2;
/// How often an upload is prepared anew because the manifest was updated meanwhile.
const MAX_ATTEMPTS: usize = 4;

/// Secrets that one request reads or sets: each is looked up in the permissions, and its line is logged.
const MAX_SECRETS_PER_REQUEST: usize = 10_000;

impl Shared {
    pub(super) fn secrets(&self, version: Version, request: &Request) -> Result<String, Failure> {
        let (view, user) = self.authenticate(&certificate(request))?;
        let names = query_values(request.uri().query().unwrap_or_default(), "s");
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(Failure::BadRequest(
                "query: expected the names of secrets as s=NAME, each not empty".to_owned(),
            ));
        }
        bounded("query", names.len())?;
        let secrets = user_secrets::read(&view.snapshot, &user, names.iter().map(String::as_str))
            .map_err(|error| refused(&error))?;
        let secrets = secrets.iter().map(|(name, secret)| (name.clone(), shown(secret))).collect();
        Ok(match version {
            Version::V1 => encode_secrets_v1(&secrets),
            Version::V2 => encode_secrets_v2(&secrets),
        })
    }

    pub(super) async fn set_secrets(&self, version: Version, request: Request) -> Result<String, Failure> {
        let certificate = certificate(&request);
        self.authenticate(&certificate)?;
        let body = Arc::new(SecretBytes::new(read_request(request, self.api.body_timeout).await?));
        let interrupted = || Failure::Write("setting secrets was interrupted".to_owned());
        let mut place = Arc::clone(&self.uploads).acquire_owned().await.map_err(|_| interrupted())?;
        let mut attempt = 1;
        loop {
            // Each time: the manifest, and with it the user's permissions, may have changed.
            let (view, user) = self.authenticate(&certificate)?;
            let (worker, body) = (Arc::clone(&user), Arc::clone(&body));
            // The place goes with the work: a caller that hangs up does not stop it.
            let work = move || {
                let upload = decode(version, &body)
                    .map_err(|error| Failure::BadRequest(format!("request body: {}", report::chain(&error))))?;
                bounded("request body", upload.len())?;
                let prepared = user_secrets::prepare_upload(&view.snapshot, &worker, upload, now())
                    .map_err(|error| refused(&error))?;
                Ok((prepared, place))
            };
            let (prepared, held) = tokio::task::spawn_blocking(work).await.map_err(|_| interrupted())??;
            let names: Vec<&str> = prepared.record.secrets.iter().map(|(name, _)| name.as_str()).collect();
            let (number, names) = (names.len().to_string(), names.join(","));
            let (writer, audit) = (self.api.writer.clone(), self.api.audit.clone());
            // A task of its own: what is stored is told to the audit stream, also if the caller hangs up meanwhile.
            let store = async move {
                let result = writer.submit(Command::SetSecrets(prepared)).await;
                if result.is_ok() {
                    let details = [("number", number.as_str()), ("secrets", &names)];
                    audit.changed(Peer::User(user.name()), "secrets set", &details);
                }
                (result, held)
            };
            let (result, held) = tokio::spawn(store).await.map_err(|_| interrupted())?;
            place = held;
            match result {
                Ok(()) => return Ok(success_without_data()),
                // An update of the manifest came first: what it makes of the upload is seen by trying again.
                Err(WriteError::Refused(refusal))
                    if *refusal == Refusal::DeploymentChanged && attempt < MAX_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(Failure::Write(report::with_hint(&error, error.hint()))),
            }
        }
    }
}

/// Room for the uploads at work.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_UPLOADS_IN_FLIGHT))
}

fn bounded(place: &str, got: usize) -> Result<(), Failure> {
    if got <= MAX_SECRETS_PER_REQUEST {
        return Ok(());
    }
    Err(Failure::BadRequest(format!("{place}: expected at most {MAX_SECRETS_PER_REQUEST} secrets, got {got}")))
}

fn decode(version: Version, body: &SecretBytes) -> Result<BTreeMap<String, UserSecret>, DecodeError> {
    match version {
        Version::V1 => decode_user_secrets_v1(body.expose()),
        Version::V2 => decode_user_secrets_v2(body.expose()),
    }
}

fn refused(error: &UserSecretsError) -> Failure {
    Failure::Write(report::chain(error))
}

fn shown(secret: &Secret) -> rest::Secret {
    rest::Secret {
        type_word: secret.secret_type.as_str().to_owned(),
        size: secret.size,
        shared: secret.shared,
        user_defined: secret.user_defined,
        cert: secret.certificate.clone(),
        valid_for: secret.valid_for,
        private: secret.private.as_ref().map(SecretBytes::duplicate),
        public: secret.public.as_ref().map(SecretBytes::duplicate),
    }
}
