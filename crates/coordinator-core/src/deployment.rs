//! A deployment: its manifest, decoded and compiled once, and the values that belong to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marblerun_attestation::Package;
use marblerun_manifest::{DecodeError, Manifest, Marble};
use thiserror::Error;

use crate::ledger::Refusal;
use crate::parameters::{CompileError, CompiledParameters, MAX_MARBLE_NODES};
use crate::record::ManifestSet;
use crate::secret::Secret;
use crate::user_secrets;
use crate::users::{UserError, Users};

/// Most parts of the templates of all Marbles together. They stay in memory as long as the deployment, some hundred
/// bytes each, so that without a limit a manifest of 16 MiB would take a gigabyte of the enclave.
pub const MAX_DEPLOYMENT_NODES: usize = 4 * MAX_MARBLE_NODES;

/// Secrets by name.
pub type Secrets = BTreeMap<String, Arc<Secret>>;

/// A deployment whose manifest is set.
#[derive(Debug)]
pub struct Deployment {
    /// The manifest, decoded.
    pub manifest: Arc<Manifest>,
    /// The manifest, byte for byte as uploaded.
    pub raw_manifest: Arc<Vec<u8>>,
    /// Lower-case hex SHA-256 of `raw_manifest`.
    pub fingerprint: String,
    /// ECDSA signature (ASN.1 DER) of the root key over SHA-256 of `raw_manifest`.
    pub manifest_signature: Vec<u8>,
    /// The current secrets: values, placeholders of Marbles' own secrets, and those that users fill.
    pub secrets: Secrets,
    /// The secrets before the last change of the manifest.
    pub previous_secrets: Arc<Secrets>,
    /// What is prepared for each Marble type, with the counters. Shared by all deployments of the same manifest.
    pub marbles: Arc<BTreeMap<String, PreparedMarble>>,
    /// Who may do what.
    pub users: Arc<Users>,
    /// What `secrets` take in a record.
    stored_secret_bytes: usize,
}

/// A Marble type, prepared for activations.
#[derive(Debug)]
pub struct PreparedMarble {
    /// The enclave that an instance must be.
    pub package: Package,
    /// Name of the package.
    pub package_name: String,
    /// Activations allowed in all; 0: any number.
    pub max_activations: u64,
    /// Activations counted so far, only if there is a limit. Rises when a count is decided, durable after the flush.
    pub activations: AtomicU64,
    /// What enters the derivation of symmetric keys: the Marble type, or nothing.
    pub binding_name: String,
    /// Files, environment and arguments, with templates compiled.
    pub parameters: CompiledParameters,
}

/// Why a manifest makes no deployment.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// The manifest cannot be decoded.
    #[error("the manifest cannot be decoded")]
    Decode(#[from] DecodeError),
    /// A template cannot be compiled.
    #[error("Marbles.{marble_type}.Parameters")]
    Template {
        /// The Marble type.
        marble_type: String,
        /// Which entry, and why.
        #[source]
        source: CompileError,
    },
    /// The templates of all Marbles together have too many parts.
    #[error(
        "Marbles.{marble_type}.Parameters: with it, the templates of all Marbles have more than {MAX_DEPLOYMENT_NODES} \
         parts"
    )]
    Nodes {
        /// The Marble type that exceeds the limit.
        marble_type: String,
    },
    /// A Marble names a package that is not there.
    #[error("Marbles.{marble_type}.Package: expected the name of a package, got {package:?}")]
    Package {
        /// The Marble type.
        marble_type: String,
        /// The name.
        package: String,
    },
    /// A user's certificate cannot be read.
    #[error(transparent)]
    User(#[from] UserError),
}

impl Deployment {
    /// The deployment that a record describes. The record was checked before it was written.
    ///
    /// # Errors
    ///
    /// If this version cannot decode or compile the manifest.
    pub fn new(set: ManifestSet) -> Result<Self, DeploymentError> {
        let manifest = Manifest::decode(&set.raw)?;
        let marbles = Arc::new(prepare_marbles(&manifest)?);
        let users = Arc::new(Users::new(&manifest)?);
        let secrets: Secrets = set.secrets.into_iter().map(|(name, secret)| (name, Arc::new(secret))).collect();
        Ok(Self {
            fingerprint: marblerun_manifest::fingerprint(&set.raw),
            manifest: Arc::new(manifest),
            raw_manifest: Arc::new(set.raw),
            manifest_signature: set.signature,
            previous_secrets: Arc::new(secrets.clone()),
            stored_secret_bytes: user_secrets::stored_bytes(&secrets),
            secrets,
            marbles,
            users,
        })
    }

    /// The same deployment with other values of secrets that it has; everything else is shared.
    pub(crate) fn with_secrets(&self, new: impl IntoIterator<Item = (String, Arc<Secret>)>) -> Self {
        let mut secrets = self.secrets.clone();
        secrets.extend(new);
        Self {
            manifest: Arc::clone(&self.manifest),
            raw_manifest: Arc::clone(&self.raw_manifest),
            fingerprint: self.fingerprint.clone(),
            manifest_signature: self.manifest_signature.clone(),
            previous_secrets: Arc::clone(&self.previous_secrets),
            stored_secret_bytes: user_secrets::stored_bytes(&secrets),
            secrets,
            marbles: Arc::clone(&self.marbles),
            users: Arc::clone(&self.users),
        }
    }

    /// True if `other` has the same manifest, set by the same record: it differs at most in the values of secrets.
    pub fn has_manifest_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.marbles, &other.marbles)
    }

    /// What the names, values and certificates of all secrets take in a record, in bytes.
    pub(crate) fn stored_secret_bytes(&self) -> usize {
        self.stored_secret_bytes
    }
}

/// Prepares every Marble type of a manifest.
///
/// # Errors
///
/// If a template cannot be compiled, a package is missing, or all templates together are too large.
pub fn prepare_marbles(manifest: &Manifest) -> Result<BTreeMap<String, PreparedMarble>, DeploymentError> {
    let mut nodes = 0;
    manifest
        .marbles
        .iter()
        .map(|(marble_type, marble)| {
            let prepared = prepare_marble(manifest, marble_type, marble)?;
            nodes += prepared.parameters.node_count();
            if nodes > MAX_DEPLOYMENT_NODES {
                return Err(DeploymentError::Nodes { marble_type: marble_type.clone() });
            }
            Ok((marble_type.clone(), prepared))
        })
        .collect()
}

fn prepare_marble(manifest: &Manifest, marble_type: &str, marble: &Marble) -> Result<PreparedMarble, DeploymentError> {
    let package = manifest.packages.get(&marble.package).ok_or_else(|| DeploymentError::Package {
        marble_type: marble_type.to_owned(),
        package: marble.package.clone(),
    })?;
    let parameters = CompiledParameters::compile(manifest, marble)
        .map_err(|source| DeploymentError::Template { marble_type: marble_type.to_owned(), source })?;
    Ok(PreparedMarble {
        package: attested_package(package),
        package_name: marble.package.clone(),
        max_activations: marble.max_activations,
        activations: AtomicU64::new(0),
        binding_name: if marble.disable_secret_binding { String::new() } else { marble_type.to_owned() },
        parameters,
    })
}

fn attested_package(package: &marblerun_manifest::Package) -> Package {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Package {
        debug: package.debug,
        unique_id: given(&package.unique_id),
        signer_id: given(&package.signer_id),
        product_id: package.product_id,
        security_version: package.security_version,
        accepted_tcb_statuses: package.accepted_tcb_statuses.clone(),
        accepted_advisories: package.accepted_advisories.clone(),
    }
}

impl PreparedMarble {
    /// Whether another activation is allowed.
    ///
    /// # Errors
    ///
    /// If the limit is reached.
    pub fn check_budget(&self, marble_type: &str) -> Result<(), Refusal> {
        if self.max_activations > 0 && self.activations.load(Ordering::Acquire) >= self.max_activations {
            return Err(Refusal::BudgetUsed { marble_type: marble_type.to_owned(), limit: self.max_activations });
        }
        Ok(())
    }
}
