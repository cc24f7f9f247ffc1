//! DCAP quotes, version 3, byte for byte as the hardware's quoting enclave makes them.
//!
//! Layout from Intel's "ECDSA Quote Library Reference DCAP API", appendix A.4; all integers are little-endian.

use aws_lc_rs::digest;

use crate::enclave::{EnclaveIdentity, PCE_SVN, REPORT_BODY_LEN};
use crate::error::IssueError;
use crate::pki::Keys;

/// Security version of the quoting enclave, in the header and in its report.
pub(crate) const QE_SVN: u16 = 8;

const QUOTE_VERSION: u16 = 3;
const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
const TEE_SGX: u32 = 0;
/// Intel's quoting enclave vendor id, 939A7233-F79C-4CA9-940A-0DB3957F0607.
const INTEL_VENDOR_ID: [u8; 16] =
    [0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07];
/// Certification data type: PEM of PCK leaf, PCK CA and root.
const CERTIFICATION_PEM_CHAIN: u16 = 5;

/// What Intel's quoting enclave puts here: the bytes 0 to 31.
const QE_AUTH_DATA: [u8; 32] = {
    let mut data = [0; 32];
    let mut i = 0;
    while i < data.len() {
        data[i] = i as u8;
        i += 1;
    }
    data
};

const HEADER_LEN: usize = 48;
/// Everything between the header and the certification data.
const FIXED_LEN: usize = HEADER_LEN + REPORT_BODY_LEN + 4 + 64 + 64 + REPORT_BODY_LEN + 64 + 2 + QE_AUTH_DATA.len() + 6;

/// Length of the quotes that carry `pck_chain`.
pub(crate) fn quote_len(pck_chain: &str) -> usize {
    FIXED_LEN + pck_chain.len()
}

/// Quotes `identity` with `report_data`, certified by `pck_chain` (PEM, leaf first).
pub(crate) fn quote(
    keys: &Keys,
    pck_chain: &str,
    identity: &EnclaveIdentity,
    report_data: &[u8; 64],
) -> Result<Vec<u8>, IssueError> {
    let mut quote = Vec::with_capacity(quote_len(pck_chain));
    quote.extend(QUOTE_VERSION.to_le_bytes());
    quote.extend(ATTESTATION_KEY_ECDSA_P256.to_le_bytes());
    quote.extend(TEE_SGX.to_le_bytes());
    quote.extend(QE_SVN.to_le_bytes());
    quote.extend(PCE_SVN.to_le_bytes());
    quote.extend(INTEL_VENDOR_ID);
    quote.extend([0; 20]);
    quote.extend(identity.report_body(report_data));
    let signature = keys.attestation.sign_fixed(&quote)?;

    let attestation_key = keys.attestation.public_point();
    let qe_report = quoting_enclave().quoting_report_body(&qe_report_data(attestation_key));
    let mut auth = Vec::with_capacity(FIXED_LEN + pck_chain.len());
    auth.extend(signature.as_ref());
    auth.extend(attestation_key);
    auth.extend(qe_report);
    auth.extend(keys.pck.sign_fixed(&qe_report)?.as_ref());
    auth.extend((QE_AUTH_DATA.len() as u16).to_le_bytes());
    auth.extend(QE_AUTH_DATA);
    auth.extend(CERTIFICATION_PEM_CHAIN.to_le_bytes());
    auth.extend((pck_chain.len() as u32).to_le_bytes());
    auth.extend(pck_chain.as_bytes());

    quote.extend((auth.len() as u32).to_le_bytes());
    quote.extend(auth);
    Ok(quote)
}

/// The software platform's quoting enclave. Its measurements are hashes of what it is called.
pub(crate) fn quoting_enclave() -> EnclaveIdentity {
    EnclaveIdentity::quoting_enclave(
        sha256(b"Software TEE quoting enclave (NOT HARDWARE)"),
        sha256(b"Software TEE quoting enclave signer (NOT HARDWARE)"),
        QE_SVN,
    )
}

/// Binds the attestation key into the quoting enclave's report: SHA-256(key || auth data), then zeros.
fn qe_report_data(attestation_key: &[u8]) -> [u8; 64] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(attestation_key);
    context.update(&QE_AUTH_DATA);
    let mut data = [0; 64];
    data[..32].copy_from_slice(context.finish().as_ref());
    data
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}
