//! YAML manifests become JSON, byte for byte as Go's `sigs.k8s.io/yaml` makes them: the signature is made over it.
//!
//! That library reads YAML 1.1, so `yes` is a boolean and `010` is eight. The result is compact JSON with the members of
//! every object in byte order. Of the ways to write a number, only those are converted whose value is known for
//! certain; everything else is an error rather than another fingerprint.

use std::collections::{BTreeMap, HashMap};

use marblerun_json::{Encode as _, ObjectEncoder};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Deepest nesting.
const MAX_DEPTH: usize = 100;

/// Most values of a document, those behind aliases counted each time: a few lines can stand for billions.
const MAX_VALUES: usize = 1_000_000;

/// Why a text is not converted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("line {line}: {reason}")]
    Syntax { line: usize, reason: String },
    #[error("line {line}: member {key:?} stands twice in one object")]
    DuplicateKey { line: usize, key: String },
    #[error("line {line}: expected a text as member name, got {got}")]
    Key { line: usize, got: &'static str },
    #[error("line {line}: expected values without tag, got one with the tag {tag}")]
    Tag { line: usize, tag: String },
    #[error("line {line}: expected a number, got {got}, which JSON cannot hold")]
    NotFinite { line: usize, got: String },
    #[error("expected at most {MAX_DEPTH} levels, got more in line {line}")]
    Depth { line: usize },
    #[error("expected at most {MAX_VALUES} values, got more")]
    TooManyValues,
    #[error("line {line}: expected an object or a list of objects behind <<")]
    Merge { line: usize },
    #[error("line {line}: alias of a value that contains it")]
    Recursion { line: usize },
}

impl YamlError {
    /// What the author can do.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::Key { .. } | Self::NotFinite { .. } => "put it in quotes",
            Self::Tag { .. } => "leave the tag out; text goes in quotes",
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

/// A number whose leading zero means something that people do not expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OctalNote {
    pub(crate) line: usize,
    pub(crate) written: String,
    pub(crate) value: String,
}

#[derive(Clone, Debug)]
enum Node {
    /// JSON text of a scalar, with what it is as a member's name.
    Scalar {
        json: String,
        key: Result<String, &'static str>,
        is_merge: bool,
    },
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

/// Converts the first document of `text`; also lists numbers that are octal.
pub(crate) fn to_json(text: &str) -> Result<(String, Vec<OctalNote>), YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_control_characters(text)?;
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0, octal: Vec::new() };
    let node = reader.document()?;
    let mut json = String::new();
    write(&node, &mut json);
    Ok((json, reader.octal))
}

/// YAML 1.1, 5.1: only printable characters.
fn refuse_control_characters(text: &str) -> Result<(), YamlError> {
    let is_printable =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    match text.chars().enumerate().find(|(_, c)| !is_printable(*c)) {
        None => Ok(()),
        Some((position, c)) => Err(YamlError::Syntax {
            line: 1 + text.chars().take(position).filter(|c| *c == '\n').count(),
            reason: format!("expected text, got the control character {c:?}"),
        }),
    }
}

struct Reader<'text> {
    parser: Parser<'text, saphyr_parser::StrInput<'text>>,
    /// Finished values by the number of their anchor.
    anchors: HashMap<usize, Node>,
    values: usize,
    octal: Vec<OctalNote>,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, usize), YamlError> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, line(&span))),
            Some(Err(error)) => Err(YamlError::Syntax { line: error.marker().line(), reason: error.info().to_owned() }),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(scalar_null()),
                (event, line) => return self.node(event, line, 0),
            }
        }
    }

    fn node(&mut self, event: Event<'text>, line: usize, depth: usize) -> Result<Node, YamlError> {
        if depth > MAX_DEPTH {
            return Err(YamlError::Depth { line });
        }
        self.count(1)?;
        let (node, anchor) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or(YamlError::Recursion { line })?;
                self.count(size(&node))?;
                return Ok(node);
            }
            Event::Scalar(value, style, anchor, tag) => (self.scalar(&value, style, tag.as_deref(), line)?, anchor),
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", line)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", line)?;
                (self.object(depth)?, anchor)
            }
            _ => return Err(YamlError::Syntax { line, reason: "expected a value".to_owned() }),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, values: usize) -> Result<(), YamlError> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES { Err(YamlError::TooManyValues) } else { Ok(()) }
    }

    fn list(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::List(elements)),
                (event, line) => elements.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut members = BTreeMap::new();
        loop {
            let (event, key_line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Node::Object(members));
            }
            let key = self.node(event, key_line, depth + 1)?;
            let (event, line) = self.next()?;
            let value = self.node(event, line, depth + 1)?;
            match key {
                Node::Scalar { is_merge: true, .. } => merge(&mut members, value, key_line)?,
                Node::Scalar { key: Ok(key), .. } => insert(&mut members, key, value, key_line)?,
                Node::Scalar { key: Err(got), .. } => return Err(YamlError::Key { line: key_line, got }),
                Node::List(_) => return Err(YamlError::Key { line: key_line, got: "a list" }),
                Node::Object(_) => return Err(YamlError::Key { line: key_line, got: "an object" }),
            }
        }
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Node, YamlError> {
        if let Some(tag) = tag {
            check_tag(Some(tag), "str", line)?;
            return Ok(text(value));
        }
        if style != ScalarStyle::Plain {
            return Ok(text(value));
        }
        if value == "<<" {
            return Ok(Node::Scalar { json: quoted(value), key: Ok(value.to_owned()), is_merge: true });
        }
        if let Some(word) = word(value) {
            return match word {
                Word::Null => Ok(scalar_null()),
                Word::Bool(truth) => {
                    Ok(Node::Scalar { json: truth.to_string(), key: Ok(truth.to_string()), is_merge: false })
                }
                Word::NotFinite => Err(YamlError::NotFinite { line, got: value.to_owned() }),
            };
        }
        let Some(number) = number(value) else { return Ok(text(value)) };
        let key = match number.is_integer {
            true => Ok(number.json.clone()),
            false => Err("a fraction"),
        };
        if number.is_octal {
            let note = OctalNote { line, written: value.to_owned(), value: number.json.clone() };
            self.octal.push(note);
        }
        Ok(Node::Scalar { json: number.json, key, is_merge: false })
    }
}

fn line(span: &Span) -> usize {
    span.start.line()
}

fn scalar_null() -> Node {
    Node::Scalar { json: "null".to_owned(), key: Err("null"), is_merge: false }
}

fn text(value: &str) -> Node {
    Node::Scalar { json: quoted(value), key: Ok(value.to_owned()), is_merge: false }
}

fn quoted(value: &str) -> String {
    let mut json = String::new();
    value.encode(&mut json);
    json
}

/// Only the tag that changes nothing is understood, and `!!str`.
fn check_tag(tag: Option<&Tag>, expected: &str, line: usize) -> Result<(), YamlError> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == expected => Ok(()),
        Some(tag) => Err(YamlError::Tag { line, tag: format!("{}{}", tag.handle, tag.suffix) }),
    }
}

fn insert(members: &mut BTreeMap<String, Node>, key: String, value: Node, line: usize) -> Result<(), YamlError> {
    if members.contains_key(&key) {
        return Err(YamlError::DuplicateKey { line, key });
    }
    members.insert(key, value);
    Ok(())
}

fn merge(members: &mut BTreeMap<String, Node>, value: Node, line: usize) -> Result<(), YamlError> {
    match value {
        Node::Object(merged) => {
            for (key, value) in merged {
                insert(members, key, value, line)?;
            }
            Ok(())
        }
        Node::List(objects) if objects.iter().all(|object| matches!(object, Node::Object(_))) => {
            objects.into_iter().try_for_each(|object| merge(members, object, line))
        }
        _ => Err(YamlError::Merge { line }),
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Scalar { .. } => 1,
        Node::List(elements) => 1 + elements.iter().map(size).sum::<usize>(),
        Node::Object(members) => 1 + members.values().map(size).sum::<usize>(),
    }
}

fn write(node: &Node, json: &mut String) {
    match node {
        Node::Scalar { json: scalar, .. } => json.push_str(scalar),
        Node::List(elements) => {
            json.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write(element, json);
            }
            json.push(']');
        }
        Node::Object(members) => {
            let mut object = ObjectEncoder::new(json);
            for (key, value) in members {
                object = object.member(key, &Member(value));
            }
            object.finish();
        }
    }
}

struct Member<'a>(&'a Node);

impl marblerun_json::Encode for Member<'_> {
    fn encode(&self, out: &mut String) {
        write(self.0, out);
    }
}

enum Word {
    Null,
    Bool(bool),
    NotFinite,
}

/// The words of YAML 1.1 that are no text.
fn word(value: &str) -> Option<Word> {
    Some(match value {
        "" | "~" | "null" | "Null" | "NULL" => Word::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Word::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Word::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => Word::NotFinite,
        _ => return None,
    })
}

struct Number {
    json: String,
    is_integer: bool,
    is_octal: bool,
}

/// The number that a plain scalar is; `None` if it is text.
fn number(value: &str) -> Option<Number> {
    let first = value.bytes().next()?;
    if !(first.is_ascii_digit() || b"+-.".contains(&first)) {
        return None;
    }
    // Dates stay text, as they were written.
    if is_timestamp(value) {
        return None;
    }
    let plain = if first == b'.' { value.to_owned() } else { value.replace('_', "") };
    if let Some((integer, is_octal)) = integer(&plain) {
        return Some(Number { json: integer.to_string(), is_integer: true, is_octal });
    }
    // Beyond the range of a float it stays text.
    let float: f64 = plain.parse().ok().filter(|float: &f64| is_float(&plain) && float.is_finite())?;
    let digits = plain.trim_start_matches(['+', '-']).as_bytes();
    let has_leading_zero = matches!(digits, [b'0', second, ..] if second.is_ascii_digit());
    Some(Number { json: go_float(float), is_integer: false, is_octal: has_leading_zero })
}

/// An integer of 64 bits as Go's `ParseInt` with base 0 reads it, and whether a leading zero made it octal.
fn integer(plain: &str) -> Option<(i128, bool)> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits, is_octal) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest, false)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest, false)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest, false)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    let fits = i128::from(i64::MIN) <= value && (value <= i128::from(i64::MAX) || !plain.starts_with(['-', '+']));
    fits.then_some((value, is_octal))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(plain: &str) -> bool {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((before, behind)) => is_digits(before) && is_digits(behind) && !(before.is_empty() && behind.is_empty()),
        None => !mantissa.is_empty() && is_digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(|exponent| !exponent.is_empty() && is_digits(exponent))
}

/// `YYYY-` and more.
fn is_timestamp(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// Go's `encoding/json` form of a float: like JavaScript's, exponents without leading zero.
fn go_float(float: f64) -> String {
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        };
    }
    format!("{float}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, json: &str) {
        assert_eq!(to_json(yaml).unwrap().0, json, "{yaml}");
    }

    // rules: CMD-1
    #[test]
    fn the_documented_manifest_is_converted_to_the_documented_bytes() {
        let yaml = "Packages:\n  web: {Debug: yes, SecurityVersion: 1, ProductID: 7, SignerID: \"00aa\"}\n\
                    Marbles:\n  m: {Package: web, Parameters: {Argv: [a, \"<b>\"]}}\n";
        let (json, _) = to_json(yaml).unwrap();
        assert_eq!(
            json,
            "{\"Marbles\":{\"m\":{\"Package\":\"web\",\"Parameters\":{\"Argv\":[\"a\",\"\\u003cb\\u003e\"]}}},\
             \"Packages\":{\"web\":{\"Debug\":true,\"ProductID\":7,\"SecurityVersion\":1,\"SignerID\":\"00aa\"}}}"
        );
        assert_eq!(
            marblerun_manifest::fingerprint(json.as_bytes()),
            "0c1582dc927f396f9e57cc88bfced80921451997d5222ac9ffb65cefb28d5cae"
        );
    }

    #[test]
    fn scalars_are_read_as_yaml_1_1() {
        for (yaml, json) in [
            ("yes", "true"),
            ("Off", "false"),
            ("'yes'", "\"yes\""),
            ("~", "null"),
            ("", "null"),
            ("010", "8"),
            ("08", "8"),
            ("0x10", "16"),
            ("1_000", "1000"),
            ("0b11", "3"),
            ("-7", "-7"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "18446744073709552000"),
            ("1.50", "1.5"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("1.5e-7", "1.5e-7"),
            ("123e-8", "0.00000123"),
            ("-0.0", "-0"),
            ("2026-01-02", "\"2026-01-02\""),
            ("1.2.3", "\"1.2.3\""),
            ("12:30", "\"12:30\""),
            ("abc", "\"abc\""),
            ("a & b", "\"a \\u0026 b\""),
            ("-", "[null]"),
            ("+", "\"+\""),
            ("0x", "\"0x\""),
            ("|\n  x\n  y\n", "\"x\\ny\\n\""),
        ] {
            check(yaml, json);
        }
    }

    #[test]
    fn identities_of_digits_become_the_numbers_that_go_makes_of_them() {
        check("1234567890123456789012345678901234567890123456789012345678901234", "1.2345678901234568e+63");
        check(
            "12345678901234567890123456789012345678901234567890123456789e99999",
            "\"12345678901234567890123456789012345678901234567890123456789e99999\"",
        );
    }

    #[test]
    fn json_that_is_almost_valid_is_converted() {
        check("\u{feff}{\"a\": 1}", "{\"a\":1}");
        check("{\"b\": 1, \"a\": [1, 2,],}", "{\"a\":[1,2],\"b\":1}");
        check("{\n\t\"b\": 1,\n\t\"a\": 2,\n}", "{\"a\":2,\"b\":1}");
    }

    #[test]
    fn aliases_and_merges_are_resolved() {
        check("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n", "{\"a\":{\"k\":1},\"b\":{\"k\":1},\"c\":{\"k\":1,\"l\":2}}");
    }

    #[test]
    fn keys_become_text() {
        check("1: a\nyes: b\n", "{\"1\":\"a\",\"true\":\"b\"}");
    }

    #[test]
    fn numbers_with_leading_zero_are_noted() {
        let (_, notes) = to_json("a: 010\nb: 08\nc: 0\nd: 0.5\ne: '010'\n").unwrap();
        let lines: Vec<_> = notes.iter().map(|note| (note.line, note.written.as_str(), note.value.as_str())).collect();
        assert_eq!(lines, [(1, "010", "8"), (2, "08", "8")]);
    }

    #[track_caller]
    fn check_refused(yaml: &str, expected: &str) {
        assert_eq!(to_json(yaml).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_has_no_certain_form_is_refused() {
        check_refused("a: 1\na: 2\n", "line 2: member \"a\" stands twice in one object");
        check_refused("~: 1\n", "line 1: expected a text as member name, got null");
        check_refused("[1]: 1\n", "line 1: expected a text as member name, got a list");
        check_refused("1.5: 1\n", "line 1: expected a text as member name, got a fraction");
        check_refused("a: .inf\n", "line 1: expected a number, got .inf, which JSON cannot hold");
        check_refused(
            "a: !!binary AA==\n",
            "line 1: expected values without tag, got one with the tag tag:yaml.org,2002:binary",
        );
        check_refused("a: {<<: 1}\n", "line 1: expected an object or a list of objects behind <<");
    }

    #[test]
    fn bombs_are_refused() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            yaml.push_str(&format!("a{level}: &a{level} [{}]\n", [previous.as_str(); 10].join(", ")));
        }
        check_refused(&yaml, "expected at most 1000000 values, got more");
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        check_refused(&deep, "expected at most 100 levels, got more in line 1");
    }
}
