//! One sealed record as bytes: plain header, ciphertext, tag.

use zeroize::{Zeroize, Zeroizing};

use marblerun_secret::SecretBytes;

use crate::bytes::Reader;
use crate::crypto::{self, Key, TAG_LEN};
use crate::fault::SealError;
use crate::identity::{DeploymentId, RecordHash, SealPolicy};

/// Largest payload of one record: a whole state of 16 MiB fits with room to spare.
pub const MAX_PAYLOAD_BYTES: usize = 32 << 20;
/// Largest sum of the payloads of one commit.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

const MAGIC: &[u8; 4] = b"MRRC";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 80;
const SALT_LEN: usize = 32;
/// The payload's length, inside the ciphertext.
const LENGTH_LEN: usize = 4;
/// Smallest plaintext, so that small records do not tell their kinds apart by size.
const MIN_PLAINTEXT_LEN: usize = 64;
const MAX_PLAINTEXT_LEN: usize = padded_len(LENGTH_LEN + MAX_PAYLOAD_BYTES);

/// What a record is. Values from 4 on belong to later versions (snapshot, anchor, import).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First record of a process: carries the salt of its record key.
    Start,
    /// A payload of the caller.
    Data,
    /// The recovery recipient, if the next record is one of data: the bytes of `sealed_recovery`, or none for nobody.
    Recovery,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Data => 2,
            Self::Recovery => 3,
        }
    }
}

/// The plain, authenticated fields of a record.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) policy: SealPolicy,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) counter: u64,
    pub(crate) start_sequence: u64,
    pub(crate) predecessor: RecordHash,
    /// Present in start records only.
    pub(crate) salt: Option<[u8; SALT_LEN]>,
}

/// A well-formed record; nothing in it is proven before [`Frame::open`].
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) bytes: &'a [u8],
    plain_len: usize,
}

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameDefect {
    /// The bytes end inside the record.
    Incomplete,
    /// A field is impossible.
    Malformed(&'static str),
}

impl<'a> Frame<'a> {
    /// The record at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, FrameDefect> {
        use FrameDefect::{Incomplete, Malformed};
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len()).ok_or(Incomplete)? != MAGIC {
            return Err(Malformed("no record marker"));
        }
        if reader.u8().ok_or(Incomplete)? != VERSION {
            return Err(Malformed("unknown record version"));
        }
        let kind = match reader.u8().ok_or(Incomplete)? {
            1 => Kind::Start,
            2 => Kind::Data,
            3 => Kind::Recovery,
            _ => return Err(Malformed("unknown record kind")),
        };
        let policy = reader.u8().ok_or(Incomplete)?;
        let policy = SealPolicy::from_byte(policy).ok_or(Malformed("unknown seal mode"))?;
        if reader.u8().ok_or(Incomplete)? != 0 {
            return Err(Malformed("reserved byte is not zero"));
        }
        let sealed_len = usize::try_from(reader.u32().ok_or(Incomplete)?).unwrap_or(usize::MAX);
        if !(MIN_PLAINTEXT_LEN..=MAX_PLAINTEXT_LEN).contains(&sealed_len) {
            return Err(Malformed("length is out of range"));
        }
        if reader.u32().ok_or(Incomplete)? != 0 {
            return Err(Malformed("reserved bytes are not zero"));
        }
        let epoch = reader.u64().ok_or(Incomplete)?;
        let sequence = reader.u64().ok_or(Incomplete)?;
        let counter = reader.u64().ok_or(Incomplete)?;
        let start_sequence = reader.u64().ok_or(Incomplete)?;
        let predecessor = RecordHash(reader.array().ok_or(Incomplete)?);
        let salt = match kind {
            Kind::Start => Some(reader.array().ok_or(Incomplete)?),
            Kind::Data | Kind::Recovery => None,
        };
        let plain_len = reader.position();
        reader.take(sealed_len + TAG_LEN).ok_or(Incomplete)?;
        let header = Header { kind, policy, epoch, sequence, counter, start_sequence, predecessor, salt };
        Ok(Self { header, bytes: &bytes[..reader.position()], plain_len })
    }

    /// The padded payload, if the record is authentic under `key`.
    pub(crate) fn open(&self, key: &Key, deployment: DeploymentId) -> Option<Zeroizing<Vec<u8>>> {
        let (plain, sealed) = self.bytes.split_at(self.plain_len);
        crypto::open(key, self.header.counter, &record_aad(deployment, plain), sealed)
    }

    pub(crate) fn hash(&self) -> RecordHash {
        record_hash(self.bytes)
    }
}

/// Takes the padding off; `None` if an authentic record holds nonsense.
pub(crate) fn unpad(plaintext: &[u8]) -> Option<SecretBytes> {
    let (length, rest) = plaintext.split_first_chunk::<LENGTH_LEN>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some(SecretBytes::copy_from(rest.get(..length)?))
}

/// Appends one sealed record to `out` and returns its hash. `header.counter` must be new under `key`.
pub(crate) fn append(
    out: &mut Vec<u8>,
    header: &Header,
    payload: &[u8],
    key: &Key,
    deployment: DeploymentId,
) -> Result<RecordHash, SealError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(SealError::PayloadTooLarge { max: MAX_PAYLOAD_BYTES, got: payload.len() });
    }
    let sealed_len = padded_len(LENGTH_LEN + payload.len());
    let length = u32::try_from(payload.len()).expect("at most MAX_PAYLOAD_BYTES").to_le_bytes();
    let begin = out.len();
    out.reserve_exact(HEADER_LEN + SALT_LEN + sealed_len + TAG_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, header.kind.to_byte(), header.policy.to_byte(), 0]);
    out.extend_from_slice(&u32::try_from(sealed_len).expect("at most MAX_PLAINTEXT_LEN").to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for number in [header.epoch, header.sequence, header.counter, header.start_sequence] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(header.predecessor.as_bytes());
    if let Some(salt) = &header.salt {
        out.extend_from_slice(salt);
    }
    let aad = record_aad(deployment, &out[begin..]);
    let body = out.len();
    out.extend_from_slice(&length);
    out.extend_from_slice(payload);
    out.resize(body + sealed_len, 0);
    let tag = crypto::seal(key, header.counter, &aad, &mut out[body..]).inspect_err(|_| out[body..].zeroize())?;
    out.extend_from_slice(&tag);
    Ok(record_hash(&out[begin..]))
}

/// What stands before the first record.
pub(crate) fn genesis_hash(deployment: DeploymentId) -> RecordHash {
    RecordHash(crypto::sha256(&[b"marblerun genesis v1\0", deployment.as_bytes()]))
}

fn record_hash(frame: &[u8]) -> RecordHash {
    RecordHash(crypto::sha256(&[b"marblerun record hash v1\0", frame]))
}

fn record_aad(deployment: DeploymentId, plain: &[u8]) -> Vec<u8> {
    [b"marblerun record v1\0".as_slice(), deployment.as_bytes(), plain].concat()
}

/// Size class of a plaintext (PADMÉ, Nikitin et al., PoPETs 2019): hides the size at a cost of at most 12 %.
const fn padded_len(length: usize) -> usize {
    if length <= MIN_PLAINTEXT_LEN {
        return MIN_PLAINTEXT_LEN;
    }
    let exponent = length.ilog2();
    let mask = (1_usize << (exponent - exponent.ilog2() - 1)) - 1;
    (length + mask) & !mask
}

/// The public part of a record's nonce: which process start sealed it, and its counter there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordNonce {
    /// Salt of the record key, in a start record; the records that follow use the same key.
    pub start_salt: Option<[u8; SALT_LEN]>,
    /// The nonce under that key.
    pub counter: u64,
    /// Identity of the record's bytes.
    pub hash: RecordHash,
}

/// The nonces of the complete records in `frames`, for audits; nothing is decrypted or proven.
pub fn record_nonces(mut frames: &[u8]) -> Vec<RecordNonce> {
    let mut nonces = Vec::new();
    while let Ok(frame) = Frame::parse(frames) {
        let Header { salt: start_salt, counter, .. } = frame.header;
        nonces.push(RecordNonce { start_salt, counter, hash: frame.hash() });
        frames = &frames[frame.bytes.len()..];
    }
    nonces
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: STA-9.6
    #[test]
    fn padding_never_shrinks_and_costs_at_most_an_eighth() {
        for length in (65..5000).chain([1 << 20, (1 << 20) + 1, LENGTH_LEN + MAX_PAYLOAD_BYTES]) {
            let padded = padded_len(length);
            assert!(padded >= length && padded - length <= length / 8, "{length} became {padded}");
        }
        assert_eq!(padded_len(0), MIN_PLAINTEXT_LEN);
    }

    #[test]
    fn a_length_that_lies_inside_an_authentic_record_is_refused() {
        assert!(unpad(&[61, 0, 0, 0, 1, 2]).is_none());
        assert!(unpad(&[1, 0]).is_none());
        assert_eq!(unpad(&[1, 0, 0, 0, 9, 0]).unwrap().expose(), [9]);
    }
}
