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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use super::*;

    #[test]
    fn a_key_identifier_opens_nothing_under_another_policy() {
        let keys = TeeSealKeys(Arc::new(marblerun_tee::detect(Some("1")).unwrap()));
        let policies = [SealPolicy::ProductKey, SealPolicy::UniqueKey];
        for policy in policies {
            let current = keys.current(policy).unwrap();
            let derived = keys.derive(policy, &current.key_id).unwrap();
            assert_eq!(derived.expose(), current.secret.expose());
            for other in policies.into_iter().filter(|other| *other != policy) {
                let error = keys.derive(other, &current.key_id).unwrap_err();
                assert!(error.to_string().contains("another policy"), "{error}");
            }
        }
        assert!(keys.derive(SealPolicy::ProductKey, b"no identifier").is_err());
    }
}
