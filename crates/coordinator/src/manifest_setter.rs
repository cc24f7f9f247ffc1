//! Setting the first manifest, for the client API and for the start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use marblerun_coordinator_core::ledger::Refusal;
use marblerun_coordinator_core::recovery::{MAX_SHARES, RecoverySecrets, Scheme};
use marblerun_coordinator_core::set_manifest::{PreparedManifest, SetManifestError, prepare};
use marblerun_sealing::{
    MAX_RECOVERY_SHARES, RecoveryRecipient, RecoveryScheme, RecoveryShare, SealError, SealMode, SealPolicy,
};
use marblerun_storage::CommitOptions;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::clock::now;
use crate::quoter::Quoter;
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
    places: Semaphore,
}

impl ManifestSetter {
    /// A setter for the state behind `view`.
    pub fn new(view: SharedView, writer: WriterHandle, quoter: Arc<Quoter>) -> Self {
        Self { view, writer, quoter, places: Semaphore::new(MAX_IN_FLIGHT) }
    }

    /// Checks and sets `raw`; returns when it is durable, with each recovery party's encrypted share.
    ///
    /// # Errors
    ///
    /// See [`SetError`]; nothing was changed.
    pub async fn set(&self, raw: Vec<u8>) -> Result<BTreeMap<String, Vec<u8>>, SetError> {
        let _place = self.places.acquire().await.map_err(|_| SetError::Interrupted)?;
        let view = self.view.load();
        if view.snapshot.deployment().is_some() {
            return Err(WriteError::Refused(Arc::new(Refusal::ManifestAlreadySet)).into());
        }
        let work = move || prepare(&view.snapshot.identity, &raw, now());
        let prepared = tokio::task::spawn_blocking(work).await.map_err(|_| SetError::Interrupted)??;
        let PreparedManifest { record, seal_mode, recovery, warnings } = prepared;
        for warning in &warnings {
            warn!("manifest: {warning}");
        }
        let fingerprint = marblerun_manifest::fingerprint(&record.raw);
        let mode = sealed(seal_mode);
        let (recipient, encrypted) = recovery.map(recipient).transpose()?.unzip();
        if recipient.is_some() && mode == SealMode::Disabled {
            warn!("manifest: with SealMode Disabled nothing is stored, so the recovery secrets will open nothing");
        }
        // Once this returns, the state opens with the shares that the answer gives out.
        self.writer.set_manifest(record, CommitOptions { mode, recovery: recipient }).await?;
        info!(fingerprint, seal_mode = seal_mode.as_str(), "manifest set");

        let quoter = Arc::clone(&self.quoter);
        tokio::task::spawn_blocking(move || quoter.renew_or_warn()).await.map_err(|_| SetError::Interrupted)?;
        Ok(encrypted.unwrap_or_default())
    }
}

const _: () = assert!(MAX_SHARES == MAX_RECOVERY_SHARES, "every set of shares that is made can be stored");

/// Whom the state is wrapped for, and what each party gets.
fn recipient(secrets: RecoverySecrets) -> Result<(RecoveryRecipient, BTreeMap<String, Vec<u8>>), SealError> {
    let RecoverySecrets { key, scheme, shares, encrypted } = secrets;
    let scheme = match scheme {
        Scheme::Single => RecoveryScheme::Single,
        Scheme::AllOf { .. } => RecoveryScheme::AllOf,
        Scheme::Threshold { threshold, .. } => RecoveryScheme::Threshold { threshold },
    };
    let shares =
        shares.iter().map(|hashes| RecoveryShare { public_key_hash: hashes.public_key, share_hash: hashes.share });
    Ok((RecoveryRecipient::new(key, scheme, shares.collect())?, encrypted))
}

fn sealed(mode: marblerun_manifest::SealMode) -> SealMode {
    match mode {
        marblerun_manifest::SealMode::ProductKey => SealMode::Sealed(SealPolicy::ProductKey),
        marblerun_manifest::SealMode::UniqueKey => SealMode::Sealed(SealPolicy::UniqueKey),
        marblerun_manifest::SealMode::Disabled => SealMode::Disabled,
    }
}
