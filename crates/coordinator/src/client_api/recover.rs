//! Recovery: the ephemeral key, and secrets of the parties.

use std::time::Duration;

use axum::extract::Request;
use http_body_util::BodyExt as _;
use marblerun_api::rest::{RecoverAnswer, RecoverRequest, RecoveryKeyAnswer, decode_request};
use marblerun_secret::SecretBytes;
use zeroize::Zeroizing;

use super::answer::Failure;
use super::auditing::{Asker, audit_recovery};
use super::pieces::Pieces;
use super::{Shared, read_on};
use crate::body_budget::BodyAccount;
use crate::recovery::UploadError;
use crate::report;

/// So much of a body is read, as MarbleRun v1.9.1 does; what follows is as if it were not there.
const MAX_BODY_BYTES: usize = 20480;

impl Shared {
    pub(super) async fn recovery_key(&self) -> Result<String, Failure> {
        let key = self.api.recoverer.public_key().await.map_err(|error| Failure::Read(report::chain(&error)))?;
        Ok(RecoveryKeyAnswer { algorithm: "RSA".to_owned(), ephemeral_public_key: key.to_vec() }.to_v2())
    }

    pub(super) async fn recover(&self, request: Request) -> Result<String, Failure> {
        let asker = Asker::of(&request);
        let Start { bytes, is_cut } = read_start(request, self.api.body_timeout).await?;
        let request = decode_request::<RecoverRequest>(&bytes).map_err(|error| {
            Failure::BadRequest(match is_cut {
                true => format!("request body: expected at most {MAX_BODY_BYTES} bytes, got more"),
                false => format!("request body: {}", report::chain(&error)),
            })
        })?;
        let RecoverRequest { recovery_secret, recovery_secret_signature } = request;
        let secret = recovery_secret.unwrap_or_else(|| SecretBytes::new(Vec::new()));
        let audit = self.api.audit.clone();
        let told = move |remaining| audit_recovery(&audit, &asker, remaining);
        match self.api.recoverer.upload_then(secret, recovery_secret_signature, told).await {
            Ok(remaining) => Ok(RecoverAnswer::new(remaining as u64).to_v2()),
            Err(error) => {
                let reason = report::with_hint(&error, error.hint());
                Err(match error {
                    UploadError::Undecryptable { .. } => Failure::BadRequest(reason),
                    _ => Failure::Write(reason),
                })
            }
        }
    }
}

/// The beginning of a body.
struct Start {
    bytes: Zeroizing<Vec<u8>>,
    is_cut: bool,
}

async fn read_start(request: Request, limit: Duration) -> Result<Start, Failure> {
    let account = request.extensions().get::<BodyAccount>().cloned();
    let mut body = request.into_body();
    let read = async {
        let mut pieces = Pieces::default();
        let mut is_cut = false;
        while !is_cut && let Some(frame) = body.frame().await {
            let Ok(mut data) = frame?.into_data() else { continue };
            let room = MAX_BODY_BYTES - pieces.length();
            is_cut = data.len() > room;
            data.truncate(room);
            pieces.push(&data);
        }
        if is_cut {
            read_on(&mut body).await;
        }
        Ok::<_, axum::Error>(Start { bytes: Zeroizing::new(pieces.concat()), is_cut })
    };
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(start)) => Ok(start),
        Ok(Err(_)) if account.is_some_and(|account| account.is_exceeded()) => Err(Failure::Busy),
        Ok(Err(_)) => Err(Failure::BadRequest("request body: expected it to be complete".to_owned())),
        Err(_) => Err(Failure::Slow),
    }
}
