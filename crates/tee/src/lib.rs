//! The TEE that this process runs in: which one it is, evidence about ourselves, seal keys, and the trust class that
//! the measured image chose.
//!
//! Nothing here reads the environment or falls back quietly. Where there is a TEE it is used or the call fails;
//! simulation exists only where no TEE is found *and* the program asks for it. The crate does not know how evidence is
//! verified, and of software roots it knows no more than how to read them from `trust.json`.

mod image_json;
mod occlum;
mod runtime;
mod seal;
mod trust;

use std::path::Path;
use std::time::Duration;

use marblerun_linux::sgx::SgxDevice;
use marblerun_secret::SecretBytes;

pub use image_json::parse_object;
pub use occlum::{EvidenceError, Identity, Occlum, Sgx};
pub use runtime::{Runtime, runtime};
pub use seal::{SealError, SealKeyId, SealPolicy};
pub use trust::{TRUST_PATH, TrustClass, TrustError, TrustPolicy, read_trust};

/// Bytes of report data that go into evidence.
pub const REPORT_DATA_LEN: usize = 64;

/// How often and how long a failing quote is tried again.
///
/// Occlum reports a busy quoting enclave with the same errno as every other failure, so a few tries are worthwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Number of tries, the first included; 0 counts as 1.
    pub tries: u32,
    /// Pause between two tries.
    pub pause: Duration,
}

impl Default for RetryPolicy {
    /// Four tries within a second.
    fn default() -> Self {
        Self { tries: 4, pause: Duration::from_millis(300) }
    }
}

/// Why no TEE can be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TeeError {
    /// Neither a TEE nor a request for simulation.
    #[error("no TEE found: this is {found}")]
    NotFound {
        /// What `uname` says.
        found: String,
    },
    /// The environment asks for simulation inside a TEE. The host chooses the environment, so it cannot be obeyed.
    #[error("simulation was requested with OE_SIMULATION={value} inside {tee}")]
    SimulationInsideTee {
        /// The TEE that was found.
        tee: &'static str,
        /// What the variable says.
        value: String,
    },
    /// `OE_SIMULATION` holds neither 0 nor 1.
    #[error("OE_SIMULATION: expected 0 or 1, got {value:?}")]
    SimulationValue {
        /// What the variable says.
        value: String,
    },
    /// A TEE that this build cannot use yet.
    #[error("expected Occlum, got {tee}")]
    Unsupported {
        /// The TEE that was found.
        tee: &'static str,
    },
    /// The TEE's device cannot be opened.
    #[error("Occlum found, but /dev/sgx cannot be opened")]
    Device(#[source] std::io::Error),
    /// The TEE does not issue evidence.
    #[error("Occlum found, but it issues no quotes")]
    NoQuotes(#[source] EvidenceError),
    /// `uname` failed.
    #[error("the kernel does not say what it is")]
    Uname(#[source] std::io::Error),
}

impl TeeError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some(
                "run it in Occlum or in marble-sim; OE_SIMULATION=1 starts it without a TEE, unprotected, for \
                 development",
            ),
            Self::SimulationInsideTee { .. } => Some("remove OE_SIMULATION from the environment of the enclave"),
            Self::SimulationValue { .. } => Some("set OE_SIMULATION=1 for simulation or remove it"),
            Self::Device(_) => Some("Occlum.json must not hide /dev: the devfs mount is made by default"),
            Self::NoQuotes(error) => error.hint(),
            Self::Unsupported { .. } | Self::Uname(_) => None,
        }
    }
}

/// The TEE of this process, or its simulation.
#[derive(Debug)]
pub enum Tee {
    /// The Occlum LibOS in an SGX enclave.
    Occlum(Occlum<SgxDevice>),
    /// No TEE, and the operator asked for that: no evidence, an all-zero seal key, no protection.
    Simulation,
}

/// Finds the TEE of this process.
///
/// `oe_simulation` is the value of the variable `OE_SIMULATION`, `None` where it is unset; empty and `0` count as
/// unset. Inside a TEE any other value is refused, because the host could set it.
///
/// # Errors
/// See [`TeeError`]. In particular a TEE that does not answer is an error and never becomes a simulation.
pub fn detect(oe_simulation: Option<&str>) -> Result<Tee, TeeError> {
    let runtime = runtime().map_err(TeeError::Uname)?;
    if !choose(&runtime, oe_simulation)? {
        return Ok(Tee::Simulation);
    }
    let device = SgxDevice::open(Path::new(SgxDevice::PATH)).map_err(TeeError::Device)?;
    let occlum = Occlum::new(device, RetryPolicy::default());
    // An SDK simulation build of Occlum has the device, but no quotes, and its seal keys can be computed by anybody.
    occlum.quote_size().map_err(TeeError::NoQuotes)?;
    Ok(Tee::Occlum(occlum))
}

/// True for the TEE, false for simulation.
fn choose(runtime: &Runtime, oe_simulation: Option<&str>) -> Result<bool, TeeError> {
    let simulation = oe_simulation.filter(|value| !value.is_empty() && *value != "0");
    let tee = match runtime {
        Runtime::Occlum => "Occlum",
        Runtime::Gramine => "Gramine",
        Runtime::Other { description } => {
            return match simulation {
                Some("1") => Ok(false),
                Some(value) => Err(TeeError::SimulationValue { value: value.to_owned() }),
                None => Err(TeeError::NotFound { found: description.clone() }),
            };
        }
    };
    match (simulation, runtime) {
        (Some(value), _) => Err(TeeError::SimulationInsideTee { tee, value: value.to_owned() }),
        (None, Runtime::Occlum) => Ok(true),
        (None, _) => Err(TeeError::Unsupported { tee }),
    }
}

impl Tee {
    /// Evidence over `report_data`, in the form that goes over the wire; empty in simulation.
    ///
    /// # Errors
    /// See [`EvidenceError`]. A failure concerns this call alone.
    pub fn evidence(&self, report_data: &[u8; REPORT_DATA_LEN]) -> Result<Vec<u8>, EvidenceError> {
        match self {
            Self::Occlum(occlum) => occlum.evidence(report_data),
            Self::Simulation => Ok(Vec::new()),
        }
    }

    /// Which key [`Tee::seal_key`] gives now under `policy`. Not secret; store it beside what the key wraps.
    ///
    /// # Errors
    /// The TEE's refusal to say who we are.
    pub fn current_seal_key_id(&self, policy: SealPolicy) -> Result<SealKeyId, SealError> {
        match self {
            Self::Occlum(occlum) => occlum.current_seal_key_id(policy),
            Self::Simulation => Ok(SealKeyId::simulation(policy)),
        }
    }

    /// The 32-byte seal key that `id` names; all zeros in simulation. Input of a key derivation, not a data key.
    ///
    /// A newer version of the same software on the same machine derives the keys of its predecessors under
    /// [`SealPolicy::Product`]; an older one cannot derive those of its successors.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_key(&self, id: &SealKeyId) -> Result<SecretBytes, SealError> {
        match self {
            Self::Occlum(occlum) => occlum.seal_key(id),
            Self::Simulation => Ok(SecretBytes::new(vec![0; seal::KEY_LEN])),
        }
    }

    /// Who we are, as the TEE says; `None` in simulation.
    ///
    /// # Errors
    /// The TEE's refusal.
    pub fn identity(&self) -> Result<Option<Identity>, EvidenceError> {
        match self {
            Self::Occlum(occlum) => occlum.identity().map(Some),
            Self::Simulation => Ok(None),
        }
    }

    /// The trust policy of this process: what the image's `trust.json` at `path` says in a TEE, simulation otherwise.
    ///
    /// # Errors
    /// See [`TrustError`]; a wrong file is fatal.
    pub fn trust_policy(&self, path: &Path) -> Result<TrustPolicy, TrustError> {
        match self {
            Self::Occlum(_) => read_trust(path),
            // Outside a TEE nothing measured the file, so it means nothing.
            Self::Simulation => Ok(TrustClass::Simulation.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux() -> Runtime {
        Runtime::Other { description: "Linux 6.1".to_owned() }
    }

    // rules: STA-2.13, STA-7.2, R1
    #[test]
    fn simulation_exists_only_without_a_tee_and_on_request() {
        assert!(!choose(&linux(), Some("1")).unwrap());
        for unset in [None, Some(""), Some("0")] {
            let error = choose(&linux(), unset).unwrap_err();
            assert_eq!(error.to_string(), "no TEE found: this is Linux 6.1");
            assert!(error.hint().unwrap().contains("OE_SIMULATION=1"));
        }
    }

    // rules: STA-2.13, STA-7.2, R1
    #[test]
    fn a_simulation_request_inside_a_tee_is_fatal() {
        for value in ["1", "true", "yes"] {
            let error = choose(&Runtime::Occlum, Some(value)).unwrap_err();
            assert!(matches!(error, TeeError::SimulationInsideTee { tee: "Occlum", .. }), "{error}");
            let error = choose(&Runtime::Gramine, Some(value)).unwrap_err();
            assert!(matches!(error, TeeError::SimulationInsideTee { tee: "Gramine", .. }), "{error}");
        }
    }

    // rules: R1
    #[test]
    fn occlum_is_used_where_simulation_is_not_requested() {
        for unset in [None, Some(""), Some("0")] {
            assert!(choose(&Runtime::Occlum, unset).unwrap());
        }
    }

    #[test]
    fn an_unknown_simulation_value_is_refused() {
        let error = choose(&linux(), Some("true")).unwrap_err();
        assert_eq!(error.to_string(), "OE_SIMULATION: expected 0 or 1, got \"true\"");
    }

    #[test]
    fn gramine_is_named_as_not_supported() {
        assert_eq!(choose(&Runtime::Gramine, None).unwrap_err().to_string(), "expected Occlum, got Gramine");
    }

    #[test]
    fn simulation_has_no_evidence_an_all_zero_key_and_ignores_trust_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.json");
        std::fs::write(&path, b"not json").unwrap();
        let tee = Tee::Simulation;
        assert!(tee.evidence(&[7; 64]).unwrap().is_empty());
        let id = tee.current_seal_key_id(SealPolicy::Product).unwrap();
        assert_eq!(tee.seal_key(&id).unwrap().expose(), [0; 32]);
        assert!(tee.identity().unwrap().is_none());
        assert_eq!(tee.trust_policy(&path).unwrap(), TrustClass::Simulation.into());
    }
}
