//! Text of URLs that a template gives in parts, assembled as Go's `url.URL.String` does.

/// The parts of a URL with the members of Go's `url.URL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// `Scheme`, without the colon.
    pub scheme: String,
    /// `Opaque`: replaces host and path.
    pub opaque: String,
    /// `Host`, with port.
    pub host: String,
    /// `Path`, not escaped.
    pub path: String,
    /// `RawPath`: the escaped path, used where it means the same as `path`.
    pub raw_path: String,
    /// `RawQuery`, escaped, without the question mark.
    pub raw_query: String,
    /// `Fragment`, not escaped.
    pub fragment: String,
    /// `RawFragment`: the escaped fragment, used where it means the same as `fragment`.
    pub raw_fragment: String,
    /// `ForceQuery`: write the question mark also for an empty query.
    pub force_query: bool,
    /// `OmitHost`: do not write `//` for an empty host.
    pub omit_host: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    Path,
    Fragment,
}

impl Url {
    /// The assembled text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text.push_str(&self.scheme);
            text.push(':');
        }
        if self.opaque.is_empty() {
            self.push_host_and_path(&mut text);
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
        text
    }

    fn push_host_and_path(&self, text: &mut String) {
        let omitted = self.omit_host && self.host.is_empty();
        if !(omitted || self.scheme.is_empty() && self.host.is_empty()) {
            if !self.host.is_empty() || !self.path.is_empty() {
                text.push_str("//");
            }
            text.push_str(&escape(&self.host, Part::Host));
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

/// `raw` if it is a valid escaping of `plain`, else `plain` escaped.
fn escaped(plain: &str, raw: &str, part: Part) -> String {
    if !raw.is_empty() && is_valid_escaped(raw, part) && unescape(raw).as_deref() == Some(plain.as_bytes()) {
        return raw.to_owned();
    }
    escape(plain, part)
}

fn is_valid_escaped(text: &str, part: Part) -> bool {
    text.bytes().all(|byte| b"!$&'()*+,;=:@[]%".contains(&byte) || !must_escape(byte, part))
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            output.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        output.push((high * 16 + low) as u8);
    }
    Some(output)
}

fn escape(text: &str, part: Part) -> String {
    let mut output = String::with_capacity(text.len());
    for byte in text.bytes() {
        if must_escape(byte, part) {
            output.push_str(&format!("%{byte:02X}"));
        } else {
            output.push(char::from(byte));
        }
    }
    output
}

fn must_escape(byte: u8, part: Part) -> bool {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        return false;
    }
    match part {
        Part::Host => !b"!$&'()*+,;=:[]<>\"".contains(&byte),
        Part::Path => !b"$&+,/:;=@".contains(&byte),
        Part::Fragment => !b"$&+,/:;=?@!()*".contains(&byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(scheme: &str, host: &str, path: &str) -> Url {
        Url { scheme: scheme.into(), host: host.into(), path: path.into(), ..Url::default() }
    }

    #[track_caller]
    fn check(url: Url, expected: &str) {
        assert_eq!(url.to_text(), expected);
    }

    #[test]
    fn parts_are_assembled_as_go_does() {
        check(url("spiffe", "td", "/wl"), "spiffe://td/wl");
        check(Url { raw_query: "q=1".into(), ..url("https", "h", "/p") }, "https://h/p?q=1");
        check(Url { opaque: "a@b".into(), ..url("mailto", "", "") }, "mailto:a@b");
        check(url("https", "h", "p"), "https://h/p");
        check(url("file", "", "/p"), "file:///p");
        check(Url { omit_host: true, ..url("file", "", "/p") }, "file:/p");
        check(url("urn", "", ""), "urn:");
        check(url("", "", "a:b/c"), "./a:b/c");
        check(url("", "", "*"), "*");
        check(url("https", "h", "/a b?ü"), "https://h/a%20b%3F%C3%BC");
        check(Url { raw_path: "/a%2Fb".into(), ..url("https", "h", "/a/b") }, "https://h/a%2Fb");
        check(Url { raw_path: "/x%2Fb".into(), ..url("https", "h", "/a/b") }, "https://h/a/b");
        check(Url { raw_path: "/a%2".into(), ..url("https", "h", "/a") }, "https://h/a");
        check(Url { force_query: true, fragment: "f g?".into(), ..url("https", "h", "") }, "https://h?#f%20g?");
        check(Url::default(), "");
    }
}
