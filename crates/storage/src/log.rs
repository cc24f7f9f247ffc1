//! The handle through which the Coordinator reads and writes its state.

use std::fmt;
use std::sync::Arc;

use marblerun_sealing::{
    Batch, ClaimedHead, DeploymentId, EpochKey, Fault, HeadInfo, LogWriter, ManifestFingerprint, RecoveryChange,
    RecoveryFile, RecoveryRecipient, SealError, SealKeys, SealMode, SealPolicy, TornTail, TrustContext, VerifiedLog,
    WrappedForRecovery, open_log, open_log_with_recovery,
};
use marblerun_secret::SecretBytes;

use crate::error::{CommitError, OpenError, RecoverError, StoreError};
use crate::store::{RecordStore, Settled, Stored};

/// What a store turned out to hold.
#[derive(Debug)]
pub enum Opened {
    /// Nothing: a first start.
    New(NewDeployment),
    /// A proven state.
    Existing(Existing),
    /// A state that does not open. Nothing was changed.
    Recovery(Recovery),
}

/// A proven state.
#[derive(Debug)]
pub struct Existing {
    /// The payloads of all commits, oldest first.
    pub records: Vec<SecretBytes>,
    /// The log, ready for the next commit.
    pub log: SealedLog,
    /// What opening noticed; to be logged.
    pub report: OpenReport,
}

/// What opening noticed and repaired. All of it can be the trace of a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Records behind the head, kept: a commit that was durable but not confirmed.
    pub unconfirmed: u64,
    /// Bytes of an incomplete commit that were cut off.
    pub torn_tail: Option<TornTail>,
    /// One of the two copies of the head was damaged and written anew.
    pub damaged_head: bool,
    /// A change of the seal mode was interrupted and has been undone or finished.
    pub rewrapped: bool,
    /// `sealed_recovery` was not what the log holds and was written anew or removed: a crash, or the host changed it.
    pub recovery_rewritten: bool,
    /// False where the file system cannot lock out other processes.
    pub exclusive: bool,
}

/// Opens what `store` holds.
///
/// # Errors
/// If the store fails. State that is damaged or does not belong here is not an error but [`Opened::Recovery`].
pub fn open(
    mut store: Box<dyn RecordStore>,
    keys: Arc<dyn SealKeys>,
    trust: TrustContext,
) -> Result<Opened, OpenError> {
    let stored = store.load()?;
    let claimed = match &stored {
        Stored::WithoutKey { log, .. } | Stored::Complete { log, .. } => ClaimedHead::newest(&log.heads),
        Stored::WithoutData | Stored::OnlyRecovery | Stored::Nothing => None,
    };
    let mut origin = Origin { store, keys, trust };
    let (fault, recipient) = match stored {
        Stored::Nothing => return Ok(Opened::New(NewDeployment::on(origin)?)),
        Stored::WithoutKey { recovery, .. } => (Fault::KeyMissing, recipient(recovery.as_deref(), &origin.trust)),
        // Whoever holds shares should know before they are given that they open nothing.
        Stored::WithoutData => (Fault::DataMissing, Err(Fault::DataMissing)),
        Stored::OnlyRecovery => (Fault::OnlyRecovery, Err(Fault::OnlyRecovery)),
        Stored::Complete { log, recovery } => match open_log(&log, &*origin.keys, &origin.trust) {
            Ok(verified) => {
                let settled = settle(&mut origin, verified, recovery.as_deref())?;
                return Ok(Opened::Existing(settled.into_existing(origin)));
            }
            Err(fault) => (fault, recipient(recovery.as_deref(), &origin.trust)),
        },
    };
    let recipient = recipient.map(Box::new);
    // What is said of another deployment is not said of this one.
    let of_this =
        recipient.as_ref().ok().filter(|file| claimed.is_some_and(|head| head.deployment == file.deployment()));
    let claimed_manifest = of_this.map(|file| file.claimed_manifest());
    Ok(Opened::Recovery(Recovery { fault, recipient, claimed, claimed_manifest, origin }))
}

/// What a stored wrap for the recovery recipient says about itself.
fn recipient(stored: Option<&[u8]>, trust: &TrustContext) -> Result<WrappedForRecovery, Fault> {
    let wrapped = WrappedForRecovery::parse(stored.ok_or(Fault::RecoveryMissing)?)?;
    wrapped.check_trust(trust)?;
    Ok(wrapped)
}

/// A state that is proven and repaired.
struct SettledState {
    records: Vec<SecretBytes>,
    writer: LogWriter,
    report: OpenReport,
}

impl SettledState {
    fn into_existing(self, origin: Origin) -> Existing {
        let Self { records, writer, report } = self;
        Existing { records, log: SealedLog { origin, writer, condition: Condition::Open }, report }
    }
}

/// Repairs what a crash left behind, and only then hands the records out.
fn settle(
    origin: &mut Origin,
    verified: VerifiedLog,
    stored_recovery: Option<&[u8]>,
) -> Result<SettledState, OpenError> {
    let VerifiedLog { records, writer, newest_head, damaged_head, unconfirmed, torn_tail, wrapped_under, recovery } =
        verified;
    let head = writer.encode_head();
    let head = (unconfirmed > 0 || damaged_head.is_some()).then_some(&head);
    origin.store.settle(Settled { log_bytes: writer.log_bytes(), newest_head, head })?;

    // The log decides: a stricter wrap was prepared for a commit that never became durable, or a laxer one was due.
    let rewrapped = wrapped_under != Some(writer.policy());
    if rewrapped {
        let wrapped = writer.epoch_key().wrap(&*origin.keys, writer.policy(), &origin.trust)?;
        origin.store.replace_keys(&wrapped)?;
    }
    // The log holds a copy, so that a file that was lost, changed or exchanged costs nothing.
    let recovery_rewritten = recovery.as_deref() != stored_recovery;
    if recovery_rewritten {
        match recovery {
            Some(file) => {
                origin.store.stage_recovery(&file)?;
                origin.store.publish_recovery()?;
            }
            None => origin.store.remove_recovery()?,
        }
    }
    let report = OpenReport {
        unconfirmed,
        torn_tail,
        damaged_head: damaged_head.is_some(),
        rewrapped,
        recovery_rewritten,
        exclusive: origin.store.is_exclusive(),
    };
    Ok(SettledState { records, writer, report })
}

/// What takes effect with the records of one commit: what a manifest says about its own state.
///
/// A [`SealMode`] alone converts into options without a recovery recipient.
#[derive(Debug, Default)]
pub struct CommitOptions {
    /// The manifest's `SealMode`.
    pub mode: SealMode,
    /// Who can open the state without the TEE's key from now on.
    ///
    /// [`SealMode::Disabled`] stores nothing, and so nothing for a recipient either.
    pub recovery: RecipientChange,
}

/// Who can open a state without the TEE's key after a commit.
#[derive(Debug, Default)]
pub enum RecipientChange {
    /// Who could before, if somebody could.
    Keep {
        /// The manifest that is in force from now on.
        manifest: ManifestFingerprint,
    },
    /// This recipient, and no former one.
    Set {
        /// The recipient.
        recipient: RecoveryRecipient,
        /// The manifest that is in force from now on.
        manifest: ManifestFingerprint,
    },
    /// Nobody any more.
    #[default]
    Remove,
}

impl RecipientChange {
    /// `recipient` and no former one, or nobody; `manifest` is in force from now on.
    pub fn to(recipient: Option<RecoveryRecipient>, manifest: ManifestFingerprint) -> Self {
        recipient.map_or(Self::Remove, |recipient| Self::Set { recipient, manifest })
    }
}

impl From<SealMode> for CommitOptions {
    fn from(mode: SealMode) -> Self {
        Self { mode, recovery: RecipientChange::Remove }
    }
}

impl CommitOptions {
    fn recovery_change<'a>(&'a self, trust: &'a TrustContext) -> RecoveryChange<'a> {
        match &self.recovery {
            RecipientChange::Keep { manifest } => RecoveryChange::KeepUnder(*manifest),
            RecipientChange::Set { recipient, manifest } => {
                RecoveryChange::Set { recipient, trust, manifest: *manifest }
            }
            RecipientChange::Remove => RecoveryChange::Remove,
        }
    }
}

/// Where a log is stored, and what protects it.
struct Origin {
    store: Box<dyn RecordStore>,
    keys: Arc<dyn SealKeys>,
    trust: TrustContext,
}

/// An empty store, with the identifier that the new deployment will have.
pub struct NewDeployment {
    origin: Origin,
    epoch_key: EpochKey,
}

impl NewDeployment {
    fn on(origin: Origin) -> Result<Self, SealError> {
        Ok(Self { origin, epoch_key: EpochKey::generate(DeploymentId::generate()?)? })
    }

    /// The identifier, so that the first records can contain it.
    pub fn deployment_id(&self) -> DeploymentId {
        self.epoch_key.deployment()
    }

    /// Makes the deployment durable with its first records; returns when it is.
    ///
    /// With [`SealMode::Disabled`] nothing is written, now or later.
    ///
    /// # Errors
    /// [`CommitError::Seal`] before anything is written, [`CommitError::Create`] if the store failed.
    pub fn create(self, options: impl Into<CommitOptions>, payloads: &[&[u8]]) -> Result<SealedLog, CommitError> {
        let Self { mut origin, epoch_key } = self;
        let options = options.into();
        let (policy, condition) = match options.mode {
            SealMode::Sealed(policy) => (policy, Condition::Open),
            SealMode::Disabled => (SealPolicy::UniqueKey, Condition::Disabled),
        };
        let mut writer = LogWriter::new(epoch_key, policy)?;
        let batch = writer.prepare_with(payloads, policy, options.recovery_change(&origin.trust))?;
        if condition == Condition::Open {
            let wrapped = writer.epoch_key().wrap(&*origin.keys, policy, &origin.trust)?;
            let header = writer.header().encode();
            origin.store.create(&wrapped, &header, batch.frames(), batch.head()).map_err(CommitError::Create)?;
            // A crash in between is repaired at the next start: the log holds the file.
            if let RecoveryFile::Written(file) = batch.recovery() {
                origin.store.stage_recovery(file).map_err(CommitError::Create)?;
                origin.store.publish_recovery().map_err(CommitError::Create)?;
            }
        }
        writer.confirm(batch);
        Ok(SealedLog { origin, writer, condition })
    }
}

impl fmt::Debug for NewDeployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewDeployment {{ deployment: {} }}", self.deployment_id())
    }
}

/// A state that does not open, untouched.
pub struct Recovery {
    fault: Fault,
    recipient: Result<Box<WrappedForRecovery>, Fault>,
    claimed: Option<ClaimedHead>,
    claimed_manifest: Option<ManifestFingerprint>,
    origin: Origin,
}

impl Recovery {
    /// Why it does not open.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Whose shares make the key that opens the state, as `sealed_recovery` says; proven only by [`Recovery::prove`].
    ///
    /// # Errors
    /// Why no shares can open it: the file is missing, damaged or of another trust class, or there is nothing to open.
    pub fn recipient(&self) -> Result<&WrappedForRecovery, &Fault> {
        self.recipient.as_deref()
    }

    /// Where the log said that it ends when it was found; proven only by [`Recovery::prove`], which refuses an older end.
    pub fn claimed_head(&self) -> Option<&ClaimedHead> {
        self.claimed.as_ref()
    }

    /// The manifest that `sealed_recovery` claimed to be in force when it was found; `None` if it is unusable or of another
    /// deployment than the claimed head. Proven only by [`Recovery::prove`]; where that refuses another manifest than this,
    /// it leaves here the one that the log holds.
    pub fn claimed_manifest(&self) -> Option<ManifestFingerprint> {
        self.claimed_manifest
    }

    /// Opens the state with the key that the recovery shares make. Nothing is written.
    ///
    /// # Errors
    /// [`NotRecovered`] gives the recovery back, so that another key can be tried.
    pub fn prove(mut self, recovery_key: &SecretBytes) -> Result<Proven, Box<NotRecovered>> {
        let (verified, file) = match prove(&mut self.origin, recovery_key, self.claimed.as_ref()) {
            Ok(proven) => proven,
            Err(error) => return Err(Box::new(NotRecovered { recovery: self, error })),
        };
        // The log's own copy; that there is one is proven with the key.
        let recorded = verified.recovery.as_deref().ok_or(Fault::RecoverySuperseded);
        let manifest = match recorded.and_then(WrappedForRecovery::parse) {
            Ok(recorded) => recorded.claimed_manifest(),
            Err(fault) => return Err(Box::new(NotRecovered { recovery: self, error: RecoverError::Refused(fault) })),
        };
        // The parties gave their secrets for the manifest that they were told.
        match self.claimed_manifest.replace(manifest) {
            Some(claimed) if claimed != manifest => {
                let fault = Fault::RecoveryManifestOutdated { claimed, log: manifest };
                Err(Box::new(NotRecovered { recovery: self, error: RecoverError::Refused(fault) }))
            }
            _ => Ok(Proven { recovery: self, verified, manifest, file }),
        }
    }

    /// [`Recovery::prove`], then [`Proven::restore`].
    ///
    /// # Errors
    /// [`NotRecovered`] gives the recovery back, so that another key can be tried. If the key or the state is refused,
    /// nothing was changed.
    pub fn open_with(self, recovery_key: &SecretBytes) -> Result<Existing, Box<NotRecovered>> {
        self.prove(recovery_key)?.restore()
    }

    /// Moves the state aside (`replaced-<n>`) and returns an empty store and where the old files are.
    ///
    /// This gives the caller no more than deleting the directory would.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn replace(self) -> Result<(NewDeployment, String), OpenError> {
        let Self { mut origin, .. } = self;
        let kept = origin.store.set_aside()?;
        Ok((NewDeployment::on(origin)?, kept))
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recovery {{ fault: {:?} }}", self.fault)
    }
}

/// A state that a recovery key did not open.
#[derive(Debug)]
pub struct NotRecovered {
    /// The state.
    pub recovery: Recovery,
    /// Why.
    pub error: RecoverError,
}

fn prove(
    origin: &mut Origin,
    recovery_key: &SecretBytes,
    claimed: Option<&ClaimedHead>,
) -> Result<(VerifiedLog, Vec<u8>), RecoverError> {
    let (log, recovery) = match origin.store.load().map_err(OpenError::from)? {
        Stored::WithoutKey { log, recovery } | Stored::Complete { log, recovery } => (log, recovery),
        Stored::WithoutData | Stored::OnlyRecovery | Stored::Nothing => {
            return Err(RecoverError::Refused(Fault::DataMissing));
        }
    };
    let recovery = recovery.ok_or(RecoverError::Refused(Fault::RecoveryMissing))?;
    let verified =
        open_log_with_recovery(&log, &recovery, recovery_key, &origin.trust).map_err(RecoverError::Refused)?;
    // The parties gave their secrets for the state that was there at the start.
    let opened = verified.writer.head();
    if let Some(ClaimedHead { head, .. }) = claimed
        && (opened.epoch, opened.sequence) < (head.epoch, head.sequence)
    {
        let (claimed, opened) = (head.sequence, opened.sequence);
        return Err(RecoverError::Refused(Fault::WentBack { claimed, opened }));
    }
    Ok((verified, recovery))
}

/// A state that a recovery key opened, untouched: whoever gave the key may still be refused.
pub struct Proven {
    recovery: Recovery,
    verified: VerifiedLog,
    manifest: ManifestFingerprint,
    /// `sealed_recovery` as it is stored.
    file: Vec<u8>,
}

impl Proven {
    /// The payloads of all commits, oldest first.
    pub fn records(&self) -> &[SecretBytes] {
        &self.verified.records
    }

    /// The manifest in force, as the log's copy of `sealed_recovery` says. Whoever understands the records has to compare it with the manifest in them.
    pub fn manifest(&self) -> ManifestFingerprint {
        self.manifest
    }

    /// Wraps the state's key for this TEE and repairs what a crash left behind, so that the next start opens the state.
    ///
    /// A crash in between leaves a state that still needs the recovery key, or one that opens.
    ///
    /// # Errors
    /// [`NotRecovered`] gives the recovery back; what was written then has not changed the state.
    pub fn restore(self) -> Result<Existing, Box<NotRecovered>> {
        let Self { mut recovery, verified, file, .. } = self;
        match settle(&mut recovery.origin, verified, Some(&file)) {
            Ok(settled) => Ok(settled.into_existing(recovery.origin)),
            Err(error) => Err(Box::new(NotRecovered { recovery, error: error.into() })),
        }
    }

    /// Leaves the state as it is, to be tried again.
    pub fn refuse(self) -> Recovery {
        self.recovery
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proven {{ deployment: {}, .. }}", self.verified.writer.deployment())
    }
}

/// The sealed log of one deployment.
///
/// One owner writes. After an error with [`CommitError::is_fatal`] the log is closed: drop it, open the store again
/// and rebuild memory from what is stored, so that memory and storage never differ.
pub struct SealedLog {
    origin: Origin,
    writer: LogWriter,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Open,
    /// The records go nowhere, by the manifest's wish.
    Disabled,
    /// An error left it unknown what is stored.
    Closed,
}

impl SealedLog {
    /// Seals one record per payload and returns when all are durable, after one flush for all of them.
    ///
    /// A crash before that may leave the first few of them. Without payloads nothing is written.
    ///
    /// # Errors
    /// See [`CommitError`] for what is stored then.
    pub fn commit(&mut self, payloads: &[&[u8]]) -> Result<HeadInfo, CommitError> {
        self.commit_in(self.writer.policy(), None, payloads)
    }

    /// Like [`SealedLog::commit`], and `options` take effect with these very records, which hold a manifest.
    ///
    /// A recovery recipient can open the state once this returns; a change of it needs a payload. [`SealMode::Disabled`] removes everything that was stored; from then on records exist in memory only.
    ///
    /// # Errors
    /// See [`CommitError`]; [`CommitError::Disabled`] if the log was disabled before and `options.mode` is not.
    pub fn commit_with(
        &mut self,
        options: impl Into<CommitOptions>,
        payloads: &[&[u8]],
    ) -> Result<HeadInfo, CommitError> {
        let options = options.into();
        match (options.mode, self.condition) {
            (SealMode::Sealed(_), Condition::Disabled) => Err(CommitError::Disabled),
            (SealMode::Sealed(policy), _) => self.commit_in(policy, Some(&options), payloads),
            (SealMode::Disabled, Condition::Open) => self.disable(payloads),
            (SealMode::Disabled, _) => self.commit(payloads),
        }
    }

    /// The newest acknowledged record.
    pub fn head(&self) -> HeadInfo {
        self.writer.head()
    }

    /// The deployment.
    pub fn deployment_id(&self) -> DeploymentId {
        self.writer.deployment()
    }

    /// Length in bytes of all records that are stored; the next start reads them. 0 if nothing is stored.
    pub fn stored_bytes(&self) -> u64 {
        match self.condition {
            Condition::Disabled => 0,
            Condition::Open | Condition::Closed => self.writer.log_bytes(),
        }
    }

    /// The mode in force.
    pub fn mode(&self) -> SealMode {
        match self.condition {
            Condition::Disabled => SealMode::Disabled,
            Condition::Open | Condition::Closed => SealMode::Sealed(self.writer.policy()),
        }
    }

    fn commit_in(
        &mut self,
        policy: SealPolicy,
        options: Option<&CommitOptions>,
        payloads: &[&[u8]],
    ) -> Result<HeadInfo, CommitError> {
        if self.condition == Condition::Closed {
            return Err(CommitError::Closed);
        }
        let before = self.writer.policy();
        let change = match options {
            Some(options) => options.recovery_change(&self.origin.trust),
            None => RecoveryChange::Keep,
        };
        let same_recovery = !self.writer.is_changed_by(change)?;
        if payloads.is_empty() && policy == before && same_recovery {
            return Ok(self.head());
        }
        let batch = self.writer.prepare_with(payloads, policy, change)?;
        if self.condition == Condition::Disabled {
            return Ok(self.writer.confirm(batch));
        }
        if same_recovery {
            return self.append_in(policy, batch);
        }
        // Durable before the records, so that a full disk refuses the commit as a whole; in force after them, so that
        // the former shares stay good until the manifest that replaces them is there.
        let is_staged = match batch.recovery() {
            RecoveryFile::Written(file) => {
                self.origin.store.stage_recovery(file).map_err(|error| self.refuse_or_close(error))?;
                true
            }
            RecoveryFile::Removed | RecoveryFile::Unchanged => false,
        };
        let head = self.append_in(policy, batch)?;
        let followed =
            if is_staged { self.origin.store.publish_recovery() } else { self.origin.store.remove_recovery() };
        followed.map_err(|error| self.close(error))?;
        Ok(head)
    }

    /// Appends `batch`, in which `policy` takes effect.
    fn append_in(&mut self, policy: SealPolicy, batch: Batch) -> Result<HeadInfo, CommitError> {
        let before = self.writer.policy();
        if policy == before {
            return self.append(batch);
        }
        // Wrapped before anything is written: the TEE may fail. At no time is the key on disk wrapped more laxly than
        // the newest durable record allows; opening sorts out what a crash in between leaves.
        let wrapped = self.writer.epoch_key().wrap(&*self.origin.keys, policy, &self.origin.trust)?;
        match policy {
            SealPolicy::UniqueKey => {
                let laxer = self.writer.epoch_key().wrap(&*self.origin.keys, before, &self.origin.trust)?;
                self.replace_keys(&wrapped)?;
                let result = self.append(batch);
                if matches!(result, Err(CommitError::Refused(_))) {
                    self.replace_keys(&laxer)?;
                }
                result
            }
            SealPolicy::ProductKey => {
                let head = self.append(batch)?;
                self.replace_keys(&wrapped)?;
                Ok(head)
            }
        }
    }

    fn append(&mut self, batch: Batch) -> Result<HeadInfo, CommitError> {
        match self.origin.store.append(batch.frames(), batch.head()) {
            Ok(()) => Ok(self.writer.confirm(batch)),
            Err(error) => Err(self.refuse_or_close(error)),
        }
    }

    fn refuse_or_close(&mut self, error: StoreError) -> CommitError {
        match error {
            StoreError::NothingWritten(_) => CommitError::Refused(error),
            _ => self.close(error),
        }
    }

    fn replace_keys(&mut self, wrapped: &[u8]) -> Result<(), CommitError> {
        self.origin.store.replace_keys(wrapped).map_err(|error| self.close(error))
    }

    fn disable(&mut self, payloads: &[&[u8]]) -> Result<HeadInfo, CommitError> {
        let batch = self.writer.prepare(payloads, self.writer.policy())?;
        self.origin.store.erase().map_err(|error| self.close(error))?;
        self.condition = Condition::Disabled;
        Ok(self.writer.confirm(batch))
    }

    fn close(&mut self, error: StoreError) -> CommitError {
        self.condition = Condition::Closed;
        CommitError::Unknown(error)
    }
}

impl fmt::Debug for SealedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedLog {{ writer: {:?}, condition: {:?} }}", self.writer, self.condition)
    }
}
