//! Executing all templates of a manifest with substitute data, so that mistakes show before the first activation.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_secret::SecretBytes;
use marblerun_template::Budget;
use thiserror::Error;

use super::compile::{CompiledParameters, RENDER_LIMITS, RenderError};
use super::data::{Credential, DataSet, SecretMap};
use crate::deployment::PreparedMarble;
use crate::secret::Secret;
use crate::secrets::Secrets;

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
    marbles.iter().try_for_each(|(marble_type, marble)| execute(marble_type, marble, &secrets))
}

/// Executes the templates of all Marbles that can look at one of the secrets `new`, with these values in place of the
/// `current` ones. Other Marbles see what they saw before.
///
/// Only what is still unset is replaced by one byte. The previous secrets are the same.
///
/// # Errors
///
/// The first template that fails, Marbles in the order of their names.
pub fn dry_run_upload(
    marbles: &BTreeMap<String, PreparedMarble>,
    current: &Secrets,
    new: &[(String, Arc<Secret>)],
) -> Result<(), DryRunError> {
    let looks = |parameters: &CompiledParameters| {
        let [used, previous] = [parameters.used_secrets(), parameters.used_previous_secrets()];
        new.iter().any(|(name, _)| used.contains(name) || previous.contains(name))
    };
    let mut affected = marbles.iter().filter(|(_, marble)| looks(&marble.parameters)).peekable();
    if affected.peek().is_none() {
        return Ok(());
    }
    let mut newest = current.clone();
    newest.extend(new.iter().cloned());
    affected.try_for_each(|(marble_type, marble)| {
        let [used, previous] = [marble.parameters.used_secrets(), marble.parameters.used_previous_secrets()];
        let secrets = SecretMap::new(newest.used_by(used).chain(newest.used_by(previous)).map(|(name, secret)| {
            let unset = secret.user_defined && secret.is_unset();
            (name, if unset { Arc::new(substitute(secret)) } else { Arc::clone(secret) })
        }));
        execute(marble_type, marble, &secrets)
    })
}

fn execute(marble_type: &str, marble: &PreparedMarble, secrets: &Arc<SecretMap>) -> Result<(), DryRunError> {
    let certificate = || Credential { certificate: Some(SUBSTITUTE.to_vec()), ..Credential::default() };
    let byte = || Some(SecretBytes::copy_from(SUBSTITUTE));
    let data = DataSet {
        marble_root: certificate(),
        marble: Credential { private: byte(), public: byte(), ..certificate() },
        coordinator_root: certificate(),
        coordinator_intermediate: certificate(),
        secrets: Arc::clone(secrets),
        previous_secrets: Arc::clone(secrets),
    };
    let mut budget = Budget::new(RENDER_LIMITS);
    marble
        .parameters
        .expand(&data.into_value(), &mut budget)
        .map_err(|source| DryRunError { marble_type: marble_type.to_owned(), source })?;
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
    Secret { certificate, private, public, ..secret.without_value() }
}
