//! Which roots a verifier trusts, and of which class they are.

use std::fmt;

use aws_lc_rs::digest;
use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_cert::Certificate;

use crate::pck::certificate_validity;

/// The Intel SGX Root CA in DER; where it comes from stands in `roots/README.md`.
pub const INTEL_SGX_ROOT_CA: &[u8] = include_bytes!("../roots/intel-sgx-root-ca.der");

/// How many software roots a verifier may have; each costs a try at verification.
pub const MAX_SOFTWARE_ROOTS: usize = 16;

/// What stands behind a root: the hardware of a vendor, or a software TEE for development.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrustClass {
    /// Evidence under a root of a silicon vendor.
    Hardware,
    /// Evidence of the same form under a development root. It protects nothing.
    Software,
}

impl TrustClass {
    /// The lower-case name, for status, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
        }
    }
}

impl fmt::Display for TrustClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why roots cannot be used.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// A store for software TEEs needs at least one root.
    #[error("expected at least one software root, got none")]
    NoRoots,
    /// There are too many roots.
    #[error("expected at most {max} software roots, got {got}")]
    TooMany {
        /// The limit.
        max: usize,
        /// What was given.
        got: usize,
    },
    /// The bytes are not a certificate.
    #[error("software root {name:?} is not a DER certificate")]
    Malformed {
        /// The given name.
        name: String,
    },
    /// A vendor's key was given as a software root.
    #[error("software root {name:?} is a vendor's hardware root")]
    HardwareRoot {
        /// The given name.
        name: String,
    },
    /// The same root was given twice.
    #[error("software root {name:?} was given twice")]
    Duplicate {
        /// The second name.
        name: String,
    },
}

impl RootError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::HardwareRoot { .. } => {
                Some("leave the software roots away: without them exactly the hardware roots are trusted")
            }
            Self::Malformed { .. } => Some("convert a PEM file first: openssl x509 -in FILE -outform DER"),
            Self::NoRoots | Self::TooMany { .. } | Self::Duplicate { .. } => None,
        }
    }
}

/// One trusted root certificate.
#[derive(Clone)]
pub struct TrustRoot {
    name: String,
    der: CertificateDer<'static>,
    sha256: [u8; 32],
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl TrustRoot {
    fn from_der(name: &str, der: &[u8]) -> Result<Self, RootError> {
        let malformed = || RootError::Malformed { name: name.to_owned() };
        let der = CertificateDer::from(der.to_vec());
        let certificate = Certificate::from_der(&der).map_err(|_| malformed())?;
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| malformed())?.to_owned();
        let (not_before, not_after) = certificate_validity(&certificate);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, &der).as_ref());
        // The certificate library compares serial numbers as it reads them, so take its reading.
        let serial = webpki::EndEntityCert::try_from(&der).map_err(|_| malformed())?.serial().to_vec();
        Ok(Self { name: name.to_owned(), sha256, anchor, serial, not_before, not_after, der })
    }

    fn same_key(&self, other: &Self) -> bool {
        self.anchor.subject_public_key_info == other.anchor.subject_public_key_info
    }

    /// The name under which it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({:?}, sha256 {})", self.name, hex::encode(self.sha256))
    }
}

/// The roots of one verifier. They are of exactly one [`TrustClass`].
#[derive(Clone, Debug)]
pub struct TrustRoots {
    class: TrustClass,
    roots: Vec<TrustRoot>,
}

impl TrustRoots {
    /// The vendors' roots, and nothing else.
    pub fn hardware() -> Self {
        Self { class: TrustClass::Hardware, roots: vec![intel_root()] }
    }

    /// The given development roots (name, DER certificate), and nothing else.
    ///
    /// # Errors
    ///
    /// A vendor's root is refused even here: a verifier for software TEEs must never accept hardware evidence. The
    /// key decides, so that another certificate of the same key does not help.
    pub fn software<'a>(roots: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, RootError> {
        let intel = intel_root();
        let mut known: Vec<TrustRoot> = Vec::new();
        for (name, der) in roots {
            let root = TrustRoot::from_der(name, der)?;
            if root.same_key(&intel) {
                return Err(RootError::HardwareRoot { name: name.to_owned() });
            }
            if known.iter().any(|other| other.der == root.der) {
                return Err(RootError::Duplicate { name: name.to_owned() });
            }
            known.push(root);
        }
        match known.len() {
            0 => Err(RootError::NoRoots),
            1..=MAX_SOFTWARE_ROOTS => Ok(Self { class: TrustClass::Software, roots: known }),
            got => Err(RootError::TooMany { max: MAX_SOFTWARE_ROOTS, got }),
        }
    }

    /// What the roots stand for.
    pub fn class(&self) -> TrustClass {
        self.class
    }

    /// The roots, in the order in which they were given.
    pub fn roots(&self) -> &[TrustRoot] {
        &self.roots
    }

    /// SHA-256 of each root's DER, sorted, so that equal sets of roots give equal lists.
    pub fn sha256_sorted(&self) -> Vec<[u8; 32]> {
        let mut hashes: Vec<_> = self.roots.iter().map(TrustRoot::sha256).collect();
        hashes.sort_unstable();
        hashes
    }

    pub(crate) fn contains(&self, der: &CertificateDer<'_>) -> bool {
        self.roots.iter().any(|root| root.der == *der)
    }
}

fn intel_root() -> TrustRoot {
    TrustRoot::from_der("Intel SGX Root CA", INTEL_SGX_ROOT_CA)
        .expect("the embedded certificate parses; a test reads it")
}

/// What an unproven root certificate looks like. Only good for a better message: the bytes may be anybody's.
pub(crate) fn looks_like(der: &CertificateDer<'_>) -> Option<TrustClass> {
    if der.as_ref() == INTEL_SGX_ROOT_CA {
        return Some(TrustClass::Hardware);
    }
    let certificate = Certificate::from_der(der).ok()?;
    let subject = certificate.tbs_certificate().subject().to_der().ok()?;
    let marker = b"Software TEE";
    subject.windows(marker.len()).any(|window| window == marker).then_some(TrustClass::Software)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_root_is_intels() {
        let roots = TrustRoots::hardware();
        assert_eq!(roots.class(), TrustClass::Hardware);
        assert_eq!(
            hex::encode(roots.roots()[0].sha256()),
            "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
        );
        assert_eq!(looks_like(roots.roots()[0].der()), Some(TrustClass::Hardware));
    }

    // rules: ATT-7.7
    #[test]
    fn intels_root_is_refused_as_a_software_root() {
        let error = TrustRoots::software([("mine", INTEL_SGX_ROOT_CA)]).unwrap_err();
        assert_eq!(error, RootError::HardwareRoot { name: "mine".to_owned() });
    }

    #[test]
    fn another_certificate_of_intels_key_is_refused_as_a_software_root() {
        // The last byte belongs to the self-signature: another file, the same key.
        let mut der = INTEL_SGX_ROOT_CA.to_vec();
        *der.last_mut().unwrap() ^= 1;
        let error = TrustRoots::software([("mine", der.as_slice())]).unwrap_err();
        assert_eq!(error, RootError::HardwareRoot { name: "mine".to_owned() });
    }

    #[test]
    fn a_software_store_without_roots_or_with_garbage_is_refused() {
        assert_eq!(TrustRoots::software([]).unwrap_err(), RootError::NoRoots);
        let error = TrustRoots::software([("x", b"garbage".as_slice())]).unwrap_err();
        assert_eq!(error, RootError::Malformed { name: "x".to_owned() });
    }
}
