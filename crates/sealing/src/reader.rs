//! Proving a stored log from its first record to its head, and what lies behind the head.

use std::collections::HashMap;

use marblerun_secret::SecretBytes;

use crate::TrustContext;
use crate::crypto::Key;
use crate::fault::Fault;
use crate::frame::{self, Frame, FrameDefect, Kind};
use crate::head::{Head, LogHeader};
use crate::identity::{RecordHash, SealPolicy};
use crate::keys::{EpochKey, SealKeys, WrappedKeys};
use crate::recovery::{self, WrappedForRecovery};
use crate::writer::LogWriter;

/// The stored objects of one deployment, as the host gives them.
#[derive(Debug, Default)]
pub struct StoredLog {
    /// `sealed_key`.
    pub wrapped_keys: Vec<u8>,
    /// The block that begins with the log's header.
    pub header: Vec<u8>,
    /// The two blocks that hold copies of the head, written in turn.
    pub heads: [Vec<u8>; 2],
    /// Where these blocks lie, for messages.
    pub heads_at: [u64; 2],
    /// All records.
    pub frames: Vec<u8>,
    /// Where the records begin, for messages.
    pub frames_at: u64,
}

/// Bytes after the last complete record: a commit that a crash cut off before it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The record that would have come next.
    pub record: u64,
    /// Where the tail begins.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A log that is proven.
#[derive(Debug)]
pub struct VerifiedLog {
    /// The payloads of all data records, oldest first.
    pub records: Vec<SecretBytes>,
    /// The end of the chain.
    pub writer: LogWriter,
    /// Which of the two blocks holds the newest head.
    pub newest_head: usize,
    /// A block whose head is torn or changed; the other one is good.
    pub damaged_head: Option<usize>,
    /// Records behind the head: written by a commit that a crash kept from confirming.
    pub unconfirmed: u64,
    /// To be cut off.
    pub torn_tail: Option<TornTail>,
    /// The policy under which the key is wrapped; `None` if it was opened without the TEE's key.
    pub wrapped_under: Option<SealPolicy>,
    /// What `sealed_recovery` has to contain; `None` if it must not exist.
    pub recovery: Option<Vec<u8>>,
}

/// Opens the key and proves the log: every record up to the head must be there, authentic and in its place.
///
/// Records behind the head that are authentic and in place are kept. What follows them and is not authentic is a torn
/// tail. A genuine record out of place is never the work of a crash and refused even there.
///
/// # Errors
/// A [`Fault`] that names the kind and place of the first defect.
pub fn open_log(stored: &StoredLog, keys: &dyn SealKeys, trust: &TrustContext) -> Result<VerifiedLog, Fault> {
    let wrapped = WrappedKeys::parse(&stored.wrapped_keys)?;
    let epoch_key = wrapped.open(keys, trust)?;
    let header = LogHeader::parse(&stored.header)?;
    if header.deployment != epoch_key.deployment() {
        return Err(Fault::ForeignDeployment { key: epoch_key.deployment(), data: header.deployment });
    }
    let verified = verify(stored, epoch_key)?;
    let (log, key) = (verified.writer.policy(), wrapped.policy());
    if key == SealPolicy::ProductKey && log == SealPolicy::UniqueKey {
        return Err(Fault::SealModeDowngrade { log, key });
    }
    Ok(VerifiedLog { wrapped_under: Some(key), ..verified })
}

/// Opens the key in `sealed_recovery` with the key that the recovery shares make, and proves the log as [`open_log`].
///
/// The wrap must be the one that the log itself holds, so that shares of an earlier set open nothing. The file may name
/// an earlier manifest than the log's own copy, which is [`VerifiedLog::recovery`]: whoever told somebody what the file
/// says has to compare them.
///
/// # Errors
/// A [`Fault`] that names the kind and place of the first defect.
pub fn open_log_with_recovery(
    stored: &StoredLog,
    sealed_recovery: &[u8],
    recovery_key: &SecretBytes,
    trust: &TrustContext,
) -> Result<VerifiedLog, Fault> {
    let epoch_key = WrappedForRecovery::parse(sealed_recovery)?.open(recovery_key, trust)?;
    let header = LogHeader::parse(&stored.header)?;
    if header.deployment != epoch_key.deployment() {
        return Err(Fault::ForeignRecovery { recovery: epoch_key.deployment(), data: header.deployment });
    }
    let verified = verify(stored, epoch_key)?;
    if !verified.recovery.as_deref().is_some_and(|log| recovery::is_same_wrap(log, sealed_recovery)) {
        return Err(Fault::RecoverySuperseded);
    }
    Ok(verified)
}

/// Proves the log with the key of its epoch.
fn verify(stored: &StoredLog, epoch_key: EpochKey) -> Result<VerifiedLog, Fault> {
    let heads = Heads::open(stored, &epoch_key)?;
    let mut walk = Walk::new(epoch_key, stored.frames_at);
    let torn_tail = walk.run(&stored.frames, &heads)?;

    let unconfirmed = walk.sequence - heads.newest().sequence;
    let Walk { epoch_key, policy, recovery, sequence, hash, end, records, .. } = walk;
    let writer = LogWriter::at(epoch_key, policy, recovery.clone(), sequence, hash, end)
        .map_err(|_| Fault::WrongKey { policy })?;
    Ok(VerifiedLog {
        records,
        writer,
        newest_head: heads.newest,
        damaged_head: heads.copies.iter().position(Option::is_none),
        unconfirmed,
        torn_tail,
        wrapped_under: None,
        recovery,
    })
}

/// The authentic copies of the head.
struct Heads {
    copies: [Option<Head>; 2],
    newest: usize,
}

impl Heads {
    fn open(stored: &StoredLog, epoch_key: &EpochKey) -> Result<Self, Fault> {
        let [first, second] = stored.heads_at;
        let damaged = Fault::HeadDamaged { first, second };
        let Ok(key) = epoch_key.head_key() else {
            return Err(damaged);
        };
        let copies = stored.heads.each_ref().map(|block| Head::open(block, &key));
        let rank = |copy: &Option<Head>| copy.map(|head| (head.epoch, head.sequence));
        let newest = usize::from(rank(&copies[1]) > rank(&copies[0]));
        if copies[newest].is_none() {
            return Err(damaged);
        }
        Ok(Self { copies, newest })
    }

    fn newest(&self) -> &Head {
        self.copies[self.newest].as_ref().expect("`open` refuses when neither copy is authentic")
    }
}

/// The chain as far as it is proven.
struct Walk {
    epoch_key: EpochKey,
    frames_at: u64,
    salts: HashMap<u64, [u8; 32]>,
    current: Option<(u64, Key)>,
    records: Vec<SecretBytes>,
    sequence: u64,
    hash: RecordHash,
    end: u64,
    policy: SealPolicy,
    /// Payload of the newest recovery record in force, unless that is empty.
    recovery: Option<Vec<u8>>,
    /// Payload of a recovery record that the next record puts in force or, by being another start, drops.
    announced: Option<Vec<u8>>,
}

/// Why a record was refused, and whether a crash could have left it so.
struct Defect {
    fault: Fault,
    may_be_torn: bool,
}

impl Walk {
    fn new(epoch_key: EpochKey, frames_at: u64) -> Self {
        let hash = frame::genesis_hash(epoch_key.deployment());
        Self {
            epoch_key,
            frames_at,
            salts: HashMap::new(),
            current: None,
            records: Vec::new(),
            sequence: 0,
            hash,
            end: 0,
            policy: SealPolicy::ProductKey,
            recovery: None,
            announced: None,
        }
    }

    fn run(&mut self, frames: &[u8], heads: &Heads) -> Result<Option<TornTail>, Fault> {
        let confirmed = heads.newest().sequence;
        let mut rest = frames;
        while !rest.is_empty() {
            match self.step(rest, confirmed) {
                Ok(length) => rest = &rest[length..],
                Err(defect) if defect.may_be_torn && self.sequence >= confirmed => {
                    let (record, offset) = (self.sequence + 1, self.offset());
                    return Ok(Some(TornTail { record, offset, bytes: rest.len() as u64 }));
                }
                Err(defect) => return Err(defect.fault),
            }
            self.compare(heads)?;
        }
        if self.sequence < confirmed {
            return Err(Fault::Truncated { record: self.sequence + 1, offset: self.offset(), head: confirmed });
        }
        Ok(None)
    }

    /// Position of the next record in the stored object.
    fn offset(&self) -> u64 {
        self.frames_at + self.end
    }

    /// Proves the next record and returns its length.
    fn step(&mut self, rest: &[u8], confirmed: u64) -> Result<usize, Defect> {
        let (expected, offset) = (self.sequence.saturating_add(1), self.offset());
        let torn = |fault| Defect { fault, may_be_torn: true };
        let refused = |fault| Defect { fault, may_be_torn: false };
        let frame = Frame::parse(rest).map_err(|defect| {
            torn(match defect {
                FrameDefect::Incomplete => Fault::Truncated { record: expected, offset, head: confirmed },
                FrameDefect::Malformed(what) => Fault::RecordMalformed { record: expected, offset, what },
            })
        })?;
        let header = &frame.header;
        let out_of_place = Fault::OutOfPlace { expected, found: header.sequence, offset };
        let Some(key) = self.key_of(header) else {
            // Its start record is not in this chain, so nothing about it can be proven.
            let fault =
                if header.sequence == expected { Fault::Tampered { record: expected, offset } } else { out_of_place };
            return Err(torn(fault));
        };
        let Some(plaintext) = frame.open(&key.1, self.epoch_key.deployment()) else {
            return Err(torn(Fault::Tampered { record: expected, offset }));
        };
        if header.epoch != self.epoch_key.epoch() {
            let (expected, got) = (self.epoch_key.epoch(), header.epoch);
            return Err(refused(Fault::Epoch { record: header.sequence, offset, expected, got }));
        }
        if header.sequence != expected || header.predecessor != self.hash {
            return Err(refused(out_of_place));
        }
        let payload = frame::unpad(&plaintext).ok_or_else(|| {
            refused(Fault::RecordMalformed { record: expected, offset, what: "length inside the record is too large" })
        })?;

        let announced = self.announced.take();
        match header.kind {
            Kind::Recovery => self.announced = Some(payload.expose().to_vec()),
            // A crash left the recovery record without its payload, so it never was in force.
            Kind::Start => {
                if let Some(salt) = header.salt {
                    self.salts.insert(header.sequence, salt);
                }
            }
            Kind::Data => {
                if let Some(recovery) = announced {
                    self.recovery = Some(recovery).filter(|recovery| !recovery.is_empty());
                }
                self.records.push(payload);
            }
        }
        self.current = Some(key);
        self.sequence = expected;
        self.hash = frame.hash();
        self.end += frame.bytes.len() as u64;
        self.policy = header.policy;
        Ok(frame.bytes.len())
    }

    /// The record key that `header` claims, with the number of its start record.
    fn key_of(&mut self, header: &frame::Header) -> Option<(u64, Key)> {
        let (start, salt) = match (header.kind, header.salt) {
            (Kind::Start, Some(salt)) => (header.sequence, salt),
            _ => (header.start_sequence, *self.salts.get(&header.start_sequence)?),
        };
        match self.current.take() {
            Some(current) if header.kind != Kind::Start && current.0 == start => Some(current),
            other => {
                self.current = other;
                Some((start, self.epoch_key.record_key(&salt, start).ok()?))
            }
        }
    }

    /// Both copies of the head must name records of this very chain.
    fn compare(&self, heads: &Heads) -> Result<(), Fault> {
        for head in heads.copies.iter().flatten().filter(|head| head.sequence == self.sequence) {
            // Deployment and epoch are in the key under which the head is authentic.
            if head.hash != self.hash || head.log_bytes != self.end {
                return Err(Fault::HeadMismatch { record: head.sequence, offset: self.offset() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Header;
    use crate::{DeploymentId, FixedSealKeys, TrustClass};

    /// A start record whose fields `change` sets, sealed with the right keys, as only a faulty Coordinator could.
    fn open_forged(change: impl FnOnce(&mut Header)) -> Result<VerifiedLog, Fault> {
        open_forged_with(change, |_| {})
    }

    fn open_forged_with(
        change: impl FnOnce(&mut Header),
        change_head: impl FnOnce(&mut Head),
    ) -> Result<VerifiedLog, Fault> {
        let keys = FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16]));
        let trust = TrustContext::new(TrustClass::Hardware, Vec::new());
        let deployment = DeploymentId::from_bytes([3; 16]);
        let epoch_key = EpochKey::generate(deployment).unwrap();
        let mut header = Header {
            kind: Kind::Start,
            policy: SealPolicy::ProductKey,
            epoch: 1,
            sequence: 1,
            counter: 0,
            start_sequence: 1,
            predecessor: frame::genesis_hash(deployment),
            salt: Some([4; 32]),
        };
        change(&mut header);
        let mut frames = Vec::new();
        let key = epoch_key.record_key(&[4; 32], header.sequence).unwrap();
        let hash = frame::append(&mut frames, &header, &[], &key, deployment).unwrap();
        let mut head = Head { deployment, epoch: 1, sequence: 1, log_bytes: frames.len() as u64, hash };
        change_head(&mut head);
        let head = head.encode(&epoch_key.head_key().unwrap()).to_vec();
        let stored = StoredLog {
            wrapped_keys: epoch_key.wrap(&keys, SealPolicy::ProductKey, &trust).unwrap(),
            header: LogHeader { deployment }.encode().to_vec(),
            heads: [head.clone(), head],
            frames,
            ..StoredLog::default()
        };
        open_log(&stored, &keys, &trust)
    }

    #[test]
    fn an_unchanged_record_opens() {
        assert_eq!(open_forged(|_| {}).unwrap().writer.head().sequence, 1);
    }

    // rules: R3
    #[test]
    fn an_authentic_record_of_another_epoch_is_refused() {
        let fault = open_forged(|header| header.epoch = 2).unwrap_err();
        assert!(matches!(fault, Fault::Epoch { record: 1, expected: 1, got: 2, .. }), "{fault}");
    }

    // rules: R3, STA-9.1
    #[test]
    fn an_authentic_record_with_another_predecessor_or_sequence_is_refused() {
        let fault = open_forged(|header| header.predecessor = RecordHash([0; 32])).unwrap_err();
        assert!(matches!(fault, Fault::OutOfPlace { expected: 1, found: 1, .. }), "{fault}");
        let fault = open_forged(|header| header.sequence = 2).unwrap_err();
        assert!(matches!(fault, Fault::OutOfPlace { expected: 1, found: 2, .. }), "{fault}");
    }
    #[test]
    fn an_authentic_head_that_does_not_fit_the_log_is_refused() {
        let hash = open_forged_with(|_| {}, |head| head.hash = RecordHash([0; 32])).unwrap_err();
        assert!(matches!(hash, Fault::HeadMismatch { record: 1, .. }), "{hash}");
        let length = open_forged_with(|_| {}, |head| head.log_bytes += 1).unwrap_err();
        assert!(matches!(length, Fault::HeadMismatch { record: 1, .. }), "{length}");
    }
}
