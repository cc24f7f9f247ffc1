//! PEM certificate chains, as they stand in quotes and collateral.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

/// The longest chain that is read: a leaf and four more certificates (real chains have three).
pub(crate) const MAX_CHAIN_CERTIFICATES: usize = 5;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Why text is not a PEM certificate chain.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no certificate at all.
    #[error("expected a PEM certificate chain, got no certificate")]
    Empty,
    /// Something other than white space stands before, between or after the certificates.
    #[error("expected only certificates and white space in the PEM chain, got other text at byte {offset}")]
    StrayText {
        /// Where the text begins.
        offset: usize,
    },
    /// A certificate has no end line.
    #[error("PEM certificate number {number} has no end line")]
    NoEnd {
        /// Counted from 1.
        number: usize,
    },
    /// A certificate's content is not base64.
    #[error("PEM certificate number {number} is not valid base64")]
    Base64 {
        /// Counted from 1.
        number: usize,
    },
    /// There are too many certificates.
    #[error("expected at most {max} certificates in a chain, got more")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// Reads the certificates of a chain, leaf first.
///
/// White space may stand around the certificates, and zero bytes after the last one: quoting libraries leave the
/// terminator of their string there, and none of these bytes is signed. Anything else is a sign of wrong framing.
pub(crate) fn parse_chain(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = trim_end(bytes);
    let mut chain = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if at == text.len() {
            break;
        }
        let number = chain.len() + 1;
        let Some(body) = text[at..].strip_prefix(BEGIN) else {
            return Err(PemError::StrayText { offset: at });
        };
        if number > MAX_CHAIN_CERTIFICATES {
            return Err(PemError::TooMany { max: MAX_CHAIN_CERTIFICATES });
        }
        let length = body.windows(END.len()).position(|window| window == END).ok_or(PemError::NoEnd { number })?;
        let der = decode_lines(&body[..length]).ok_or(PemError::Base64 { number })?;
        chain.push(CertificateDer::from(der));
        at += BEGIN.len() + length + END.len();
    }
    if chain.is_empty() { Err(PemError::Empty) } else { Ok(chain) }
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let kept = bytes.iter().rposition(|&byte| byte != 0 && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    &bytes[..kept]
}

/// Decodes base64 with white space in it (RFC 7468 3, "lax").
///
/// A blank line is refused: it would end a block of headers (RFC 1421 4.4), which certificates do not have.
fn decode_lines(body: &[u8]) -> Option<Vec<u8>> {
    let body = body.trim_ascii_start();
    if contains(body, b"\n\n") || contains(body, b"\r\n\r\n") {
        return None;
    }
    let is_white = |byte: u8| byte.is_ascii_whitespace() || byte == b'\x0b';
    let joined: Vec<u8> = body.iter().copied().filter(|&byte| !is_white(byte)).collect();
    STANDARD.decode(joined).ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\nBAU=\n-----END CERTIFICATE-----\n";

    #[track_caller]
    fn check(text: impl AsRef<[u8]>, expected: Result<usize, PemError>) {
        assert_eq!(parse_chain(text.as_ref()).map(|chain| chain.len()), expected);
    }

    #[test]
    fn certificates_are_read_in_order() {
        let chain = parse_chain(format!("{ONE}\n{ONE}").as_bytes()).unwrap();
        assert_eq!(chain, [CertificateDer::from(vec![1, 2, 3, 4, 5]), CertificateDer::from(vec![1, 2, 3, 4, 5])]);
    }

    #[test]
    fn line_feeds_and_the_terminator_of_a_c_string_may_end_the_chain() {
        for end in ["", "\0", "\n\0", "\r\n", "\0\0\0\0"] {
            check(format!("{ONE}{end}"), Ok(1));
        }
        check(ONE.replace('\n', "\r\n"), Ok(1));
        check(ONE.replace("AQID", " AQ\x0b\tID "), Ok(1));
    }

    #[test]
    fn anything_but_white_space_around_the_certificates_is_refused() {
        check(format!("{ONE}\0A"), Err(PemError::StrayText { offset: ONE.len() }));
        check(format!("x{ONE}"), Err(PemError::StrayText { offset: 0 }));
        check(format!("{ONE}x{ONE}"), Err(PemError::StrayText { offset: ONE.len() }));
        check(format!("{ONE}\0{ONE}"), Err(PemError::StrayText { offset: ONE.len() }));
        check(ONE.replace("CERTIFICATE", "X509 CRL"), Err(PemError::StrayText { offset: 0 }));
    }

    #[test]
    fn broken_certificates_are_refused() {
        check("", Err(PemError::Empty));
        check("\n\0", Err(PemError::Empty));
        check(&ONE[..40], Err(PemError::NoEnd { number: 1 }));
        check(format!("{ONE}{}", ONE.replace("AQID", "AQ-D")), Err(PemError::Base64 { number: 2 }));
        check(ONE.replace("AQID\n", "AQID\n\n"), Err(PemError::Base64 { number: 1 }));
        check(ONE.replace("BAU=", "BAU"), Err(PemError::Base64 { number: 1 }));
    }

    #[test]
    fn a_chain_of_more_than_five_certificates_is_refused() {
        check(ONE.repeat(5), Ok(5));
        check(ONE.repeat(6), Err(PemError::TooMany { max: 5 }));
    }
}
