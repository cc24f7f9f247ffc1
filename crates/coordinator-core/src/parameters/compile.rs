use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use marblerun_manifest::{File, Manifest, Marble};
use marblerun_pki::pem;
use marblerun_secret::SecretBytes;
use marblerun_template::{Budget, Error, ErrorKind, Function, Limit, Limits, References, SyntaxError, Template, Value};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use super::data::{Credential, DataSet, SecretMap};
use super::function::{ENV_FUNCTIONS, FILE_FUNCTIONS};
use super::ttls::{ENV_TTLS_CONFIG, TtlsConfig};
use super::used::UsedSecrets;
use crate::secrets::Secrets;

/// Variable with the Marble root certificate as PEM.
pub const ENV_ROOT_CA: &str = "MARBLE_PREDEFINED_ROOT_CA";
/// Variable with the Marble's certificate followed by the intermediate certificate as PEM.
pub const ENV_MARBLE_CERTIFICATE_CHAIN: &str = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN";
/// Variable with the Marble's private key as PEM.
pub const ENV_PRIVATE_KEY: &str = "MARBLE_PREDEFINED_PRIVATE_KEY";
/// Variable with the Coordinator's root certificate as PEM.
pub const ENV_COORDINATOR_ROOT_CA: &str = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA";

/// What rendering the parameters of one Marble may cost; all its templates share it.
///
/// The output, files and variables together and content without templates included, is bounded by 16 MiB: more than
/// the 4 MiB that stock gRPC clients accept, so that the edge decides about messages, and no more than a manifest.
pub const RENDER_LIMITS: Limits =
    Limits { steps: 1_000_000, value_bytes: 16 << 20, total_value_bytes: 64 << 20, output_bytes: 16 << 20 };

/// Most parts of all templates of one Marble; what they take in memory is a multiple of their text.
pub const MAX_MARBLE_NODES: usize = 100_000;

/// Where in a Marble's parameters something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, by its path.
    File(String),
    /// An environment variable, by its name.
    Env(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "Files.{path}"),
            Self::Env(name) => write!(f, "Env.{name}"),
        }
    }
}

/// Why the parameters of a Marble cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum CompileError {
    /// A template is malformed.
    #[error("{place}: {error}")]
    Template {
        /// Which entry.
        place: Place,
        /// What is wrong, and where in it.
        error: Error,
    },
    /// A value that no environment can hold.
    #[error("{place}: contains a NUL byte, which no environment variable can hold")]
    Nul {
        /// Which entry.
        place: Place,
    },
    /// The Marble's templates have too many parts together.
    #[error("{place}: with it, the templates of the Marble have more than {MAX_MARBLE_NODES} parts")]
    Nodes {
        /// Which entry exceeds the limit.
        place: Place,
    },
    /// A TLS tag that the manifest does not define.
    #[error("TLS: expected the name of a tag, got {tag:?}")]
    UnknownTag {
        /// The tag.
        tag: String,
    },
}

impl CompileError {
    /// A stable word for the cause: the class of the template's error, `nul-byte`, `limit` or `unknown-tag`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Template { error, .. } => error.class(),
            Self::Nul { .. } => "nul-byte",
            Self::Nodes { .. } => "limit",
            Self::UnknownTag { .. } => "unknown-tag",
        }
    }

    /// What the author of the manifest can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Template { error, .. } => template_hint(error),
            Self::Nul { .. } => Some("put binary values into a file, or encode them with hex or base64"),
            Self::Nodes { .. } | Self::UnknownTag { .. } => None,
        }
    }
}

/// Why the parameters of a Marble cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum RenderError {
    /// A template fails.
    #[error("{place}: {error}")]
    Template {
        /// Which entry.
        place: Place,
        /// What is wrong, and where in it.
        error: Error,
    },
    /// A result that no environment can hold.
    #[error("{place}: the result contains a NUL byte, which no environment variable can hold")]
    Nul {
        /// Which entry.
        place: Place,
    },
    /// All parameters together are too long.
    #[error("{place}: {limit}")]
    Limit {
        /// Which entry exceeds the limit.
        place: Place,
        /// The limit.
        limit: Limit,
    },
}

impl RenderError {
    /// A stable word for the cause: the class of the template's error, `nul-byte` or `limit`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Template { error, .. } => error.class(),
            Self::Nul { .. } => "nul-byte",
            Self::Limit { .. } => "limit",
        }
    }

    /// What the author of the manifest can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Template { error, .. } => template_hint(error),
            Self::Nul { .. } => Some("put binary values into a file, or encode them with hex or base64"),
            Self::Limit { .. } => None,
        }
    }
}

/// Advice in the words of a manifest.
fn template_hint(error: &Error) -> Option<&'static str> {
    match &error.kind {
        ErrorKind::Syntax(SyntaxError::BadCharacter { .. } | SyntaxError::BadNumber) => {
            Some("a secret whose name is not an identifier is reached with index, as in (index .Secrets \"my-key\")")
        }
        ErrorKind::MissingField { name, .. } if name == "SealKey" => {
            Some("define a secret of type symmetric-key and use it instead")
        }
        ErrorKind::UndefinedFunction { name } if name == "raw" => {
            Some("raw is for files; environment variables take hex, base64, pem, or string for plain secrets")
        }
        ErrorKind::UndefinedFunction { name } if name == "string" => {
            Some("string is for environment variables; files take raw")
        }
        _ => match error.class() {
            "empty-secret" => Some("upload the user-defined secret before Marbles that use it are started"),
            "missing-secret" => Some("define the secret in the manifest, or correct its name"),
            _ => error.hint(),
        },
    }
}

/// What a Marble is given.
#[derive(Debug)]
pub struct Parameters {
    /// Contents by path.
    pub files: BTreeMap<String, SecretBytes>,
    /// Values by name of the variable; free of NUL bytes.
    pub env: BTreeMap<String, SecretBytes>,
    /// Arguments, the program's own name first.
    pub argv: Vec<String>,
}

/// A Marble's credentials and the secrets that it may use.
#[derive(Clone, Copy)]
pub struct MarbleData<'a> {
    /// The Marble root certificate as DER.
    pub marble_root: &'a [u8],
    /// The Coordinator's root certificate as DER.
    pub coordinator_root: &'a [u8],
    /// The Coordinator's intermediate certificate as DER.
    pub coordinator_intermediate: &'a [u8],
    /// The Marble's certificate as DER.
    pub certificate: &'a [u8],
    /// The Marble's private key as PKCS#8.
    pub private_key: &'a SecretBytes,
    /// The Marble's public key as DER SubjectPublicKeyInfo.
    pub public_key: &'a [u8],
    /// Current secrets, at least those of [`CompiledParameters::used_secrets`].
    pub secrets: &'a Secrets,
    /// Previous secrets, at least those of [`CompiledParameters::used_previous_secrets`].
    pub previous_secrets: &'a Secrets,
}

/// Content of a file or variable.
#[derive(Debug)]
enum Content {
    Fixed(Vec<u8>),
    Template(Template),
}

/// The parameters of a Marble type: templates parsed once, rendered at each activation.
#[derive(Debug)]
pub struct CompiledParameters {
    files: BTreeMap<String, Content>,
    env: BTreeMap<String, Content>,
    argv: Vec<String>,
    ttls: Option<TtlsConfig>,
    used_secrets: UsedSecrets,
    used_previous_secrets: UsedSecrets,
    nodes: usize,
}

impl CompiledParameters {
    /// Compiles the parameters of `marble`, a Marble type of `manifest`.
    ///
    /// # Errors
    ///
    /// The first mistake: files before variables, each in the order of their names.
    pub fn compile(manifest: &Manifest, marble: &Marble) -> Result<Self, CompileError> {
        let parameters = &marble.parameters;
        for (name, file) in &parameters.env {
            if file.data.contains(&0) {
                return Err(CompileError::Nul { place: Place::Env(name.clone()) });
            }
        }
        let mut nodes_left = MAX_MARBLE_NODES;
        let files = contents(&parameters.files, &FILE_FUNCTIONS, Place::File, &mut nodes_left)?;
        let env = contents(&parameters.env, &ENV_FUNCTIONS, Place::Env, &mut nodes_left)?;
        let ttls = TtlsConfig::of(manifest, marble)?;
        let mut references = References::new();
        for content in files.values().chain(env.values()) {
            if let Content::Template(template) = content {
                references.extend(template.references());
            }
        }
        let mut used_secrets = UsedSecrets::default();
        used_secrets.add(&references, &["Secrets"]);
        for name in ttls.iter().flat_map(TtlsConfig::secrets) {
            used_secrets.insert(name);
        }
        let mut used_previous_secrets = UsedSecrets::default();
        used_previous_secrets.add(&references, &["Previous", "Secrets"]);
        let nodes = MAX_MARBLE_NODES - nodes_left;
        Ok(Self { files, env, argv: parameters.argv.clone(), ttls, used_secrets, used_previous_secrets, nodes })
    }

    /// Number of parts of all templates, some hundred bytes of memory each.
    pub fn node_count(&self) -> usize {
        self.nodes
    }

    /// The current secrets that the templates and TLS tags may use.
    pub fn used_secrets(&self) -> &UsedSecrets {
        &self.used_secrets
    }

    /// The previous secrets that the templates may use.
    pub fn used_previous_secrets(&self) -> &UsedSecrets {
        &self.used_previous_secrets
    }

    /// Expands everything for one Marble.
    ///
    /// Files come first, then variables; the reserved variables replace those of the manifest.
    ///
    /// # Errors
    ///
    /// The first template that fails; nothing is delivered then.
    pub fn render(&self, data: &MarbleData<'_>) -> Result<Parameters, RenderError> {
        let mut budget = Budget::new(RENDER_LIMITS);
        let (files, mut env) = self.expand(&data_set(data).into_value(), &mut budget)?;
        if let Some(ttls) = &self.ttls {
            let value = ttls
                .render(data, &mut budget)
                .map_err(|limit| RenderError::Limit { place: Place::Env(ENV_TTLS_CONFIG.to_owned()), limit })?;
            env.insert(ENV_TTLS_CONFIG.to_owned(), value);
        }
        let certificate = |der: &[u8]| SecretBytes::new(pem::encode("CERTIFICATE", der).into_bytes());
        let chain =
            pem::encode("CERTIFICATE", data.certificate) + &pem::encode("CERTIFICATE", data.coordinator_intermediate);
        let key = Zeroizing::new(pem::encode("PRIVATE KEY", data.private_key.expose()));
        put(&mut env, ENV_ROOT_CA, certificate(data.marble_root), &mut budget)?;
        put(&mut env, ENV_MARBLE_CERTIFICATE_CHAIN, SecretBytes::new(chain.into_bytes()), &mut budget)?;
        put(&mut env, ENV_PRIVATE_KEY, SecretBytes::copy_from(key.as_bytes()), &mut budget)?;
        put(&mut env, ENV_COORDINATOR_ROOT_CA, certificate(data.coordinator_root), &mut budget)?;
        Ok(Parameters { files, env, argv: self.argv.clone() })
    }

    /// Executes all templates over `data`: files, then variables.
    pub(super) fn expand(&self, data: &Value, budget: &mut Budget) -> Result<(Contents, Contents), RenderError> {
        let files = expand_all(&self.files, data, budget, Place::File)?;
        let env = expand_all(&self.env, data, budget, Place::Env)?;
        for (name, value) in &env {
            if value.expose().contains(&0) {
                return Err(RenderError::Nul { place: Place::Env(name.clone()) });
            }
        }
        Ok((files, env))
    }
}

type Contents = BTreeMap<String, SecretBytes>;

fn contents(
    files: &BTreeMap<String, File>,
    functions: &'static [Function],
    place: fn(String) -> Place,
    nodes_left: &mut usize,
) -> Result<BTreeMap<String, Content>, CompileError> {
    files
        .iter()
        .map(|(name, file)| {
            let content = if file.no_templates {
                Content::Fixed(file.data.clone())
            } else {
                let template = Template::parse(&file.data, functions)
                    .map_err(|error| CompileError::Template { place: place(name.clone()), error })?;
                *nodes_left = nodes_left
                    .checked_sub(template.node_count())
                    .ok_or_else(|| CompileError::Nodes { place: place(name.clone()) })?;
                Content::Template(template)
            };
            Ok((name.clone(), content))
        })
        .collect()
}

fn expand_all(
    contents: &BTreeMap<String, Content>,
    data: &Value,
    budget: &mut Budget,
    place: fn(String) -> Place,
) -> Result<Contents, RenderError> {
    contents
        .iter()
        .map(|(name, content)| {
            let value = match content {
                Content::Fixed(bytes) => {
                    budget
                        .charge_output(bytes.len())
                        .map_err(|limit| RenderError::Limit { place: place(name.clone()), limit })?;
                    SecretBytes::copy_from(bytes)
                }
                Content::Template(template) => template
                    .execute(data, budget)
                    .map_err(|error| RenderError::Template { place: place(name.clone()), error })?,
            };
            Ok((name.clone(), value))
        })
        .collect()
}

fn put(env: &mut Contents, name: &str, value: SecretBytes, budget: &mut Budget) -> Result<(), RenderError> {
    budget
        .charge_output(value.len())
        .map_err(|limit| RenderError::Limit { place: Place::Env(name.to_owned()), limit })?;
    env.insert(name.to_owned(), value);
    Ok(())
}

fn data_set(data: &MarbleData<'_>) -> DataSet {
    let certificate = |der: &[u8]| Credential { certificate: Some(der.to_vec()), ..Credential::default() };
    let map =
        |secrets: &Secrets| SecretMap::new(secrets.iter().map(|(name, secret)| (name.as_str(), Arc::clone(secret))));
    DataSet {
        marble_root: certificate(data.marble_root),
        marble: Credential {
            certificate: Some(data.certificate.to_vec()),
            private: Some(data.private_key.duplicate()),
            public: Some(SecretBytes::copy_from(data.public_key)),
        },
        coordinator_root: certificate(data.coordinator_root),
        coordinator_intermediate: certificate(data.coordinator_intermediate),
        secrets: map(data.secrets),
        previous_secrets: map(data.previous_secrets),
    }
}
