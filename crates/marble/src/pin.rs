//! The Coordinator that the measured image believes: `coordinator.json`.
//!
//! Without it the measurement of a LibOS Marble proves little, because the address of its Coordinator comes from the
//! host, and whoever answers there decides which program runs. The file holds the SHA-256 of the DER of the
//! Coordinator's root certificate, 64 hex digits:
//!
//! ```json
//! {"RootSHA256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
//! ```

use std::path::Path;

use marblerun_api::rpc::Parameters;
use marblerun_linux::regular_file::{ReadError, read_bounded};
use marblerun_tee::parse_object;
use serde::Deserialize;

/// Where the image holds the file.
pub const PIN_PATH: &str = "/etc/marblerun/coordinator.json";

/// The file holds one hash.
const MAX_FILE_BYTES: usize = 4096;
/// Bytes of a SHA-256.
const HASH_LEN: usize = 32;

/// The variable with the Marble's certificate and, second, the Coordinator's intermediate.
const CHAIN: &str = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN";
/// The variable with the Coordinator's root certificate.
const ROOT: &str = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA";

/// The Coordinator to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorPin {
    root_sha256: [u8; HASH_LEN],
}

/// Why the pin cannot be read. Always fatal: an image that has a pin must not run without.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PinFileError {
    /// The file cannot be read.
    #[error("coordinator.json cannot be read")]
    Read(#[source] ReadError),
    /// The file is not the expected JSON.
    #[error("coordinator.json is not valid")]
    Json(#[source] serde_json::Error),
    /// The hash has another form.
    #[error("coordinator.json: RootSHA256: expected 64 hex digits, got {got:?}")]
    Hash {
        /// The text.
        got: String,
    },
}

/// Why a Coordinator is not the pinned one.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PinMismatch {
    /// A variable that every Coordinator delivers is missing.
    #[error("expected certificates in {variable} from the Coordinator, got no such variable")]
    Missing {
        /// The variable.
        variable: &'static str,
    },
    /// The certificates do not lead from the connection to the pin.
    #[error(transparent)]
    Chain(marblerun_pki::PinError),
}

impl PinMismatch {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(
            "another Coordinator than the one pinned in /etc/marblerun/coordinator.json answered: check \
             EDG_MARBLE_COORDINATOR_ADDR, or rebuild the image if the Coordinator was set up anew",
        )
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFile {
    #[serde(rename = "RootSHA256")]
    root_sha256: String,
}

impl CoordinatorPin {
    /// Pins a root by the SHA-256 of its DER.
    pub fn new(root_sha256: [u8; HASH_LEN]) -> Self {
        Self { root_sha256 }
    }

    /// Reads the file; `None` if the image has none.
    ///
    /// # Errors
    /// See [`PinFileError`].
    pub fn read(path: &Path) -> Result<Option<Self>, PinFileError> {
        match read_bounded(path, MAX_FILE_BYTES).map_err(PinFileError::Read)? {
            None => Ok(None),
            Some(content) => Self::parse(&content).map(Some),
        }
    }

    fn parse(content: &[u8]) -> Result<Self, PinFileError> {
        let file: PinFile = parse_object(content).map_err(PinFileError::Json)?;
        match parse_hash(&file.root_sha256) {
            Some(root_sha256) => Ok(Self { root_sha256 }),
            None => Err(PinFileError::Hash { got: file.root_sha256 }),
        }
    }

    /// Checks that `server_certificate`, whose key the TLS server proved to hold, belongs to the pinned root.
    ///
    /// The key must be that of the second certificate of the delivered chain, that certificate must verify under the
    /// delivered root, and the root must be the pinned one.
    ///
    /// # Errors
    /// See [`PinMismatch`].
    pub fn check(&self, parameters: &Parameters, server_certificate: &[u8]) -> Result<(), PinMismatch> {
        let delivered = |variable| parameters.env.get(variable).ok_or(PinMismatch::Missing { variable });
        marblerun_pki::verify_chain_to_pin(server_certificate, delivered(CHAIN)?, delivered(ROOT)?, &self.root_sha256)
            .map_err(PinMismatch::Chain)
    }
}

fn parse_hash(text: &str) -> Option<[u8; HASH_LEN]> {
    if text.len() != 2 * HASH_LEN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; HASH_LEN];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_read_from_64_hex_digits_of_either_case() {
        let text = format!(r#"{{"RootSHA256":"{}{}"}}"#, "0aF".repeat(20), "0123");
        let pin = CoordinatorPin::parse(text.as_bytes()).unwrap();
        assert_eq!(pin.root_sha256[..3], [0x0a, 0xf0, 0xaf]);
        assert_eq!(pin.root_sha256[30..], [0x01, 0x23]);
    }

    #[test]
    fn an_absent_file_is_no_pin_and_a_wrong_one_is_fatal() {
        assert!(CoordinatorPin::read(Path::new("/nonexistent")).unwrap().is_none());
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(CoordinatorPin::read(dir.path()), Err(PinFileError::Read(_))));
        for file in
            ["", "{}", "[]", r#"["00"]"#, r#"{"rootsha256":""}"#, r#"{"RootSHA256":1}"#, r#"{"RootSHA256":"","x":1}"#]
        {
            assert!(matches!(CoordinatorPin::parse(file.as_bytes()), Err(PinFileError::Json(_))), "{file}");
        }
        for hash in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"\u{e9}".repeat(32)] {
            let file = format!(r#"{{"RootSHA256":"{hash}"}}"#);
            assert!(matches!(CoordinatorPin::parse(file.as_bytes()), Err(PinFileError::Hash { .. })), "{file}");
        }
    }

    #[test]
    fn a_delivery_without_certificates_is_refused() {
        let pin = CoordinatorPin::new([0; 32]);
        let check = |names: &[&str]| {
            let env = names.iter().map(|name| ((*name).to_owned(), b"garbage".to_vec())).collect();
            pin.check(&Parameters { env, ..Parameters::default() }, b"").unwrap_err()
        };
        assert!(matches!(check(&[]), PinMismatch::Missing { variable: CHAIN }));
        assert!(matches!(check(&[ROOT]), PinMismatch::Missing { variable: CHAIN }));
        assert!(matches!(check(&[CHAIN]), PinMismatch::Missing { variable: ROOT }));
        assert!(matches!(check(&[CHAIN, ROOT]), PinMismatch::Chain(_)));
    }
}
