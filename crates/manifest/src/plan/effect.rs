//! What becomes of secrets and certificates.

use std::collections::BTreeSet;
use std::fmt;

use crate::schema::{Manifest, SecretDefinition};
use crate::secret_type::SecretType;
use crate::update::UpdateKind;

/// What becomes of a secret's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is new and generated.
    Generated,
    /// It is new, and its value stands in the manifest.
    InManifest,
    /// It is new, and a user has to upload it.
    AwaitsUpload,
    /// The value stays.
    Kept,
    /// A new key and certificate; the old ones remain as the previous value.
    Reissued,
    /// A new key; the old one remains as the previous value.
    Rotated,
    /// The definition is another one: a new value is generated, and the old one is gone.
    Replaced,
    /// The definition is another one: the old value is gone, and a user has to upload the new one.
    UploadLost,
    /// The secret is gone, current and previous value.
    Removed,
}

impl Fate {
    /// The name for programs, stable across releases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::InManifest => "in-manifest",
            Self::AwaitsUpload => "awaits-upload",
            Self::Kept => "kept",
            Self::Reissued => "reissued",
            Self::Rotated => "rotated",
            Self::Replaced => "replaced",
            Self::UploadLost => "upload-lost",
            Self::Removed => "removed",
        }
    }

    /// In words.
    fn text(self) -> &'static str {
        match self {
            Self::Generated => "new, is generated",
            Self::InManifest => "new, with the value in the manifest",
            Self::AwaitsUpload => "new, has to be uploaded",
            Self::Kept => "the value is kept",
            Self::Reissued => "new key and certificate; the old ones are the previous value",
            Self::Rotated => "new key; the old one is the previous value",
            Self::Replaced => "new value; the old one is gone",
            Self::UploadLost => "the old value is gone; the new one has to be uploaded",
            Self::Removed => "the value is gone",
        }
    }
}

/// A secret of either manifest and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFate {
    /// The secret.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// One line for people.
impl fmt::Display for SecretFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {:?}: {}", self.name, self.fate.text())
    }
}

/// A certificate that is made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reissued {
    /// The Coordinator's intermediate certificate.
    Intermediate,
    /// The root that Marbles trust; of the intermediate's key.
    MarbleRoot,
    /// The certificate of a shared, generated secret, with its key.
    Secret(String),
}

/// One line for people.
impl fmt::Display for Reissued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intermediate => f.write_str("intermediate certificate"),
            Self::MarbleRoot => f.write_str("Marble root certificate"),
            Self::Secret(name) => write!(f, "certificate of secret {name:?}"),
        }
    }
}

/// What becomes of every secret, by name.
pub(super) fn fates(kind: UpdateKind, old: &Manifest, new: &Manifest) -> Vec<SecretFate> {
    let names: BTreeSet<&String> = match kind {
        UpdateKind::PackageOnly => old.secrets.keys().collect(),
        UpdateKind::Full => old.secrets.keys().chain(new.secrets.keys()).collect(),
    };
    let rotates = new.config.rotate_root_secret;
    let fate = |name: &str| match (kind, old.secrets.get(name), new.secrets.get(name)) {
        (UpdateKind::PackageOnly, Some(secret), _) if is_shared_certificate(secret) => Fate::Reissued,
        (UpdateKind::PackageOnly, _, _) => Fate::Kept,
        (UpdateKind::Full, _, None) => Fate::Removed,
        (UpdateKind::Full, None, Some(new)) if has_initial_value(new) => Fate::InManifest,
        (UpdateKind::Full, None, Some(new)) if new.user_defined => Fate::AwaitsUpload,
        (UpdateKind::Full, None, Some(_)) => Fate::Generated,
        (UpdateKind::Full, Some(old), Some(new)) => fate_of_common(old, new, rotates),
    };
    names.into_iter().map(|name| SecretFate { name: name.clone(), fate: fate(name) }).collect()
}

fn fate_of_common(old: &SecretDefinition, new: &SecretDefinition, rotates: bool) -> Fate {
    match (new.has_definition_of(old), new.user_defined) {
        (true, true) => Fate::Kept,
        (true, false) if new.secret_type().is_some_and(SecretType::is_certificate) => Fate::Reissued,
        (true, false) if rotates => Fate::Rotated,
        (true, false) => Fate::Kept,
        (false, true) if !has_initial_value(new) => Fate::UploadLost,
        (false, true) => Fate::Replaced,
        (false, false) => Fate::Replaced,
    }
}

/// User-defined secrets may begin with a value that stands in the manifest.
fn has_initial_value(secret: &SecretDefinition) -> bool {
    let has_value = secret.private.is_some()
        || secret.public.is_some()
        || matches!(secret.cert, crate::certificate::SecretCertificate::Der(_));
    secret.user_defined && has_value
}

fn is_shared_certificate(secret: &SecretDefinition) -> bool {
    secret.shared && !secret.user_defined && secret.secret_type().is_some_and(SecretType::is_certificate)
}

/// Every certificate of which only one exists; those of Marbles are made at each activation anyway.
pub(super) fn reissued(kind: UpdateKind, old: &Manifest, new: &Manifest) -> Vec<Reissued> {
    let manifest = match kind {
        UpdateKind::PackageOnly => old,
        UpdateKind::Full => new,
    };
    let secrets = manifest.secrets.iter().filter(|(_, secret)| is_shared_certificate(secret));
    [Reissued::Intermediate, Reissued::MarbleRoot]
        .into_iter()
        .chain(secrets.map(|(name, _)| Reissued::Secret(name.clone())))
        .collect()
}
