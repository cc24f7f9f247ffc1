//! Recovery of a state that does not open: parties upload their secrets until the key is complete.
//!
//! Secrets are taken one after the other; nobody who only reads waits for that. Whoever is not a party costs a hash, or
//! one decryption out of few at a time.

mod ephemeral_key;
mod restore;

use std::sync::Arc;

use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::recovery::{
    Accepted, CollectError, Collected, Collector, Progress, PublicShare, Scheme, SignatureError, SignedShares,
};
use marblerun_coordinator_core::snapshot::Status;
use marblerun_sealing::{RecoveryScheme, WrappedForRecovery};
use marblerun_secret::SecretBytes;
use marblerun_storage::Recovery;
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::ephemeral_key::EphemeralKey;
pub use self::ephemeral_key::KeyError;
pub(crate) use self::restore::restore;
pub use self::restore::{Check, RestoreError};
use crate::quoter::Quoter;
use crate::report;
use crate::view::SharedView;
use crate::writer::{Backing, WriterHandle};

/// Lengths of a secret in plain form; everything else is a ciphertext. Keys of 16 bytes are of old MarbleRun states, so
/// that here such a secret is always a wrong one.
const PLAIN_LENGTHS: [usize; 3] = [16, 32, 33];

/// Why an uploaded secret does not help.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UploadError {
    /// It is neither a secret nor one that was encrypted to the ephemeral key.
    #[error("expected a recovery secret, plain or encrypted to this Coordinator's ephemeral key, got {got} bytes")]
    Undecryptable {
        /// Length of what came.
        got: usize,
    },
    /// There is nothing to recover.
    #[error("expected a Coordinator in recovery mode, got one in another state")]
    NotInRecovery,
    /// No secret can open the state.
    #[error("recovery secrets cannot open this state: {0}")]
    Unusable(String),
    /// It is not a missing one, or nobody who has to sign signed it.
    #[error(transparent)]
    Refused(#[from] CollectError),
    /// The secrets made a key, but the state was not restored. All secrets are needed again.
    #[error("the state is not restored, and all recovery secrets are needed again")]
    NotRestored(#[from] RestoreError),
    /// The work did not end.
    #[error("taking the recovery secret was interrupted")]
    Interrupted,
}

impl UploadError {
    /// What the party or the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Undecryptable { .. } => {
                Some("fetch GET /api/v2/recover/public-key again: the key is another one after each start")
            }
            Self::Refused(error) => error.hint(),
            Self::NotRestored(error) => error.hint(),
            Self::NotInRecovery | Self::Unusable(_) | Self::Interrupted => None,
        }
    }
}

/// What has been collected, or why nothing can be.
#[derive(Debug)]
pub enum Collection {
    /// Secrets are taken.
    Open(Collector),
    /// Why no secret can open the state, with a hint.
    Unusable(String),
}

impl Collection {
    /// The collection for a state that does not open; `None` for one that does.
    pub fn of(backing: &Backing) -> Option<Self> {
        let Backing::Recovery(recovery, _) = backing else { return None };
        Some(Self::for_recovery(recovery))
    }

    fn for_recovery(recovery: &Recovery) -> Self {
        match recovery.recipient() {
            Ok(recipient) => {
                let collector = collector(recipient);
                info!(
                    deployment = %recipient.deployment(),
                    scheme = ?collector.scheme(),
                    shares = collector.shares(),
                    needed = recipient.needed(),
                    "recovery secrets of the parties can open the sealed state"
                );
                Self::Open(collector)
            }
            Err(fault) => {
                let reason = report::with_hint(fault, fault.hint());
                error!(reason, "recovery secrets cannot open the sealed state");
                Self::Unusable(reason)
            }
        }
    }
}

fn collector(recipient: &WrappedForRecovery) -> Collector {
    let shares = recipient.shares().iter();
    let shares = shares.map(|share| PublicShare { public_key: share.public_key.clone(), hash: share.share_hash });
    let shares: Vec<_> = shares.collect();
    let scheme = match recipient.scheme() {
        RecoveryScheme::Single => Scheme::Single,
        RecoveryScheme::AllOf => Scheme::AllOf { shares: shares.len() },
        RecoveryScheme::Threshold { threshold } => Scheme::Threshold { threshold, shares: shares.len() },
    };
    Collector::new(scheme, shares)
}

/// Takes recovery secrets and, with the last one, restores the state.
pub struct Recoverer {
    view: SharedView,
    writer: WriterHandle,
    quoter: Arc<Quoter>,
    /// `None` outside of recovery. The lock is held while a secret is worked on, so that none is lost.
    collection: Arc<Mutex<Option<Collection>>>,
    key: Arc<EphemeralKey>,
    /// Waits for the end of recovery; ends with this.
    _end: JoinSet<()>,
}

impl Recoverer {
    /// A recoverer for the state behind `view`. In recovery, the ephemeral key is made in the background from now on,
    /// and everything secret is wiped when recovery ends, in whatever way.
    pub fn new(view: SharedView, writer: WriterHandle, quoter: Arc<Quoter>, collection: Option<Collection>) -> Self {
        let collection = collection.filter(|_| view.load().status() == Status::Recovery);
        let key = Arc::new(EphemeralKey::default());
        let is_recovery = collection.is_some();
        let collection = Arc::new(Mutex::new(collection));
        let mut end = JoinSet::new();
        if is_recovery {
            key.make();
            let (view, key, collection) = (view.clone(), Arc::clone(&key), Arc::clone(&collection));
            end.spawn(async move {
                view.opened().await;
                key.forget();
                collection.lock().await.take();
            });
        } else {
            key.forget();
        }
        Self { view, writer, quoter, collection, key, _end: end }
    }

    /// The public key to which secrets can be encrypted: SubjectPublicKeyInfo, DER. It is the same until recovery ends.
    ///
    /// # Errors
    ///
    /// Outside of recovery, or if the key is not made in time.
    pub async fn public_key(&self) -> Result<Arc<[u8]>, KeyError> {
        if self.view.load().status() != Status::Recovery {
            return Err(KeyError::NotInRecovery);
        }
        self.key.public().await
    }

    /// Takes a secret, plain or encrypted, with the signature over its plain form. Returns how many are still missing; 0
    /// once the state is restored and durable.
    ///
    /// # Errors
    ///
    /// See [`UploadError`]; but for [`UploadError::NotRestored`], what was collected before stays.
    pub async fn upload(&self, secret: SecretBytes, signature: Vec<u8>) -> Result<usize, UploadError> {
        self.upload_then(secret, signature, |_| ()).await
    }

    /// [`Recoverer::upload`], and `then` runs with the number of missing secrets once the secret is taken, also if the
    /// caller has gone away meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Recoverer::upload`].
    pub async fn upload_then(
        &self,
        secret: SecretBytes,
        signature: Vec<u8>,
        then: impl FnOnce(usize) + Send + 'static,
    ) -> Result<usize, UploadError> {
        let secret = match PLAIN_LENGTHS.contains(&secret.len()) {
            true => secret,
            false => self.key.decrypt(secret).await?,
        };
        let collection = Arc::clone(&self.collection).lock_owned().await;
        let (view, writer, quoter) = (self.view.clone(), self.writer.clone(), Arc::clone(&self.quoter));
        // A task of its own: a party that goes away now must not leave a secret half taken, or a state without its quote.
        let work = async move {
            if view.load().status() != Status::Recovery {
                return Err(UploadError::NotInRecovery);
            }
            match accept(collection, secret, signature).await? {
                (Progress::Remaining(remaining), _) => {
                    then(remaining);
                    Ok(remaining)
                }
                (Progress::Complete(collected), collection) => {
                    recover(&writer, collected).await?;
                    then(0);
                    // Those who wait with a secret get their answer from the state.
                    drop(collection);
                    let renewed = tokio::task::spawn_blocking(move || quoter.renew_or_warn()).await;
                    renewed.map_err(|_| UploadError::Interrupted)?;
                    Ok(0)
                }
            }
        };
        tokio::spawn(work).await.map_err(|_| UploadError::Interrupted)?
    }
}

type Place = OwnedMutexGuard<Option<Collection>>;

async fn accept(mut place: Place, secret: SecretBytes, signature: Vec<u8>) -> Result<(Progress, Place), UploadError> {
    let work = move || {
        let accepted = match &mut *place {
            None => Err(UploadError::NotInRecovery),
            Some(Collection::Unusable(reason)) => Err(UploadError::Unusable(reason.clone())),
            Some(Collection::Open(collector)) => match collector.accept(secret, signature) {
                Ok(accepted) => {
                    report_accepted(collector, &accepted);
                    Ok(accepted)
                }
                Err(error) => {
                    report_refused(&error);
                    Err(error.into())
                }
            },
        };
        Ok((accepted?.progress, place))
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| UploadError::Interrupted)?
}

fn report_accepted(collector: &Collector, accepted: &Accepted) {
    let key_hash = |party| collector.public_key_hash(party).map(hex::encode).unwrap_or_default();
    let remaining = match accepted.progress {
        Progress::Remaining(remaining) => remaining,
        Progress::Complete(_) => 0,
    };
    info!(
        share = accepted.share + 1,
        shares = collector.shares(),
        share.key_sha256 = key_hash(accepted.share),
        signer.key_sha256 = key_hash(accepted.signer),
        remaining,
        "recovery secret accepted"
    );
}

/// What only somebody with a share can cause. Everything else is counted in the audit stream, because anybody can send it.
fn report_refused(error: &CollectError) {
    match error {
        CollectError::Length { .. } | CollectError::Unknown { .. } => {}
        error => warn!(reason = report::with_hint(error, error.hint()), "recovery secret refused"),
    }
}

async fn recover(writer: &WriterHandle, collected: Collected) -> Result<(), UploadError> {
    let Collected { key, shares } = collected;
    info!("the recovery key is complete: the sealed state is opened");
    match writer.recover(key, Box::new(move |ledger| check_signatures(ledger, &shares))).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let reason = report::with_hint(&error, error.hint());
            error!(reason, "recovery failed: the state is as before and all recovery secrets are needed again");
            Err(error.into())
        }
    }
}

/// What the untrusted disk said of the parties was a hint; their keys are in the state.
fn check_signatures(ledger: &Ledger, shares: &SignedShares) -> Result<(), SignatureError> {
    let snapshot = ledger.snapshot();
    // A state without manifest has no parties.
    let manifest = snapshot.deployment().map(|deployment| Arc::clone(&deployment.manifest)).unwrap_or_default();
    shares.verify(&manifest)
}

#[cfg(test)]
mod tests;
