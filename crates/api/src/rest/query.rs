use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// URL-safe base64 with padding; the unused trailing bits may be set, as in Go's `base64.URLEncoding`.
const NONCE_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A nonce that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the query parameter nonce in URL-safe base64 with padding")]
pub struct NonceError;

/// The values of a query's parameter in order, percent-decoded, with `+` for a blank.
///
/// The name is case-sensitive. A pair that contains a semicolon or a malformed escape is ignored, as in Go's `net/url`.
pub fn query_values(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter(|pair| !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode_component(value)?;
            (decode_component(key)? == name).then_some(value)
        })
        .collect()
}

/// The nonce of a quote request; `None` if it is absent or empty. The first occurrence counts.
///
/// # Errors
///
/// If it is anything but URL-safe base64 with padding.
pub fn decode_nonce(query: Option<&str>) -> Result<Option<Vec<u8>>, NonceError> {
    let Some(text) = query.and_then(|query| query_values(query, "nonce").into_iter().next()) else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    let without_line_ends: String = text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    NONCE_BASE64.decode(without_line_ends).map(Some).map_err(|_| NonceError)
}

/// The query of a quote request with a nonce.
pub fn encode_nonce(nonce: &[u8]) -> String {
    format!("nonce={}", NONCE_BASE64.encode(nonce).replace('=', "%3D"))
}

/// The query of GET secrets: `s` once for each name, percent-encoded (RFC 3986 2.1).
pub fn encode_secret_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut query = String::new();
    for name in names {
        query.push_str(if query.is_empty() { "s=" } else { "&s=" });
        for byte in name.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(char::from(byte)),
                other => query.push_str(&format!("%{other:02X}")),
            }
        }
    }
    query
}

fn decode_component(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, tail) = tail.split_at_checked(2)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = tail;
            }
            other => out.push(*other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: EP-4
    #[test]
    fn nonce_is_url_safe_base64_with_padding() {
        assert_eq!(decode_nonce(Some("nonce=-_8%3D")), Ok(Some(vec![0xfb, 0xff])));
        assert_eq!(decode_nonce(Some("nonce=-_8=&nonce=%%")), Ok(Some(vec![0xfb, 0xff])));
        assert_eq!(decode_nonce(Some(&encode_nonce(&[0xfb, 0xff, 1, 2]))), Ok(Some(vec![0xfb, 0xff, 1, 2])));
        for bad in ["nonce=-_8", "nonce=%2B/8=", "nonce=+/8=", "nonce=x"] {
            assert_eq!(decode_nonce(Some(bad)), Err(NonceError), "{bad}");
        }
    }

    // rules: SIG-3
    #[test]
    fn an_absent_empty_or_misspelt_nonce_is_no_nonce() {
        for query in [None, Some(""), Some("nonce="), Some("nonce"), Some("Nonce=x"), Some("a=b"), Some("nonce=x;y")] {
            assert_eq!(decode_nonce(query), Ok(None), "{query:?}");
        }
    }

    #[test]
    fn names_of_secrets_survive_the_query_whatever_they_contain() {
        let names = ["web", "a b&s=c;d+%", "é", ""];
        assert_eq!(query_values(&encode_secret_names(names), "s"), names);
        assert_eq!(encode_secret_names(["a b", "c"]), "s=a%20b&s=c");
    }

    #[test]
    fn values_are_decoded_and_semicolons_lose_the_pair() {
        assert_eq!(query_values("s=a%20b&s=c+d&S=e&s=f;s=g&s=%zz&s=h,i", "s"), ["a b", "c d", "h,i"]);
    }
}
