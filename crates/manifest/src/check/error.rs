use marblerun_json::Place;

use crate::pem::PemError;

/// Why a manifest cannot be set.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the members are the place, what was given, and what was probably meant")]
pub enum CheckError {
    /// There is no package.
    #[error("Packages: expected at least one package, got none")]
    NoPackages,
    /// There is no Marble.
    #[error("Marbles: expected at least one Marble, got none")]
    NoMarbles,
    /// A Marble's package does not exist.
    #[error("{place}: expected the name of a package, got {name:?}")]
    UnknownPackage { place: Place, name: String, nearest: Option<String> },
    /// A package gives a unique ID and another property.
    #[error("{place}: expected UniqueID alone or SignerID, ProductID and SecurityVersion, got UniqueID with {member}")]
    UniqueIdWithOther { place: Place, member: &'static str },
    /// A package does not say who its enclave is.
    #[error("{place}: expected UniqueID, or SignerID with ProductID and SecurityVersion, got nothing here")]
    IdentityMissing { place: Place },
    /// A Marble's tag does not exist.
    #[error("{place}: expected the name of a TLS tag, got {name:?}")]
    UnknownTag { place: Place, name: String, nearest: Option<String> },
    /// An address or port of a TLS tag is empty.
    #[error("{place}: expected a value, got none")]
    TlsMemberMissing { place: Place },
    /// The secret of a TLS tag does not exist.
    #[error("{place}: expected the name of a secret, got {name:?}")]
    UnknownTlsSecret { place: Place, name: String, nearest: Option<String> },
    /// Own certificate, but clients must still authenticate.
    #[error("{place}: expected DisableClientAuth true together with Cert, got false")]
    CertWithClientAuth { place: Place },
    /// Clients need not authenticate, but there is no own certificate.
    #[error("{place}: expected Cert together with DisableClientAuth, got none")]
    NoClientAuthWithoutCert { place: Place },
    /// A user has no certificate.
    #[error("{place}: expected a certificate in PEM form, got none")]
    UserWithoutCertificate { place: Place },
    /// A user's role does not exist.
    #[error("{place}: expected the name of a role, got {name:?}")]
    UnknownRole { place: Place, name: String, nearest: Option<String> },
    /// Two users cannot be told apart.
    #[error("{place}: expected another certificate than that of {other}, got the same")]
    SameCertificate { place: Place, other: Place },
    /// A role names a package or a secret that does not exist.
    #[error("{place}: expected the name of a {resource}, got {name:?}")]
    UnknownResource { place: Place, resource: &'static str, name: String, nearest: Option<String> },
    /// A role allows what its resource type does not have.
    #[error("{place}: expected {expected}, got {got:?}")]
    UnknownAction { place: Place, expected: &'static str, got: String },
    /// A role lets a generated secret be written.
    #[error("{place}: expected a user-defined secret for WriteSecret, got the generated secret {name:?}")]
    WriteOfGeneratedSecret { place: Place, name: String },
    /// A role lets a secret be read that every Marble has for itself.
    #[error(
        "{place}: expected a shared or user-defined secret for ReadSecret, got {name:?}, which each Marble has anew"
    )]
    ReadOfUniqueSecret { place: Place, name: String },
    /// A role for the manifest names resources.
    #[error("{place}: expected no names with ResourceType \"Manifest\", got {count}")]
    ResourceNamesOfManifestRole { place: Place, count: usize },
    /// A role is about nothing that exists.
    #[error("{place}: expected \"Packages\", \"Secrets\" or \"Manifest\", got {got:?}")]
    UnknownResourceType { place: Place, got: String },
    /// A secret is of no kind.
    #[error("{place}: expected symmetric-key, cert-rsa, cert-ecdsa, cert-ed25519 or plain, got {got:?}")]
    UnknownSecretType { place: Place, got: String },
    /// A certificate's end is given twice.
    #[error("{place}: expected either ValidFor or Cert.NotAfter, got both")]
    NotAfterWithValidFor { place: Place },
    /// More users must agree to an update than may.
    #[error(
        "Config.UpdateThreshold: expected at most {users}, the number of users who may update the manifest, got {threshold}"
    )]
    TooFewUpdateUsers { threshold: u64, users: u64 },
    /// The seal mode does not exist.
    #[error("Config.SealMode: expected ProductKey, UniqueKey or Disabled, got {got:?}")]
    UnknownSealMode { got: String },
    /// A feature does not exist.
    #[error("{place}: expected SignQuoteEndpoint, MonotonicCounter or AzureHSMSealing, got {got:?}")]
    UnknownFeature { place: Place, got: String },
    /// The Coordinator is not configured for this feature.
    #[error("{place}: expected a feature that this Coordinator has, got AzureHSMSealing")]
    AzureHsmUnavailable { place: Place },
    /// More recovery keys are needed than exist.
    #[error("Config.RecoveryThreshold: expected at most the number of recovery keys, {keys}, got {threshold}")]
    RecoveryThresholdTooHigh { threshold: u64, keys: usize },
    /// One of several keys must not suffice.
    #[error("Config.RecoveryThreshold: expected 0 (all keys) or at least 2, got 1")]
    RecoveryThresholdOne,
    /// A secret of this size cannot be generated.
    #[error("{place}: expected {expected}, got {got}")]
    SecretSize { place: Place, expected: &'static str, got: u64 },
    /// A plain secret has no generator.
    #[error("{place}: expected UserDefined true, because plain secrets cannot be generated, got false")]
    PlainNotUserDefined { place: Place },
    /// A certificate template asks for what a certificate cannot hold.
    #[error("{place}: expected {expected}, got {got}")]
    Template { place: Place, expected: &'static str, got: String },
    /// A certificate would make its holder a Marble.
    #[error("{place}: expected another extension than 1.3.9903.2.1, which only Marble certificates have")]
    MarbleTypeExtension { place: Place },
    /// A recovery key cannot be used.
    #[error("{place}: the recovery key cannot be used")]
    RecoveryKey { place: Place, source: PemError },
    /// A user's certificate cannot be used.
    #[error("{place}: the user's certificate cannot be used")]
    UserCertificate { place: Place, source: PemError },
    /// A section, or one of its entries, has more entries than is allowed.
    #[error("{place}: expected at most {max} entries, got {got}")]
    TooManyEntries { place: Place, max: usize, got: usize },
    /// A variable's content contains the byte that ends it.
    #[error("{place}: expected a value without NUL byte, got one")]
    NulInVariable { place: Place },
}

impl CheckError {
    /// What in the manifest it is about.
    pub fn place(&self) -> Place {
        let config = |member| Place::top().member("Config").member(member);
        match self {
            Self::NoPackages => Place::top().member("Packages"),
            Self::NoMarbles => Place::top().member("Marbles"),
            Self::TooFewUpdateUsers { .. } => config("UpdateThreshold"),
            Self::UnknownSealMode { .. } => config("SealMode"),
            Self::RecoveryThresholdTooHigh { .. } | Self::RecoveryThresholdOne => config("RecoveryThreshold"),
            Self::UnknownPackage { place, .. }
            | Self::UniqueIdWithOther { place, .. }
            | Self::IdentityMissing { place }
            | Self::UnknownTag { place, .. }
            | Self::TlsMemberMissing { place }
            | Self::UnknownTlsSecret { place, .. }
            | Self::CertWithClientAuth { place }
            | Self::NoClientAuthWithoutCert { place }
            | Self::UserWithoutCertificate { place }
            | Self::UnknownRole { place, .. }
            | Self::SameCertificate { place, .. }
            | Self::UnknownResource { place, .. }
            | Self::UnknownAction { place, .. }
            | Self::WriteOfGeneratedSecret { place, .. }
            | Self::ReadOfUniqueSecret { place, .. }
            | Self::ResourceNamesOfManifestRole { place, .. }
            | Self::UnknownResourceType { place, .. }
            | Self::UnknownSecretType { place, .. }
            | Self::NotAfterWithValidFor { place }
            | Self::UnknownFeature { place, .. }
            | Self::AzureHsmUnavailable { place }
            | Self::SecretSize { place, .. }
            | Self::PlainNotUserDefined { place }
            | Self::Template { place, .. }
            | Self::MarbleTypeExtension { place }
            | Self::RecoveryKey { place, .. }
            | Self::UserCertificate { place, .. }
            | Self::TooManyEntries { place, .. }
            | Self::NulInVariable { place } => place.clone(),
        }
    }

    /// What the author of the manifest can do; the message stands without it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::UnknownPackage { nearest, .. }
            | Self::UnknownTag { nearest, .. }
            | Self::UnknownTlsSecret { nearest, .. }
            | Self::UnknownRole { nearest, .. }
            | Self::UnknownResource { nearest, .. } => {
                return nearest.as_ref().map(|name| format!("did you mean {name:?}?"));
            }
            Self::RecoveryKey { source, .. } | Self::UserCertificate { source, .. } => source.hint()?,
            Self::UniqueIdWithOther { .. } => "the unique ID already pins the enclave and its version",
            Self::IdentityMissing { .. } => "ask the image: marblerun package-info",
            Self::NulInVariable { .. } => "put binary data into a file, or encode it",
            Self::UnknownSealMode { .. } => "upper and lower case count",
            Self::AzureHsmUnavailable { .. } => {
                "set EDG_MAA_URL, EDG_AZURE_HSM_VAULT_URL, EDG_AZURE_HSM_KEY_NAME, EDG_AZURE_CLIENT_ID, \
                 EDG_AZURE_TENANT_ID, and EDG_AZURE_CLIENT_SECRET or both EDG_AZURE_AUTHORITY_HOST and \
                 EDG_AZURE_FEDERATED_TOKEN_FILE, on a Coordinator built with this feature"
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
