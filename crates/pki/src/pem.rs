//! PEM (RFC 7468): written as Go writes it, read as tolerantly as people's files need it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_secret::SecretBytes;

/// Longest text that is read, in bytes.
pub const MAX_PEM_BYTES: usize = 4 * 1024 * 1024;

const LINE_CHARS: usize = 64;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Label of certificates.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Label of PKCS#8 keys.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of SubjectPublicKeyInfo keys.
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Why a PEM text could not be read.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("expected PEM text of at most {MAX_PEM_BYTES} bytes, got {got}")]
    TooLong {
        /// Length of what came.
        got: usize,
    },
    /// There is no `-----BEGIN` line.
    #[error("expected a PEM block (-----BEGIN {expected}-----), got text without any")]
    NoBlock {
        /// Label that was looked for.
        expected: &'static str,
    },
    /// The first block has another label.
    #[error("expected a PEM block of type {expected}, got one of type {got:?}")]
    Label {
        /// Label that was looked for.
        expected: &'static str,
        /// Label that was found.
        got: String,
    },
    /// A block does not end with the `-----END` line of its label.
    #[error("PEM block found, but without its line -----END {label}-----")]
    NoEnd {
        /// Label of the block.
        label: String,
    },
    /// A block has headers, as encrypted keys have.
    #[error("PEM block of type {label:?} found, but with headers (an encrypted key?), which are not supported")]
    Headers {
        /// Label of the block.
        label: String,
    },
    /// The contents are not base64.
    #[error("PEM block of type {label:?} found, but its contents are not base64")]
    Base64 {
        /// Label of the block.
        label: String,
    },
}

/// One block.
pub struct Block {
    /// What the block holds, for example `CERTIFICATE`.
    pub label: String,
    /// The contents; treated as secret, because keys come this way.
    pub der: SecretBytes,
}

/// The block with 64 characters a line and a final newline.
pub fn encode(label: &str, der: &[u8]) -> String {
    let encoded = zeroize::Zeroizing::new(STANDARD.encode(der));
    let lines = encoded.len().div_ceil(LINE_CHARS);
    let mut text = String::with_capacity(encoded.len() + lines + 2 * (END.len() + label.len() + DASHES.len() + 3));
    text.push_str(BEGIN);
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(END);
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// All blocks in order; text before, between and behind them is skipped.
///
/// Line ends may be CRLF or missing at the end of the text, lines of any length, blanks around them and a byte order
/// mark in front are allowed.
///
/// # Errors
///
/// See [`PemError`]; a text without blocks gives an empty list.
pub fn decode_all(text: &[u8]) -> Result<Vec<Block>, PemError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLong { got: text.len() });
    }
    // Bytes that are no UTF-8 may stand between blocks; inside one they are no base64.
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES)) else { continue };
        blocks.push(decode_block(label, &mut lines)?);
    }
    Ok(blocks)
}

fn decode_block<'a>(label: &str, lines: &mut impl Iterator<Item = &'a str>) -> Result<Block, PemError> {
    let mut body = zeroize::Zeroizing::new(String::new());
    for line in lines {
        if let Some(end) = line.strip_prefix(END) {
            if end.strip_suffix(DASHES) != Some(label) {
                break;
            }
            let der = STANDARD.decode(body.as_bytes()).map_err(|_| PemError::Base64 { label: label.to_owned() })?;
            return Ok(Block { label: label.to_owned(), der: SecretBytes::new(der) });
        }
        if line.starts_with(BEGIN) {
            break;
        }
        if line.contains(':') {
            return Err(PemError::Headers { label: label.to_owned() });
        }
        body.push_str(line);
    }
    Err(PemError::NoEnd { label: label.to_owned() })
}

/// The certificates of a text that consists of certificates, in order, as DER; at least one.
///
/// # Errors
///
/// See [`PemError`]; any block with another label is refused.
pub fn decode_certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let blocks = decode_all(text)?;
    if blocks.is_empty() {
        return Err(PemError::NoBlock { expected: CERTIFICATE });
    }
    blocks
        .into_iter()
        .map(|block| match block.label.as_str() {
            CERTIFICATE => Ok(block.der.expose().to_vec()),
            _ => Err(PemError::Label { expected: CERTIFICATE, got: block.label }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_characters_and_the_text_ends_with_a_newline() {
        let text = encode("X Y", &[0; 49]);
        let expected = format!("-----BEGIN X Y-----\n{}\nAA==\n-----END X Y-----\n", "A".repeat(64));
        assert_eq!(text, expected);
        assert_eq!(encode("E", &[]), "-----BEGIN E-----\n-----END E-----\n");
        assert_eq!(encode("F", &[0; 48]), format!("-----BEGIN F-----\n{}\n-----END F-----\n", "A".repeat(64)));
    }

    #[test]
    fn files_from_other_tools_are_read() {
        let der: Vec<u8> = (0..200).collect();
        let plain = encode(CERTIFICATE, &der);
        let body = STANDARD.encode(&der);
        for (form, text) in [
            ("as written", plain.clone()),
            ("CRLF", plain.replace('\n', "\r\n")),
            ("no final newline", plain.trim_end().to_owned()),
            ("trailing blanks", plain.replace('\n', "  \n")),
            ("indented", format!("  {}", plain.replace('\n', "\n  "))),
            ("bag attributes", format!("Bag Attributes\n    x: y\nsubject=CN=x\n{plain}")),
            ("one line", format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")),
            ("byte order mark", format!("\u{feff}{plain}")),
        ] {
            assert_eq!(decode_certificates(text.as_bytes()).unwrap(), std::slice::from_ref(&der), "{form}");
        }
        assert_eq!(decode_certificates(format!("{plain}{plain}").as_bytes()).unwrap().len(), 2);
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(decode_certificates(text.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_the_reason() {
        check_refused("MIIB", "expected a PEM block (-----BEGIN CERTIFICATE-----), got text without any");
        check_refused(
            &encode(PRIVATE_KEY, b"secret"),
            "expected a PEM block of type CERTIFICATE, got one of type \"PRIVATE KEY\"",
        );
        check_refused(
            "-----BEGIN CERTIFICATE-----\nAA==\n",
            "PEM block found, but without its line -----END CERTIFICATE-----",
        );
        check_refused(
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END X-----\n",
            "PEM block found, but without its line -----END CERTIFICATE-----",
        );
        check_refused(
            "-----BEGIN CERTIFICATE-----\nA!==\n-----END CERTIFICATE-----\n",
            "PEM block of type \"CERTIFICATE\" found, but its contents are not base64",
        );
        check_refused(
            "-----BEGIN K-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END K-----\n",
            "PEM block of type \"K\" found, but with headers (an encrypted key?), which are not supported",
        );
    }

    #[test]
    fn overlong_texts_are_refused() {
        let text = vec![b' '; MAX_PEM_BYTES + 1];
        assert!(matches!(decode_all(&text), Err(PemError::TooLong { .. })));
    }
}
