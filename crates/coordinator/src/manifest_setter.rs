//! Setting the first manifest, for the client API and for the start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use marblerun_coordinator_core::ledger::{Command, Refusal};
use marblerun_coordinator_core::recovery::{MAX_SHARES, RecoverySecrets, Scheme};
use marblerun_coordinator_core::set_manifest::{PreparedManifest, SetManifestError, prepare};
use marblerun_sealing::{
    MAX_RECOVERY_SHARES, ManifestFingerprint, RecoveryRecipient, RecoveryScheme, RecoveryShare, SealError, SealMode,
    SealPolicy,
};
use marblerun_storage::{CommitOptions, RecipientChange};
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::clock::now;
use crate::quoter::Quoter;
use crate::report;
use crate::view::SharedView;
use crate::writer::{WriteError, WriterHandle};

/// Manifests at work: decoding a large one and generating its keys may take seconds of processor time.
const MAX_IN_FLIGHT: usize = 1;

/// Why a manifest is not set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetError {
    /// The manifest is refused.
    #[error(transparent)]
    Refused(RefusedManifest),
    /// The recovery secrets do not fit the format of the state, which would be a defect of this program.
    #[error("recovery secrets cannot be stored")]
    Recovery(#[from] SealError),
    /// The state or the storage does not allow it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The work did not end.
    #[error("setting the manifest was interrupted")]
    Interrupted,
}

impl SetError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => refused.hint.as_deref(),
            Self::Write(error) => error.hint(),
            Self::Recovery(_) | Self::Interrupted => None,
        }
    }
}

impl From<SetManifestError> for SetError {
    fn from(source: SetManifestError) -> Self {
        Self::Refused(RefusedManifest { hint: source.hint(), error: source })
    }
}

/// A refused manifest with the advice for its author, which is made for each error.
#[derive(Debug)]
pub struct RefusedManifest {
    error: SetManifestError,
    hint: Option<String>,
}

impl fmt::Display for RefusedManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for RefusedManifest {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Sets the first manifest.
pub struct ManifestSetter {
    view: SharedView,
    writer: WriterHandle,
    quoter: Arc<Quoter>,
    places: Arc<Semaphore>,
}

impl ManifestSetter {
    /// A setter for the state behind `view`.
    pub fn new(view: SharedView, writer: WriterHandle, quoter: Arc<Quoter>) -> Self {
        Self { view, writer, quoter, places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// Checks and sets `raw`; returns when it is durable, with each recovery party's encrypted share.
    ///
    /// # Errors
    ///
    /// See [`SetError`]; nothing was changed.
    pub async fn set(&self, raw: Vec<u8>) -> Result<BTreeMap<String, Vec<u8>>, SetError> {
        self.set_then(raw, || ()).await
    }

    /// [`ManifestSetter::set`], and `then` runs once the manifest is set, also if the caller has gone away meanwhile.
    ///
    /// # Errors
    ///
    /// See [`SetError`]; nothing was changed.
    pub async fn set_then(
        &self,
        raw: Vec<u8>,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<BTreeMap<String, Vec<u8>>, SetError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| SetError::Interrupted)?;
        let view = self.view.load();
        if view.snapshot.deployment().is_some() {
            return Err(WriteError::Refused(Arc::new(Refusal::ManifestAlreadySet)).into());
        }
        // The place goes with the work: a caller that hangs up does not stop it, and must not make room for more.
        let work = move || (prepare(&view.snapshot.identity, &raw, now()), place);
        let (prepared, place) = tokio::task::spawn_blocking(work).await.map_err(|_| SetError::Interrupted)?;
        let PreparedManifest { record, seal_mode, recovery, warnings } = prepared?;
        for warning in &warnings {
            warn!("manifest: {}", report::one_line(warning.to_string()));
        }
        let fingerprint = marblerun_manifest::fingerprint(&record.raw);
        let mode = sealed(seal_mode);
        let (recipient, encrypted) = recovery.map(recipient).transpose()?.unzip();
        if recipient.is_some() && mode == SealMode::Disabled {
            warn!("manifest: with SealMode Disabled nothing is stored, so the recovery secrets will open nothing");
        }
        let (writer, quoter) = (self.writer.clone(), Arc::clone(&self.quoter));
        // A task of its own: a client that goes away now must not leave the manifest without the quote that names it.
        let commit = tokio::spawn(async move {
            // Once this returns, the state opens with the shares that the answer gives out.
            let command = Command::SetManifest(Box::new(record));
            let recovery = RecipientChange::to(recipient, sealed_fingerprint(&fingerprint));
            writer.submit_with(command, CommitOptions { mode, recovery }).await?;
            info!(fingerprint, seal_mode = seal_mode.as_str(), "manifest set");
            then();
            let renewed = tokio::task::spawn_blocking(move || quoter.renew_or_warn()).await;
            drop(place);
            renewed.map_err(|_| SetError::Interrupted)
        });
        commit.await.map_err(|_| SetError::Interrupted)??;
        Ok(encrypted.unwrap_or_default())
    }
}

const _: () = assert!(MAX_SHARES == MAX_RECOVERY_SHARES, "every set of shares that is made can be stored");

/// Whom the state is wrapped for, and what each party gets.
pub(crate) fn recipient(secrets: RecoverySecrets) -> Result<(RecoveryRecipient, BTreeMap<String, Vec<u8>>), SealError> {
    let RecoverySecrets { key, scheme, shares, encrypted } = secrets;
    let scheme = match scheme {
        Scheme::Single => RecoveryScheme::Single,
        Scheme::AllOf { .. } => RecoveryScheme::AllOf,
        Scheme::Threshold { threshold, .. } => RecoveryScheme::Threshold { threshold },
    };
    let shares = shares.into_iter().map(|share| RecoveryShare { public_key: share.public_key, share_hash: share.hash });
    Ok((RecoveryRecipient::new(key, scheme, shares.collect())?, encrypted))
}

/// The seal mode as the storage knows it.
pub(crate) fn sealed(mode: marblerun_manifest::SealMode) -> SealMode {
    match mode {
        marblerun_manifest::SealMode::ProductKey => SealMode::Sealed(SealPolicy::ProductKey),
        marblerun_manifest::SealMode::UniqueKey => SealMode::Sealed(SealPolicy::UniqueKey),
        marblerun_manifest::SealMode::Disabled => SealMode::Disabled,
    }
}

/// A manifest's fingerprint as the storage knows it.
pub(crate) fn sealed_fingerprint(fingerprint: &str) -> ManifestFingerprint {
    let mut bytes = [0; ManifestFingerprint::LEN];
    hex::decode_to_slice(fingerprint, &mut bytes).expect("`marblerun_manifest::fingerprint` gives 64 digits");
    ManifestFingerprint::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use marblerun_coordinator_core::ledger::Ledger;
    use marblerun_coordinator_core::record::{Genesis, Record};
    use marblerun_pki::AltNames;
    use marblerun_storage::{Opened, open_directory};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::seal_keys::TeeSealKeys;
    use crate::tls::Listeners;
    use crate::trust::Trust;
    use crate::writer::{self, Backing};

    const MANIFEST: &[u8] = br#"{"Packages":{"p":{"SignerID":"00","ProductID":1,"SecurityVersion":1}},
        "Marbles":{"m":{"Package":"p"}}}"#;

    fn setter(directory: &Path) -> Arc<ManifestSetter> {
        let trust = Arc::new(Trust::Simulation);
        let tee = Arc::new(marblerun_tee::detect(Some("1")).unwrap());
        let keys = Arc::new(TeeSealKeys(Arc::clone(&tee)));
        let Opened::New(new) = open_directory(directory, keys, trust.context()).unwrap() else {
            panic!("expected an empty directory")
        };
        let genesis = Genesis::create(&AltNames::from_list("localhost"), now()).unwrap();
        let ledger = Ledger::new(&genesis).unwrap();
        let log = new.create(SealMode::default(), &[Record::Genesis(genesis).encode().expose()]).unwrap();
        let backing = Backing::Log(log);
        let view = SharedView::new(writer::view(&ledger, &backing));
        let writer = writer::start(ledger, backing, view.clone(), Listeners::new().unwrap()).unwrap();
        let quoter = Arc::new(Quoter::new(tee, trust, view.clone()).unwrap());
        Arc::new(ManifestSetter::new(view, writer, quoter))
    }

    /// One thread for blocking work: what is given to it runs in order.
    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap()
    }

    /// Keeps the thread for blocking work busy until the sender is used.
    fn occupy() -> mpsc::Sender<()> {
        let (free, held) = mpsc::channel();
        tokio::task::spawn_blocking(move || held.recv());
        free
    }

    #[test]
    fn a_client_that_goes_away_keeps_its_place_until_its_manifest_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let setter = setter(directory.path());
        runtime().block_on(async {
            let free = occupy();
            let task = tokio::spawn({
                let setter = Arc::clone(&setter);
                async move { setter.set(MANIFEST.to_vec()).await }
            });
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(setter.places.available_permits(), 0);
            free.send(()).unwrap();
            drop(setter.places.acquire().await.unwrap());
            assert!(setter.view.load().snapshot.deployment().is_none(), "nobody would have the recovery secrets");
        });
    }

    #[test]
    fn a_client_that_goes_away_does_not_leave_a_manifest_without_its_quote_and_audit() {
        let directory = tempfile::tempdir().unwrap();
        let setter = setter(directory.path());
        runtime().block_on(async {
            let (then, told) = mpsc::channel();
            let task = tokio::spawn({
                let setter = Arc::clone(&setter);
                async move { setter.set_then(MANIFEST.to_vec(), move || then.send(()).unwrap()).await }
            });
            tokio::task::yield_now().await;
            // The check is at work; the quote waits behind this until the client is gone.
            let free = occupy();
            while setter.view.load().snapshot.deployment().is_none() {
                tokio::task::yield_now().await;
            }
            task.abort();
            free.send(()).unwrap();
            let fingerprint = marblerun_manifest::fingerprint(MANIFEST);
            let renewed = async {
                while !setter.quoter.answer(&[]).unwrap().statement.as_ref().unwrap().contains(&fingerprint) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), renewed).await.unwrap();
            told.try_recv().expect("what was to follow is not left out");
        });
    }
}
