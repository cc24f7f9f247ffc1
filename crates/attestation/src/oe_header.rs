//! The 16-byte header of Open Enclave around an SGX quote.
//!
//! | offset | size | field | value |
//! |---|---|---|---|
//! | 0 | 4 | version | 1 |
//! | 4 | 4 | report type | 2, a remote SGX report |
//! | 8 | 8 | size | length of what follows |
//!
//! All integers are little-endian. Source: Open Enclave `include/openenclave/internal/report.h`.

use crate::quote::QuoteError;

/// Length of the header in bytes.
pub const OE_HEADER_LEN: usize = 16;

const VERSION: u32 = 1;
const REMOTE_SGX_REPORT: u32 = 2;

/// Puts the header in front of a raw SGX quote, as MarbleRun's wire format wants it.
pub fn with_oe_header(raw_quote: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OE_HEADER_LEN + raw_quote.len());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&REMOTE_SGX_REPORT.to_le_bytes());
    bytes.extend_from_slice(&(raw_quote.len() as u64).to_le_bytes());
    bytes.extend_from_slice(raw_quote);
    bytes
}

/// True if the bytes look like a raw SGX quote, so that the header is still to be added.
///
/// The rule is MarbleRun's: at least 48 bytes, version 3, attestation key type at most 3, TEE type 0, and non-zero
/// QE and PCE versions. It decides about the framing only and says nothing about validity.
pub fn is_raw_sgx_quote(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<48>() else {
        return false;
    };
    let u16_at = |offset: usize| u16::from_le_bytes([header[offset], header[offset + 1]]);
    u16_at(0) == 3 && u16_at(2) <= 3 && header[4..8] == [0; 4] && u16_at(8) != 0 && u16_at(10) != 0
}

/// True if the bytes begin like this header: the first word is 1.
pub(crate) fn is_present(bytes: &[u8]) -> bool {
    bytes.first_chunk() == Some(&VERSION.to_le_bytes())
}

/// Checks and removes the header.
pub(crate) fn strip(bytes: &[u8]) -> Result<&[u8], QuoteError> {
    let Some((header, quote)) = bytes.split_first_chunk::<OE_HEADER_LEN>() else {
        return Err(QuoteError::Truncated {
            field: "Open Enclave header",
            needed: OE_HEADER_LEN,
            available: bytes.len(),
        });
    };
    let [v0, v1, v2, v3, t0, t1, t2, t3, size @ ..] = *header;
    let version = u32::from_le_bytes([v0, v1, v2, v3]);
    if version != VERSION {
        return Err(QuoteError::OeVersion { expected: VERSION, got: version });
    }
    let report_type = u32::from_le_bytes([t0, t1, t2, t3]);
    if report_type != REMOTE_SGX_REPORT {
        return Err(QuoteError::OeReportType { expected: REMOTE_SGX_REPORT, got: report_type });
    }
    let size = u64::from_le_bytes(size);
    if size != quote.len() as u64 {
        return Err(QuoteError::OeSize { expected: quote.len() as u64, got: size });
    }
    Ok(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: ACT-8.10, ERT-1
    #[test]
    fn the_header_of_a_4598_byte_quote_has_the_documented_bytes() {
        let bytes = with_oe_header(&[7; 4598]);
        assert_eq!(hex::encode(&bytes[..16]), "0100000002000000f611000000000000");
        assert_eq!(strip(&bytes).unwrap(), [7; 4598]);
    }

    fn raw() -> [u8; 48] {
        let mut bytes = [0; 48];
        (bytes[0], bytes[2], bytes[8], bytes[10]) = (3, 2, 8, 13);
        bytes
    }

    #[test]
    fn a_raw_quote_is_recognised_by_length_versions_and_types() {
        assert!(is_raw_sgx_quote(&raw()));
        assert!(!is_raw_sgx_quote(&raw()[..47]), "too short");
        assert!(!is_raw_sgx_quote(&with_oe_header(&raw())), "already has the header");
        for (offset, value) in [(0, 4), (2, 4), (4, 1), (7, 1), (8, 0), (10, 0)] {
            let mut changed = raw();
            changed[offset] = value;
            assert!(!is_raw_sgx_quote(&changed), "byte {offset} = {value}");
        }
        for key_type in 0..=3 {
            let mut changed = raw();
            changed[2] = key_type;
            assert!(is_raw_sgx_quote(&changed), "key type {key_type}");
        }
    }
}
