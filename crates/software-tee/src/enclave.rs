//! Who an enclave is, and the report body that says so (Intel SDM volume 3D, "REPORT").

/// Security version of the software platform's CPU, the highest that a key request may name.
pub const CPU_SVN: [u8; 16] = [5; 16];

/// Security version of the software platform's provisioning certification enclave.
pub const PCE_SVN: u16 = 13;

/// Length of a report body in bytes.
pub const REPORT_BODY_LEN: usize = 384;

/// ATTRIBUTES.FLAGS.INIT: the enclave was initialised.
const FLAG_INIT: u64 = 1;
/// ATTRIBUTES.FLAGS.DEBUG: a debugger may read the enclave.
const FLAG_DEBUG: u64 = 1 << 1;
/// ATTRIBUTES.FLAGS.MODE64BIT.
const FLAG_MODE64BIT: u64 = 1 << 2;
/// ATTRIBUTES.FLAGS.PROVISIONKEY: may derive provisioning keys, which only the quoting enclave does.
const FLAG_PROVISION_KEY: u64 = 1 << 4;

/// ATTRIBUTES.XFRM: x87, SSE, AVX and AVX-512 state.
const XFRM: u64 = 0xE7;

/// What the processor knows about an enclave; for a simulated one, what the simulator measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveIdentity {
    /// MRENCLAVE, the hash of what runs.
    pub mr_enclave: [u8; 32],
    /// MRSIGNER, SHA-256 of the signer's RSA modulus, little-endian.
    pub mr_signer: [u8; 32],
    /// ISVPRODID, chosen by the signer.
    pub isv_prod_id: u16,
    /// ISVSVN, the security version chosen by the signer.
    pub isv_svn: u16,
    /// ATTRIBUTES.FLAGS.DEBUG.
    pub debug: bool,
}

impl EnclaveIdentity {
    /// ATTRIBUTES: flags and XFRM, little-endian.
    pub(crate) fn attributes(&self) -> [u8; 16] {
        attributes(FLAG_INIT | FLAG_MODE64BIT | if self.debug { FLAG_DEBUG } else { 0 })
    }

    /// The body of a report over `report_data`, as `EREPORT` writes it.
    pub fn report_body(&self, report_data: &[u8; 64]) -> [u8; REPORT_BODY_LEN] {
        report_body(self, &self.attributes(), report_data)
    }

    /// The quoting enclave of the software platform with security version `isv_svn`.
    pub(crate) fn quoting_enclave(mr_enclave: [u8; 32], mr_signer: [u8; 32], isv_svn: u16) -> Self {
        Self { mr_enclave, mr_signer, isv_prod_id: 1, isv_svn, debug: false }
    }

    /// The report body of this identity as a quoting enclave.
    pub(crate) fn quoting_report_body(&self, report_data: &[u8; 64]) -> [u8; REPORT_BODY_LEN] {
        let attributes = attributes(FLAG_INIT | FLAG_MODE64BIT | FLAG_PROVISION_KEY);
        report_body(self, &attributes, report_data)
    }
}

fn attributes(flags: u64) -> [u8; 16] {
    let mut attributes = [0; 16];
    attributes[..8].copy_from_slice(&flags.to_le_bytes());
    attributes[8..].copy_from_slice(&XFRM.to_le_bytes());
    attributes
}

fn report_body(identity: &EnclaveIdentity, attributes: &[u8; 16], report_data: &[u8; 64]) -> [u8; REPORT_BODY_LEN] {
    let mut body = [0; REPORT_BODY_LEN];
    body[..16].copy_from_slice(&CPU_SVN);
    body[48..64].copy_from_slice(attributes);
    body[64..96].copy_from_slice(&identity.mr_enclave);
    body[128..160].copy_from_slice(&identity.mr_signer);
    body[256..258].copy_from_slice(&identity.isv_prod_id.to_le_bytes());
    body[258..260].copy_from_slice(&identity.isv_svn.to_le_bytes());
    body[320..].copy_from_slice(report_data);
    body
}
