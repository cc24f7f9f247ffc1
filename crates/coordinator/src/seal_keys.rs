//! The TEE's seal keys, as the sealed log asks for them.

use std::sync::Arc;

use marblerun_sealing::{SealKey, SealKeyError, SealKeys, SealPolicy};
use marblerun_secret::SecretBytes;
use marblerun_tee::{SealError, SealKeyId, Tee};

/// Seal keys of the TEE that this process runs in; all zeros in simulation.
pub struct TeeSealKeys(pub Arc<Tee>);

impl SealKeys for TeeSealKeys {
    fn current(&self, policy: SealPolicy) -> Result<SealKey, SealKeyError> {
        let id = self.0.current_seal_key_id(tee_policy(policy)).map_err(|error| describe(&error))?;
        let secret = self.0.seal_key(&id).map_err(|error| describe(&error))?;
        Ok(SealKey { secret, key_id: id.to_bytes().to_vec() })
    }

    fn derive(&self, policy: SealPolicy, key_id: &[u8]) -> Result<SecretBytes, SealKeyError> {
        let id = SealKeyId::from_bytes(key_id).map_err(|error| describe(&error))?;
        // The stored bytes must not choose another policy than the one that is authenticated beside them.
        if id.policy() != tee_policy(policy) {
            return Err(SealKeyError {
                reason: format!("expected a key identifier for {policy}, got another policy's"),
            });
        }
        self.0.seal_key(&id).map_err(|error| describe(&error))
    }
}

fn tee_policy(policy: SealPolicy) -> marblerun_tee::SealPolicy {
    match policy {
        SealPolicy::ProductKey => marblerun_tee::SealPolicy::Product,
        SealPolicy::UniqueKey => marblerun_tee::SealPolicy::Unique,
    }
}

fn describe(error: &SealError) -> SealKeyError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        reason.push_str("; ");
        reason.push_str(hint);
    }
    SealKeyError { reason }
}
