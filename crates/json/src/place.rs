use std::fmt::{self, Write};

/// Where in a document something stands, as people write it: `Marbles.web.TLS[0]`, `Files["/etc/x.conf"]`.
///
/// The top of the document is the empty place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(String);

impl Place {
    /// Longer keys are shortened: a place is read by people and repeated in logs.
    const MAX_KEY_CHARS: usize = 80;

    /// The top of the document.
    pub fn top() -> Self {
        Self::default()
    }

    /// The place of a member, or of a map's entry, below this one.
    #[must_use]
    pub fn member(&self, key: &str) -> Self {
        let mut place = self.clone();
        place.push_key(key);
        place
    }

    /// The place of a list's element below this one; counting starts with 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut place = self.clone();
        place.push_index(index);
        place
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the top of the document.
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push_key(&mut self, key: &str) {
        let plain = !key.is_empty()
            && key.len() <= Self::MAX_KEY_CHARS
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if plain {
            if !self.0.is_empty() {
                self.0.push('.');
            }
            self.0.push_str(key);
            return;
        }
        let mut short: String = key.chars().take(Self::MAX_KEY_CHARS).collect();
        if short.len() < key.len() {
            short.push('…');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "[{short:?}]");
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        let _ = write!(self.0, "[{index}]");
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_top() { "document" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_paths_and_quote_unusual_keys() {
        let marble = Place::top().member("Marbles").member("web");
        assert_eq!(marble.member("TLS").index(0).to_string(), "Marbles.web.TLS[0]");
        assert_eq!(marble.member("/etc/x.conf").to_string(), r#"Marbles.web["/etc/x.conf"]"#);
        assert_eq!(Place::top().member("").to_string(), r#"[""]"#);
        assert_eq!(Place::top().to_string(), "document");
    }

    #[test]
    fn long_keys_and_control_characters_do_not_reach_the_log() {
        let text = Place::top().member(&"x\n".repeat(500)).to_string();
        assert!(text.chars().count() < 200, "{text}");
        assert!(!text.contains('\n'));
    }
}
