//! Planted secrets, and the search for them in each form in which they might be written.
//!
//! The file is a JSON object: name to `{"text": …}`, `{"hex": …}` or `{"base64": …}`.
//!
//! | Form | Found also |
//! |---|---|
//! | raw | a text with line breaks: with other line breaks, indented, or as a JSON string |
//! | hex, lower and upper case | with line breaks |
//! | base64, standard and URL alphabet | inside of the base64 of something longer, with line breaks (PEM) |
//! | decimal | a list of numbers, as a debug print of bytes |
//!
//! A secret that is a PEM text counts as its bytes too.

use std::fmt;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use marblerun_linux::regular_file::{self, ReadError};
use marblerun_secret::SecretBytes;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Longest file that is read: the search needs about a thousand times its length.
pub const MAX_FILE_LEN: usize = 256 * 1024;

/// Most secrets: each is looked for in about a dozen forms.
pub const MAX_CANARIES: usize = 256;

/// A shorter secret is found by chance.
pub const MIN_LEN: usize = 8;

/// Zeros, or one letter many times, are found by chance as well.
pub const MIN_DISTINCT: usize = 4;

/// A private key in PEM has a few thousand bytes.
pub const MAX_LEN: usize = 16 * 1024;

/// Longest name, since it is printed.
const MAX_NAME: usize = 128;

/// The form in which a secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As it is.
    Raw,
    /// Hexadecimal digits.
    Hex,
    /// Base64, standard or URL alphabet.
    Base64,
    /// Base64 over several lines.
    Pem,
    /// Decimal numbers with commas or blanks between them.
    Decimal,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Pem => "PEM",
            Self::Decimal => "decimal numbers",
        })
    }
}

/// The file of planted secrets is not usable. No message has a value in it.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] ReadError),
    /// It is not a regular file of bearable length.
    #[error("expected a file of 1 to {MAX_FILE_LEN} bytes")]
    Length,
    /// It is not the JSON that is expected.
    #[error(
        "line {line} column {column}: expected a JSON object from names to {{\"text\": …}}, {{\"hex\": …}} or \
         {{\"base64\": …}}"
    )]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column.
        column: usize,
    },
    /// There are none, or too many.
    #[error("expected 1 to {MAX_CANARIES} secrets, got {0}")]
    Count(usize),
    /// A name that cannot be printed.
    #[error("secret number {0}: expected a name of 1 to {MAX_NAME} printable characters")]
    Name(usize),
    /// Two secrets have one name.
    #[error("secret {0:?} occurs twice")]
    Twice(String),
    /// The value does not decode.
    #[error("secret {name:?}: expected {encoding}")]
    Encoding {
        /// The secret.
        name: String,
        /// How it should be encoded.
        encoding: &'static str,
    },
    /// Too short or too long.
    #[error("secret {name:?}: expected {MIN_LEN} to {MAX_LEN} bytes, got {got}")]
    ValueLength {
        /// The secret.
        name: String,
        /// Its length.
        got: usize,
    },
    /// Found by chance.
    #[error("secret {name:?}: expected at least {MIN_DISTINCT} different bytes, got {got}")]
    Distinct {
        /// The secret.
        name: String,
        /// How many different ones it has.
        got: usize,
    },
    /// The search cannot be prepared.
    #[error("the search cannot be prepared for so many bytes of secrets")]
    Search,
}

/// One member of the file.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Value {
    Text(String),
    Hex(String),
    Base64(String),
}

impl Value {
    fn decode(self) -> Result<SecretBytes, &'static str> {
        match self {
            Self::Text(text) => Ok(SecretBytes::new(text.into_bytes())),
            Self::Hex(text) => hex::decode(text).map(SecretBytes::new).map_err(|_| "hexadecimal digits"),
            Self::Base64(text) => BASE64_STANDARD.decode(text).map(SecretBytes::new).map_err(|_| "padded base64"),
        }
    }
}

/// The members in the file's order, duplicates included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members_;
        impl<'de> Visitor<'de> for Members_ {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() > MAX_CANARIES {
                        return Err(de::Error::custom("too many"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Members_)
    }
}

/// What a pattern of the search stands for.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    canary: usize,
    form: Form,
    /// Also looked for in the bytes as they are, so that the joined lines add nothing where there was no line break.
    in_plain_too: bool,
}

/// One search over a kind of view.
struct Search {
    automaton: AhoCorasick,
    meanings: Vec<Meaning>,
}

impl Search {
    fn new(patterns: Vec<(Meaning, SecretBytes)>) -> Result<Self, CanaryError> {
        let automaton = AhoCorasick::builder()
            // The other kinds need a multiple of the memory or take any number of states.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns.iter().map(|(_, bytes)| bytes.expose()))
            .map_err(|_| CanaryError::Search)?;
        Ok(Self { automaton, meanings: patterns.into_iter().map(|(meaning, _)| meaning).collect() })
    }
}

/// The planted secrets of a run, ready to be looked for.
///
/// The automatons hold the secrets; the program's allocator wipes what it gives back.
pub struct Canaries {
    names: Vec<String>,
    plain: Search,
    joined: Search,
    /// Some patterns are looked for in joined lines only.
    joined_only: bool,
    tail_len: usize,
}

impl fmt::Debug for Canaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canaries").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A place where a secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which secret, as an index for [`Canaries::name`].
    pub canary: usize,
    /// In which form.
    pub form: Form,
    /// Where it begins, counted from the first new byte; negative if it began before.
    pub start: i64,
}

impl Canaries {
    /// Reads and prepares a file.
    ///
    /// # Errors
    /// [`CanaryError`].
    pub fn read(path: &Path) -> Result<Self, CanaryError> {
        let bytes = regular_file::read_bounded(path, MAX_FILE_LEN).map_err(CanaryError::Read)?;
        Self::parse(SecretBytes::new(bytes.ok_or(CanaryError::Length)?).expose())
    }

    /// Prepares the content of a file.
    ///
    /// # Errors
    /// [`CanaryError`].
    pub fn parse(json: &[u8]) -> Result<Self, CanaryError> {
        if json.len() > MAX_FILE_LEN {
            return Err(CanaryError::Length);
        }
        // Not the parser's own message, which may quote a value.
        let Members(members) = serde_json::from_slice(json)
            .map_err(|error| CanaryError::Json { line: error.line(), column: error.column() })?;
        if members.is_empty() || members.len() > MAX_CANARIES {
            return Err(CanaryError::Count(members.len()));
        }
        let mut names: Vec<String> = Vec::new();
        let mut patterns = Patterns::default();
        for (index, (name, value)) in members.into_iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(CanaryError::Name(index + 1));
            }
            if names.contains(&name) {
                return Err(CanaryError::Twice(name));
            }
            let secret = match value.decode() {
                Ok(secret) => secret,
                Err(encoding) => return Err(CanaryError::Encoding { name, encoding }),
            };
            if !(MIN_LEN..=MAX_LEN).contains(&secret.len()) {
                return Err(CanaryError::ValueLength { name, got: secret.len() });
            }
            let got = secret.expose().iter().collect::<std::collections::BTreeSet<_>>().len();
            if got < MIN_DISTINCT {
                return Err(CanaryError::Distinct { name, got });
            }
            patterns.add(index, secret.expose());
            names.push(name);
        }
        let longest = patterns.plain.iter().chain(&patterns.joined).map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
        let joined_only = patterns.joined.iter().any(|(meaning, _)| !meaning.in_plain_too);
        Ok(Self {
            names,
            joined_only,
            plain: Search::new(patterns.plain)?,
            joined: Search::new(patterns.joined)?,
            // Twice, for the line breaks and indentation between.
            tail_len: 2 * longest + 64,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The name of a secret.
    pub fn name(&self, canary: usize) -> &str {
        &self.names[canary]
    }

    /// So many of the last bytes of a stream must be kept for the next [`Canaries::search`].
    pub fn tail_len(&self) -> usize {
        self.tail_len
    }

    /// True if any secret is in `bytes`.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        !self.search(&[], bytes).is_empty()
    }

    /// Looks for what ends in `new`, where `tail` came before it in the same stream.
    pub fn search(&self, tail: &[u8], new: &[u8]) -> Vec<Hit> {
        let whole;
        let bytes = if tail.is_empty() {
            new
        } else {
            whole = SecretBytes::new([tail, new].concat());
            whole.expose()
        };
        let mut hits = Vec::new();
        let position = |start: usize| start as i64 - tail.len() as i64;
        for found in self.plain.automaton.find_overlapping_iter(bytes) {
            let Meaning { canary, form, .. } = self.plain.meanings[found.pattern()];
            if found.end() > tail.len() {
                hits.push(Hit { canary, form, start: position(found.start()) });
            }
        }
        let has_breaks = || bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
        if !self.joined_only && !has_breaks() {
            return hits;
        }
        let Joined { text, places } = Joined::of(bytes);
        for found in self.joined.automaton.find_overlapping_iter(text.expose()) {
            let Meaning { canary, form, in_plain_too } = self.joined.meanings[found.pattern()];
            let (start, end) = (places[found.start()], places[found.end() - 1] + 1);
            let has_break = end - start > found.end() - found.start();
            if end > tail.len() && (has_break || !in_plain_too) {
                hits.push(Hit { canary, form, start: position(start) });
            }
        }
        hits
    }
}

/// Text without line breaks, the indentation after them, and their form in JSON strings.
struct Joined {
    text: SecretBytes,
    /// Where each byte was.
    places: Vec<usize>,
}

impl Joined {
    fn of(bytes: &[u8]) -> Self {
        // Room for all, so that no partial copy stays behind.
        let (mut text, mut places) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
        let mut at = 0;
        let mut after_break = false;
        while let Some(byte) = bytes.get(at) {
            let skipped = match byte {
                b'\n' | b'\r' => 1,
                b'\\' if matches!(bytes.get(at + 1), Some(b'n' | b'r')) => 2,
                _ => 0,
            };
            if skipped > 0 {
                after_break = true;
                at += skipped;
            } else if after_break && matches!(byte, b' ' | b'\t') {
                at += 1;
            } else {
                after_break = false;
                text.push(*byte);
                places.push(at);
                at += 1;
            }
        }
        Self { text: SecretBytes::new(text), places }
    }
}

/// The patterns of both searches.
#[derive(Default)]
struct Patterns {
    plain: Vec<(Meaning, SecretBytes)>,
    joined: Vec<(Meaning, SecretBytes)>,
}

impl Patterns {
    fn add(&mut self, canary: usize, secret: &[u8]) {
        self.add_bytes(canary, secret);
        let Ok(text) = std::str::from_utf8(secret) else { return };
        if let Ok((_, der)) = pem_rfc7468::decode_vec(secret) {
            let der = SecretBytes::new(der);
            if der.len() >= MIN_LEN {
                self.add_bytes(canary, der.expose());
            }
        }
        // A text may come in other lines, or as a JSON string.
        if text.contains(['\n', '\r']) {
            self.add_joined(canary, Form::Raw, false, Joined::of(secret).text);
        }
        if let Ok(json) = serde_json::to_vec(text).map(SecretBytes::new) {
            let inner = &json.expose()[1..json.len() - 1];
            if inner != secret && text.contains(['"', '\\', '\t']) {
                self.add_joined(canary, Form::Raw, false, Joined::of(inner).text);
                self.add_plain(canary, Form::Raw, SecretBytes::copy_from(inner));
            }
        }
    }

    fn add_bytes(&mut self, canary: usize, secret: &[u8]) {
        self.add_plain(canary, Form::Raw, SecretBytes::copy_from(secret));
        for digits in [hex::encode(secret), hex::encode_upper(secret)] {
            let digits = SecretBytes::new(digits.into_bytes());
            self.add_joined(canary, Form::Hex, true, digits.duplicate());
            self.add_plain(canary, Form::Hex, digits);
        }
        for separator in [", ", ",", " "] {
            let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
            let list = SecretBytes::new(list.into_bytes());
            if separator == "," {
                // One number on each line.
                self.add_joined(canary, Form::Decimal, true, list.duplicate());
            }
            self.add_plain(canary, Form::Decimal, list);
        }
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            for bytes_before in 0..3 {
                let text = embedded_base64(&engine, secret, bytes_before);
                // The alphabets differ in two characters only.
                if self.plain.iter().any(|(_, known)| known.expose() == text.expose()) {
                    continue;
                }
                self.add_joined(canary, Form::Pem, true, text.duplicate());
                self.add_plain(canary, Form::Base64, text);
            }
        }
    }

    fn add_plain(&mut self, canary: usize, form: Form, bytes: SecretBytes) {
        self.plain.push((Meaning { canary, form, in_plain_too: true }, bytes));
    }

    fn add_joined(&mut self, canary: usize, form: Form, in_plain_too: bool, bytes: SecretBytes) {
        if bytes.len() >= MIN_LEN {
            self.joined.push((Meaning { canary, form, in_plain_too }, bytes));
        }
    }
}

/// The base64 characters that depend on `secret` alone when so many (modulo 3) other bytes stand before it.
fn embedded_base64(engine: &impl base64::Engine, secret: &[u8], bytes_before: usize) -> SecretBytes {
    let mut bytes = vec![0; bytes_before];
    bytes.extend_from_slice(secret);
    let bytes = SecretBytes::new(bytes);
    let text = SecretBytes::new(engine.encode(bytes.expose()).into_bytes());
    // A character has 6 bits: skip those with bits of what is before, and the last one if the next byte has a part of it.
    let first = (8 * bytes_before).div_ceil(6);
    let last = 8 * bytes.len() / 6;
    SecretBytes::copy_from(&text.expose()[first..last])
}

#[cfg(test)]
mod tests;
