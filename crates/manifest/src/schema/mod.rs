//! What a manifest says, as plain structures.

mod config;
mod file;

use std::collections::BTreeMap;

use marblerun_json::{DecodeError, UnknownMember, decode_object, decode_whole};

use crate::certificate::SecretCertificate;
use crate::secret_type::SecretType;

pub use config::{Config, FeatureGate, SealMode};
pub use file::{Encoding, File};

/// Longer manifests are refused before they are looked at. Uploads up to 16 MiB must be accepted; the Coordinator keeps
/// the manifest in memory and seals it as one record.
pub const MAX_MANIFEST_BYTES: usize = 16 * 1024 * 1024;

/// A manifest: which software may join a deployment and what each member gets.
///
/// Decoded, but not checked: see [`Manifest::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Enclave identities by package name.
    pub packages: BTreeMap<String, Package>,
    /// Platform identities by name.
    pub infrastructures: BTreeMap<String, Infrastructure>,
    /// Services by Marble type.
    pub marbles: BTreeMap<String, Marble>,
    /// Users of the client API by name.
    pub users: BTreeMap<String, User>,
    /// Secret definitions by name.
    pub secrets: BTreeMap<String, SecretDefinition>,
    /// PEM texts of RSA public keys by name; see [`crate::recovery_key`].
    pub recovery_keys: BTreeMap<String, String>,
    /// Roles by name.
    pub roles: BTreeMap<String, Role>,
    /// Transparent TLS tags by name.
    pub tls: BTreeMap<String, TlsTag>,
    /// Deployment wide settings.
    pub config: Config,
    /// Members that the schema does not have, at most [`marblerun_json::MAX_UNKNOWN_MEMBERS`] of them.
    pub unknown_members: Vec<UnknownMember>,
}

decode_object!(Manifest {
    "Packages" => packages,
    "Infrastructures" => infrastructures,
    "Marbles" => marbles,
    "Users" => users,
    "Secrets" => secrets,
    "RecoveryKeys" => recovery_keys,
    "Roles" => roles,
    "TLS" => tls,
    "Config" => config,
});

impl Manifest {
    /// Decodes a manifest as it was uploaded: exactly one JSON value, at most [`MAX_MANIFEST_BYTES`] long.
    ///
    /// # Errors
    ///
    /// If the text is too long, is not JSON, or a member holds what its type does not allow. Unknown members are no
    /// error; they are listed in [`Manifest::unknown_members`].
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let (mut manifest, notes) = decode_whole::<Self>(text, MAX_MANIFEST_BYTES)?;
        manifest.unknown_members = notes.unknown_members;
        Ok(manifest)
    }
}

/// The manifest's identity: lower-case hexadecimal SHA-256 of its bytes as they were uploaded.
pub fn fingerprint(raw_manifest: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, raw_manifest))
}

/// The enclave properties that a Marble must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Must equal the enclave's debug flag; also relaxes the rules about missing identities.
    pub debug: bool,
    /// MRENCLAVE in hexadecimal, not validated; empty: not checked. Compared without regard to case.
    pub unique_id: String,
    /// MRSIGNER in hexadecimal, not validated; empty: not checked. Compared without regard to case.
    pub signer_id: String,
    /// ISVPRODID; absent: not checked. 0 is a value.
    pub product_id: Option<u64>,
    /// Lowest accepted ISVSVN; absent: not checked. 0 is a value.
    pub security_version: Option<u64>,
    /// Accepted besides `UpToDate`; empty: `UpToDate` and `SWHardeningNeeded`. Exact case, not validated.
    pub accepted_tcb_statuses: Vec<String>,
    /// Advisories accepted with `SWHardeningNeeded`; empty: all.
    pub accepted_advisories: Vec<String>,
}

decode_object!(Package {
    "Debug" => debug,
    "UniqueID" => unique_id,
    "SignerID" => signer_id,
    "ProductID" => product_id,
    "SecurityVersion" => security_version,
    "AcceptedTCBStatuses" => accepted_tcb_statuses,
    "AcceptedAdvisories" => accepted_advisories,
});

/// The platform properties that a Marble must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// CPU security version number.
    pub cpu_svn: Option<Vec<u8>>,
    /// Security version of the quoting enclave.
    pub qe_svn: Option<u16>,
    /// Security version of the provisioning certification enclave.
    pub pce_svn: Option<u16>,
    /// Root certificate of the platform's certificate chain.
    pub root_ca: Option<Vec<u8>>,
}

decode_object!(Infrastructure {
    "CPUSVN" => cpu_svn,
    "QESVN" => qe_svn,
    "PCESVN" => pce_svn,
    "RootCA" => root_ca,
});

/// A service of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marble {
    /// Name of the package that instances must match.
    pub package: String,
    /// How many activations are allowed in all; 0: any number.
    pub max_activations: u64,
    /// What an instance is given.
    pub parameters: Parameters,
    /// Names of transparent TLS tags, in order of application.
    pub tls: Vec<String>,
    /// Leaves the Marble type out of the derivation of its symmetric keys.
    pub disable_secret_binding: bool,
}

decode_object!(Marble {
    "Package" => package,
    "MaxActivations" => max_activations,
    "Parameters" => parameters,
    "TLS" => tls,
    "DisableSecretBinding" => disable_secret_binding,
});

/// Files, environment and arguments of a Marble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Contents by path.
    pub files: BTreeMap<String, File>,
    /// Values by variable name.
    pub env: BTreeMap<String, File>,
    /// Arguments, the program's own name first; never templates.
    pub argv: Vec<String>,
}

decode_object!(Parameters { "Files" => files, "Env" => env, "Argv" => argv });

/// A user of the client API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// PEM text of the certificate that authenticates the user; see [`crate::user_certificate`].
    pub certificate: String,
    /// Names of the user's roles.
    pub roles: Vec<String>,
}

decode_object!(User { "Certificate" => certificate, "Roles" => roles });

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// `Packages`, `Secrets` or `Manifest`, compared exactly.
    pub resource_type: String,
    /// Names of packages or secrets; empty for `Manifest`.
    pub resource_names: Vec<String>,
    /// Words for what is allowed, compared without regard to case.
    pub actions: Vec<String>,
}

decode_object!(Role { "ResourceType" => resource_type, "ResourceNames" => resource_names, "Actions" => actions });

impl Role {
    /// True if the role allows this action, compared without regard to case.
    pub fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|allowed| allowed.eq_ignore_ascii_case(action))
    }
}

/// Connections that are wrapped in TLS without the application's knowledge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTag {
    /// Connections that the Marble opens.
    pub outgoing: Vec<TlsEntry>,
    /// Connections that the Marble accepts.
    pub incoming: Vec<TlsEntry>,
}

decode_object!(TlsTag { "Outgoing" => outgoing, "Incoming" => incoming });

/// An endpoint of a [`TlsTag`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsEntry {
    /// Port, a string.
    pub port: String,
    /// Host name or address; outgoing only.
    pub addr: String,
    /// Secret whose certificate is presented; incoming only.
    pub cert: String,
    /// Lets clients without certificate in; incoming only, together with `cert`.
    pub disable_client_auth: bool,
}

decode_object!(TlsEntry {
    "Port" => port,
    "Addr" => addr,
    "Cert" => cert,
    "DisableClientAuth" => disable_client_auth,
});

/// A secret that the Coordinator generates, or that a user uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretDefinition {
    /// The word for its kind, checked later; see [`SecretDefinition::secret_type`].
    pub type_word: String,
    /// Size in bits: of the key, the modulus or the curve.
    pub size: u64,
    /// One value for all Marbles, instead of one per instance.
    pub shared: bool,
    /// Uploaded by a user instead of generated.
    pub user_defined: bool,
    /// The certificate's template.
    pub cert: SecretCertificate,
    /// Validity in days; 0: 365 for generated certificates.
    pub valid_for: u64,
    /// A value in the manifest itself, which is public; initial value if user-defined, else ignored.
    pub private: Option<Vec<u8>>,
    /// As `private`.
    pub public: Option<Vec<u8>>,
}

impl SecretDefinition {
    /// The kind; `None` if the word is unknown, which [`Manifest::check`] refuses.
    pub fn secret_type(&self) -> Option<SecretType> {
        SecretType::from_word(&self.type_word)
    }
}

decode_object!(SecretDefinition {
    "Type" => type_word,
    "Size" => size,
    "Shared" => shared,
    "UserDefined" => user_defined,
    "Cert" => cert,
    "ValidFor" => valid_for,
    "Private" => private,
    "Public" => public,
});
