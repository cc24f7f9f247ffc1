//! Sealed state: what a host may put into the Coordinator's directory.
//!
//! An input of [`sealed_log`] is the parts of a stored log in one piece, so that a fuzzer can change each of them:
//! length of the wrapped keys (2 bytes, little endian), wrapped keys, header, two heads, then the records.

use marblerun_sealing::{
    DeploymentId, EpochKey, Fault, FixedSealKeys, HEAD_LEN, HEADER_LEN, LogWriter, MAX_RECOVERY_PUBLIC_KEY_BYTES,
    MAX_RECOVERY_SHARES, ManifestFingerprint, RecoveryChange, RecoveryFile, RecoveryRecipient, RecoveryScheme,
    RecoveryShare, SealError, SealPolicy, StoredLog, TrustClass, TrustContext, WrappedForRecovery, WrappedKeys,
    open_log, record_nonces,
};
use marblerun_secret::SecretBytes;

use crate::Verdict;

/// The payloads of a log that was sealed for a corpus; each log holds a beginning of this list.
pub const PAYLOADS: [&[u8]; 5] = [b"genesis", b"", &[7; 100], b"manifest", &[9; 5000]];

fn keys() -> FixedSealKeys {
    FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16]))
}

fn trust() -> TrustContext {
    TrustContext::new(TrustClass::Software, vec![[3; 32]])
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([4; 16])
}

/// Seals a log of the first `records` payloads with the product's own writer, one commit each, with a restart of the
/// writer's key after each of them if `restarts`.
///
/// # Errors
/// If the provider fails.
pub fn seal(records: usize, restarts: bool, policy: SealPolicy) -> Result<Vec<u8>, SealError> {
    let epoch_key = EpochKey::generate(deployment())?;
    let wrapped = epoch_key.wrap(&keys(), policy, &trust())?;
    let mut writer = LogWriter::new(epoch_key, policy)?;
    let header = writer.header().encode();
    let (mut heads, mut frames) = ([[0; HEAD_LEN]; 2], Vec::new());
    for (count, payload) in PAYLOADS.iter().take(records).enumerate() {
        if restarts && count % 2 == 1 {
            // A prepared batch that is never confirmed takes the record key with it.
            drop(writer.prepare(&[payload], policy)?);
        }
        let batch = writer.prepare(&[payload], policy)?;
        frames.extend_from_slice(batch.frames());
        heads[count % 2] = *batch.head();
        writer.confirm(batch);
    }
    Ok(join(&wrapped, &header, &heads, &frames))
}

fn join(wrapped: &[u8], header: &[u8], heads: &[[u8; HEAD_LEN]; 2], frames: &[u8]) -> Vec<u8> {
    let length = u16::try_from(wrapped.len()).expect("a wrapped key is some 200 bytes long");
    [&length.to_le_bytes(), wrapped, header, &heads[0], &heads[1], frames].concat()
}

fn split(data: &[u8]) -> Option<StoredLog> {
    let (length, rest) = data.split_first_chunk()?;
    let (wrapped_keys, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (header, rest) = rest.split_at_checked(HEADER_LEN)?;
    let (first, rest) = rest.split_at_checked(HEAD_LEN)?;
    let (second, frames) = rest.split_at_checked(HEAD_LEN)?;
    Some(StoredLog {
        wrapped_keys: wrapped_keys.to_vec(),
        header: header.to_vec(),
        heads: [first.to_vec(), second.to_vec()],
        heads_at: [HEADER_LEN as u64, (HEADER_LEN + HEAD_LEN) as u64],
        frames: frames.to_vec(),
        frames_at: (HEADER_LEN + 2 * HEAD_LEN) as u64,
    })
}

/// A whole log: what opens holds a beginning of what was sealed, in order, and nothing else.
pub fn sealed_log(data: &[u8]) -> Verdict {
    let Some(stored) = split(data) else { return Verdict::Refused };
    let audited = record_nonces(&stored.frames).len();
    let opened = open_log(&stored, &keys(), &trust());
    if let Ok(log) = &opened {
        assert_eq!(log.writer.deployment(), deployment());
        assert!(log.records.len() <= audited && log.records.len() <= PAYLOADS.len());
        for (record, sealed) in log.records.iter().zip(PAYLOADS) {
            assert_eq!(record.expose(), sealed, "a record that nobody sealed");
        }
        let torn = log.torn_tail.as_ref().map_or(0, |tail| tail.bytes);
        assert_eq!(log.writer.log_bytes() + torn, stored.frames.len() as u64, "records and tail are the whole file");
        assert!(log.newest_head < 2 && log.damaged_head != Some(log.newest_head));
    }
    Verdict::of(&opened)
}

/// `sealed_key` or `sealed_recovery` alone: what opens is the key of the deployment that it was wrapped for.
pub fn wrapped_keys(data: &[u8]) -> Verdict {
    let opened = match WrappedForRecovery::parse(data) {
        Ok(wrapped) => {
            assert!(wrapped.needed() <= wrapped.shares().len() && wrapped.shares().len() <= MAX_RECOVERY_SHARES);
            assert!(wrapped.shares().iter().all(|share| share.public_key.len() <= MAX_RECOVERY_PUBLIC_KEY_BYTES));
            wrapped.open(&recovery_key(), &trust())
        }
        Err(Fault::Magic { .. }) => WrappedKeys::parse(data).and_then(|wrapped| wrapped.open(&keys(), &trust())),
        Err(fault) => Err(fault),
    };
    if let Ok(key) = &opened {
        assert_eq!((key.deployment(), key.epoch()), (deployment(), 1));
    }
    Verdict::of(&opened)
}

/// Wraps a fresh key for the corpus of [`wrapped_keys`].
///
/// # Errors
/// If the provider fails.
pub fn wrap(policy: SealPolicy) -> Result<Vec<u8>, SealError> {
    EpochKey::generate(deployment())?.wrap(&keys(), policy, &trust())
}

fn recovery_key() -> SecretBytes {
    SecretBytes::new(vec![5; 32])
}

/// Wraps a fresh key for `shares` recovery parties, for the corpus of [`wrapped_keys`].
///
/// # Errors
/// If the provider fails, or there are no such shares.
pub fn wrap_for_recovery(scheme: RecoveryScheme, shares: u8) -> Result<Vec<u8>, SealError> {
    let share =
        |number: u8| RecoveryShare { public_key: vec![number; 290 + usize::from(number)], share_hash: [number; 32] };
    let recipient = RecoveryRecipient::new(recovery_key(), scheme, (0..shares).map(share).collect())?;
    let writer_key = EpochKey::generate(deployment())?;
    let mut writer = LogWriter::new(writer_key, SealPolicy::ProductKey)?;
    let manifest = ManifestFingerprint::from_bytes([6; 32]);
    let change = RecoveryChange::Set { recipient: &recipient, trust: &trust(), manifest };
    match writer.prepare_with(&[b"manifest"], SealPolicy::ProductKey, change)?.recovery() {
        RecoveryFile::Written(file) => Ok(file.to_vec()),
        RecoveryFile::Removed | RecoveryFile::Unchanged => {
            Err(SealError::Recipient { what: "expected a file for a new recipient" })
        }
    }
}
