//! A deployment: its manifest, decoded and compiled once, and the values that belong to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marblerun_attestation::Package;
use marblerun_manifest::{DecodeError, Manifest, Marble};
use thiserror::Error;

use crate::ledger::Refusal;
use crate::parameters::{CompileError, CompiledParameters, MAX_MARBLE_NODES};
use crate::record::{ManifestSet, ManifestUpdated, PreviousValue, UpdatedSecret};
use crate::secret::Secret;
use crate::secrets::Secrets;
use crate::users::{UserError, Users};

/// Most parts of the templates of all Marbles together. They stay in memory as long as the deployment, some hundred
/// bytes each, so that without a limit a manifest of 16 MiB would take a gigabyte of the enclave.
pub const MAX_DEPLOYMENT_NODES: usize = 4 * MAX_MARBLE_NODES;

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
    pub previous_secrets: Secrets,
    /// What is prepared for each Marble type, with the counters. Shared by all deployments between two updates.
    pub marbles: Arc<BTreeMap<String, PreparedMarble>>,
    /// Who may do what.
    pub users: Arc<Users>,
    /// Security versions that package updates set since the manifest; they stand in place of the manifest's.
    security_versions: Arc<BTreeMap<String, u64>>,
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
    /// One for all deployments in which there is the type.
    pub activations: Arc<AtomicU64>,
    /// What enters the derivation of symmetric keys: the Marble type, or nothing.
    pub binding_name: String,
    /// Files, environment and arguments, with templates compiled.
    pub parameters: Arc<CompiledParameters>,
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
    /// An update keeps a value that is not there.
    #[error("Secrets.{name}: expected a value to keep, got none")]
    Secret {
        /// The secret.
        name: String,
    },
}

impl Deployment {
    /// The deployment that a record describes. The record was checked before it was written.
    ///
    /// # Errors
    ///
    /// If this version cannot decode or compile the manifest.
    pub fn new(set: ManifestSet) -> Result<Self, DeploymentError> {
        let secrets: Secrets = set.secrets.into_iter().map(|(name, secret)| (name, Arc::new(secret))).collect();
        let previous_secrets = secrets.clone();
        Self::with_manifest(set.raw, set.signature, secrets, previous_secrets)
    }

    /// The deployment that an update makes of this one.
    ///
    /// # Errors
    ///
    /// If this version cannot decode or compile the manifest, or the record keeps a secret that is not there.
    pub(crate) fn updated(&self, update: ManifestUpdated) -> Result<Self, DeploymentError> {
        let (mut secrets, mut previous_secrets) = (Secrets::new(), Secrets::new());
        for UpdatedSecret { name, value, previous } in update.secrets {
            let missing = || DeploymentError::Secret { name: name.clone() };
            let old = self.secrets.get(&name);
            let current = value.or_else(|| old.cloned()).ok_or_else(missing)?;
            let previous = match previous {
                PreviousValue::Kept => self.previous_secrets.get(&name).cloned().ok_or_else(missing)?,
                PreviousValue::OldCurrent => old.cloned().ok_or_else(missing)?,
                PreviousValue::New => Arc::clone(&current),
            };
            previous_secrets.insert(name.clone(), previous);
            secrets.insert(name, current);
        }
        Self::with_manifest(update.raw, update.signature, secrets, previous_secrets)
    }

    fn with_manifest(
        raw: Vec<u8>,
        manifest_signature: Vec<u8>,
        secrets: Secrets,
        previous_secrets: Secrets,
    ) -> Result<Self, DeploymentError> {
        let manifest = Manifest::decode(&raw)?;
        if let Some(name) = manifest.secrets.keys().find(|name| !secrets.contains_key(name)) {
            return Err(DeploymentError::Secret { name: name.clone() });
        }
        Ok(Self {
            marbles: Arc::new(prepare_marbles(&manifest)?),
            users: Arc::new(Users::new(&manifest)?),
            fingerprint: marblerun_manifest::fingerprint(&raw),
            manifest: Arc::new(manifest),
            raw_manifest: Arc::new(raw),
            manifest_signature,
            previous_secrets,
            security_versions: Arc::default(),
            secrets,
        })
    }

    /// The same deployment with activations counted where they were counted before.
    pub(crate) fn counting_in(mut self, counts: &ActivationCounts) -> Self {
        let counting = |(marble_type, marble): (&String, &PreparedMarble)| {
            let activations = counts.0.get(marble_type).unwrap_or(&marble.activations);
            (marble_type.clone(), PreparedMarble { activations: Arc::clone(activations), ..marble.share() })
        };
        self.marbles = Arc::new(self.marbles.iter().map(counting).collect());
        self
    }

    /// The same deployment with other security versions of packages and other values of secrets that it has.
    pub(crate) fn with_packages(
        &self,
        versions: impl IntoIterator<Item = (String, u64)>,
        new: impl IntoIterator<Item = (String, Arc<Secret>)>,
    ) -> Self {
        let mut deployment = self.with_secrets(new);
        Arc::make_mut(&mut deployment.security_versions).extend(versions);
        let raised = |(marble_type, marble): (&String, &PreparedMarble)| {
            let mut marble = marble.share();
            if let Some(version) = deployment.security_versions.get(&marble.package_name) {
                marble.package.security_version = Some(*version);
            }
            (marble_type.clone(), marble)
        };
        deployment.marbles = Arc::new(self.marbles.iter().map(raised).collect());
        deployment
    }

    /// The security version in force of a package, if it has one; `None` if there is no such package.
    pub fn security_version(&self, package: &str) -> Option<Option<u64>> {
        let of_manifest = self.manifest.packages.get(package)?.security_version;
        Some(self.security_versions.get(package).copied().or(of_manifest))
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
            previous_secrets: self.previous_secrets.clone(),
            secrets,
            marbles: Arc::clone(&self.marbles),
            users: Arc::clone(&self.users),
            security_versions: Arc::clone(&self.security_versions),
        }
    }

    /// True if no update lies between `other` and this deployment: they differ at most in what users uploaded.
    pub fn is_generation_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.marbles, &other.marbles)
    }

    /// True if `other` has the same manifest, set by the same record. Package updates may lie between the two.
    pub fn has_manifest_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.manifest, &other.manifest)
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
        activations: Arc::default(),
        binding_name: if marble.disable_secret_binding { String::new() } else { marble_type.to_owned() },
        parameters: Arc::new(parameters),
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

/// How often each Marble type was activated, as far as it was counted. Outlives manifests: neither an update nor
/// leaving a type out and bringing it back gives new activations.
#[derive(Debug, Default)]
pub(crate) struct ActivationCounts(BTreeMap<String, Arc<AtomicU64>>);

impl ActivationCounts {
    /// Remembers the counters of `deployment`, and of former types those that counted something.
    pub(crate) fn adopt(&mut self, deployment: &Deployment) {
        self.0.retain(|_, count| count.load(Ordering::Acquire) > 0);
        for (marble_type, marble) in deployment.marbles.iter() {
            self.0.insert(marble_type.clone(), Arc::clone(&marble.activations));
        }
    }
}

impl PreparedMarble {
    /// Another one with the same counter and templates.
    fn share(&self) -> Self {
        Self {
            package: self.package.clone(),
            package_name: self.package_name.clone(),
            max_activations: self.max_activations,
            activations: Arc::clone(&self.activations),
            binding_name: self.binding_name.clone(),
            parameters: Arc::clone(&self.parameters),
        }
    }

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
