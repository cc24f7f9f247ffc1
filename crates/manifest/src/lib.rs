//! The manifest: schema, decoding, validation, warnings.
//!
//! The order of use: [`Manifest::decode`] the bytes as they came in, then [`Manifest::check`]; what is legal but
//! probably a mistake comes from [`Manifest::warnings`]. Keep the bytes beside the decoded form: [`fingerprint`] and
//! signatures are made over them, never over something written anew.
//!
//! What an update would do to a running deployment says [`plan`].
//!
//! Templates in files and environment variables are not looked at here: running them needs secrets.

mod certificate;
mod check;
mod nearest;
mod pem;
pub mod plan;
mod schema;
mod secret_type;
mod update;
mod user_secret;
mod warning;

pub use certificate::{
    AttributeTypeAndValue, BigInteger, CertificateTemplate, DottedOid, ExtraExtension, IgnoredMembers, IpRange,
    NoMembers, PolicyMapping, SecretCertificate, SubjectName, Timestamp, UrlObject,
};
pub use check::{
    AzureHsm, CheckError, MAX_ACTIONS, MAX_ARGUMENTS, MAX_DERIVED_KEY_BITS, MAX_FILES, MAX_INFRASTRUCTURES,
    MAX_MARBLES, MAX_PACKAGES, MAX_RANDOM_KEY_BITS, MAX_ROLES, MAX_SECRETS, MAX_TLS_ENTRIES, MAX_TLS_TAGS, MAX_USERS,
    MAX_VARIABLES,
};
pub use marblerun_json::{DecodeError, Place, UnknownMember};
pub use pem::{MAX_RECOVERY_KEY_BITS, MIN_RECOVERY_KEY_BITS, PemError, recovery_key, user_certificate};
pub use schema::{
    Config, Encoding, FeatureGate, File, Infrastructure, MAX_MANIFEST_BYTES, Manifest, Marble, Package, Parameters,
    Role, SealMode, SecretDefinition, TlsEntry, TlsTag, User, fingerprint,
};
pub use secret_type::SecretType;
pub use update::{PackageUpdateError, UpdateKind};
pub use user_secret::{MAX_USER_SECRETS_BYTES, UserSecret, decode_user_secrets_v1, decode_user_secrets_v2};
pub use warning::{MAX_WARNINGS, Severity, Warning, WarningCode};
