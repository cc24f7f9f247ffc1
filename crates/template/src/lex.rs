//! Text to tokens (Go text/template, "Actions", "Text and spaces").

use crate::error::SyntaxError;
use crate::text::{decode, is_alphanumeric, is_print, is_space};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Bool,
    Char,
    CharConstant,
    Complex,
    Number,
    Assign,
    Declare,
    Dot,
    Field,
    Identifier,
    Variable,
    LeftParen,
    RightParen,
    Pipe,
    RawString,
    String,
    Eof,
    /// The lexer failed; its error is reported once the parser stands here.
    Error,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    /// How messages call the token.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LeftDelim => "{{",
            Self::RightDelim => "}}",
            Self::Space => "space",
            Self::Bool => "boolean",
            Self::Char => "character",
            Self::CharConstant => "character literal",
            Self::Complex | Self::Number => "number",
            Self::Assign => "=",
            Self::Declare => ":=",
            Self::Dot => ".",
            Self::Field => "field",
            Self::Identifier => "identifier",
            Self::Variable => "variable",
            Self::LeftParen => "(",
            Self::RightParen => ")",
            Self::Pipe => "|",
            Self::RawString | Self::String => "string",
            Self::Eof => "end of text",
            Self::Error => "malformed text",
            Self::Block => "block",
            Self::Break => "break",
            Self::Continue => "continue",
            Self::Define => "define",
            Self::Else => "else",
            Self::End => "end",
            Self::If => "if",
            Self::Nil => "nil",
            Self::Range => "range",
            Self::Template => "template",
            Self::With => "with",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) value: &'a [u8],
    /// Line of the token's first byte.
    pub(crate) line: usize,
}

pub(crate) struct Lexer<'a> {
    source: &'a [u8],
    position: usize,
    start: usize,
    start_line: usize,
    inside_action: bool,
    paren_depth: usize,
}

const LEFT_DELIM: &[u8] = b"{{";
const RIGHT_DELIM: &[u8] = b"}}";
/// A trim marker is a `-` and one blank.
const TRIM_MARKER_LEN: usize = 2;

impl<'a> Lexer<'a> {
    pub(crate) fn new(source: &'a [u8]) -> Self {
        Self { source, position: 0, start: 0, start_line: 1, inside_action: false, paren_depth: 0 }
    }

    /// Ends the text here, after an error, and returns a token that stands for it.
    pub(crate) fn fail(&mut self) -> Token<'a> {
        let token = Token { kind: Kind::Error, start: self.start, value: &[], line: self.start_line };
        self.source = &self.source[..self.start];
        self.position = self.start;
        self.inside_action = false;
        token
    }

    pub(crate) fn next_token(&mut self) -> Result<Token<'a>, SyntaxError> {
        if self.inside_action { self.inside_action() } else { self.text() }
    }

    fn rest(&self) -> &'a [u8] {
        self.source.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        decode(self.rest()).map(|(c, _)| c)
    }

    fn next(&mut self) -> Option<char> {
        let (c, length) = decode(self.rest())?;
        self.position += length;
        Some(c)
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let accepted = self.rest().first().is_some_and(|byte| set.contains(byte));
        self.position += usize::from(accepted);
        accepted
    }

    fn accept_run(&mut self, set: &[u8]) {
        while self.accept(set) {}
    }

    /// Drops what was read since the last token.
    fn ignore(&mut self) {
        self.start_line += self.source[self.start..self.position].iter().filter(|b| **b == b'\n').count();
        self.start = self.position;
    }

    fn emit(&mut self, kind: Kind) -> Token<'a> {
        let token =
            Token { kind, start: self.start, value: &self.source[self.start..self.position], line: self.start_line };
        self.ignore();
        token
    }

    fn text(&mut self) -> Result<Token<'a>, SyntaxError> {
        loop {
            let Some(offset) = self.rest().windows(2).position(|w| w == LEFT_DELIM) else {
                self.position = self.source.len();
                let kind = if self.position > self.start { Kind::Text } else { Kind::Eof };
                return Ok(self.emit(kind));
            };
            if offset > 0 {
                self.position += offset;
                let delim = self.position;
                if has_left_trim_marker(&self.source[delim + LEFT_DELIM.len()..]) {
                    while self.position > self.start && is_space(self.source[self.position - 1]) {
                        self.position -= 1;
                    }
                }
                let token = self.emit(Kind::Text);
                self.position = delim;
                self.ignore();
                if !token.value.is_empty() {
                    return Ok(token);
                }
            }
            self.position += LEFT_DELIM.len();
            let marker = if has_left_trim_marker(self.rest()) { TRIM_MARKER_LEN } else { 0 };
            if self.source[self.position + marker..].starts_with(b"/*") {
                self.position += marker;
                self.ignore();
                self.comment()?;
                continue;
            }
            let token = self.emit(Kind::LeftDelim);
            self.inside_action = true;
            self.position += marker;
            self.ignore();
            self.paren_depth = 0;
            return Ok(token);
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxError> {
        self.position += 2;
        let end = self.rest().windows(2).position(|w| w == b"*/").ok_or(SyntaxError::Unclosed { what: "comment" })?;
        self.position += end + 2;
        let trim = self.right_delim_ahead().ok_or(SyntaxError::Unclosed { what: "comment" })?;
        self.position += RIGHT_DELIM.len();
        if trim {
            self.position += TRIM_MARKER_LEN;
            self.skip_space();
        }
        self.ignore();
        Ok(())
    }

    fn skip_space(&mut self) {
        self.position += self.rest().iter().take_while(|b| is_space(**b)).count();
    }

    /// `Some(trim)` if the action ends here.
    fn right_delim_ahead(&self) -> Option<bool> {
        let rest = self.rest();
        if has_right_trim_marker(rest) && rest[TRIM_MARKER_LEN..].starts_with(RIGHT_DELIM) {
            return Some(true);
        }
        rest.starts_with(RIGHT_DELIM).then_some(false)
    }

    fn right_delim(&mut self, trim: bool) -> Token<'a> {
        if trim {
            self.position += TRIM_MARKER_LEN;
            self.ignore();
        }
        self.position += RIGHT_DELIM.len();
        let token = self.emit(Kind::RightDelim);
        if trim {
            self.skip_space();
            self.ignore();
        }
        self.inside_action = false;
        token
    }

    fn inside_action(&mut self) -> Result<Token<'a>, SyntaxError> {
        if let Some(trim) = self.right_delim_ahead() {
            if self.paren_depth > 0 {
                return Err(SyntaxError::Unclosed { what: "left parenthesis" });
            }
            return Ok(self.right_delim(trim));
        }
        let Some(c) = self.peek() else {
            return Err(SyntaxError::Unclosed { what: "action" });
        };
        if c.is_ascii() && is_space(c as u8) {
            return Ok(self.space());
        }
        let begin = self.position;
        self.next();
        match c {
            '=' => Ok(self.emit(Kind::Assign)),
            ':' => {
                if !self.accept(b"=") {
                    return Err(SyntaxError::ExpectedDeclare);
                }
                Ok(self.emit(Kind::Declare))
            }
            '|' => Ok(self.emit(Kind::Pipe)),
            '"' => self.quoted('"', Kind::String, "string"),
            '\'' => self.quoted('\'', Kind::CharConstant, "character literal"),
            '`' => {
                let end =
                    self.rest().iter().position(|b| *b == b'`').ok_or(SyntaxError::Unclosed { what: "raw string" })?;
                self.position += end + 1;
                Ok(self.emit(Kind::RawString))
            }
            '$' => self.field_or_variable(Kind::Variable, Kind::Variable),
            '.' if !self.rest().first().is_some_and(u8::is_ascii_digit) && !self.rest().is_empty() => {
                self.field_or_variable(Kind::Field, Kind::Dot)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.position = begin;
                self.number()
            }
            '(' => {
                self.paren_depth += 1;
                Ok(self.emit(Kind::LeftParen))
            }
            ')' => {
                self.paren_depth = self.paren_depth.checked_sub(1).ok_or(SyntaxError::RightParen)?;
                Ok(self.emit(Kind::RightParen))
            }
            c if is_alphanumeric(c) => self.identifier(),
            c if c.is_ascii() && is_print(c) => Ok(self.emit(Kind::Char)),
            character => Err(SyntaxError::BadCharacter { character }),
        }
    }

    fn space(&mut self) -> Token<'a> {
        let count = self.rest().iter().take_while(|b| is_space(**b)).count();
        self.position += count;
        // The last blank may belong to a trim marker at the end of the action.
        self.position -= 1;
        if self.right_delim_ahead() == Some(true) {
            if count == 1 {
                return self.right_delim(true);
            }
        } else {
            self.position += 1;
        }
        self.emit(Kind::Space)
    }

    fn quoted(&mut self, quote: char, kind: Kind, what: &'static str) -> Result<Token<'a>, SyntaxError> {
        loop {
            match self.next() {
                Some('\\') if !matches!(self.next(), None | Some('\n')) => {}
                None | Some('\n' | '\\') => return Err(SyntaxError::Unclosed { what }),
                Some(c) if c == quote => return Ok(self.emit(kind)),
                Some(_) => {}
            }
        }
    }

    /// True if a word may end here.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with(RIGHT_DELIM),
        }
    }

    fn word(&mut self) -> Result<(), SyntaxError> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        if self.at_terminator() {
            return Ok(());
        }
        Err(SyntaxError::BadCharacter { character: self.peek().unwrap_or(char::REPLACEMENT_CHARACTER) })
    }

    fn field_or_variable(&mut self, kind: Kind, alone: Kind) -> Result<Token<'a>, SyntaxError> {
        if self.at_terminator() {
            return Ok(self.emit(alone));
        }
        self.word()?;
        Ok(self.emit(kind))
    }

    fn identifier(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.word()?;
        let kind = match &self.source[self.start..self.position] {
            b"block" => Kind::Block,
            b"break" => Kind::Break,
            b"continue" => Kind::Continue,
            b"define" => Kind::Define,
            b"else" => Kind::Else,
            b"end" => Kind::End,
            b"if" => Kind::If,
            b"nil" => Kind::Nil,
            b"range" => Kind::Range,
            b"template" => Kind::Template,
            b"with" => Kind::With,
            b"true" | b"false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        Ok(self.emit(kind))
    }

    fn number(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.scan_number()?;
        if !matches!(self.rest().first(), Some(b'+' | b'-')) {
            return Ok(self.emit(Kind::Number));
        }
        self.scan_number()?;
        if self.source[self.position - 1] != b'i' {
            return Err(SyntaxError::BadNumber);
        }
        Ok(self.emit(Kind::Complex))
    }

    fn scan_number(&mut self) -> Result<(), SyntaxError> {
        const DECIMAL: &[u8] = b"0123456789_";
        const HEX: &[u8] = b"0123456789abcdefABCDEF_";
        self.accept(b"+-");
        let mut digits = DECIMAL;
        if self.accept(b"0") {
            if self.accept(b"xX") {
                digits = HEX;
            } else if self.accept(b"oO") {
                digits = b"01234567_";
            } else if self.accept(b"bB") {
                digits = b"01_";
            }
        }
        self.accept_run(digits);
        if self.accept(b".") {
            self.accept_run(digits);
        }
        let exponent: &[u8] = if digits == DECIMAL {
            b"eE"
        } else if digits == HEX {
            b"pP"
        } else {
            b""
        };
        if self.accept(exponent) {
            self.accept(b"+-");
            self.accept_run(DECIMAL);
        }
        self.accept(b"i");
        if self.peek().is_some_and(is_alphanumeric) {
            return Err(SyntaxError::BadNumber);
        }
        Ok(())
    }
}

fn has_left_trim_marker(text: &[u8]) -> bool {
    matches!(text, [b'-', blank, ..] if is_space(*blank))
}

fn has_right_trim_marker(text: &[u8]) -> bool {
    matches!(text, [blank, b'-', ..] if is_space(*blank))
}
