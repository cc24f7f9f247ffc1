//! The data that templates see: `.MarbleRun`, `.Secrets`, `.Previous.Secrets`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;
use marblerun_template::{Blob, Bytes, BytesType, Map, Object, UintType, Value};

use super::certificate::CertificateObject;
use crate::secret::Secret;

/// The type of `.Private`.
pub(super) static PRIVATE_KEY: BytesType = BytesType { name: "manifest.PrivateKey", text: None };
/// The type of `.Public`.
pub(super) static PUBLIC_KEY: BytesType = BytesType { name: "manifest.PublicKey", text: None };

/// Certificate and keys of one of the members of `.MarbleRun`.
#[derive(Default)]
pub struct Credential {
    /// The certificate as DER.
    pub certificate: Option<Vec<u8>>,
    /// The private key as PKCS#8.
    pub private: Option<SecretBytes>,
    /// The public key as DER SubjectPublicKeyInfo.
    pub public: Option<SecretBytes>,
}

/// All that templates see.
pub struct DataSet {
    /// `.MarbleRun.RootCA`: the Marble root.
    pub marble_root: Credential,
    /// `.MarbleRun.MarbleCert`: the Marble's own credentials.
    pub marble: Credential,
    /// `.MarbleRun.CoordinatorRoot`.
    pub coordinator_root: Credential,
    /// `.MarbleRun.CoordinatorIntermediate`.
    pub coordinator_intermediate: Credential,
    /// `.Secrets`.
    pub secrets: Arc<SecretMap>,
    /// `.Previous.Secrets`.
    pub previous_secrets: Arc<SecretMap>,
}

impl DataSet {
    /// The value for `.` and `$`.
    pub fn into_value(self) -> Value {
        let credential = |credential: Credential| structure(CredentialObject::new(credential));
        let marble_run = FixedFields::value(
            "manifest.MarbleRun",
            &["RootCA", "MarbleCert", "CoordinatorRoot", "CoordinatorIntermediate"],
            [self.marble_root, self.marble, self.coordinator_root, self.coordinator_intermediate].map(credential),
        );
        let previous = FixedFields::value("manifest.Previous", &["Secrets"], [Value::Map(self.previous_secrets)]);
        FixedFields::value(
            "manifest.Data",
            &["MarbleRun", "Secrets", "Previous"],
            [marble_run, Value::Map(self.secrets), previous],
        )
    }
}

fn structure(object: impl Object) -> Value {
    Value::Object(Arc::new(object))
}

/// A structure whose fields are values already.
struct FixedFields<const N: usize> {
    type_name: &'static str,
    names: &'static [&'static str; N],
    values: [Value; N],
}

impl<const N: usize> FixedFields<N> {
    fn value(type_name: &'static str, names: &'static [&'static str; N], values: [Value; N]) -> Value {
        structure(Self { type_name, names, values })
    }
}

impl<const N: usize> Object for FixedFields<N> {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn field_names(&self) -> &'static [&'static str] {
        self.names
    }

    fn field(&self, name: &str) -> Option<Value> {
        let found = self.names.iter().zip(&self.values).find(|(known, _)| **known == name);
        found.map(|(_, value)| value.clone())
    }
}

/// Optional bytes as a value.
fn key_value(bytes: Option<Arc<dyn Blob>>, bytes_type: &'static BytesType) -> Value {
    Value::Bytes(match bytes {
        Some(bytes) => Bytes::new(bytes, bytes_type),
        None => Bytes::nil(bytes_type),
    })
}

/// A member of `.MarbleRun`.
struct CredentialObject {
    certificate: Value,
    private: Value,
    public: Value,
}

impl CredentialObject {
    fn new(credential: Credential) -> Self {
        let der = credential.certificate.map(|der| Arc::new(der) as Arc<dyn Blob>);
        let key = |key: Option<SecretBytes>| key.map(|key| Arc::new(key) as Arc<dyn Blob>);
        Self {
            certificate: structure(CertificateObject::new(der)),
            private: key_value(key(credential.private), &PRIVATE_KEY),
            public: key_value(key(credential.public), &PUBLIC_KEY),
        }
    }
}

impl Object for CredentialObject {
    fn type_name(&self) -> &'static str {
        "manifest.Credential"
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["Cert", "Private", "Public"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Cert" => Some(self.certificate.clone()),
            "Private" => Some(self.private.clone()),
            "Public" => Some(self.public.clone()),
            _ => None,
        }
    }
}

/// The fields of a secret.
const SECRET_FIELDS: [&str; 8] = ["Type", "Size", "Shared", "UserDefined", "Cert", "ValidFor", "Private", "Public"];

/// A whole secret.
pub(super) struct SecretObject {
    secret: Arc<Secret>,
    certificate: OnceLock<Value>,
}

/// Bytes that belong to a shared secret; nothing is copied.
struct Part {
    secret: Arc<Secret>,
    which: Which,
}

#[derive(Clone, Copy)]
enum Which {
    Certificate,
    Private,
    Public,
}

impl Part {
    fn of(secret: &Arc<Secret>, which: Which) -> Option<Arc<dyn Blob>> {
        let part = Self { secret: Arc::clone(secret), which };
        part.find().is_some().then(|| Arc::new(part) as Arc<dyn Blob>)
    }

    fn find(&self) -> Option<&[u8]> {
        match self.which {
            Which::Certificate => self.secret.certificate.as_deref(),
            Which::Private => self.secret.private.as_ref().map(SecretBytes::expose),
            Which::Public => self.secret.public.as_ref().map(SecretBytes::expose),
        }
    }
}

impl Blob for Part {
    fn bytes(&self) -> &[u8] {
        self.find().unwrap_or_default()
    }
}

impl SecretObject {
    fn new(secret: Arc<Secret>) -> Self {
        Self { secret, certificate: OnceLock::new() }
    }

    /// The bytes that stand for the whole secret.
    pub(super) fn public(&self) -> &[u8] {
        self.secret.public.as_ref().map_or(&[], SecretBytes::expose)
    }

    /// True for bytes that a user uploaded as they are. A secret that does not exist is of no type.
    pub(super) fn is_plain(&self) -> bool {
        self.secret.secret_type == SecretType::Plain
    }
}

impl Object for SecretObject {
    fn type_name(&self) -> &'static str {
        "manifest.Secret"
    }

    fn field_names(&self) -> &'static [&'static str] {
        &SECRET_FIELDS
    }

    fn field(&self, name: &str) -> Option<Value> {
        let secret = &self.secret;
        Some(match name {
            "Type" => Value::string_from(secret.secret_type.as_str().as_bytes().to_vec()),
            "Size" => Value::Uint(secret.size, UintType::Uint),
            "Shared" => Value::Bool(secret.shared),
            "UserDefined" => Value::Bool(secret.user_defined),
            "ValidFor" => Value::Uint(secret.valid_for, UintType::Uint),
            "Cert" => self
                .certificate
                .get_or_init(|| structure(CertificateObject::new(Part::of(secret, Which::Certificate))))
                .clone(),
            "Private" => key_value(Part::of(secret, Which::Private), &PRIVATE_KEY),
            "Public" => key_value(Part::of(secret, Which::Public), &PUBLIC_KEY),
            _ => return None,
        })
    }
}

/// What `index` gives for a secret that does not exist: a secret with all fields empty.
pub(super) struct NoSecret;

impl Object for NoSecret {
    fn type_name(&self) -> &'static str {
        "manifest.Secret"
    }

    fn field_names(&self) -> &'static [&'static str] {
        &SECRET_FIELDS
    }

    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Type" => Value::string_from(Vec::new()),
            "Size" | "ValidFor" => Value::Uint(0, UintType::Uint),
            "Shared" | "UserDefined" => Value::Bool(false),
            "Cert" => structure(CertificateObject::new(None)),
            "Private" => key_value(None, &PRIVATE_KEY),
            "Public" => key_value(None, &PUBLIC_KEY),
            _ => return None,
        })
    }
}

/// Secrets by name, as a template sees them.
pub struct SecretMap {
    entries: BTreeMap<String, Arc<SecretObject>>,
}

impl SecretMap {
    /// The secrets of one set.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, Arc<Secret>)>) -> Arc<Self> {
        let entries =
            secrets.into_iter().map(|(name, secret)| (name.to_owned(), Arc::new(SecretObject::new(secret)))).collect();
        Arc::new(Self { entries })
    }
}

impl Map for SecretMap {
    fn type_name(&self) -> &'static str {
        "map[string]manifest.Secret"
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn get(&self, key: &str) -> Option<Value> {
        self.entries.get(key).map(|secret| Value::Object(Arc::clone(secret) as Arc<dyn Object>))
    }

    fn zero(&self) -> Value {
        structure(NoSecret)
    }
}
