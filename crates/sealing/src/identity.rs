//! What a sealed state is bound to: deployment, trust, seal mode, place in the chain.

use std::fmt;

use crate::crypto;
use crate::fault::SealError;

/// Random identifier of one deployment, created with its root key and bound into every record and wrapped key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeploymentId([u8; DeploymentId::LEN]);

impl DeploymentId {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// A fresh random identifier.
    ///
    /// # Errors
    /// If the cryptographic provider has no randomness.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self(crypto::random()?))
    }

    /// An identifier that is known already.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The identifier's bytes; they are public.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeploymentId({self})")
    }
}

/// SHA-256 of a complete sealed record; public.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHash(pub(crate) [u8; 32]);

impl RecordHash {
    /// The hash's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordHash({self})")
    }
}

/// SHA-256 of the manifest that a state is under; public, and to this crate just 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ManifestFingerprint([u8; ManifestFingerprint::LEN]);

impl ManifestFingerprint {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A fingerprint that is known already.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The fingerprint's bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for ManifestFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ManifestFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestFingerprint({self})")
    }
}

/// The newest record of a log: public, part of status and attestation statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadInfo {
    /// Number of the data key that seals new records; starts at 1 and never goes back.
    pub epoch: u64,
    /// Number of the newest record; the first record has 1.
    pub sequence: u64,
    /// Hash of the newest record.
    pub hash: RecordHash,
}

/// Which evidence the Coordinator trusts; a state made under one class never opens under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustClass {
    /// The vendors' roots.
    Hardware,
    /// Named development roots.
    Software,
    /// No evidence at all.
    Simulation,
}

impl TrustClass {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Hardware => 1,
            Self::Software => 2,
            Self::Simulation => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Hardware),
            2 => Some(Self::Software),
            3 => Some(Self::Simulation),
            _ => None,
        }
    }
}

impl fmt::Display for TrustClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Simulation => "simulation",
        })
    }
}

/// The trust that a state is bound to: class and the SHA-256 hashes of the trusted roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustContext {
    class: TrustClass,
    root_hashes: Vec<[u8; 32]>,
}

impl TrustContext {
    /// Binds to `class` and `root_hashes`; order and repetition of the hashes do not matter.
    pub fn new(class: TrustClass, mut root_hashes: Vec<[u8; 32]>) -> Self {
        root_hashes.sort_unstable();
        root_hashes.dedup();
        Self { class, root_hashes }
    }

    /// The class.
    pub fn class(&self) -> TrustClass {
        self.class
    }

    /// One value for class and roots, authenticated with every wrapped key.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut input = Vec::with_capacity(32 + 32 * self.root_hashes.len());
        input.extend_from_slice(b"marblerun trust v1\0");
        input.push(self.class.to_byte());
        for hash in &self.root_hashes {
            input.extend_from_slice(hash);
        }
        crypto::sha256(&[&input])
    }
}

/// Which TEE key protects a state on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealPolicy {
    /// Any enclave of the same signer and product with sufficient security version (SGX: MRSIGNER).
    ProductKey,
    /// Only an enclave of the same measurement (SGX: MRENCLAVE).
    UniqueKey,
}

impl SealPolicy {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::ProductKey => 1,
            Self::UniqueKey => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ProductKey),
            2 => Some(Self::UniqueKey),
            _ => None,
        }
    }
}

impl fmt::Display for SealPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProductKey => "ProductKey",
            Self::UniqueKey => "UniqueKey",
        })
    }
}

/// The manifest's `Config.SealMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMode {
    /// State is written, protected by a key of this policy.
    Sealed(SealPolicy),
    /// State lives in memory only; what was written before is removed.
    Disabled,
}

impl Default for SealMode {
    /// An empty `SealMode` means the product key.
    fn default() -> Self {
        Self::Sealed(SealPolicy::ProductKey)
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_digest_ignores_order_but_not_class_or_roots() {
        let digest = |class, roots: &[[u8; 32]]| TrustContext::new(class, roots.to_vec()).digest();
        let (a, b) = ([1; 32], [2; 32]);
        assert_eq!(digest(TrustClass::Software, &[a, b]), digest(TrustClass::Software, &[b, a, a]));
        assert_ne!(digest(TrustClass::Software, &[a, b]), digest(TrustClass::Software, &[a]));
        assert_ne!(digest(TrustClass::Software, &[]), digest(TrustClass::Hardware, &[]));
    }
}
