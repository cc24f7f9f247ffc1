//! Intel's file for the quote provider library, `/etc/sgx_default_qcnl.conf`.
//!
//! Charts and machines that ran MarbleRun before already have one. Two forms are read: JSON with `//` and `/* */`
//! comments, as today's packages install it, and the older `KEY=value` lines with `#` comments. A file that is not
//! understood is an error: to ask another service than the one that was meant would tell it about our platforms.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::base_url::{BaseUrl, BaseUrlError};
use crate::client::{ClientOptions, ServerCertificate};
use crate::service::TcbUpdate;

/// Where Intel's packages put the file.
pub const QCNL_PATH: &str = "/etc/sgx_default_qcnl.conf";
/// The longest file that is read; the stock one has 4 KiB.
pub const MAX_QCNL_BYTES: usize = 64 * 1024;

/// `O_NONBLOCK` on Linux: opening a named pipe that nobody writes to returns instead of waiting forever.
const O_NONBLOCK: i32 = 0o4000;

/// What the file says about collateral for verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcnl {
    /// `collateral_service`, or else `pccs_url`.
    pub collateral_url: BaseUrl,
    /// `use_secure_cert`; absent means yes.
    pub use_secure_cert: bool,
    /// `tcb_update_type`.
    pub tcb_update: TcbUpdate,
}

/// Why text is not a QCNL file.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QcnlError {
    /// There is nothing but white space and comments.
    #[error("line 1: expected a JSON object or KEY=value lines, got an empty file")]
    Empty,
    /// The file is too long.
    #[error("expected at most {max} bytes, got {got}")]
    TooLong {
        /// The limit.
        max: usize,
        /// What came.
        got: usize,
    },
    /// The file is no text.
    #[error("line {line}: expected UTF-8 text, got other bytes")]
    Encoding {
        /// Counted from 1.
        line: usize,
    },
    /// The JSON is wrong, or has unknown members.
    #[error("line {line}: expected JSON with the known members: {reason}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What the reader says.
        reason: String,
    },
    /// A line of the older form is no `KEY=value`.
    #[error("line {line}: expected KEY=value, got {got:?}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line, shortened.
        got: String,
    },
    /// A key is unknown.
    #[error("line {line}: expected one of the known keys, got {key:?}")]
    UnknownKey {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A key stands twice.
    #[error("line {line}: expected {key} once, got it again")]
    Repeated {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A setting has a value that it cannot have.
    #[error("line {line}: {key}: expected {expected}, got {got:?}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The setting.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// An address cannot be used.
    #[error("line {line}: {key}")]
    Url {
        /// Counted from 1.
        line: usize,
        /// The setting.
        key: &'static str,
        /// Why.
        source: BaseUrlError,
    },
    /// No service is named.
    #[error("expected pccs_url or collateral_service, got neither")]
    NoUrl,
}

impl QcnlError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Url { source, .. } => return source.hint(),
            Self::Json { .. } => "look for a missing or extra comma, also in the line before",
            Self::UnknownKey { .. } => "remove the line, or correct the key's name",
            _ => "compare with the file that Intel's package sgx-dcap-default-qpl installs",
        })
    }
}

/// Why a QCNL file cannot be used.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QcnlFileError {
    /// It cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Its content is wrong.
    #[error("{}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: QcnlError,
    },
}

impl QcnlFileError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { .. } => Some("check that the file exists and may be read"),
            Self::Content { source, .. } => source.hint(),
        }
    }
}

impl Qcnl {
    /// Reads a file of limited size.
    ///
    /// # Errors
    ///
    /// See [`QcnlFileError`].
    pub fn read(path: &Path) -> Result<Self, QcnlFileError> {
        let unreadable = |reason: String| QcnlFileError::Unreadable { path: path.to_owned(), reason };
        let file = std::fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
        let file = file.map_err(|error| unreadable(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
        if !metadata.is_file() {
            return Err(unreadable("expected a regular file, got another kind".to_owned()));
        }
        let mut text = Vec::new();
        // One byte more than allowed tells a file that is too large, whatever its announced length.
        file.take(MAX_QCNL_BYTES as u64 + 1).read_to_end(&mut text).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text).map_err(|source| QcnlFileError::Content { path: path.to_owned(), source })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// See [`QcnlError`]; nearly all name the line.
    pub fn parse(text: &[u8]) -> Result<Self, QcnlError> {
        if text.len() > MAX_QCNL_BYTES {
            return Err(QcnlError::TooLong { max: MAX_QCNL_BYTES, got: text.len() });
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            let before = &text[..error.valid_up_to()];
            QcnlError::Encoding { line: 1 + before.iter().filter(|&&byte| byte == b'\n').count() }
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let uncommented = without_comments(text);
        let settings = match uncommented.trim_start().chars().next() {
            Some('{') => Settings::from_json(&uncommented)?,
            _ => Settings::from_lines(text)?,
        };
        settings.resolve()
    }

    /// How a client asks the service that the file names.
    pub fn client_options(&self) -> ClientOptions {
        ClientOptions {
            server_certificate: match self.use_secure_cert {
                true => ServerCertificate::PublicAuthority,
                false => ServerCertificate::Any,
            },
            tcb_update: self.tcb_update,
            ..ClientOptions::new(self.collateral_url.clone())
        }
    }
}

/// A setting and where it stands.
type Setting = Option<(usize, String)>;

/// The settings that matter here, still as text.
#[derive(Debug, Default)]
struct Settings {
    pccs_url: Setting,
    collateral_service: Setting,
    use_secure_cert: Setting,
    tcb_update_type: Setting,
}

/// Every member that the library knows. The ignored ones concern the quote provider, not verification.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    #[serde(default)]
    pccs_url: Option<String>,
    #[serde(default)]
    collateral_service: Option<String>,
    #[serde(default)]
    use_secure_cert: Option<Switch>,
    #[serde(default)]
    tcb_update_type: Option<String>,
    #[serde(default, rename = "pccs_api_version")]
    _pccs_api_version: Option<IgnoredAny>,
    #[serde(default, rename = "retry_times")]
    _retry_times: Option<IgnoredAny>,
    #[serde(default, rename = "retry_delay")]
    _retry_delay: Option<IgnoredAny>,
    #[serde(default, rename = "local_pck_url")]
    _local_pck_url: Option<IgnoredAny>,
    #[serde(default, rename = "pck_cache_expire_hours")]
    _pck_cache_expire_hours: Option<IgnoredAny>,
    #[serde(default, rename = "verify_collateral_cache_expire_hours")]
    _verify_collateral_cache_expire_hours: Option<IgnoredAny>,
    #[serde(default, rename = "custom_request_options")]
    _custom_request_options: Option<IgnoredAny>,
    #[serde(default, rename = "local_cache_only")]
    _local_cache_only: Option<IgnoredAny>,
}

/// A boolean that some files have in quotes.
struct Switch(String);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Boolean(bool),
            Text(String),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Boolean(value) => value.to_string(),
            Form::Text(text) => text,
        }))
    }
}

impl Settings {
    fn from_json(text: &str) -> Result<Self, QcnlError> {
        let json: Json = serde_json::from_str(text)
            .map_err(|error| QcnlError::Json { line: error.line(), reason: error.to_string() })?;
        let placed = |member: &str, value: Option<String>| value.map(|value| (line_of(text, member), value));
        Ok(Self {
            pccs_url: placed("pccs_url", json.pccs_url),
            collateral_service: placed("collateral_service", json.collateral_service),
            use_secure_cert: placed("use_secure_cert", json.use_secure_cert.map(|switch| switch.0)),
            tcb_update_type: placed("tcb_update_type", json.tcb_update_type),
        })
    }

    fn from_lines(text: &str) -> Result<Self, QcnlError> {
        let mut settings = Self::default();
        let mut is_empty = true;
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') || content.starts_with("//") {
                continue;
            }
            is_empty = false;
            let Some((key, value)) = content.split_once('=') else {
                return Err(QcnlError::Line { line, got: content.chars().take(80).collect() });
            };
            let key = key.trim();
            let setting = match key {
                "PCCS_URL" => &mut settings.pccs_url,
                "COLLATERAL_SERVICE" => &mut settings.collateral_service,
                "USE_SECURE_CERT" => &mut settings.use_secure_cert,
                "TCB_UPDATE_TYPE" => &mut settings.tcb_update_type,
                "PCCS_API_VERSION"
                | "RETRY_TIMES"
                | "RETRY_DELAY"
                | "LOCAL_PCK_URL"
                | "PCK_CACHE_EXPIRE_HOURS"
                | "VERIFY_COLLATERAL_CACHE_EXPIRE_HOURS"
                | "LOCAL_CACHE_ONLY" => continue,
                _ => return Err(QcnlError::UnknownKey { line, key: key.chars().take(80).collect() }),
            };
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            if setting.replace((line, value.to_owned())).is_some() {
                return Err(QcnlError::Repeated { line, key: key.to_owned() });
            }
        }
        if is_empty { Err(QcnlError::Empty) } else { Ok(settings) }
    }

    fn resolve(self) -> Result<Qcnl, QcnlError> {
        let Self { pccs_url, collateral_service, use_secure_cert, tcb_update_type } = self;
        let url = |key, setting: Setting| {
            let Some((line, text)) = setting else { return Ok(None) };
            BaseUrl::parse(&text).map(Some).map_err(|source| QcnlError::Url { line, key, source })
        };
        // Where both are there, both must be right: one of them is wrong otherwise, and nobody knows which was meant.
        let (pccs, service) = (url("pccs_url", pccs_url)?, url("collateral_service", collateral_service)?);
        let use_secure_cert = match use_secure_cert {
            None => true,
            Some((_, value)) if value.eq_ignore_ascii_case("true") => true,
            Some((_, value)) if value.eq_ignore_ascii_case("false") => false,
            Some((line, got)) => {
                return Err(QcnlError::Value { line, key: "use_secure_cert", expected: "true or false", got });
            }
        };
        let tcb_update = match tcb_update_type {
            None => TcbUpdate::Standard,
            Some((_, value)) if value.eq_ignore_ascii_case("standard") => TcbUpdate::Standard,
            Some((_, value)) if value.eq_ignore_ascii_case("early") => TcbUpdate::Early,
            Some((line, got)) => {
                return Err(QcnlError::Value { line, key: "tcb_update_type", expected: "standard or early", got });
            }
        };
        let collateral_url = service.or(pccs).ok_or(QcnlError::NoUrl)?;
        Ok(Qcnl { collateral_url, use_secure_cert, tcb_update })
    }
}

/// Replaces the comments of JSON by white space, so that every line keeps its number.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if c == '"' {
            string_length(rest)
        } else if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[length..];
            continue;
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            out.extend(rest[..length].chars().filter(|&c| c == '\n'));
            rest = &rest[length..];
            continue;
        } else {
            c.len_utf8()
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// Bytes of the JSON string at the beginning of `text`, quotes included. One without end ends with the text.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The line in which a member of the object stands, counted from 1; 1 if its name is written with escapes.
fn line_of(text: &str, member: &str) -> usize {
    let name = format!("\"{member}\"");
    1 + text.find(&name).map_or(0, |at| text[..at].matches('\n').count())
}

#[cfg(test)]
mod tests;
