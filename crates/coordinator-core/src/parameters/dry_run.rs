//! Executing all templates of a manifest with substitute data, so that mistakes show before the first activation.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_secret::SecretBytes;
use marblerun_template::Budget;
use thiserror::Error;

use super::compile::{RENDER_LIMITS, RenderError};
use super::data::{Credential, DataSet, SecretMap};
use crate::deployment::PreparedMarble;
use crate::secret::Secret;

/// Stands for values that do not exist yet.
const SUBSTITUTE: &[u8] = b"A";

/// A template that fails with substitute data.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Marbles.{marble_type}.Parameters")]
pub struct DryRunError {
    /// The Marble type.
    pub marble_type: String,
    /// Which template, and why.
    pub source: RenderError,
}

/// Executes the templates of all Marbles.
///
/// `secrets` are the values that were generated for the manifest; user-defined ones are replaced by one byte, because
/// they are not uploaded yet. The previous secrets are the same. Of the certificates and keys that an activation makes
/// there is only one byte each.
///
/// # Errors
///
/// The first template that fails, Marbles in the order of their names.
pub fn dry_run<'a>(
    marbles: &BTreeMap<String, PreparedMarble>,
    secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>,
) -> Result<(), DryRunError> {
    let secrets = SecretMap::new(secrets.into_iter().map(|(name, secret)| (name, Arc::new(substitute(secret)))));
    for (marble_type, marble) in marbles {
        let certificate = || Credential { certificate: Some(SUBSTITUTE.to_vec()), ..Credential::default() };
        let byte = || Some(SecretBytes::copy_from(SUBSTITUTE));
        let data = DataSet {
            marble_root: certificate(),
            marble: Credential { private: byte(), public: byte(), ..certificate() },
            coordinator_root: certificate(),
            coordinator_intermediate: certificate(),
            secrets: Arc::clone(&secrets),
            previous_secrets: Arc::clone(&secrets),
        };
        let mut budget = Budget::new(RENDER_LIMITS);
        marble
            .parameters
            .expand(&data.into_value(), &mut budget)
            .map_err(|source| DryRunError { marble_type: marble_type.clone(), source })?;
    }
    Ok(())
}

/// The secret as the dry run sees it.
fn substitute(secret: &Secret) -> Secret {
    let copy = |bytes: &Option<SecretBytes>| bytes.as_ref().map(SecretBytes::duplicate);
    let byte = || Some(SecretBytes::copy_from(SUBSTITUTE));
    let (certificate, private, public) = if secret.user_defined {
        (Some(SUBSTITUTE.to_vec()), byte(), byte())
    } else {
        (secret.certificate.clone(), copy(&secret.private), copy(&secret.public))
    };
    Secret {
        secret_type: secret.secret_type,
        size: secret.size,
        shared: secret.shared,
        user_defined: secret.user_defined,
        valid_for: secret.valid_for,
        certificate,
        private,
        public,
    }
}
