//! The log's header and its head: which record was the newest when the last commit was confirmed.

use crate::bytes::Reader;
use crate::crypto::{self, Key};
use crate::fault::Fault;
use crate::frame;
use crate::identity::{DeploymentId, HeadInfo, RecordHash};

/// Length of the encoded header; the rest of its block is zero.
pub const HEADER_LEN: usize = 72;
/// Length of an encoded head; the rest of its block is zero.
pub const HEAD_LEN: usize = 120;

const OBJECT: &str = "sealed_data";
const HEADER_MAGIC: &[u8; 8] = b"MRSEALDA";
const HEAD_MAGIC: &[u8; 8] = b"MRHEAD\0\0";
const VERSION: u16 = 1;
/// Versions with an anchor give this byte further values.
const ANCHOR_NONE: u8 = 0;

/// The unencrypted beginning of a log: written once, proven by the first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHeader {
    /// The deployment.
    pub deployment: DeploymentId,
}

impl LogHeader {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(HEADER_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(self.deployment.as_bytes());
        out[32..40].copy_from_slice(&1_u64.to_le_bytes());
        out[40..].copy_from_slice(frame::genesis_hash(self.deployment).as_bytes());
        out
    }

    /// Makes a header block well-formed.
    ///
    /// # Errors
    /// [`Fault::Magic`], [`Fault::Version`] or [`Fault::Malformed`].
    pub fn parse(block: &[u8]) -> Result<Self, Fault> {
        let malformed = |offset, what| Fault::Malformed { object: OBJECT, offset, what };
        let cut = || malformed(block.len() as u64, "shorter than its header");
        let mut reader = Reader::new(block);
        if reader.take(HEADER_MAGIC.len()) != Some(HEADER_MAGIC) {
            return Err(Fault::Magic { object: OBJECT });
        }
        let version = reader.u16().ok_or_else(cut)?;
        if version != VERSION {
            return Err(Fault::Version { object: OBJECT, expected: VERSION, got: version });
        }
        if reader.array::<6>().ok_or_else(cut)? != [0; 6] {
            return Err(malformed(10, "reserved bytes are not zero"));
        }
        let deployment = DeploymentId::from_bytes(reader.array().ok_or_else(cut)?);
        // A compacted log will begin later; it then has a higher version.
        if reader.u64().ok_or_else(cut)? != 1 {
            return Err(malformed(32, "version 1 begins with record 1"));
        }
        if reader.array().ok_or_else(cut)? != *frame::genesis_hash(deployment).as_bytes() {
            return Err(malformed(40, "first predecessor is not that of the deployment"));
        }
        if let Some(position) = block[HEADER_LEN..].iter().position(|byte| *byte != 0) {
            return Err(malformed((HEADER_LEN + position) as u64, "padding is not zero"));
        }
        Ok(Self { deployment })
    }
}

/// Where a log says that it ends, read without its key: whoever writes the disk can write this too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedHead {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The newest record.
    pub head: HeadInfo,
}

impl ClaimedHead {
    /// The newer of a log's two heads; `None` if neither has the form of one.
    pub fn newest(blocks: &[Vec<u8>]) -> Option<Self> {
        blocks
            .iter()
            .filter_map(|block| Self::parse(block))
            .max_by_key(|claimed| (claimed.head.epoch, claimed.head.sequence))
    }

    fn parse(block: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(block);
        if reader.take(HEAD_MAGIC.len())? != HEAD_MAGIC || reader.u16()? != VERSION {
            return None;
        }
        reader.take(6)?;
        let deployment = DeploymentId::from_bytes(reader.array()?);
        let (epoch, sequence) = (reader.u64()?, reader.u64()?);
        // Length of the log.
        reader.u64()?;
        Some(Self { deployment, head: HeadInfo { epoch, sequence, hash: RecordHash(reader.array()?) } })
    }
}

/// The newest confirmed record and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) deployment: DeploymentId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    /// Length of all records up to and including this one.
    pub(crate) log_bytes: u64,
    pub(crate) hash: RecordHash,
}

impl Head {
    pub(crate) fn encode(&self, key: &Key) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        out[..8].copy_from_slice(HEAD_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10] = ANCHOR_NONE;
        out[16..32].copy_from_slice(self.deployment.as_bytes());
        out[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        out[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        out[48..56].copy_from_slice(&self.log_bytes.to_le_bytes());
        out[56..88].copy_from_slice(self.hash.as_bytes());
        let tag = crypto::mac(key, &out[..88]);
        out[88..].copy_from_slice(&tag);
        out
    }

    /// The head in `block`, or `None` if the block is torn, changed or of another deployment.
    pub(crate) fn open(block: &[u8], key: &Key) -> Option<Self> {
        let (encoded, padding) = block.split_at_checked(HEAD_LEN)?;
        let (fields, tag) = encoded.split_at(88);
        if !crypto::mac_is_valid(key, fields, tag) || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut reader = Reader::new(fields);
        // Marker, version, anchor: authentic, and under this key only this version writes them.
        reader.take(16)?;
        Some(Self {
            deployment: DeploymentId::from_bytes(reader.array()?),
            epoch: reader.u64()?,
            sequence: reader.u64()?,
            log_bytes: reader.u64()?,
            hash: RecordHash(reader.array()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64) -> Head {
        let deployment = DeploymentId::from_bytes([3; 16]);
        Head { deployment, epoch: 2, sequence, log_bytes: 9, hash: RecordHash([7; 32]) }
    }

    #[test]
    fn the_newer_head_is_read_without_its_key() {
        let key = Key::new(zeroize::Zeroizing::new([1; 32]));
        let blocks = [8, 9].map(|sequence| head(sequence).encode(&key).to_vec());
        let claimed = ClaimedHead::newest(&blocks).unwrap();
        assert_eq!(claimed.deployment, DeploymentId::from_bytes([3; 16]));
        assert_eq!(claimed.head, HeadInfo { epoch: 2, sequence: 9, hash: RecordHash([7; 32]) });
        let [older, newer] = blocks;
        assert_eq!(ClaimedHead::newest(&[older, newer[..87].to_vec()]).unwrap().head.sequence, 8);
        assert_eq!(ClaimedHead::newest(&[Vec::new(), vec![0; HEAD_LEN]]), None);
    }
}
