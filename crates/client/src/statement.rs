//! What a Coordinator's quote says beside its root certificate.

use marblerun_json::{DecodeError, decode_object, decode_whole};

/// Longest statement that is read, in bytes.
const MAX_STATEMENT_BYTES: usize = 64 * 1024;

/// A Coordinator's statement about its configuration; the quote covers its text.
///
/// Members that this client does not know are skipped: a newer Coordinator may say more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Version of the statement's form.
    pub version: u64,
    /// The deployment's random identifier, hexadecimal.
    pub deployment: String,
    /// `hardware`, `software` or `simulation`: whose evidence the Coordinator accepts from Marbles.
    pub trust_class: String,
    /// SHA-256 of each software root that the Coordinator trusts, hexadecimal.
    pub root_hashes: Vec<String>,
    /// What remembers the newest state outside the Coordinator's storage.
    pub anchor: String,
    /// SHA-256 of the manifest, hexadecimal; `None` before it is set.
    pub manifest_fingerprint: Option<String>,
    /// The newest record of the sealed state; `None` where nothing is sealed.
    pub log_head: Option<LogHead>,
    /// In recovery mode: the state that waits, as the Coordinator's storage describes it. The recovery proves it, and
    /// refuses an older state and one with another manifest than is told here.
    pub recovering: Option<Recovering>,
    /// For how many seconds the Coordinator accepts Marbles by collateral whose next update was due; `None` where it does
    /// not.
    pub max_collateral_age_seconds: Option<u64>,
}

/// A state that waits for recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovering {
    /// The deployment's identifier, hexadecimal.
    pub deployment: String,
    /// The newest record of its log.
    pub log_head: LogHead,
    /// SHA-256 of the manifest in force, hexadecimal; `None` where the storage does not say.
    pub manifest_fingerprint: Option<String>,
}

/// The newest record of the sealed state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// Epoch of the data key.
    pub epoch: u64,
    /// Position in the log.
    pub sequence: u64,
    /// Hash that chains the log, hexadecimal.
    pub hash: String,
}

decode_object!(Statement {
    "version" => version,
    "deployment" => deployment,
    "trustClass" => trust_class,
    "rootHashes" => root_hashes,
    "anchor" => anchor,
    "manifestFingerprint" => manifest_fingerprint,
    "logHead" => log_head,
    "recovering" => recovering,
    "maxCollateralAgeSeconds" => max_collateral_age_seconds,
});

decode_object!(Recovering {
    "deployment" => deployment,
    "logHead" => log_head,
    "manifestFingerprint" => manifest_fingerprint,
});

decode_object!(LogHead { "epoch" => epoch, "sequence" => sequence, "hash" => hash });

impl Statement {
    /// Reads the statement's text.
    ///
    /// # Errors
    ///
    /// If it is no JSON object of the known form.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        Ok(decode_whole(text.as_bytes(), MAX_STATEMENT_BYTES)?.0)
    }
}
