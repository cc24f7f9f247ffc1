//! Updates of packages and of the manifest: begin, look, acknowledge, cancel.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use hyper::body::Bytes;
use marblerun_api::rest::{AcknowledgeAnswer, MessageAnswer, PendingUpdateAnswer, UpdateAnswer};
use marblerun_coordinator_core::generate::MAX_SECRETS_BYTES;
use marblerun_coordinator_core::ledger::{Command, Refusal};
use marblerun_coordinator_core::snapshot::Snapshot;
use marblerun_coordinator_core::update::{
    self, Applied, MAX_UPDATER_LIST_BYTES, Outcome, PendingUpdate, Prepared, PreparedStep, RecoveryChange, UpdateError,
};
use marblerun_coordinator_core::users::User;
use marblerun_sealing::{ManifestFingerprint, SealError};
use marblerun_storage::{CommitOptions, RecipientChange};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{error, warn};

use super::answer::{Failure, Version};
use super::authentication::certificate;
use super::{NO_MANIFEST_HINT, Shared, decode_manifest, read_request};
use crate::audit::{Audit, Peer};
use crate::clock::now;
use crate::listener::PeerCertificate;
use crate::manifest_setter::{recipient, sealed, sealed_fingerprint};
use crate::quoter::Quoter;
use crate::report;
use crate::view::SharedView;
use crate::writer::{WriteError, WriterHandle};

/// Steps of updates at work: decoding a large manifest and generating its keys may take seconds of processor time.
const MAX_UPDATES_IN_FLIGHT: usize = 1;
/// How often a step is prepared anew because another one came first. Only cancelling does not wait for its turn.
const MAX_ATTEMPTS: usize = 4;

/// A record of an update holds a manifest, secrets, and log lines; it must never be one that cannot be sealed.
const _: () = assert!(
    marblerun_manifest::MAX_MANIFEST_BYTES + MAX_SECRETS_BYTES + MAX_UPDATER_LIST_BYTES + 64 * 1024
        <= marblerun_sealing::MAX_PAYLOAD_BYTES
);

/// Room for the steps at work.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_UPDATES_IN_FLIGHT))
}

/// What a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Update,
    Acknowledge,
    Cancel,
}

impl Wish {
    fn prepare(self, snapshot: &Snapshot, user: &User, raw: &[u8]) -> Result<Prepared, UpdateError> {
        match self {
            Self::Update => update::prepare(snapshot, user, raw, now()),
            Self::Acknowledge => update::prepare_acknowledgement(snapshot, user, raw, now()),
            Self::Cancel => update::prepare_cancellation(snapshot, user, now()),
        }
    }

    fn failure(self, text: String) -> Failure {
        match self {
            Self::Update => Failure::Write(text),
            Self::Acknowledge | Self::Cancel => Failure::Step(text),
        }
    }

    /// What happened, if the update now waits for others.
    fn waits(self) -> &'static str {
        match self {
            Self::Update => "update initiated",
            Self::Acknowledge | Self::Cancel => "update acknowledged",
        }
    }
}

/// What a step led to.
#[derive(Debug)]
enum Done {
    PackagesUpdated,
    Waits(Arc<PendingUpdate>),
    /// With each party's new recovery secret, if the recovery configuration changed.
    Applied(Option<BTreeMap<String, Vec<u8>>>),
    Cancelled,
}

/// Why a step that was prepared led to nothing.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The pending update was removed.
    #[error("the update is cancelled, because it cannot be applied")]
    Failed(#[source] Box<UpdateError>),
    /// A defect of this program.
    #[error("recovery secrets cannot be stored")]
    Recovery(#[from] SealError),
}

impl StepError {
    fn is_outrun(&self) -> bool {
        matches!(self, Self::Write(WriteError::Refused(refusal)) if **refusal == Refusal::UpdateChanged)
    }

    fn text(&self) -> String {
        match self {
            Self::Write(error) => report::with_hint(error, error.hint()),
            Self::Failed(error) => report::with_hint(self, error.hint().as_deref()),
            Self::Recovery(_) => report::chain(self),
        }
    }
}

impl Shared {
    pub(super) async fn update(&self, version: Version, request: Request) -> Result<String, Failure> {
        let (certificate, raw) = self.manifest_of_user(version, request).await?;
        let answer = match self.take_step(Wish::Update, certificate, raw).await? {
            Done::Waits(pending) => UpdateAnswer {
                missing_acknowledgments: pending.missing(),
                missing_users: Some(pending.missing_users()),
                recovery_secrets: None,
            },
            Done::Applied(recovery_secrets) => UpdateAnswer { recovery_secrets, ..UpdateAnswer::default() },
            Done::PackagesUpdated | Done::Cancelled => UpdateAnswer::default(),
        };
        Ok(match version {
            Version::V1 => answer.to_v1(),
            Version::V2 => answer.to_v2(),
        })
    }

    pub(super) fn pending_update(&self) -> Result<Bytes, Failure> {
        let view = self.api.view.load();
        let pending = view.snapshot.pending_update.as_ref().ok_or(Failure::NothingPending)?;
        Ok(self.pending_answer.of(pending, |pending| {
            let users = Some(pending.missing_users());
            PendingUpdateAnswer::new(pending.raw().to_vec(), pending.missing(), users).to_body()
        }))
    }

    pub(super) async fn acknowledge_update(&self, version: Version, request: Request) -> Result<String, Failure> {
        let (certificate, raw) = self.manifest_of_user(version, request).await?;
        let answer = match self.take_step(Wish::Acknowledge, certificate, raw).await? {
            Done::Waits(pending) => AcknowledgeAnswer::waiting(pending.missing(), pending.missing_users()),
            Done::Applied(recovery_secrets) => AcknowledgeAnswer::applied(recovery_secrets),
            Done::PackagesUpdated | Done::Cancelled => AcknowledgeAnswer::applied(None),
        };
        Ok(match version {
            Version::V1 => answer.to_v1(),
            Version::V2 => answer.to_v2(),
        })
    }

    pub(super) async fn cancel_update(&self, version: Version, request: Request) -> Result<String, Failure> {
        self.take_step(Wish::Cancel, certificate(&request), Vec::new()).await?;
        let answer = MessageAnswer { message: "Update successfully cancelled".to_owned() };
        Ok(match version {
            Version::V1 => answer.to_v1(),
            Version::V2 => answer.to_v2(),
        })
    }

    /// The certificate comes first: whoever is not a user learns nothing about the body.
    async fn manifest_of_user(
        &self,
        version: Version,
        request: Request,
    ) -> Result<(PeerCertificate, Vec<u8>), Failure> {
        let certificate = certificate(&request);
        self.authenticate(&certificate)?;
        let body = read_request(request, self.api.body_timeout).await?;
        Ok((certificate, decode_manifest(version, body).await?))
    }

    /// Prepares and stores the step, anew if another one comes first.
    async fn take_step(&self, wish: Wish, certificate: PeerCertificate, raw: Vec<u8>) -> Result<Done, Failure> {
        let interrupted = || wish.failure("the update was interrupted".to_owned());
        let mut place = match wish {
            // It is no work, and must be possible while others are.
            Wish::Cancel => None,
            Wish::Update | Wish::Acknowledge => {
                Some(Arc::clone(&self.updates).acquire_owned().await.map_err(|_| interrupted())?)
            }
        };
        let raw = Arc::new(raw);
        let mut attempt = 1;
        loop {
            // Each time: the manifest, and with it the user's permissions, may have changed.
            let (view, user) = self.authenticate(&certificate)?;
            let (worker, manifest) = (Arc::clone(&user), Arc::clone(&raw));
            // The place goes with the work: a caller that hangs up does not stop it, and must not make room for more.
            let work = move || (wish.prepare(&view.snapshot, &worker, &manifest), place);
            let (prepared, held) = tokio::task::spawn_blocking(work).await.map_err(|_| interrupted())?;
            let prepared = prepared.map_err(|error| refused(wish, &raw, &error))?;
            // A task of its own: what is stored gets its quote, and what fails is removed, also without the caller.
            let commit = Commit::new(self, wish, user, held);
            let (result, held) = tokio::spawn(commit.run(prepared)).await.map_err(|_| interrupted())?;
            place = held;
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.is_outrun() && attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(wish.failure(error.text())),
            }
        }
    }
}

fn refused(wish: Wish, raw: &[u8], error: &UpdateError) -> Failure {
    let hint = match error {
        UpdateError::Manifest(_) if raw.is_empty() => Some(NO_MANIFEST_HINT.to_owned()),
        _ => error.hint(),
    };
    match error {
        UpdateError::NothingPending => Failure::NothingPending,
        _ => wish.failure(report::with_hint(error, hint.as_deref())),
    }
}

/// A prepared step on its way to the log.
struct Commit {
    view: SharedView,
    writer: WriterHandle,
    quoter: Arc<Quoter>,
    audit: Audit,
    wish: Wish,
    user: Arc<User>,
    place: Option<OwnedSemaphorePermit>,
}

impl Commit {
    fn new(shared: &Shared, wish: Wish, user: Arc<User>, place: Option<OwnedSemaphorePermit>) -> Self {
        let (view, writer, audit) = (shared.api.view.clone(), shared.api.writer.clone(), shared.api.audit.clone());
        Self { view, writer, quoter: Arc::clone(&shared.api.quoter), audit, wish, user, place }
    }

    async fn run(self, prepared: Prepared) -> (Result<Done, StepError>, Option<OwnedSemaphorePermit>) {
        let result = self.store(prepared).await;
        (result, self.place)
    }

    async fn store(&self, Prepared { step, outcome }: Prepared) -> Result<Done, StepError> {
        match outcome {
            Outcome::Applied(applied) => self.apply(step, *applied).await,
            Outcome::PackagesUpdated => {
                self.submit(step).await?;
                self.changed("packages updated", &[]);
                self.renew_quote().await;
                Ok(Done::PackagesUpdated)
            }
            Outcome::Waits(pending) => {
                self.submit(step).await?;
                let missing = pending.missing().to_string();
                self.changed(self.wish.waits(), &[("fingerprint", pending.fingerprint()), ("missing", &missing)]);
                Ok(Done::Waits(pending))
            }
            Outcome::Cancelled => {
                self.submit(step).await?;
                self.changed("update cancelled", &[]);
                Ok(Done::Cancelled)
            }
            Outcome::Failed(error) => {
                self.submit(step).await?;
                self.changed("update removed: it cannot be applied", &[]);
                Err(StepError::Failed(error))
            }
        }
    }

    fn changed(&self, action: &'static str, details: &[(&'static str, &str)]) {
        self.audit.changed(Peer::User(self.user.name()), action, details);
    }

    async fn submit(&self, step: PreparedStep) -> Result<(), WriteError> {
        self.writer.submit(Command::Update(Box::new(step))).await
    }

    async fn apply(&self, step: PreparedStep, applied: Applied) -> Result<Done, StepError> {
        let Applied { fingerprint, seal_mode, recovery, warnings, acknowledged } = applied;
        let result = match recovery_change(recovery, sealed_fingerprint(&fingerprint)) {
            Ok((recovery, secrets)) => {
                let options = CommitOptions { mode: sealed(seal_mode), recovery };
                let stored = self.writer.submit_with(Command::Update(Box::new(step)), options).await;
                stored.map(|()| secrets).map_err(StepError::from)
            }
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(secrets) => {
                for warning in &warnings {
                    warn!("manifest: {}", report::one_line(warning.to_string()));
                }
                self.changed("manifest updated", &[("fingerprint", &fingerprint), ("sealMode", seal_mode.as_str())]);
                self.renew_quote().await;
                Ok(Done::Applied(secrets))
            }
            Err(failed) => {
                let is_defect = matches!(failed, StepError::Recovery(_) | StepError::Write(WriteError::Apply(_)));
                if let Some(acknowledged) = acknowledged.filter(|_| is_defect) {
                    self.remove(&acknowledged).await;
                }
                Err(failed)
            }
        }
    }

    /// Removes a pending update that everybody agreed to and that cannot be put into force.
    async fn remove(&self, acknowledged: &PendingUpdate) {
        let view = self.view.load();
        match update::prepare_failure(&view.snapshot, &self.user, acknowledged, now()) {
            Ok(step) => {
                if let Err(error) = self.submit(step).await {
                    error!(error = report::chain(&error), "the update that failed is still pending");
                }
            }
            Err(error) => error!(error = report::chain(&error), "the update that failed is not removed"),
        }
    }

    /// The kept quote speaks for the manifest and shows the intermediate certificate.
    async fn renew_quote(&self) {
        let quoter = Arc::clone(&self.quoter);
        if tokio::task::spawn_blocking(move || quoter.renew_or_warn()).await.is_err() {
            warn!("renewing the kept quote was interrupted");
        }
    }
}

type RecoverySecrets = Option<BTreeMap<String, Vec<u8>>>;

/// What becomes of the recovery recipient, and what each party gets if it changes.
fn recovery_change(
    change: RecoveryChange,
    manifest: ManifestFingerprint,
) -> Result<(RecipientChange, RecoverySecrets), SealError> {
    match change {
        RecoveryChange::Kept => Ok((RecipientChange::Keep { manifest }, None)),
        RecoveryChange::Replaced(None) => Ok((RecipientChange::Remove, Some(BTreeMap::new()))),
        RecoveryChange::Replaced(Some(secrets)) => {
            let (recipient, encrypted) = recipient(secrets)?;
            Ok((RecipientChange::Set { recipient, manifest }, Some(encrypted)))
        }
    }
}
