//! The development PKI: root, PCK CA, PCK and TCB signing certificates, with the shape of Intel's.

use aws_lc_rs::digest;
use rustls_pki_types::UnixTime;
use x509_cert::name::Name;

use crate::error::IssueError;
use crate::pck_extension::{PlatformIds, pck_extension};
use crate::seed::{Seed, SigningKey};
use crate::x509::{self, CertificateSpec, Issuer, Role};

/// Which of the two PCK CAs certified the platform. Verifiers tell them apart by the CA's common name, and fetch
/// another CRL for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PckCa {
    /// Multi-package platforms; the PCK certificate carries platform instance id and configuration.
    #[default]
    Platform,
    /// Single-package platforms.
    Processor,
}

impl PckCa {
    /// The word in the CA's common name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Processor => "Processor",
        }
    }

    /// The word in file names and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// All keys of one software platform and of its vendor.
pub(crate) struct Keys {
    pub(crate) root: SigningKey,
    pub(crate) pck_ca: SigningKey,
    pub(crate) pck: SigningKey,
    pub(crate) tcb_signing: SigningKey,
    pub(crate) attestation: SigningKey,
}

impl Keys {
    pub(crate) fn derive(seed: &Seed) -> Result<Self, IssueError> {
        Ok(Self {
            root: seed.signing_key("root CA")?,
            pck_ca: seed.signing_key("PCK CA")?,
            pck: seed.signing_key("PCK")?,
            tcb_signing: seed.signing_key("TCB signing")?,
            attestation: seed.signing_key("attestation key")?,
        })
    }

    /// Eight hexadecimal digits of the root's public key, which tell one development root from another in names.
    fn root_id(&self) -> String {
        hex::encode(&digest::digest(&digest::SHA256, self.root.public_point()).as_ref()[..4])
    }

    /// 16 bytes that belong to `label` under this root. They are public: whoever has the root can compute them.
    fn public_id(&self, label: &str) -> [u8; 16] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(label.as_bytes());
        context.update(&[0]);
        context.update(self.root.public_point());
        let mut id = [0; 16];
        id.copy_from_slice(&context.finish().as_ref()[..16]);
        id
    }

    /// Serial number of the certificate with `label`: positive, 16 bytes, without a leading zero byte.
    fn serial(&self, label: &str) -> [u8; 16] {
        let mut serial = self.public_id(label);
        serial[0] = serial[0] & 0x7F | 0x40;
        serial
    }

    pub(crate) fn root_serial(&self) -> [u8; 16] {
        self.serial("serial of root CA")
    }

    /// Both PCK CAs have the same issuer, so their serial numbers differ.
    pub(crate) fn pck_ca_serial(&self, ca: PckCa) -> [u8; 16] {
        self.serial(match ca {
            PckCa::Platform => "serial of PCK CA",
            PckCa::Processor => "serial of PCK Processor CA",
        })
    }

    /// The serial number of the only platform with this FMSPC.
    pub(crate) fn pck_serial(&self, fmspc: &[u8; 6]) -> [u8; 16] {
        self.serial(&format!("serial of PCK {}", hex::encode(fmspc)))
    }

    pub(crate) fn tcb_signing_serial(&self) -> [u8; 16] {
        self.serial("serial of TCB signing")
    }

    /// The root as issuer of the PCK CA, of the TCB signing certificate and of a CRL.
    pub(crate) fn root_issuer(&self) -> Result<Issuer<'_>, IssueError> {
        Ok(Issuer { name: self.root_name()?, key: &self.root })
    }

    /// The PCK CA as issuer of the PCK certificate and of a CRL.
    pub(crate) fn pck_ca_issuer(&self, ca: PckCa) -> Result<Issuer<'_>, IssueError> {
        Ok(Issuer { name: self.pck_ca_name(ca)?, key: &self.pck_ca })
    }

    fn root_name(&self) -> Result<Name, IssueError> {
        x509::name(&format!("Software TEE Root CA {}", self.root_id()))
    }

    fn pck_ca_name(&self, ca: PckCa) -> Result<Name, IssueError> {
        x509::name(&format!("Software TEE PCK {} CA {}", ca.word(), self.root_id()))
    }
}

/// The certificates of a development root, DER.
pub(crate) struct Certificates {
    pub(crate) root: Vec<u8>,
    pub(crate) pck_ca: Vec<u8>,
    pub(crate) pck: Vec<u8>,
    pub(crate) tcb_signing: Vec<u8>,
}

impl Certificates {
    /// Issues all certificates with one validity.
    pub(crate) fn issue(
        keys: &Keys,
        ca: PckCa,
        fmspc: &[u8; 6],
        not_before: UnixTime,
        not_after: UnixTime,
    ) -> Result<Self, IssueError> {
        let root = keys.root_issuer()?;
        let spec = |serial, subject, key, role| CertificateSpec { serial, subject, key, role, not_before, not_after };
        Ok(Self {
            root: root.certificate(spec(
                &keys.root_serial(),
                keys.root_name()?,
                &keys.root,
                Role::Ca { path_len: 1 },
            ))?,
            pck_ca: pck_ca(keys, ca, not_before, not_after)?,
            pck: pck(keys, ca, fmspc, not_before, not_after)?,
            tcb_signing: root.certificate(spec(
                &keys.tcb_signing_serial(),
                x509::name("Software TEE TCB Signing")?,
                &keys.tcb_signing,
                Role::Signer { further: Vec::new() },
            ))?,
        })
    }
}

/// The certificate of a PCK CA, DER. Both CAs have the same key.
pub(crate) fn pck_ca(keys: &Keys, ca: PckCa, not_before: UnixTime, not_after: UnixTime) -> Result<Vec<u8>, IssueError> {
    keys.root_issuer()?.certificate(CertificateSpec {
        serial: &keys.pck_ca_serial(ca),
        subject: keys.pck_ca_name(ca)?,
        key: &keys.pck_ca,
        role: Role::Ca { path_len: 0 },
        not_before,
        not_after,
    })
}

/// The certificate of the platform with this FMSPC, DER.
pub(crate) fn pck(
    keys: &Keys,
    ca: PckCa,
    fmspc: &[u8; 6],
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    let ids = PlatformIds {
        ppid: keys.public_id("PPID"),
        instance_id: keys.public_id("platform instance id"),
        fmspc: *fmspc,
    };
    keys.pck_ca_issuer(ca)?.certificate(CertificateSpec {
        serial: &keys.pck_serial(fmspc),
        subject: x509::name("Software TEE PCK Certificate")?,
        key: &keys.pck,
        role: Role::Signer { further: vec![pck_extension(ca, &ids)?] },
        not_before,
        not_after,
    })
}
