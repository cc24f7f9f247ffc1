//! Evidence about this Marble.

use marblerun_tee::{EvidenceError, Occlum, REPORT_DATA_LEN, RetryPolicy};

/// Issues evidence; a trait so that tests can stand in for the TEE.
pub trait EvidenceIssuer {
    /// Evidence over `report_data`, in the form that the activation request carries.
    ///
    /// # Errors
    /// Why the TEE did not issue any.
    fn issue(&self, report_data: &[u8; REPORT_DATA_LEN]) -> Result<Vec<u8>, EvidenceError>;
}

/// The quotes of Occlum's `/dev/sgx`, which is opened for each issue.
#[derive(Clone, Copy, Debug, Default)]
pub struct OcclumIssuer {
    /// How often a failing quote is tried again.
    pub retry: RetryPolicy,
}

impl EvidenceIssuer for OcclumIssuer {
    fn issue(&self, report_data: &[u8; REPORT_DATA_LEN]) -> Result<Vec<u8>, EvidenceError> {
        Occlum::open(self.retry)?.evidence(report_data)
    }
}

/// The report data of a Marble: SHA-256 of its certificate's DER, then 32 zero bytes.
///
/// The second half is reserved for binding the TLS session.
pub fn report_data(certificate: &[u8]) -> [u8; REPORT_DATA_LEN] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut data = [0; REPORT_DATA_LEN];
    data[..32].copy_from_slice(hash.as_ref());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: ACT-8.1, OCC-4
    #[test]
    fn report_data_is_the_hash_of_the_certificate_and_zeros() {
        let data = report_data(b"abc");
        // FIPS 180-4, example "abc".
        assert_eq!(data[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(data[32..], [0; 32]);
    }
}
