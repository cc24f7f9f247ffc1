//! Sealing new records onto the chain.

use std::fmt;

use crate::crypto::{self, Key};
use crate::fault::SealError;
use crate::frame::{self, Header, Kind, MAX_BATCH_BYTES};
use crate::head::{HEAD_LEN, Head, LogHeader};
use crate::identity::{DeploymentId, HeadInfo, ManifestFingerprint, RecordHash, SealPolicy, TrustContext};
use crate::keys::EpochKey;
use crate::recovery::RecoveryRecipient;

/// Records under one record key; then a new start record follows. Far below what AES-GCM permits with a counter.
pub const MAX_RECORDS_PER_START: u64 = 1 << 32;

/// The end of the chain, able to seal the next records.
///
/// [`LogWriter::prepare`] seals, the caller makes the bytes durable, [`LogWriter::confirm`] moves the chain's end. A
/// batch that is not confirmed takes its record key with it: what the host may have seen of it can never share a
/// nonce with what is sealed next, because that begins with a new start record.
pub struct LogWriter {
    epoch_key: EpochKey,
    head_key: Key,
    sequence: u64,
    hash: RecordHash,
    log_bytes: u64,
    policy: SealPolicy,
    /// Content of `sealed_recovery`, if a recovery recipient is in force.
    recovery: Option<Vec<u8>>,
    start: Option<Start>,
}

/// What records to be sealed do to the recovery recipient.
#[derive(Clone, Copy, Debug)]
pub enum RecoveryChange<'a> {
    /// It stays as it is.
    Keep,
    /// It stays who it is, if there is one; this manifest is in force from these records on.
    KeepUnder(ManifestFingerprint),
    /// There is none from these records on.
    Remove,
    /// The epoch key is wrapped for this one.
    Set {
        /// The recipient.
        recipient: &'a RecoveryRecipient,
        /// What the wrap is bound to.
        trust: &'a TrustContext,
        /// The manifest that is in force from these records on.
        manifest: ManifestFingerprint,
    },
}

/// What a batch does to `sealed_recovery`.
#[derive(Debug, PartialEq, Eq)]
pub enum RecoveryFile {
    /// It stays as it is.
    Unchanged,
    /// It has to go after the records are durable.
    Removed,
    /// Its new content, to be in place before the records are acknowledged.
    Written(Vec<u8>),
}

/// The record key of this process and its next nonce.
struct Start {
    sequence: u64,
    key: Key,
    counter: u64,
}

/// Sealed records that are not confirmed yet.
pub struct Batch {
    frames: Vec<u8>,
    sequence: u64,
    hash: RecordHash,
    log_bytes: u64,
    policy: SealPolicy,
    head: [u8; HEAD_LEN],
    recovery: RecoveryFile,
    start: Start,
}

impl Batch {
    /// The records, to be appended to the log.
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The head to be written after the records are durable.
    pub fn head(&self) -> &[u8; HEAD_LEN] {
        &self.head
    }

    /// What is to become of `sealed_recovery`.
    pub fn recovery(&self) -> &RecoveryFile {
        &self.recovery
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch {{ up to record {}, {} bytes }}", self.sequence, self.frames.len())
    }
}

impl LogWriter {
    /// The beginning of a new deployment's log.
    ///
    /// # Errors
    /// If the provider fails.
    pub fn new(epoch_key: EpochKey, policy: SealPolicy) -> Result<Self, SealError> {
        let hash = frame::genesis_hash(epoch_key.deployment());
        Self::at(epoch_key, policy, None, 0, hash, 0)
    }

    pub(crate) fn at(
        epoch_key: EpochKey,
        policy: SealPolicy,
        recovery: Option<Vec<u8>>,
        sequence: u64,
        hash: RecordHash,
        log_bytes: u64,
    ) -> Result<Self, SealError> {
        let head_key = epoch_key.head_key()?;
        Ok(Self { epoch_key, head_key, sequence, hash, log_bytes, policy, recovery, start: None })
    }

    /// The header of this log.
    pub fn header(&self) -> LogHeader {
        LogHeader { deployment: self.deployment() }
    }

    /// The deployment.
    pub fn deployment(&self) -> DeploymentId {
        self.epoch_key.deployment()
    }

    /// The data key, for wrapping it again.
    pub fn epoch_key(&self) -> &EpochKey {
        &self.epoch_key
    }

    /// The newest confirmed record.
    pub fn head(&self) -> HeadInfo {
        HeadInfo { epoch: self.epoch_key.epoch(), sequence: self.sequence, hash: self.hash }
    }

    /// The seal policy of the newest confirmed record.
    pub fn policy(&self) -> SealPolicy {
        self.policy
    }

    /// Length in bytes of all confirmed records.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The head of the newest confirmed record as bytes.
    pub fn encode_head(&self) -> [u8; HEAD_LEN] {
        self.head_at(self.sequence, self.hash, self.log_bytes)
    }

    /// Seals one record per payload; `policy` holds from these records on.
    ///
    /// # Errors
    /// If a limit is exceeded or the provider fails; the chain's end has not moved then.
    pub fn prepare(&mut self, payloads: &[&[u8]], policy: SealPolicy) -> Result<Batch, SealError> {
        self.prepare_with(payloads, policy, RecoveryChange::Keep)
    }

    /// Like [`LogWriter::prepare`], and `change` takes effect with the first of these very records: it has a record of
    /// its own directly before that, which means nothing alone.
    ///
    /// # Errors
    /// As [`LogWriter::prepare`]; [`SealError::RecoveryAlone`] for a change without payload.
    pub fn prepare_with(
        &mut self,
        payloads: &[&[u8]],
        policy: SealPolicy,
        change: RecoveryChange<'_>,
    ) -> Result<Batch, SealError> {
        let total = payloads.iter().fold(0_usize, |sum, payload| sum.saturating_add(payload.len()));
        if total > MAX_BATCH_BYTES {
            return Err(SealError::BatchTooLarge { max: MAX_BATCH_BYTES, got: total });
        }
        let is_changed = self.is_changed_by(change)?;
        if is_changed && payloads.is_empty() {
            return Err(SealError::RecoveryAlone);
        }
        let count = u64::try_from(payloads.len()).unwrap_or(u64::MAX).saturating_add(u64::from(is_changed));
        // What comes before the payloads is under the former policy: a crash may leave it without them.
        let before = if payloads.is_empty() { policy } else { self.policy };
        let mut chain = Chain { frames: Vec::new(), sequence: self.sequence, hash: self.hash, policy: before };
        // From here to `confirm` the key is the batch's: an error on the way drops it.
        let mut start = match self.start.take() {
            // Without payloads a start record carries the new policy.
            Some(start) if count > 0 && start.counter.saturating_add(count) <= MAX_RECORDS_PER_START => start,
            _ => chain.start(&self.epoch_key)?,
        };
        let recovery = self.recovery_file(change, chain.sequence)?;
        match &recovery {
            RecoveryFile::Unchanged => {}
            RecoveryFile::Removed => chain.push(&self.epoch_key, &mut start, Kind::Recovery, None, &[])?,
            RecoveryFile::Written(file) => chain.push(&self.epoch_key, &mut start, Kind::Recovery, None, file)?,
        }
        chain.policy = policy;
        for payload in payloads {
            chain.push(&self.epoch_key, &mut start, Kind::Data, None, payload)?;
        }
        let Chain { frames, sequence, hash, .. } = chain;
        let log_bytes = self.log_bytes + frames.len() as u64;
        let head = self.head_at(sequence, hash, log_bytes);
        Ok(Batch { frames, sequence, hash, log_bytes, policy, head, recovery, start })
    }

    /// Moves the chain's end to that of `batch`, which is durable now.
    pub fn confirm(&mut self, batch: Batch) -> HeadInfo {
        self.sequence = batch.sequence;
        self.hash = batch.hash;
        self.log_bytes = batch.log_bytes;
        self.policy = batch.policy;
        match batch.recovery {
            RecoveryFile::Unchanged => {}
            RecoveryFile::Removed => self.recovery = None,
            RecoveryFile::Written(file) => self.recovery = Some(file),
        }
        self.start = Some(batch.start);
        self.head()
    }

    /// True if `change` is one, and so needs a record.
    ///
    /// # Errors
    /// If the provider fails.
    pub fn is_changed_by(&self, change: RecoveryChange<'_>) -> Result<bool, SealError> {
        Ok(match change {
            RecoveryChange::Keep => false,
            RecoveryChange::KeepUnder(manifest) => self.recovery_under(manifest)? != RecoveryFile::Unchanged,
            RecoveryChange::Remove => self.recovery.is_some(),
            RecoveryChange::Set { .. } => true,
        })
    }

    /// `change` for a record that follows record `sequence`.
    fn recovery_file(&self, change: RecoveryChange<'_>, sequence: u64) -> Result<RecoveryFile, SealError> {
        Ok(match change {
            RecoveryChange::Remove if self.recovery.is_some() => RecoveryFile::Removed,
            RecoveryChange::Keep | RecoveryChange::Remove => RecoveryFile::Unchanged,
            RecoveryChange::KeepUnder(manifest) => self.recovery_under(manifest)?,
            RecoveryChange::Set { recipient, trust, manifest } => {
                let sequence = sequence.checked_add(1).ok_or(SealError::Exhausted)?;
                RecoveryFile::Written(self.epoch_key.wrap_for_recovery(recipient, trust, manifest, sequence)?)
            }
        })
    }

    /// The file of the recipient in force, with `manifest`.
    fn recovery_under(&self, manifest: ManifestFingerprint) -> Result<RecoveryFile, SealError> {
        let Some(before) = &self.recovery else { return Ok(RecoveryFile::Unchanged) };
        let file = self.epoch_key.wrap_for_same_recovery(before, manifest)?;
        Ok(if file == *before { RecoveryFile::Unchanged } else { RecoveryFile::Written(file) })
    }

    fn head_at(&self, sequence: u64, hash: RecordHash, log_bytes: u64) -> [u8; HEAD_LEN] {
        let (deployment, epoch) = (self.epoch_key.deployment(), self.epoch_key.epoch());
        Head { deployment, epoch, sequence, log_bytes, hash }.encode(&self.head_key)
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogWriter {{ deployment: {}, head: {:?} }}", self.deployment(), self.head())
    }
}

/// A chain's end while a batch grows.
struct Chain {
    frames: Vec<u8>,
    sequence: u64,
    hash: RecordHash,
    policy: SealPolicy,
}

impl Chain {
    fn start(&mut self, epoch_key: &EpochKey) -> Result<Start, SealError> {
        let salt: [u8; 32] = crypto::random()?;
        let sequence = self.sequence.checked_add(1).ok_or(SealError::Exhausted)?;
        let mut start = Start { sequence, key: epoch_key.record_key(&salt, sequence)?, counter: 0 };
        self.push(epoch_key, &mut start, Kind::Start, Some(salt), &[])?;
        Ok(start)
    }

    fn push(
        &mut self,
        epoch_key: &EpochKey,
        start: &mut Start,
        kind: Kind,
        salt: Option<[u8; 32]>,
        payload: &[u8],
    ) -> Result<(), SealError> {
        let sequence = self.sequence.checked_add(1).ok_or(SealError::Exhausted)?;
        let header = Header {
            kind,
            policy: self.policy,
            epoch: epoch_key.epoch(),
            sequence,
            counter: start.counter,
            start_sequence: start.sequence,
            predecessor: self.hash,
            salt,
        };
        start.counter += 1;
        self.hash = frame::append(&mut self.frames, &header, payload, &start.key, epoch_key.deployment())?;
        self.sequence = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use marblerun_secret::SecretBytes;

    use super::*;
    use crate::frame::record_nonces;
    use crate::{RecoveryScheme, RecoveryShare, TrustClass};

    fn writer() -> LogWriter {
        let epoch_key = EpochKey::generate(DeploymentId::from_bytes([1; 16])).unwrap();
        LogWriter::new(epoch_key, SealPolicy::ProductKey).unwrap()
    }

    fn prepare(writer: &mut LogWriter, payloads: &[&[u8]]) -> Batch {
        writer.prepare(payloads, SealPolicy::ProductKey).unwrap()
    }

    #[test]
    fn a_process_begins_with_a_start_record_and_counts_on() {
        let mut writer = writer();
        let first = prepare(&mut writer, &[b"a", b"b"]);
        let nonces = record_nonces(first.frames());
        assert!(nonces[0].start_salt.is_some());
        assert_eq!(nonces.iter().map(|nonce| nonce.counter).collect::<Vec<_>>(), [0, 1, 2]);
        writer.confirm(first);
        let second = record_nonces(prepare(&mut writer, &[b"c"]).frames());
        assert_eq!((second.len(), second[0].start_salt, second[0].counter), (1, None, 3));
    }

    #[test]
    fn a_batch_that_is_not_confirmed_takes_its_record_key_with_it() {
        let mut writer = writer();
        let first = prepare(&mut writer, &[b"a"]);
        writer.confirm(first);
        let head = writer.head();
        drop(prepare(&mut writer, &[b"b"]));
        assert_eq!(writer.head(), head);
        assert!(record_nonces(prepare(&mut writer, &[b"c"]).frames())[0].start_salt.is_some());
    }

    #[test]
    fn a_batch_that_fails_takes_the_record_key_with_it() {
        let mut writer = writer();
        let first = prepare(&mut writer, &[]);
        writer.confirm(first);
        let large = vec![0; crate::MAX_PAYLOAD_BYTES + 1];
        let error = writer.prepare(&[b"sealed already", &large], SealPolicy::ProductKey).unwrap_err();
        assert!(matches!(error, SealError::PayloadTooLarge { .. }));
        assert!(record_nonces(prepare(&mut writer, &[b"c"]).frames())[0].start_salt.is_some());
    }

    // rules: STA-2.12
    #[test]
    fn what_precedes_the_payload_is_under_the_former_seal_mode() {
        let mut writer = writer();
        let recipient = RecoveryRecipient::new(
            SecretBytes::new(vec![3; 32]),
            RecoveryScheme::Single,
            vec![RecoveryShare { public_key: vec![1; 32], share_hash: [2; 32] }],
        );
        let trust = TrustContext::new(TrustClass::Simulation, Vec::new());
        let manifest = ManifestFingerprint::from_bytes([3; 32]);
        let change = RecoveryChange::Set { recipient: &recipient.unwrap(), trust: &trust, manifest };
        let batch = writer.prepare_with(&[b"a", b"b"], SealPolicy::UniqueKey, change).unwrap();
        let mut frames = batch.frames();
        let mut found = Vec::new();
        while let Ok(frame) = frame::Frame::parse(frames) {
            found.push((frame.header.kind, frame.header.policy));
            frames = &frames[frame.bytes.len()..];
        }
        let (product, unique) = (SealPolicy::ProductKey, SealPolicy::UniqueKey);
        let expected = [(Kind::Start, product), (Kind::Recovery, product), (Kind::Data, unique), (Kind::Data, unique)];
        assert_eq!(found, expected);
        writer.confirm(batch);
        assert_eq!(writer.policy(), unique);
    }

    #[test]
    fn a_record_key_is_replaced_before_its_last_nonce() {
        let mut writer = writer();
        let first = prepare(&mut writer, &[]);
        writer.confirm(first);
        writer.start.as_mut().unwrap().counter = MAX_RECORDS_PER_START - 1;
        let batch = prepare(&mut writer, &[b"last"]);
        assert!(record_nonces(batch.frames())[0].start_salt.is_none());
        writer.confirm(batch);
        assert!(record_nonces(prepare(&mut writer, &[b"next"]).frames())[0].start_salt.is_some());
    }
}
