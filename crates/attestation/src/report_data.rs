//! The 64 bytes that a workload binds into its evidence.

use std::fmt;

use aws_lc_rs::digest;

/// The 64 bytes that a workload binds into its quote.
///
/// Shorter input is zero-padded at the end, as attesters do; longer input is refused, never cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportData([u8; ReportData::LEN]);

impl ReportData {
    /// Length in bytes.
    pub const LEN: usize = 64;

    /// Copies up to 64 bytes and pads them with zeros.
    ///
    /// # Errors
    ///
    /// More than 64 bytes are refused.
    pub fn new(bytes: &[u8]) -> Result<Self, ReportDataTooLong> {
        let mut data = [0; Self::LEN];
        data.get_mut(..bytes.len())
            .ok_or(ReportDataTooLong { max: Self::LEN, got: bytes.len() })?
            .copy_from_slice(bytes);
        Ok(Self(data))
    }

    /// The digest in the first half, zeros in the second: the form that MarbleRun's issuers use.
    pub fn from_digest(digest: ReportDigest) -> Self {
        Self::from_halves(digest, [0; 32])
    }

    /// The digest in the first half, `second` in the second.
    pub fn from_halves(digest: ReportDigest, second: [u8; 32]) -> Self {
        let mut data = [0; Self::LEN];
        data[..32].copy_from_slice(&digest.0);
        data[32..].copy_from_slice(&second);
        Self(data)
    }

    /// Bytes 0 to 31, which carry the binding.
    pub fn digest(&self) -> ReportDigest {
        let mut half = [0; 32];
        half.copy_from_slice(&self.0[..32]);
        ReportDigest(half)
    }

    /// Bytes 32 to 63, which MarbleRun's verifiers do not look at.
    pub fn second_half(&self) -> [u8; 32] {
        let mut half = [0; 32];
        half.copy_from_slice(&self.0[32..]);
        half
    }

    /// All 64 bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; ReportData::LEN]> for ReportData {
    fn from(bytes: [u8; ReportData::LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({})", hex::encode(self.0))
    }
}

/// The input is longer than report data can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("report data holds at most {max} bytes, got {got}")]
pub struct ReportDataTooLong {
    /// The longest possible input.
    pub max: usize,
    /// What was given.
    pub got: usize,
}

/// SHA-256 of what a quote is bound to; the first half of [`ReportData`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportDigest([u8; 32]);

impl ReportDigest {
    /// SHA-256 of `bytes`; for a Marble the DER of the certificate of its TLS connection.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// SHA-256 of the parts joined without separators; for a quote with nonce the root certificate's DER, then the
    /// nonce.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ReportDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ReportDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportDigest({self})")
    }
}

impl fmt::Display for ReportDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_longer_than_the_field_is_refused_not_cut() {
        let error = ReportData::new(&[0; 65]).unwrap_err();
        assert_eq!(error.to_string(), "report data holds at most 64 bytes, got 65");
    }

    #[test]
    fn shorter_report_data_is_padded_with_zeros_at_the_end() {
        let data = ReportData::new(&[7, 8]).unwrap();
        assert_eq!(data.as_bytes()[..3], [7, 8, 0]);
        assert_eq!(data.second_half(), [0; 32]);
        assert_eq!(ReportData::new(&[1; 64]).unwrap().as_bytes(), &[1; 64]);
    }

    #[test]
    fn a_digest_fills_the_first_half_and_leaves_the_second_zero() {
        let digest = ReportDigest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(ReportDigest::of_parts(&[b"a", b"bc"]), digest);
        let data = ReportData::from_digest(digest);
        assert_eq!(data.digest(), digest);
        assert_eq!(data.second_half(), [0; 32]);
        let data = ReportData::from_halves(digest, [9; 32]);
        assert_eq!((data.digest(), data.second_half()), (digest, [9; 32]));
    }
}
