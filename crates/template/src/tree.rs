//! The parsed form of a template.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::literal::Number;
use crate::value::Value;

/// Blocks, templates and the main body: a sequence of nodes.
pub(crate) type Body = Vec<Node>;

/// The named templates of one source.
pub(crate) type Definitions = BTreeMap<Vec<u8>, Arc<Body>>;

#[derive(Debug)]
pub(crate) enum Node {
    /// Bytes of the source.
    Text(std::ops::Range<usize>),
    Action(usize, Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template {
        at: usize,
        name: Vec<u8>,
        pipeline: Option<Pipeline>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) at: usize,
    pub(crate) pipeline: Pipeline,
    pub(crate) body: Body,
    pub(crate) otherwise: Option<Body>,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) at: usize,
    pub(crate) assigns: bool,
    pub(crate) variables: Vec<String>,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) at: usize,
    pub(crate) first: Operand,
    pub(crate) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) at: usize,
    pub(crate) kind: OperandKind,
}

#[derive(Debug)]
pub(crate) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    /// Kept as a value, so that using it copies nothing.
    String(Value),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Pipeline(Box<Pipeline>),
    Chain(Box<Operand>, Vec<String>),
}

/// True if a template with this body counts as not yet defined: white space only.
pub(crate) fn is_blank(body: &Body, source: &[u8]) -> bool {
    body.iter().all(|node| match node {
        Node::Text(range) => String::from_utf8_lossy(&source[range.clone()]).trim().is_empty(),
        _ => false,
    })
}
