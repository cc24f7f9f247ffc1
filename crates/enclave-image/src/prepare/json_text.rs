//! Editing JSON text in place: what is not edited keeps every byte.
//!
//! Order of members, unknown members, indentation, the way numbers are written, all stays as its author wrote it. The text
//! is parsed only to know where values begin and end.

use std::ops::Range;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// The text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}")]
pub struct JsonTextError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What would be right there.
    pub expected: &'static str,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its bytes in the text.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Members in the order of the text.
    Object(Vec<Member>),
    /// Elements in the order of the text.
    Array(Vec<Value>),
    /// A text, unescaped.
    String(String),
    /// A number, a truth value or null; the text says which.
    Other,
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, unescaped.
    pub name: String,
    /// Where the name begins, with its quotation mark.
    pub start: usize,
    /// Its value.
    pub value: Value,
}

impl Value {
    /// The member `name` of an object; the first, if there are several.
    pub fn member(&self, name: &str) -> Option<&Value> {
        match &self.kind {
            Kind::Object(members) => members.iter().find(|member| member.name == name).map(|member| &member.value),
            _ => None,
        }
    }

    /// The value at the end of a path of member names.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, name| value.member(name))
    }

    /// The elements of an array.
    pub fn elements(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn string(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Parses a whole text.
///
/// # Errors
/// [`JsonTextError`] with the first place that is not JSON (RFC 8259) or nested too deeply.
pub fn parse(text: &str) -> Result<Value, JsonTextError> {
    let mut parser = Parser { text, at: 0 };
    parser.blanks();
    let value = parser.value(0)?;
    parser.blanks();
    if parser.at < text.len() { Err(parser.error("the end of the text")) } else { Ok(value) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, expected: &'static str) -> JsonTextError {
        let before = &self.text.as_bytes()[..self.at];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        JsonTextError { line, column, expected }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte`, if it is the next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonTextError> {
        if depth > MAX_DEPTH {
            return Err(self.error("at most 64 levels"));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::String(self.string()?),
            _ => self.scalar()?,
        };
        Ok(Value { span: start..self.at, kind })
    }

    fn object(&mut self, depth: usize) -> Result<Kind, JsonTextError> {
        let mut members = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b'}') {
            return Ok(Kind::Object(members));
        }
        loop {
            let start = self.at;
            let name = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return Err(self.error("a colon"));
            }
            self.blanks();
            let value = self.value(depth + 1)?;
            members.push(Member { name, start, value });
            self.blanks();
            if self.take(b'}') {
                return Ok(Kind::Object(members));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or the end of the object"));
            }
            self.blanks();
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, JsonTextError> {
        let mut elements = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b']') {
            return Ok(Kind::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.blanks();
            if self.take(b']') {
                return Ok(Kind::Array(elements));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or the end of the list"));
            }
            self.blanks();
        }
    }

    fn string(&mut self) -> Result<String, JsonTextError> {
        let start = self.at;
        if !self.take(b'"') {
            return Err(self.error("a text in quotation marks"));
        }
        loop {
            match self.peek() {
                Some(b'"') => break,
                // Whatever is escaped cannot end the text.
                Some(b'\\') => self.at = (self.at + 2).min(self.text.len()),
                Some(_) => self.at += 1,
                None => return Err(self.error("the end of a text")),
            }
        }
        self.at += 1;
        let written = self.text.get(start..self.at);
        let unescaped = written.and_then(|written| serde_json::from_str(written).ok());
        unescaped.ok_or_else(|| {
            self.at = start;
            self.error("a text without control characters and with known escapes")
        })
    }

    fn scalar(&mut self) -> Result<Kind, JsonTextError> {
        let rest = &self.text[self.at..];
        let len = rest.find([' ', '\t', '\n', '\r', ',', ']', '}', ':', '"', '[', '{']).unwrap_or(rest.len());
        // Numbers of any size are JSON; a raw value keeps them as they are.
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&rest[..len]).is_ok();
        if !is_json {
            return Err(self.error("a value"));
        }
        self.at += len;
        Ok(Kind::Other)
    }
}

/// Changes of a text, applied together.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    edits: Vec<(Range<usize>, String)>,
}

impl Edits {
    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Puts `json` in the place of a value.
    pub fn replace(&mut self, value: &Value, json: &str) {
        self.edits.push((value.span.clone(), json.to_owned()));
    }

    /// Puts one element in the place of all elements of an array; what stands between the brackets and the elements stays.
    pub fn replace_elements(&mut self, array: &Value, json: &str) {
        match array.elements() {
            Some([first, .., last]) => self.edits.push((first.span.start..last.span.end, json.to_owned())),
            Some([only]) => self.replace(only, json),
            _ => self.insert_into_empty(array, json),
        }
    }

    /// Adds elements at the end of an array, spaced like those that are there.
    pub fn append_elements(&mut self, text: &str, array: &Value, elements: &[String]) {
        let present: Vec<_> = array.elements().unwrap_or_default().iter().map(|value| value.span.clone()).collect();
        self.append(text, array, &present, elements);
    }

    /// Adds a member at the end of an object, spaced like those that are there.
    pub fn append_member(&mut self, text: &str, object: &Value, name: &str, json: &str) {
        let members = match &object.kind {
            Kind::Object(members) => members.as_slice(),
            _ => &[],
        };
        let present: Vec<_> = members.iter().map(|member| member.start..member.value.span.end).collect();
        self.append(text, object, &present, &[format!("{}: {json}", quoted(name))]);
    }

    fn append(&mut self, text: &str, container: &Value, present: &[Range<usize>], new: &[String]) {
        if new.is_empty() {
            return;
        }
        let Some(last) = present.last() else {
            return self.insert_into_empty(container, &new.join(", "));
        };
        // From the bracket or comma before to the last: the blanks that make the layout.
        let before = present.len().checked_sub(2).and_then(|index| present.get(index));
        let gap_start = before.map_or(container.span.start + 1, |range| range.end);
        let gap = text.get(gap_start..last.start).unwrap_or(" ").replace(',', "");
        // `[1]` has no gap, but `[1,2]` would not be how people write.
        let gap = if gap.is_empty() && present.len() == 1 { " " } else { gap.as_str() };
        let inserted = new.iter().map(|element| format!(",{gap}{element}")).collect();
        self.edits.push((last.end..last.end, inserted));
    }

    fn insert_into_empty(&mut self, container: &Value, json: &str) {
        let inner = container.span.start + 1..container.span.end.saturating_sub(1);
        self.edits.push((inner, json.to_owned()));
    }

    /// The text with all changes.
    pub fn apply(mut self, text: &str) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = String::with_capacity(text.len());
        let mut at = 0;
        for (range, json) in self.edits {
            result.push_str(text.get(at..range.start).unwrap_or_default());
            result.push_str(&json);
            at = range.end;
        }
        result.push_str(text.get(at..).unwrap_or_default());
        result
    }
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text always has a JSON form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, edit: impl FnOnce(&mut Edits, &Value), expected: &str) {
        let mut edits = Edits::default();
        edit(&mut edits, &parse(text).unwrap());
        assert_eq!(edits.apply(text), expected);
    }

    #[test]
    fn values_are_found_with_their_place() {
        let text = "{ \"a\\u0062\": [1, {\"c\": null}], \"d\":-1.50E+3 }";
        let root = parse(text).unwrap();
        let list = root.member("ab").unwrap();
        assert_eq!(&text[list.span.clone()], "[1, {\"c\": null}]");
        assert_eq!(&text[root.at(&["d"]).unwrap().span.clone()], "-1.50E+3");
        assert_eq!(root.at(&["d", "e"]), None);
    }

    #[test]
    fn lists_grow_in_their_own_layout() {
        let add = |edits: &mut Edits, text: &str| {
            edits.append_elements(text, &parse(text).unwrap(), &["2".to_owned(), "3".to_owned()]);
        };
        for (text, expected) in [
            ("[]", "[2, 3]"),
            ("[ ]", "[2, 3]"),
            ("[1]", "[1, 2, 3]"),
            ("[0,1]", "[0,1,2,3]"),
            ("[0, 1 ]", "[0, 1,2,3 ]".replace(",2", ", 2").replace(",3", ", 3").as_str()),
            ("[\n\t1\n]", "[\n\t1,\n\t2,\n\t3\n]"),
            ("[\r\n  0,\r\n  1\r\n]", "[\r\n  0,\r\n  1,\r\n  2,\r\n  3\r\n]"),
        ] {
            let mut edits = Edits::default();
            add(&mut edits, text);
            assert_eq!(edits.apply(text), expected, "{text:?}");
        }
    }

    #[test]
    fn objects_grow_in_their_own_layout() {
        let text = "{\n    \"a\": 1\n}";
        check(text, |edits, root| edits.append_member(text, root, "b", "2"), "{\n    \"a\": 1,\n    \"b\": 2\n}");
        check("{}", |edits, root| edits.append_member("{}", root, "b", "2"), "{\"b\": 2}");
    }

    #[test]
    fn one_element_takes_the_place_of_all() {
        for (text, expected) in
            [("[]", "[9]"), ("[ 1 ]", "[ 9 ]"), ("[\n  1,\n  2,\n  3\n]\n", "[\n  9\n]\n"), ("[1,2]", "[9]")]
        {
            check(text, |edits, root| edits.replace_elements(root, "9"), expected);
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, expected) in [
            ("", "line 1, column 1: expected a value"),
            ("{\n  \"a\" 1}", "line 2, column 7: expected a colon"),
            ("[1 2]", "line 1, column 4: expected a comma or the end of the list"),
            ("{\"a\":1,}", "line 1, column 8: expected a text in quotation marks"),
            ("[1,]", "line 1, column 4: expected a value"),
            ("[01]", "line 1, column 2: expected a value"),
            ("[nul]", "line 1, column 2: expected a value"),
            ("\"a", "line 1, column 3: expected the end of a text"),
            ("\"\\", "line 1, column 3: expected the end of a text"),
            ("\"\\x\"", "line 1, column 1: expected a text without control characters and with known escapes"),
            ("1 1", "line 1, column 3: expected the end of the text"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text:?}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(parse(&deep).unwrap_err().expected, "at most 64 levels");
    }

    fn blanks() -> impl Strategy<Value = String> {
        "[ \t\n\r]{0,3}"
    }

    /// JSON text with blanks in every place that permits them.
    fn json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
            any::<String>().prop_map(|text| quoted(&text)),
        ];
        scalar.prop_recursive(4, 40, 5, |inner| {
            let padded = (blanks(), inner, blanks())
                .prop_map(|(before, value, after)| format!("{before}{value}{after}"))
                .boxed();
            let member = (blanks(), any::<String>(), blanks(), padded.clone())
                .prop_map(|(before, name, middle, value)| format!("{before}{}{middle}:{value}", quoted(&name)));
            prop_oneof![
                proptest::collection::vec(padded, 0..5).prop_map(|elements| format!("[{}]", elements.join(","))),
                proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    fn members(value: &Value) -> Vec<&Value> {
        match &value.kind {
            Kind::Object(list) => {
                list.iter().flat_map(|member| [vec![&member.value], members(&member.value)].concat()).collect()
            }
            Kind::Array(list) => list.iter().flat_map(members).collect(),
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn replacing_a_member_leaves_every_other_byte(text in json(), which in any::<prop::sample::Index>()) {
            let root = parse(&text).unwrap();
            let all = members(&root);
            prop_assume!(!all.is_empty());
            let value = all[which.index(all.len())];
            let mut edits = Edits::default();
            edits.replace(value, "\"new\"");
            let edited = edits.apply(&text);
            let expected = format!("{}\"new\"{}", &text[..value.span.start], &text[value.span.end..]);
            prop_assert_eq!(&edited, &expected);
            parse(&edited).unwrap();
        }

        #[test]
        fn appending_only_inserts(text in json()) {
            let root = parse(&text).unwrap();
            let mut edits = Edits::default();
            match &root.kind {
                Kind::Object(_) => edits.append_member(&text, &root, "new", "1"),
                Kind::Array(_) => edits.append_elements(&text, &root, &["1".to_owned()]),
                _ => return Ok(()),
            }
            let edited = edits.apply(&text);
            let count = |value: &Value| match &value.kind {
                Kind::Object(members) => members.len(),
                Kind::Array(elements) => elements.len(),
                _ => 0,
            };
            prop_assert_eq!(count(&parse(&edited).unwrap()), count(&root) + 1);
            let last = match &root.kind {
                Kind::Object(members) => members.last().map(|member| member.value.span.end),
                Kind::Array(elements) => elements.last().map(|element| element.span.end),
                _ => None,
            };
            if let Some(end) = last {
                prop_assert!(edited.starts_with(&text[..end]) && edited.ends_with(&text[end..]));
            }
        }

        #[test]
        fn parsing_agrees_with_serde(text in "[\\[\\]{}\",:0-9a-z\\\\ .eE+-]{0,12}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(parse(&text).is_ok(), theirs);
        }
    }
}
