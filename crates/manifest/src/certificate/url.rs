use std::fmt::{self, Write};

use marblerun_json::{Decode, DecodeError, Decoder, decode_object};

/// A URI in parts, with the members of Go's `url.URL`. `Display` assembles the text as Go does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlObject {
    /// Before the first colon.
    pub scheme: String,
    /// Replaces user, host and path, unescaped.
    pub opaque: String,
    /// Present if the member was given; it has no content.
    pub user: Option<NoMembers>,
    /// Host, or host and port.
    pub host: String,
    /// Path, not escaped.
    pub path: String,
    /// The escaped form of `path` to use; ignored if it is not one.
    pub raw_path: String,
    /// Query, escaped, without question mark.
    pub raw_query: String,
    /// Fragment, not escaped.
    pub fragment: String,
    /// The escaped form of `fragment` to use; ignored if it is not one.
    pub raw_fragment: String,
    /// Writes the question mark even without query.
    pub force_query: bool,
    /// Leaves the slashes of an empty host out.
    pub omit_host: bool,
}

decode_object!(UrlObject {
    "Scheme" => scheme,
    "Opaque" => opaque,
    "User" => user,
    "Host" => host,
    "Path" => path,
    "RawPath" => raw_path,
    "RawQuery" => raw_query,
    "Fragment" => fragment,
    "RawFragment" => raw_fragment,
    "ForceQuery" => force_query,
    "OmitHost" => omit_host,
});

/// An object none of whose members can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoMembers;

impl Decode for NoMembers {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        decoder.members(&[], |_, _| Ok(()))
    }
}

impl fmt::Display for UrlObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text.push_str(&self.scheme);
            text.push(':');
        }
        if self.opaque.is_empty() {
            self.push_hierarchy(&mut text);
        } else {
            text.push_str(&self.opaque);
        }
        if self.force_query || !self.raw_query.is_empty() {
            text.push('?');
            text.push_str(&self.raw_query);
        }
        if !self.fragment.is_empty() {
            text.push('#');
            text.push_str(&escaped(&self.fragment, &self.raw_fragment, Part::Fragment));
        }
        f.write_str(&text)
    }
}

impl UrlObject {
    /// Authority and path (RFC 3986 3.2, 3.3).
    fn push_hierarchy(&self, text: &mut String) {
        let user = self.user.is_some();
        let omitted = self.omit_host && self.host.is_empty() && !user;
        if (!self.scheme.is_empty() || !self.host.is_empty() || user) && !omitted {
            if !self.host.is_empty() || !self.path.is_empty() || user {
                text.push_str("//");
            }
            if user {
                text.push('@');
            }
            push_percent_encoded(text, &self.host, Part::Host);
        }
        let path = if self.path == "*" && self.raw_path.is_empty() {
            "*".to_owned()
        } else {
            escaped(&self.path, &self.raw_path, Part::Path)
        };
        if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
            text.push('/');
        }
        // A first segment with a colon would read as a scheme (RFC 3986 4.2).
        if text.is_empty() && path.split('/').next().is_some_and(|segment| segment.contains(':')) {
            text.push_str("./");
        }
        text.push_str(&path);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    Path,
    Fragment,
}

/// The given escaped form if it is one, else a new one.
fn escaped(plain: &str, given: &str, part: Part) -> String {
    let usable = given
        .bytes()
        .all(|byte| matches!(byte, b'%' | b'[' | b']' | b'!' | b'\'' | b'(' | b')' | b'*') || !must_escape(byte, part));
    if !given.is_empty() && usable && percent_decoded(given).as_deref() == Some(plain.as_bytes()) {
        return given.to_owned();
    }
    let mut text = String::new();
    push_percent_encoded(&mut text, plain, part);
    text
}

fn push_percent_encoded(text: &mut String, plain: &str, part: Part) {
    for byte in plain.bytes() {
        if must_escape(byte, part) {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        } else {
            text.push(char::from(byte));
        }
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        out.extend(hex::decode(digits).ok()?);
        rest = tail;
    }
    Some(out)
}

/// Whether a byte must be written as percent and two digits, as Go's `net/url` decides for each part.
fn must_escape(byte: u8, part: Part) -> bool {
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let allowed = match part {
        Part::Host => matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'['
                | b']'
                | b'<'
                | b'>'
                | b'"'
        ),
        Part::Path => matches!(byte, b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@'),
        Part::Fragment => matches!(
            byte,
            b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' | b'?' | b'!' | b'(' | b')' | b'*'
        ),
    };
    !unreserved && !allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let (url, _) = marblerun_json::decode_whole::<UrlObject>(json.as_bytes(), 1000).unwrap();
        assert_eq!(url.to_string(), expected, "{json}");
    }

    #[test]
    fn uris_are_assembled_as_go_does() {
        check(r#"{"Scheme":"spiffe","Host":"td","Path":"/wl"}"#, "spiffe://td/wl");
        check(r#"{"Scheme":"spiffe","Host":"td","Path":"wl"}"#, "spiffe://td/wl");
        check(r#"{"Scheme":"mailto","Opaque":"a@b"}"#, "mailto:a@b");
        check(r#"{"Scheme":"file","Path":"/a b?c"}"#, "file:///a%20b%3Fc");
        check(r#"{"Scheme":"file","Path":"/a","OmitHost":true}"#, "file:/a");
        check(r#"{"Scheme":"http","User":{},"Host":"h:1"}"#, "http://@h:1");
        check(r#"{"Host":"h","RawQuery":"a=b","Fragment":"x y"}"#, "//h?a=b#x%20y");
        check(r#"{"Host":"h","ForceQuery":true}"#, "//h?");
        check(r#"{"Path":"a:b/c"}"#, "./a:b/c");
        check(r#"{"Path":"/a/b","RawPath":"/a%2Fb"}"#, "/a%2Fb");
        check(r#"{"Path":"/a","RawPath":"/other"}"#, "/a");
        check(r#"{"Path":"/ä"}"#, "/%C3%A4");
        check("{}", "");
    }
}
