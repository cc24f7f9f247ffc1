//! Tokens to a tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::budget::{MAX_NODES, MAX_PARSE_DEPTH, MAX_SOURCE_BYTES, MAX_VARIABLES};
use crate::builtin::Builtin;
use crate::error::{Error, ErrorKind, Limit, Stage, SyntaxError};
use crate::lex::{Kind, Lexer, Token};
use crate::literal;
use crate::tree::{Body, Branch, Command, Definitions, Node, Operand, OperandKind, Pipeline, is_blank};
use crate::value::{Function, Value};

type Fallible<T> = Result<T, ErrorKind>;

/// The tree of a whole source.
pub(crate) struct Parsed {
    pub(crate) main: Arc<Body>,
    pub(crate) definitions: Definitions,
    pub(crate) nodes: usize,
}

pub(crate) fn parse(source: &[u8], functions: &[Function]) -> Result<Parsed, Error> {
    let mut parser = Parser {
        source,
        functions,
        lexer: Lexer::new(source),
        lexer_error: None,
        pending: Vec::new(),
        newest_line: 1,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        nodes: 0,
        definitions: Definitions::new(),
        filled: BTreeSet::new(),
    };
    match parser.main() {
        Ok(main) => Ok(Parsed { main: Arc::new(main), definitions: parser.definitions, nodes: parser.nodes }),
        Err(kind) => Err(Error { kind, stage: Stage::Parse, line: parser.newest_line, column: None }),
    }
}

struct Parser<'a> {
    source: &'a [u8],
    functions: &'a [Function],
    lexer: Lexer<'a>,
    /// The lexer's error. Tokens before it come first: what they violate is reported instead.
    lexer_error: Option<SyntaxError>,
    /// Tokens that were read ahead, the next one last.
    pending: Vec<Token<'a>>,
    /// Where errors are reported: the line of the newest token.
    newest_line: usize,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    nodes: usize,
    definitions: Definitions,
    /// Names of the templates whose body is more than white space.
    filled: BTreeSet<Vec<u8>>,
}

/// How a list of nodes ended.
enum Ending<'a> {
    End,
    /// `else`, with the `if` or `with` that follows it.
    Else(Option<Token<'a>>),
}

/// What one action is.
enum Item<'a> {
    Node(Node),
    Ending(Ending<'a>),
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        if let Some(token) = self.pending.pop() {
            return token;
        }
        let token = match self.lexer.next_token() {
            Ok(token) => token,
            Err(error) => {
                self.lexer_error = Some(error);
                self.lexer.fail()
            }
        };
        self.newest_line = token.line;
        token
    }

    fn peek(&mut self) -> Token<'a> {
        let token = self.next();
        self.pending.push(token);
        token
    }

    fn next_non_space(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token<'a> {
        let token = self.next_non_space();
        self.pending.push(token);
        token
    }

    fn expect(&mut self, kind: Kind, context: &'static str) -> Fallible<Token<'a>> {
        let token = self.next_non_space();
        if token.kind != kind { Err(self.unexpected(token, context)) } else { Ok(token) }
    }

    fn unexpected(&self, token: Token<'a>, context: &'static str) -> ErrorKind {
        match &self.lexer_error {
            Some(error) if token.kind == Kind::Error => error.clone().into(),
            _ => SyntaxError::Unexpected { got: token.kind.describe(), context }.into(),
        }
    }

    fn count_node(&mut self) -> Fallible<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Limit::Nodes { max: MAX_NODES }.into());
        }
        Ok(())
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Fallible<T>) -> Fallible<T> {
        if self.depth == MAX_PARSE_DEPTH {
            return Err(Limit::ParseDepth { max: MAX_PARSE_DEPTH }.into());
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn declare(&mut self, token: Token<'a>) -> Fallible<String> {
        if self.variables.len() >= MAX_VARIABLES {
            return Err(Limit::Variables { max: MAX_VARIABLES }.into());
        }
        let name = text(token);
        self.variables.push(name.clone());
        Ok(name)
    }

    fn main(&mut self) -> Fallible<Body> {
        if self.source.len() > MAX_SOURCE_BYTES {
            return Err(Limit::Source { max: MAX_SOURCE_BYTES }.into());
        }
        let mut body = Body::new();
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Eof => return Ok(body),
                Kind::LeftDelim => {
                    let delim = self.next();
                    let keyword = self.next_non_space();
                    if keyword.kind == Kind::Define {
                        self.definition()?;
                        continue;
                    }
                    self.pending.push(keyword);
                    self.pending.push(delim);
                }
                _ => {}
            }
            match self.text_or_action()? {
                Item::Node(node) => body.push(node),
                Item::Ending(ending) => return Err(unexpected_ending(&ending, "input")),
            }
        }
    }

    fn definition(&mut self) -> Fallible<()> {
        const CONTEXT: &str = "define clause";
        let name = self.next_non_space();
        let name = self.template_name(name, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        let (body, ending) = self.separate_body()?;
        if !matches!(ending, Ending::End) {
            return Err(unexpected_ending(&ending, CONTEXT));
        }
        self.add_definition(name, body)
    }

    /// A body with variables and loops of its own.
    fn separate_body(&mut self) -> Fallible<(Body, Ending<'a>)> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let result = self.nested(Self::item_list)?;
        self.variables = variables;
        self.range_depth = range_depth;
        Ok(result)
    }

    fn add_definition(&mut self, name: Vec<u8>, body: Body) -> Fallible<()> {
        let blank = is_blank(&body, self.source);
        if self.filled.contains(&name) {
            if blank {
                return Ok(());
            }
            return Err(ErrorKind::Redefinition { name: String::from_utf8_lossy(&name).into_owned() });
        }
        if !blank {
            self.filled.insert(name.clone());
        }
        self.definitions.insert(name, Arc::new(body));
        Ok(())
    }

    fn template_name(&mut self, token: Token<'a>, context: &'static str) -> Fallible<Vec<u8>> {
        match token.kind {
            Kind::String | Kind::RawString => Ok(literal::unquote(token.value)?),
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn item_list(&mut self) -> Fallible<(Body, Ending<'a>)> {
        let mut body = Body::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => body.push(node),
                Item::Ending(ending) => return Ok((body, ending)),
            }
        }
        Err(SyntaxError::Unclosed { what: "block: end is missing" }.into())
    }

    fn text_or_action(&mut self) -> Fallible<Item<'a>> {
        self.count_node()?;
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.start..token.start + token.value.len()))),
            Kind::LeftDelim => self.action(),
            _ => Err(self.unexpected(token, "input")),
        }
    }

    fn action(&mut self) -> Fallible<Item<'a>> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Block => self.block(),
            Kind::Break => self.loop_control("break", Node::Break),
            Kind::Continue => self.loop_control("continue", Node::Continue),
            Kind::Else => {
                let next = self.peek_non_space();
                if matches!(next.kind, Kind::If | Kind::With) {
                    return Ok(Item::Ending(Ending::Else(Some(next))));
                }
                self.expect(Kind::RightDelim, "else")?;
                Ok(Item::Ending(Ending::Else(None)))
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                Ok(Item::Ending(Ending::End))
            }
            Kind::If => Ok(Item::Node(Node::If(self.branch("if", Kind::If)?))),
            Kind::With => Ok(Item::Node(Node::With(self.branch("with", Kind::With)?))),
            Kind::Range => Ok(Item::Node(Node::Range(self.branch("range", Kind::Range)?))),
            Kind::Template => self.template_call(),
            _ => {
                self.pending.push(token);
                Ok(Item::Node(Node::Action(token.start, self.pipeline("command", Kind::RightDelim)?)))
            }
        }
    }

    fn loop_control(&mut self, word: &'static str, node: Node) -> Fallible<Item<'a>> {
        self.expect(Kind::RightDelim, word)?;
        if self.range_depth == 0 {
            return Err(ErrorKind::LoopControl { word });
        }
        Ok(Item::Node(node))
    }

    fn block(&mut self) -> Fallible<Item<'a>> {
        const CONTEXT: &str = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(token, CONTEXT)?;
        let pipeline = self.pipeline(CONTEXT, Kind::RightDelim)?;
        let line = self.newest_line;
        let (body, ending) = self.separate_body()?;
        if !matches!(ending, Ending::End) {
            self.newest_line = line;
            return Err(unexpected_ending(&ending, CONTEXT));
        }
        self.add_definition(name.clone(), body)?;
        Ok(Item::Node(Node::Template { at: token.start, name, pipeline: Some(pipeline) }))
    }

    fn template_call(&mut self) -> Fallible<Item<'a>> {
        const CONTEXT: &str = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(token, CONTEXT)?;
        let next = self.next_non_space();
        let mut pipeline = None;
        if next.kind != Kind::RightDelim {
            self.pending.push(next);
            // Variables that the pipeline declares stay until the enclosing end.
            pipeline = Some(self.pipeline(CONTEXT, Kind::RightDelim)?);
        }
        Ok(Item::Node(Node::Template { at: token.start, name, pipeline }))
    }

    fn branch(&mut self, context: &'static str, kind: Kind) -> Fallible<Branch> {
        self.nested(|parser| {
            let visible = parser.variables.len();
            let branch = parser.branch_inner(context, kind)?;
            parser.variables.truncate(visible);
            Ok(branch)
        })
    }

    fn branch_inner(&mut self, context: &'static str, kind: Kind) -> Fallible<Branch> {
        let pipeline = self.pipeline(context, Kind::RightDelim)?;
        let loops = usize::from(kind == Kind::Range);
        self.range_depth += loops;
        let (body, ending) = self.item_list()?;
        self.range_depth -= loops;
        let otherwise = match ending {
            Ending::End => None,
            Ending::Else(Some(next)) if next.kind == kind => {
                // The chain shares one `end`: the inner branch consumes it.
                self.next();
                self.count_node()?;
                let inner = self.branch(context, kind)?;
                Some(vec![if kind == Kind::If { Node::If(inner) } else { Node::With(inner) }])
            }
            Ending::Else(_) => {
                let (body, ending) = self.item_list()?;
                if !matches!(ending, Ending::End) {
                    return Err(unexpected_ending(&ending, context));
                }
                Some(body)
            }
        };
        Ok(Branch { at: pipeline.at, pipeline, body, otherwise })
    }

    fn pipeline(&mut self, context: &'static str, end: Kind) -> Fallible<Pipeline> {
        self.count_node()?;
        let at = self.peek_non_space().start;
        let mut pipeline = Pipeline { at, assigns: false, variables: Vec::new(), commands: Vec::new() };
        self.declarations(&mut pipeline, context)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.pending.push(token);
                    let command = self.command()?;
                    pipeline.commands.push(command);
                }
                _ => return Err(self.unexpected(token, context)),
            }
        }
        if pipeline.commands.is_empty() {
            return Err(SyntaxError::MissingValue { context }.into());
        }
        for (index, command) in pipeline.commands.iter().enumerate().skip(1) {
            if matches!(
                command.first.kind,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number(_)
                    | OperandKind::String(_)
            ) {
                return Err(SyntaxError::NotExecutable { stage: index + 1 }.into());
            }
        }
        Ok(pipeline)
    }

    /// `$x :=`, `$x =` or, in `range`, two variables.
    fn declarations(&mut self, pipeline: &mut Pipeline, context: &'static str) -> Fallible<()> {
        loop {
            let variable = self.peek_non_space();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            self.next();
            let adjacent = self.peek();
            let next = self.peek_non_space();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipeline.assigns = next.kind == Kind::Assign;
                    self.next_non_space();
                    pipeline.variables.push(self.declare(variable)?);
                    return Ok(());
                }
                Kind::Char if next.value == b"," => {
                    self.next_non_space();
                    pipeline.variables.push(self.declare(variable)?);
                    if context != "range" || pipeline.variables.len() >= 2 {
                        return Err(SyntaxError::TooManyDeclarations { context }.into());
                    }
                    let following = self.peek_non_space();
                    if !matches!(following.kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return Err(self.unexpected(following, context));
                    }
                }
                _ => {
                    // Not a declaration: give back what was read ahead, with the space that separates operands.
                    if adjacent.kind == Kind::Space {
                        self.pending.push(adjacent);
                    }
                    self.pending.push(variable);
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Fallible<Command> {
        self.count_node()?;
        let at = self.peek_non_space().start;
        let mut operands = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.pending.push(token);
                    break;
                }
                Kind::Pipe => break,
                _ => return Err(self.unexpected(token, "operand")),
            }
        }
        let mut operands = operands.into_iter();
        let first = operands.next().ok_or(SyntaxError::MissingValue { context: "command" })?;
        Ok(Command { at, first, arguments: operands.collect() })
    }

    fn operand(&mut self) -> Fallible<Option<Operand>> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        let next = self.peek();
        if next.kind != Kind::Field {
            return Ok(Some(operand));
        }
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            self.count_node()?;
            names.push(field_name(self.next()));
        }
        // The position of a chain is that of its first field after the operand.
        match &mut operand.kind {
            OperandKind::Field(chain) | OperandKind::Variable(_, chain) => {
                chain.append(&mut names);
                operand.at = next.start;
                Ok(Some(operand))
            }
            OperandKind::Bool(_)
            | OperandKind::String(_)
            | OperandKind::Number(_)
            | OperandKind::Nil
            | OperandKind::Dot => Err(self.unexpected(next, "operand")),
            OperandKind::Function(_) | OperandKind::Pipeline(_) | OperandKind::Chain(..) => {
                Ok(Some(Operand { at: next.start, kind: OperandKind::Chain(Box::new(operand), names) }))
            }
        }
    }

    fn term(&mut self) -> Fallible<Option<Operand>> {
        self.count_node()?;
        let token = self.next_non_space();
        let kind = match token.kind {
            Kind::Identifier => {
                let name = text(token);
                if Builtin::by_name(&name).is_none() && !self.functions.iter().any(|f| f.name == name) {
                    return Err(ErrorKind::UndefinedFunction { name });
                }
                OperandKind::Function(name)
            }
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Variable => {
                let name = text(token);
                if !self.variables.contains(&name) {
                    return Err(ErrorKind::UndefinedVariable { name });
                }
                OperandKind::Variable(name, Vec::new())
            }
            Kind::Field => OperandKind::Field(vec![field_name(token)]),
            Kind::Bool => OperandKind::Bool(token.value == b"true"),
            Kind::CharConstant => OperandKind::Number(literal::character(token.value)?),
            Kind::Complex => OperandKind::Number(literal::complex(&text(token))?),
            Kind::Number => OperandKind::Number(literal::number(&text(token))?),
            Kind::String | Kind::RawString => OperandKind::String(Value::string_from(literal::unquote(token.value)?)),
            Kind::LeftParen => {
                let pipeline = self.nested(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParen))?;
                OperandKind::Pipeline(Box::new(pipeline))
            }
            _ => {
                self.pending.push(token);
                return Ok(None);
            }
        };
        Ok(Some(Operand { at: token.start, kind }))
    }
}

/// The text of a word; words are well-formed UTF-8 because only letters and digits form them.
fn text(token: Token<'_>) -> String {
    String::from_utf8_lossy(token.value).into_owned()
}

/// The name of a field, without its dot.
fn field_name(token: Token<'_>) -> String {
    text(token).trim_start_matches('.').to_owned()
}

fn unexpected_ending(ending: &Ending<'_>, context: &'static str) -> ErrorKind {
    let got = if matches!(ending, Ending::End) { "end" } else { "else" };
    SyntaxError::Unexpected { got, context }.into()
}
