//! What the log remembers: one record for each change of the state, as protobuf.
//!
//! The state is the result of applying all records in order, live and after a restart alike. Field numbers are never
//! reused, fields are only added; a record of a kind that this version does not know is refused with its number.
//! Encrypting, chaining and flushing records is not done here.

mod update;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use marblerun_attestation::{EvaluationNumbers, Fmspc, Tee, TrustedCollateral};
use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;
use prost::Message;
use rustls_pki_types::UnixTime;
use thiserror::Error;
use zeroize::Zeroize;

use crate::counter::{CounterRaised, MarbleName};
use crate::secret::Secret;

pub use self::update::{
    Authority, ManifestUpdated, PackagesUpdated, PreviousValue, UpdateAcknowledged, UpdateCancelled, UpdateInitiated,
    UpdatedSecret,
};
use self::update::{
    ManifestUpdatedWire, PackagesUpdatedWire, UpdateAcknowledgedWire, UpdateCancelledWire, UpdateInitiatedWire,
};

/// One change of the state.
#[derive(Debug)]
#[non_exhaustive]
pub enum Record {
    /// The deployment's identity was made; always the first record.
    Genesis(Genesis),
    /// The first manifest was set.
    ManifestSet(ManifestSet),
    /// One unit of a Marble type's activation budget was used.
    ActivationCounted {
        /// The Marble type.
        marble_type: String,
    },
    /// Collateral was trusted that is newer than all before it.
    CollateralAccepted(CollateralAccepted),
    /// A user set the values of secrets.
    SecretsSet(SecretsSet),
    /// A Marble raised one of its counters.
    CounterRaised(CounterRaised),
    /// Security versions of packages were set.
    PackagesUpdated(PackagesUpdated),
    /// A full update waits for acknowledgements.
    UpdateInitiated(UpdateInitiated),
    /// A user agreed to the pending update, or repeated that.
    UpdateAcknowledged(UpdateAcknowledged),
    /// The pending update ended without taking effect.
    UpdateCancelled(UpdateCancelled),
    /// Another manifest took the place of the one before.
    ManifestUpdated(ManifestUpdated),
}

/// The keys and certificates that a deployment is known by.
#[derive(Debug)]
pub struct Genesis {
    /// PKCS#8 of the root key.
    pub root_key: SecretBytes,
    /// DER of the root certificate.
    pub root_certificate: Vec<u8>,
    /// PKCS#8 of the intermediate key, which is also the key of the Marble root certificate.
    pub intermediate_key: SecretBytes,
    /// DER of the intermediate certificate.
    pub intermediate_certificate: Vec<u8>,
    /// DER of the Marble root certificate.
    pub marble_root_certificate: Vec<u8>,
    /// 32 random bytes from which Marbles' own symmetric keys are derived.
    pub root_secret: SecretBytes,
}

/// The first manifest and all that was made from it.
#[derive(Debug)]
pub struct ManifestSet {
    /// The manifest, byte for byte as uploaded.
    pub raw: Vec<u8>,
    /// ECDSA signature (ASN.1 DER) of the root key over SHA-256 of `raw`.
    pub signature: Vec<u8>,
    /// Every secret of the manifest: values, placeholders, and empty ones for users to fill.
    pub secrets: Vec<(String, Secret)>,
    /// The line of the update log.
    pub log_line: String,
}

/// New values of user-defined secrets; all of one upload.
#[derive(Debug)]
pub struct SecretsSet {
    /// The secrets, definitions included.
    pub secrets: Vec<(String, Arc<Secret>)>,
    /// The lines of the update log.
    pub log_lines: Vec<String>,
}

/// The newest collateral seen for one kind of platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralAccepted {
    /// The kind of TEE.
    pub tee: Tee,
    /// Family of the platform.
    pub fmspc: Fmspc,
    /// The `tcbEvaluationDataNumber` of each part.
    pub numbers: EvaluationNumbers,
    /// Newest issue date inside the collateral.
    pub newest_issue: UnixTime,
}

impl CollateralAccepted {
    /// What `collateral` raises the floor to.
    pub fn of(collateral: &TrustedCollateral) -> Self {
        Self {
            tee: collateral.tee(),
            fmspc: collateral.fmspc(),
            numbers: collateral.evaluation_numbers(),
            newest_issue: collateral.newest_issue(),
        }
    }
}

/// A record that this version cannot read.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// Not a protobuf message of the expected form.
    #[error("record is malformed: {0}")]
    Malformed(String),
    /// Well-formed, but without a kind that this version knows.
    #[error("record is of a kind that this version does not know; a newer version wrote it")]
    UnknownKind,
    /// A secret's previous value becomes something that this version does not know.
    #[error("record says of a previous value what this version does not know: {0}")]
    UnknownPreviousValue(u32),
    /// A secret of a type that this version does not know.
    #[error("record holds a secret of unknown type {0:?}")]
    UnknownSecretType(String),
}

impl Record {
    /// The bytes to seal.
    pub fn encode(&self) -> SecretBytes {
        let wire = RecordWire { kind: Some(self.to_wire()) };
        // `encode_to_vec` allocates the exact length at once, so no copy of a secret stays behind.
        SecretBytes::new(wire.encode_to_vec())
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are not a record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = RecordWire::decode(bytes).map_err(|error| RecordError::Malformed(error.to_string()))?;
        match wire.kind.ok_or(RecordError::UnknownKind)? {
            Kind::Genesis(mut genesis) => Ok(Self::Genesis(Genesis {
                root_key: take_secret(&mut genesis.root_key),
                root_certificate: std::mem::take(&mut genesis.root_certificate),
                intermediate_key: take_secret(&mut genesis.intermediate_key),
                intermediate_certificate: std::mem::take(&mut genesis.intermediate_certificate),
                marble_root_certificate: std::mem::take(&mut genesis.marble_root_certificate),
                root_secret: take_secret(&mut genesis.root_secret),
            })),
            Kind::ManifestSet(set) => Ok(Self::ManifestSet(ManifestSet {
                raw: set.raw,
                signature: set.signature,
                secrets: set.secrets.into_iter().map(secret_from_wire).collect::<Result<_, _>>()?,
                log_line: set.log_line,
            })),
            Kind::ActivationCounted(counted) => Ok(Self::ActivationCounted { marble_type: counted.marble_type }),
            Kind::CollateralAccepted(accepted) => collateral_from_wire(&accepted).map(Self::CollateralAccepted),
            Kind::CounterRaised(raised) => Ok(Self::CounterRaised(CounterRaised {
                marble: MarbleName { marble_type: raised.marble_type, uuid: raised.uuid },
                name: raised.name,
                value: raised.value,
            })),
            Kind::SecretsSet(set) => Ok(Self::SecretsSet(SecretsSet {
                secrets: set.secrets.into_iter().map(shared_from_wire).collect::<Result<_, _>>()?,
                log_lines: set.log_lines,
            })),
            Kind::PackagesUpdated(update) => update.try_into().map(Self::PackagesUpdated),
            Kind::UpdateInitiated(update) => Ok(Self::UpdateInitiated(update.into())),
            Kind::UpdateAcknowledged(update) => Ok(Self::UpdateAcknowledged(update.into())),
            Kind::UpdateCancelled(update) => Ok(Self::UpdateCancelled(update.into())),
            Kind::ManifestUpdated(update) => update.try_into().map(Self::ManifestUpdated),
        }
    }

    fn to_wire(&self) -> Kind {
        match self {
            Self::Genesis(genesis) => Kind::Genesis(GenesisWire {
                root_key: genesis.root_key.expose().to_vec(),
                root_certificate: genesis.root_certificate.clone(),
                intermediate_key: genesis.intermediate_key.expose().to_vec(),
                intermediate_certificate: genesis.intermediate_certificate.clone(),
                marble_root_certificate: genesis.marble_root_certificate.clone(),
                root_secret: genesis.root_secret.expose().to_vec(),
            }),
            Self::ManifestSet(set) => Kind::ManifestSet(ManifestSetWire {
                raw: set.raw.clone(),
                signature: set.signature.clone(),
                secrets: set.secrets.iter().map(|(name, secret)| secret_to_wire(name, secret)).collect(),
                log_line: set.log_line.clone(),
            }),
            Self::ActivationCounted { marble_type } => {
                Kind::ActivationCounted(ActivationCountedWire { marble_type: marble_type.clone() })
            }
            Self::CollateralAccepted(accepted) => Kind::CollateralAccepted(CollateralAcceptedWire {
                tee: tee_number(accepted.tee),
                fmspc: accepted.fmspc.0.to_vec(),
                tcb_info: accepted.numbers.tcb_info,
                qe_identity: accepted.numbers.qe_identity,
                newest_issue: accepted.newest_issue.as_secs(),
            }),
            Self::CounterRaised(raised) => Kind::CounterRaised(CounterRaisedWire {
                marble_type: raised.marble.marble_type.clone(),
                uuid: raised.marble.uuid.clone(),
                name: raised.name.clone(),
                value: raised.value,
            }),
            Self::SecretsSet(set) => Kind::SecretsSet(SecretsSetWire {
                secrets: set.secrets.iter().map(|(name, secret)| secret_to_wire(name, secret)).collect(),
                log_lines: set.log_lines.clone(),
            }),
            Self::PackagesUpdated(update) => Kind::PackagesUpdated(update.into()),
            Self::UpdateInitiated(update) => Kind::UpdateInitiated(update.into()),
            Self::UpdateAcknowledged(update) => Kind::UpdateAcknowledged(update.into()),
            Self::UpdateCancelled(update) => Kind::UpdateCancelled(update.into()),
            Self::ManifestUpdated(update) => Kind::ManifestUpdated(update.into()),
        }
    }
}

/// The number of a TEE in records.
const SGX: u32 = 1;

fn tee_number(tee: Tee) -> u32 {
    match tee {
        Tee::Sgx => SGX,
        // The type is open for more; each gets its number together with its verifier.
        _ => 0,
    }
}

fn collateral_from_wire(wire: &CollateralAcceptedWire) -> Result<CollateralAccepted, RecordError> {
    if wire.tee != SGX {
        return Err(RecordError::UnknownKind);
    }
    let fmspc = wire
        .fmspc
        .as_slice()
        .try_into()
        .map_err(|_| RecordError::Malformed(format!("expected an FMSPC of 6 bytes, got {}", wire.fmspc.len())))?;
    Ok(CollateralAccepted {
        tee: Tee::Sgx,
        fmspc: Fmspc(fmspc),
        numbers: EvaluationNumbers { tcb_info: wire.tcb_info, qe_identity: wire.qe_identity },
        newest_issue: UnixTime::since_unix_epoch(Duration::from_secs(wire.newest_issue)),
    })
}

fn take_secret(bytes: &mut Vec<u8>) -> SecretBytes {
    SecretBytes::new(std::mem::take(bytes))
}

fn secret_to_wire(name: &str, secret: &Secret) -> SecretWire {
    let expose = |bytes: &Option<SecretBytes>| bytes.as_ref().map(|bytes| bytes.expose().to_vec());
    SecretWire {
        name: name.to_owned(),
        secret_type: secret.secret_type.as_str().to_owned(),
        size: secret.size,
        shared: secret.shared,
        user_defined: secret.user_defined,
        valid_for: secret.valid_for,
        certificate: secret.certificate.clone(),
        private: expose(&secret.private),
        public: expose(&secret.public),
    }
}

fn shared_from_wire(wire: SecretWire) -> Result<(String, Arc<Secret>), RecordError> {
    secret_from_wire(wire).map(|(name, secret)| (name, Arc::new(secret)))
}

fn secret_from_wire(mut wire: SecretWire) -> Result<(String, Secret), RecordError> {
    let Some(secret_type) = SecretType::from_word(&wire.secret_type) else {
        return Err(RecordError::UnknownSecretType(wire.secret_type.clone()));
    };
    let secret = Secret {
        secret_type,
        size: wire.size,
        shared: wire.shared,
        user_defined: wire.user_defined,
        valid_for: wire.valid_for,
        certificate: wire.certificate.take(),
        private: wire.private.take().map(SecretBytes::new),
        public: wire.public.take().map(SecretBytes::new),
    };
    Ok((std::mem::take(&mut wire.name), secret))
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RecordWire {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
enum Kind {
    #[prost(message, tag = "1")]
    Genesis(GenesisWire),
    #[prost(message, tag = "2")]
    ManifestSet(ManifestSetWire),
    #[prost(message, tag = "3")]
    ActivationCounted(ActivationCountedWire),
    #[prost(message, tag = "4")]
    CollateralAccepted(CollateralAcceptedWire),
    #[prost(message, tag = "5")]
    SecretsSet(SecretsSetWire),
    #[prost(message, tag = "6")]
    CounterRaised(CounterRaisedWire),
    #[prost(message, tag = "7")]
    PackagesUpdated(PackagesUpdatedWire),
    #[prost(message, tag = "8")]
    UpdateInitiated(UpdateInitiatedWire),
    #[prost(message, tag = "9")]
    UpdateAcknowledged(UpdateAcknowledgedWire),
    #[prost(message, tag = "10")]
    UpdateCancelled(UpdateCancelledWire),
    #[prost(message, tag = "11")]
    ManifestUpdated(ManifestUpdatedWire),
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct GenesisWire {
    #[prost(bytes = "vec", tag = "1")]
    root_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    root_certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    intermediate_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    intermediate_certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    marble_root_certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    root_secret: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct ManifestSetWire {
    #[prost(bytes = "vec", tag = "1")]
    raw: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    secrets: Vec<SecretWire>,
    #[prost(string, tag = "4")]
    log_line: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct SecretsSetWire {
    #[prost(message, repeated, tag = "1")]
    secrets: Vec<SecretWire>,
    #[prost(string, repeated, tag = "2")]
    log_lines: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct SecretWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    secret_type: String,
    #[prost(uint64, tag = "3")]
    size: u64,
    #[prost(bool, tag = "4")]
    shared: bool,
    #[prost(bool, tag = "5")]
    user_defined: bool,
    #[prost(uint64, tag = "6")]
    valid_for: u64,
    #[prost(bytes = "vec", optional, tag = "7")]
    certificate: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    private: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    public: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ActivationCountedWire {
    #[prost(string, tag = "1")]
    marble_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct CounterRaisedWire {
    #[prost(string, tag = "1")]
    marble_type: String,
    #[prost(string, tag = "2")]
    uuid: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint64, tag = "4")]
    value: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CollateralAcceptedWire {
    #[prost(uint32, tag = "1")]
    tee: u32,
    #[prost(bytes = "vec", tag = "2")]
    fmspc: Vec<u8>,
    #[prost(uint32, tag = "3")]
    tcb_info: u32,
    #[prost(uint32, tag = "4")]
    qe_identity: u32,
    #[prost(uint64, tag = "5")]
    newest_issue: u64,
}

impl Drop for GenesisWire {
    fn drop(&mut self) {
        self.root_key.zeroize();
        self.intermediate_key.zeroize();
        self.root_secret.zeroize();
    }
}

impl Drop for SecretWire {
    fn drop(&mut self) {
        self.private.zeroize();
        self.public.zeroize();
    }
}

// prost asks for `Debug` of every message; those that hold secrets say nothing.
macro_rules! silent_debug {
    ($($wire:ty),*) => {$(
        impl fmt::Debug for $wire {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($wire), "([redacted])"))
            }
        }
    )*};
}
use silent_debug;
silent_debug!(RecordWire, Kind, GenesisWire, ManifestSetWire, SecretsSetWire, SecretWire);

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(private: &[u8]) -> Secret {
        Secret {
            secret_type: SecretType::SymmetricKey,
            size: 8 * private.len() as u64,
            shared: true,
            user_defined: false,
            valid_for: 0,
            certificate: None,
            private: Some(SecretBytes::copy_from(private)),
            public: Some(SecretBytes::copy_from(private)),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record::ManifestSet(ManifestSet {
            raw: b"{}".to_vec(),
            signature: vec![1, 2],
            secrets: vec![("k".to_owned(), secret(b"0123456789abcdef"))],
            log_line: "{}".to_owned(),
        });
        let Ok(Record::ManifestSet(read)) = Record::decode(record.encode().expose()) else { panic!("another kind") };
        assert_eq!((read.raw.as_slice(), read.signature.as_slice()), (&b"{}"[..], &[1, 2][..]));
        let (name, secret) = &read.secrets[0];
        assert_eq!((name.as_str(), secret.size, secret.shared), ("k", 128, true));
        assert_eq!(secret.private.as_ref().map(SecretBytes::expose), Some(&b"0123456789abcdef"[..]));
    }

    #[test]
    fn unset_and_empty_values_stay_apart() {
        let mut empty = secret(b"");
        empty.public = None;
        let record = Record::ManifestSet(ManifestSet {
            raw: Vec::new(),
            signature: Vec::new(),
            secrets: vec![("k".to_owned(), empty)],
            log_line: String::new(),
        });
        let Ok(Record::ManifestSet(read)) = Record::decode(record.encode().expose()) else { panic!("another kind") };
        assert!(read.secrets[0].1.private.as_ref().is_some_and(SecretBytes::is_empty));
        assert!(read.secrets[0].1.public.is_none());
    }

    #[test]
    fn a_record_of_a_later_version_is_refused_as_such() {
        // Field 99, length-delimited and empty: a kind that does not exist yet.
        assert_eq!(Record::decode(&[0x9a, 0x06, 0x00]).unwrap_err(), RecordError::UnknownKind);
    }

    #[test]
    fn a_malformed_record_is_refused() {
        assert!(matches!(Record::decode(&[0x0a, 0x7f, 0x01]).unwrap_err(), RecordError::Malformed(_)));
    }

    #[test]
    fn debug_output_of_records_holds_no_secret() {
        let record = Record::ManifestSet(ManifestSet {
            raw: Vec::new(),
            signature: Vec::new(),
            secrets: vec![("k".to_owned(), secret(b"topsecrettopsecr"))],
            log_line: String::new(),
        });
        let text = format!("{record:?} {:?}", record.to_wire());
        assert!(!text.contains("116, 111, 112"), "{text}");
    }
}
