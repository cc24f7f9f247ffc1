use crate::error::{DecodeError, DecodeErrorKind, ValueKind};
use crate::place::Place;
use crate::scan::{describe, is_space, scan_value};
use crate::string::{folds_to, unescape};

/// At most this many unknown members are remembered; a document with more is wrong in its whole form.
pub const MAX_UNKNOWN_MEMBERS: usize = 100;

/// At most this many list elements and map entries are kept of one document, bytes of byte strings not counted.
///
/// An entry of a few bytes can become a structure of a kilobyte; without a limit a short document could fill the memory.
/// What is skipped does not count.
pub const MAX_ITEMS: usize = 100_000;

/// A value that can be filled from JSON.
///
/// Decoding goes *into* an existing value, because Go's rules for duplicate members and `null` depend on what is there
/// already: structures merge, `null` leaves strings, numbers and structures alone.
pub trait Decode {
    /// Takes the value that the decoder stands before.
    ///
    /// # Errors
    ///
    /// If the value does not fit; `self` may then be partly filled and must not be used.
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError>;
}

/// What a decoder noticed beside the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Members that nothing looked at, in the order of the document, at most [`MAX_UNKNOWN_MEMBERS`].
    pub unknown_members: Vec<UnknownMember>,
}

/// A member that the structure does not have; ignored, but probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMember {
    /// Where the member stands, its own name included.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// The structure's own members.
    pub known: &'static [&'static str],
}

/// Decodes a text that must be one JSON value and nothing else but white space.
///
/// # Errors
///
/// If the text is longer than `max_bytes`, is not one well-formed value, or does not fit `T`.
pub fn decode_whole<T: Decode + Default>(text: &[u8], max_bytes: usize) -> Result<(T, Notes), DecodeError> {
    let end = check_first(text, max_bytes)?;
    if let Some(extra) = text[end..].iter().position(|byte| !is_space(*byte)) {
        let offset = end + extra;
        let kind = DecodeErrorKind::Trailing { got: describe(text, offset) };
        return Err(DecodeError::at(kind, Place::top(), text, offset));
    }
    decode_checked(text)
}

/// Decodes the first JSON value of a text; whatever follows is not looked at.
///
/// # Errors
///
/// If the text is longer than `max_bytes`, does not begin with a well-formed value, or that does not fit `T`.
pub fn decode_first<T: Decode + Default>(text: &[u8], max_bytes: usize) -> Result<(T, Notes), DecodeError> {
    check_first(text, max_bytes)?;
    decode_checked(text)
}

fn check_first(text: &[u8], max_bytes: usize) -> Result<usize, DecodeError> {
    if text.len() > max_bytes {
        let kind = DecodeErrorKind::TooLarge { max_bytes, got_bytes: text.len() };
        return Err(DecodeError::at(kind, Place::top(), text, 0));
    }
    scan_value(text).map_err(|error| DecodeError::at(error.kind, Place::top(), text, error.offset))
}

fn decode_checked<T: Decode + Default>(text: &[u8]) -> Result<(T, Notes), DecodeError> {
    let mut decoder = Decoder { text, offset: 0, path: Vec::new(), items: 0, notes: Notes::default() };
    let mut value = T::default();
    value.decode(&mut decoder)?;
    Ok((value, decoder.notes))
}

enum Step {
    Member(&'static str),
    Entry(String),
    Element(usize),
}

/// Walks through a document that is known to be well-formed.
///
/// It stands before one value at a time; each method below takes exactly that value. Native recursion is as deep as the
/// target's types nest, never as deep as the document.
pub struct Decoder<'text> {
    text: &'text [u8],
    offset: usize,
    path: Vec<Step>,
    items: usize,
    notes: Notes,
}

impl<'text> Decoder<'text> {
    /// The kind of the value that the decoder stands before.
    pub fn kind(&mut self) -> ValueKind {
        self.skip_space();
        match self.peek() {
            Some(b'{') => ValueKind::Object,
            Some(b'[') => ValueKind::Array,
            Some(b'"') => ValueKind::String,
            Some(b't' | b'f') => ValueKind::Bool,
            Some(b'n') => ValueKind::Null,
            _ => ValueKind::Number,
        }
    }

    /// Takes the value if it is `null`.
    pub fn take_null(&mut self) -> bool {
        let null = self.kind() == ValueKind::Null;
        if null {
            self.offset += "null".len();
        }
        null
    }

    /// Takes a boolean.
    ///
    /// # Errors
    ///
    /// If the value is something else.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.expect(ValueKind::Bool, "true or false")?;
        Ok(self.skip_value() == b"true")
    }

    /// Takes a string; ill-formed text in it becomes U+FFFD.
    ///
    /// # Errors
    ///
    /// If the value is something else.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        self.expect(ValueKind::String, "a string")?;
        Ok(self.take_string())
    }

    /// Takes a number and gives its literal.
    ///
    /// # Errors
    ///
    /// If the value is something else.
    pub fn number(&mut self, expected: &'static str) -> Result<&'text str, DecodeError> {
        self.expect(ValueKind::Number, expected)?;
        // A checked number is ASCII.
        Ok(std::str::from_utf8(self.skip_value()).unwrap_or_default())
    }

    /// Takes any value and gives its text.
    pub fn raw(&mut self) -> &'text [u8] {
        self.skip_space();
        self.skip_value()
    }

    /// Takes an object whose members are `known`; calls `member` with the decoder before each known member's value, in
    /// the order of the document, duplicates included. Other members are skipped and noted. `null` calls nothing.
    ///
    /// # Errors
    ///
    /// If the value is something else, and those of `member`.
    pub fn members(
        &mut self,
        known: &'static [&'static str],
        mut member: impl FnMut(&mut Self, &'static str) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.take_null() {
            return Ok(());
        }
        self.expect(ValueKind::Object, "an object")?;
        self.each_member(|decoder, name| {
            let Some(known_name) = known.iter().copied().find(|known_name| folds_to(&name, known_name)) else {
                decoder.note_unknown(name, known);
                decoder.raw();
                return Ok(());
            };
            decoder.path.push(Step::Member(known_name));
            member(decoder, known_name)?;
            decoder.path.pop();
            Ok(())
        })
    }

    /// Takes an object whose member names are data; calls `entry` for each in the order of the document.
    ///
    /// # Errors
    ///
    /// If the value is something else (also `null`), and those of `entry`.
    pub fn entries(
        &mut self,
        mut entry: impl FnMut(&mut Self, String) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.expect(ValueKind::Object, "an object")?;
        self.each_member(|decoder, name| {
            decoder.path.push(Step::Entry(name.clone()));
            decoder.count_item()?;
            entry(decoder, name)?;
            decoder.path.pop();
            Ok(())
        })
    }

    /// Takes an array; calls `element` for each element.
    ///
    /// # Errors
    ///
    /// If the value is something else (also `null`), and those of `element`.
    pub fn elements(
        &mut self,
        expected: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.expect(ValueKind::Array, expected)?;
        self.offset += 1;
        let mut index = 0;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b']') | None => {
                    self.offset += 1;
                    return Ok(());
                }
                Some(b',') => self.offset += 1,
                Some(_) => {
                    self.path.push(Step::Element(index));
                    element(self)?;
                    self.path.pop();
                    index += 1;
                }
            }
        }
    }

    /// Counts an element or entry that is kept; [`Decoder::entries`] does so by itself.
    ///
    /// # Errors
    ///
    /// If there are more than [`MAX_ITEMS`].
    pub fn count_item(&mut self) -> Result<(), DecodeError> {
        self.items += 1;
        if self.items > MAX_ITEMS { Err(self.error(DecodeErrorKind::TooManyItems)) } else { Ok(()) }
    }

    /// Fails unless the value is of this kind.
    ///
    /// # Errors
    ///
    /// Says `expected` and the value's kind.
    pub fn expect(&mut self, kind: ValueKind, expected: &'static str) -> Result<(), DecodeError> {
        let got = self.kind();
        if got == kind { Ok(()) } else { Err(self.error(DecodeErrorKind::Type { expected, got })) }
    }

    /// An error at the member and the position where the decoder stands.
    pub fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        self.error_at(kind, self.offset)
    }

    /// An error at the member where the decoder stands and at an earlier [`Decoder::offset`].
    pub fn error_at(&self, kind: DecodeErrorKind, offset: usize) -> DecodeError {
        DecodeError::at(kind, self.place(), self.text, offset)
    }

    /// Where the value begins in the text.
    pub fn offset(&mut self) -> usize {
        self.skip_space();
        self.offset
    }

    fn place(&self) -> Place {
        let mut place = Place::top();
        for step in &self.path {
            match step {
                Step::Member(name) => place.push_key(name),
                Step::Entry(name) => place.push_key(name),
                Step::Element(index) => place.push_index(*index),
            }
        }
        place
    }

    fn note_unknown(&mut self, name: String, known: &'static [&'static str]) {
        if self.notes.unknown_members.len() < MAX_UNKNOWN_MEMBERS {
            let place = self.place().member(&name);
            self.notes.unknown_members.push(UnknownMember { place, name, known });
        }
    }

    /// Goes over the members of the object that begins here.
    fn each_member(
        &mut self,
        mut member: impl FnMut(&mut Self, String) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.offset += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    let name = self.take_string();
                    self.skip_space();
                    self.offset += 1; // the colon
                    member(self, name)?;
                }
                Some(b',') => self.offset += 1,
                _ => {
                    self.offset += 1;
                    return Ok(());
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.offset += 1;
        }
    }

    fn take_string(&mut self) -> String {
        let literal = self.skip_string();
        unescape(literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default())
    }

    fn skip_string(&mut self) -> &'text [u8] {
        let start = self.offset;
        self.offset += 1;
        loop {
            match self.peek() {
                Some(b'\\') => self.offset += 2,
                Some(b'"') | None => break,
                Some(_) => self.offset += 1,
            }
        }
        self.offset = (self.offset + 1).min(self.text.len());
        &self.text[start..self.offset]
    }

    /// Skips the value that begins exactly here and gives its text; a count of open brackets is all it needs.
    fn skip_value(&mut self) -> &'text [u8] {
        let start = self.offset;
        let mut open = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.skip_string();
                }
                Some(b'{' | b'[') => {
                    open += 1;
                    self.offset += 1;
                }
                Some(b'}' | b']') => {
                    open = open.saturating_sub(1);
                    self.offset += 1;
                }
                Some(b',' | b':') => self.offset += 1,
                Some(byte) if is_space(byte) => self.offset += 1,
                Some(b'-' | b'0'..=b'9') => {
                    while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.peek() {
                        self.offset += 1;
                    }
                }
                Some(b'f') => self.offset += "false".len(),
                Some(_) => self.offset += "null".len(),
                None => break,
            }
            if open == 0 {
                break;
            }
        }
        self.offset = self.offset.min(self.text.len());
        &self.text[start..self.offset]
    }
}

/// Implements [`Decode`] for a structure: member names, each with the field that it fills.
///
/// ```
/// #[derive(Default)]
/// struct Package { debug: bool, unique_id: String }
/// marblerun_json::decode_object!(Package { "Debug" => debug, "UniqueID" => unique_id });
///
/// let (package, _) = marblerun_json::decode_whole::<Package>(br#"{"uniqueid": "00ff"}"#, 100)?;
/// assert_eq!(package.unique_id, "00ff");
/// # Ok::<(), marblerun_json::DecodeError>(())
/// ```
#[macro_export]
macro_rules! decode_object {
    ($type:ty { $($name:literal => $($field:ident).+),* $(,)? }) => {
        impl $crate::Decode for $type {
            fn decode(&mut self, decoder: &mut $crate::Decoder<'_>) -> Result<(), $crate::DecodeError> {
                decoder.members(&[$($name),*], |decoder, name| match name {
                    $($name => $crate::Decode::decode(&mut self.$($field).+, decoder),)*
                    _ => {
                        decoder.raw();
                        Ok(())
                    }
                })
            }
        }
    };
}
