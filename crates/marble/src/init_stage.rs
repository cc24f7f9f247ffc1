//! The premain as Occlum's `init`: what it delivers to the stage of the application.
//!
//! Occlum starts `/bin/init` of the measured init image before there is any other file. What it may pass on is a key for
//! the image and an environment; it can neither set arguments nor choose the program. So the Coordinator may send to
//! this stage one file, [`IMAGE_KEY_PATH`], and variables. Everything else belongs to the second activation, by the
//! premain in the image (docs/encrypted-images.md).

use std::ffi::{CString, OsString};
use std::path::Path;

use marblerun_api::rpc::Parameters;
use marblerun_linux::occlum::IMAGE_KEY_LEN;
use marblerun_linux::regular_file::{ReadError, read_bounded};
use marblerun_secret::SecretBytes;
use marblerun_tee::parse_object;
use serde::Deserialize;

use crate::config;

/// The file in the Coordinator's delivery that holds the image key. It is where Occlum's own init looks for a key; this
/// one is never written to a file.
pub const IMAGE_KEY_PATH: &str = "/etc/image_key";

/// What `occlum build` says about the image, in the init image.
pub const IMAGE_CONFIG_PATH: &str = "/etc/image_config.json";

/// Where Occlum's LibOS finds the program of the init stage.
pub const INIT_PATH: &str = "/bin/init";

/// Directory of the UUID file in this stage: [`config::UUID_FILE`] names a path in the root of the application.
pub const DIRECTORY: &str = "/";

/// The file has one short member.
const MAX_IMAGE_CONFIG_BYTES: usize = 4096;

/// Letters of the key as `occlum gen-image-key` writes it: 16 pairs with `-` between them.
const DASHED_LEN: usize = 3 * IMAGE_KEY_LEN - 1;
/// Letters of the key in hexadecimal.
const HEX_LEN: usize = 2 * IMAGE_KEY_LEN;

/// How the image of the application is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageType {
    /// Its content is readable on the host.
    IntegrityOnly,
    /// It needs a key.
    Encrypted,
}

#[derive(Deserialize)]
struct ImageConfig {
    image_type: ImageType,
}

/// Why the init stage ends without the root of the application.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Nothing says whether the image is encrypted.
    #[error("{IMAGE_CONFIG_PATH}: expected a file that says whether the image is encrypted, got none")]
    NoImageConfig,
    /// The file cannot be read.
    #[error("{IMAGE_CONFIG_PATH} cannot be read")]
    Read(#[source] ReadError),
    /// The file is not the expected JSON.
    #[error("{IMAGE_CONFIG_PATH} is not valid")]
    Json(#[source] serde_json::Error),
    /// The image needs a key that the Coordinator did not send.
    #[error("the image is encrypted, and the Coordinator sent no file {IMAGE_KEY_PATH} with its key")]
    NoKey,
    /// The Coordinator sent a key that nothing needs.
    #[error("the Coordinator sent an image key in {IMAGE_KEY_PATH}, and the image is not encrypted")]
    UnneededKey,
    /// The key has another form. It is not shown.
    #[error(
        "{IMAGE_KEY_PATH}: expected 16 bytes, 32 hex digits, or 16 pairs of hex digits with \"-\" between them, got \
         another form of {length} bytes"
    )]
    KeyForm {
        /// Length of what was sent.
        length: usize,
    },
    /// The Coordinator sent a file that nobody would read.
    #[error("expected no file but {IMAGE_KEY_PATH} for the init stage, the Coordinator sent {path:?}")]
    File {
        /// The path.
        path: String,
    },
    /// The Coordinator sent arguments that nobody would get.
    #[error("expected no arguments for the init stage, the Coordinator sent {count}")]
    Arguments {
        /// How many.
        count: usize,
    },
    /// A value that Occlum does not pass on.
    #[error("environment variable {name}: expected UTF-8 text for the init stage, got other bytes")]
    NotUtf8 {
        /// The name; the value may be secret.
        name: String,
    },
}

impl InitError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoImageConfig => {
                Some("`occlum build` and `marble-sim image encrypt` write it into the init image (initfs)")
            }
            Self::NoKey => Some(
                "add it to the Files of the Marble of the init stage in the manifest, such as \"{{ raw .Secrets.imageKey \
                 }}\"",
            ),
            Self::UnneededKey => Some("build the image with the key, or remove the file from the manifest"),
            Self::File { .. } | Self::Arguments { .. } => Some(
                "give the init stage a Marble type of its own with EDG_MARBLE_INIT_TYPE; files and arguments of the \
                 program go to the type of the premain in the image",
            ),
            Self::NotUtf8 { .. } => Some("deliver it with the template function hex or base64"),
            _ => None,
        }
    }
}

impl ImageType {
    /// Reads [`IMAGE_CONFIG_PATH`].
    ///
    /// # Errors
    /// See [`InitError`]; there is no default.
    pub fn read(path: &Path) -> Result<Self, InitError> {
        let content = read_bounded(path, MAX_IMAGE_CONFIG_BYTES).map_err(InitError::Read)?;
        let content = content.ok_or(InitError::NoImageConfig)?;
        parse_object::<ImageConfig>(&content).map(|config| config.image_type).map_err(InitError::Json)
    }
}

/// The variables of the init stage: [`config::INIT_TYPE`] stands for [`config::MARBLE_TYPE`] if it is set, and the place
/// of the UUID file is fixed.
pub fn variable(name: &str, lookup: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    match name {
        config::MARBLE_TYPE => lookup(config::INIT_TYPE).filter(|name| !name.is_empty()).or_else(|| lookup(name)),
        config::UUID_FILE | config::CWD => None,
        _ => lookup(name),
    }
}

/// What Occlum is told when it mounts the root of the application. `Debug` shows no value.
pub struct RootMount {
    /// The key of the image, [`IMAGE_KEY_LEN`] bytes.
    pub key: Option<SecretBytes>,
    /// `NAME=value` for the application, sorted by name.
    pub environment: Vec<CString>,
}

impl std::fmt::Debug for RootMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootMount")
            .field("has_key", &self.key.is_some())
            .field("environment_count", &self.environment.len())
            .finish()
    }
}

/// What `parameters`, checked by [`prepare`](crate::prepare), mean for the mount of an image of this type.
///
/// # Errors
/// See [`InitError`]. What cannot be delivered is refused, never dropped.
pub fn root_mount(parameters: Parameters, image: ImageType) -> Result<RootMount, InitError> {
    let Parameters { mut files, env, argv } = parameters;
    let key = files.remove(IMAGE_KEY_PATH).map(SecretBytes::new);
    if let Some(path) = files.into_keys().min() {
        return Err(InitError::File { path });
    }
    if !argv.is_empty() {
        return Err(InitError::Arguments { count: argv.len() });
    }
    let key = match (image, key) {
        (ImageType::Encrypted, Some(text)) => Some(parse_key(&text)?),
        (ImageType::Encrypted, None) => return Err(InitError::NoKey),
        (ImageType::IntegrityOnly, Some(_)) => return Err(InitError::UnneededKey),
        (ImageType::IntegrityOnly, None) => None,
    };
    let mut environment = Vec::with_capacity(env.len());
    for (name, value) in env {
        let value = String::from_utf8(value).map_err(|_| InitError::NotUtf8 { name: name.clone() })?;
        let variable = CString::new(format!("{name}={value}")).map_err(|_| InitError::NotUtf8 { name })?;
        environment.push(variable);
    }
    environment.sort();
    Ok(RootMount { key, environment })
}

/// The forms have different lengths, so a key is never read in the wrong one.
fn parse_key(text: &SecretBytes) -> Result<SecretBytes, InitError> {
    let refused = || InitError::KeyForm { length: text.len() };
    let bytes = text.expose();
    if bytes.len() == IMAGE_KEY_LEN {
        return Ok(text.duplicate());
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let stride = match line.len() {
        HEX_LEN => 2,
        DASHED_LEN if line.iter().skip(2).step_by(3).all(|byte| *byte == b'-') => 3,
        _ => return Err(refused()),
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = Vec::with_capacity(IMAGE_KEY_LEN);
    for pair in line.chunks(stride) {
        let [high, low, ..] = pair else { return Err(refused()) };
        key.push(digit(*high).ok_or_else(refused)? << 4 | digit(*low).ok_or_else(refused)?);
    }
    Ok(SecretBytes::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] =
        [0xc7, 0x32, 0xb3, 0xed, 0x44, 0xdf, 0xec, 0x7b, 0x25, 0x2d, 0x9a, 0x32, 0x38, 0x8d, 0x58, 0x61];
    const DASHED: &str = "c7-32-b3-ed-44-df-ec-7b-25-2d-9a-32-38-8d-58-61";

    fn parameters(files: &[(&str, &[u8])], env: &[(&str, &[u8])], argv: &[&str]) -> Parameters {
        let map =
            |pairs: &[(&str, &[u8])]| pairs.iter().map(|(name, value)| ((*name).into(), value.to_vec())).collect();
        Parameters { files: map(files), env: map(env), argv: argv.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn mount(parameters: Parameters) -> Result<RootMount, InitError> {
        root_mount(parameters, ImageType::Encrypted)
    }

    // rules: INIT-2
    #[test]
    fn the_key_is_taken_raw_in_hex_and_as_occlum_writes_it() {
        let hex = DASHED.replace('-', "");
        for text in [
            &KEY[..],
            DASHED.as_bytes(),
            format!("{DASHED}\n").as_bytes(),
            hex.as_bytes(),
            b"C7-32-B3-ED-44-DF-EC-7B-25-2D-9A-32-38-8D-58-61",
        ] {
            let mount = mount(parameters(&[(IMAGE_KEY_PATH, text)], &[], &[])).unwrap();
            assert_eq!(mount.key.unwrap().expose(), KEY, "{text:?}");
        }
    }

    // rules: INIT-2
    #[test]
    fn another_form_of_key_is_refused_without_showing_it() {
        let words = [
            "",
            "0123456789abcde",
            "0123456789abcdef\n",
            &DASHED[1..],
            &DASHED.replace('-', ":"),
            &DASHED.replace('c', "x"),
        ];
        for text in words {
            let error = mount(parameters(&[(IMAGE_KEY_PATH, text.as_bytes())], &[], &[])).unwrap_err();
            assert!(matches!(error, InitError::KeyForm { length } if length == text.len()), "{text:?}: {error}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
    }

    // rules: INIT-3
    #[test]
    fn what_the_stage_cannot_deliver_is_refused() {
        let key: (&str, &[u8]) = (IMAGE_KEY_PATH, &KEY);
        let error = mount(parameters(&[key, ("/etc/app/key", b"x")], &[], &[])).unwrap_err();
        assert!(matches!(&error, InitError::File { path } if path == "/etc/app/key"), "{error}");
        assert!(error.hint().unwrap().contains("EDG_MARBLE_INIT_TYPE"));
        let error = mount(parameters(&[key], &[], &["/bin/app"])).unwrap_err();
        assert!(matches!(error, InitError::Arguments { count: 1 }), "{error}");
        let error = mount(parameters(&[key], &[("A", b"\xff")], &[])).unwrap_err();
        assert!(matches!(error, InitError::NotUtf8 { name } if name == "A"));
    }

    // rules: INIT-3
    #[test]
    fn key_and_image_must_fit_each_other() {
        assert!(matches!(mount(parameters(&[], &[], &[])), Err(InitError::NoKey)));
        let with_key = parameters(&[(IMAGE_KEY_PATH, &KEY)], &[], &[]);
        assert!(matches!(root_mount(with_key, ImageType::IntegrityOnly), Err(InitError::UnneededKey)));
        assert!(root_mount(parameters(&[], &[], &[]), ImageType::IntegrityOnly).unwrap().key.is_none());
    }

    #[test]
    fn variables_are_passed_on_in_order_and_shown_nowhere() {
        let mount = mount(parameters(&[(IMAGE_KEY_PATH, &KEY)], &[("B", b"hunter2"), ("A", b"")], &[])).unwrap();
        assert_eq!(mount.environment, [c"A=".to_owned(), c"B=hunter2".to_owned()]);
        assert_eq!(format!("{mount:?}"), "RootMount { has_key: true, environment_count: 2 }");
    }

    #[test]
    fn the_type_of_the_image_has_no_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image_config.json");
        assert!(matches!(ImageType::read(&path), Err(InitError::NoImageConfig)));
        for (text, expected) in [
            (r#"{"image_type":"encrypted"}"#, Some(ImageType::Encrypted)),
            (r#"{"image_type":"integrity-only","more":1}"#, Some(ImageType::IntegrityOnly)),
            (r#"{"image_type":"plain"}"#, None),
            ("{}", None),
            ("\"encrypted\"", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let got = ImageType::read(&path);
            assert!(expected.is_some() || matches!(got, Err(InitError::Json(_))), "{text}: {got:?}");
            assert_eq!(got.ok(), expected, "{text}");
        }
    }

    // rules: INIT-4
    #[test]
    fn the_stage_has_a_type_of_its_own_and_a_fixed_uuid_file() {
        let lookup = |name: &str| match name {
            config::MARBLE_TYPE => Some("app".into()),
            config::UUID_FILE => Some("/host/uuid".into()),
            config::DNS_NAMES => Some("a.example".into()),
            _ => None,
        };
        assert_eq!(variable(config::MARBLE_TYPE, lookup), Some("app".into()));
        assert_eq!(variable(config::UUID_FILE, lookup), None);
        assert_eq!(variable(config::DNS_NAMES, lookup), Some("a.example".into()));
        let own = |name: &str| if name == config::INIT_TYPE { Some("app-init".into()) } else { lookup(name) };
        assert_eq!(variable(config::MARBLE_TYPE, own), Some("app-init".into()));
        let empty = |name: &str| if name == config::INIT_TYPE { Some("".into()) } else { lookup(name) };
        assert_eq!(variable(config::MARBLE_TYPE, empty), Some("app".into()));
    }
}
