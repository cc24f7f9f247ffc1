//! YAML as a tree with the lines of its values.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::BomError;

/// Deepest nesting; the format has six levels.
const MAX_DEPTH: usize = 16;

/// Most values of a file.
const MAX_VALUES: usize = 100_000;

/// A value and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, or a plain `~` or `null`.
    Null,
    /// A scalar as it is written; `is_plain` without quotation marks.
    Text {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    /// Members in their order, each name once.
    Object(Vec<(String, Node)>),
}

impl Kind {
    /// What it is, in words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text { .. } => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads the only document of `text`.
pub(super) fn read(text: &str) -> Result<Node, BomError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), values: 0 };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::StreamEnd, line) => return Ok(root.unwrap_or(Node { line: line.max(1), kind: Kind::Null })),
            (_, line) if root.is_some() => {
                return Err(BomError::Syntax { line, reason: "expected one document".to_owned() });
            }
            (event, line) => root = Some(reader.node(event, line, 0)?),
        }
    }
}

struct Reader<'text> {
    parser: Parser<'text, saphyr_parser::StrInput<'text>>,
    values: usize,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, usize), BomError> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(BomError::Syntax { line: error.marker().line(), reason: error.info().to_owned() }),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'text>, line: usize, depth: usize) -> Result<Node, BomError> {
        self.values += 1;
        if depth > MAX_DEPTH {
            return Err(BomError::Depth { line, max: MAX_DEPTH });
        }
        if self.values > MAX_VALUES {
            return Err(BomError::TooManyValues { max: MAX_VALUES });
        }
        let kind = match event {
            // An anchor alone is harmless; what it is for are aliases.
            Event::Alias(_) => return Err(BomError::Alias { line }),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(BomError::Tag { line });
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => {
                Kind::Null
            }
            Event::Scalar(text, style, ..) => {
                Kind::Text { text: text.into_owned(), is_plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.object(depth)?,
            _ => return Err(BomError::Syntax { line, reason: "expected a value".to_owned() }),
        };
        Ok(Node { line, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Kind, BomError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(elements)),
                (event, line) => elements.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind, BomError> {
        let mut members: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Kind::Object(members));
            }
            let name = match self.node(event, line, depth + 1)?.kind {
                Kind::Text { text, .. } => text,
                other => return Err(BomError::Type { line, place: "a name", expected: "a text", got: other.name() }),
            };
            if members.iter().any(|(present, _)| *present == name) {
                return Err(BomError::Duplicate { line, name });
            }
            let (event, value_line) = self.next()?;
            // A list or an object may begin below; its name is where people look.
            let kind = self.node(event, value_line, depth + 1)?.kind;
            members.push((name, Node { line, kind }));
        }
    }
}
