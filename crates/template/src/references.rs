//! Which parts of its data a template can look at, without executing it.
//!
//! Expressions are followed as paths from the data (`.A.B`, `index .A "B"`, variables, `with`, arguments of called
//! templates). A path that flows anywhere else is recorded as used with everything below it.

use std::collections::BTreeSet;

use crate::budget::MAX_EXEC_DEPTH;
use crate::template::Template;
use crate::tree::{Body, Branch, Command, Node, Operand, OperandKind, Pipeline};
use crate::value::Value;

/// Paths of names from the data.
pub type References = BTreeSet<Vec<String>>;

/// Longer paths are cut, which only makes the answer coarser.
const MAX_PATH: usize = 8;
/// Visits per node before the analysis gives up and answers "everything".
const VISITS_PER_NODE: usize = 4;
/// Deepest nesting of blocks, pipelines and called templates that is followed before the analysis gives up.
const MAX_DEPTH: usize = MAX_EXEC_DEPTH;

/// `Some` is a path from the data, `None` a value that was made of parts already recorded.
type Origin = Option<Vec<String>>;

pub(crate) fn find(template: &Template) -> References {
    let mut finder = Finder {
        template,
        used: References::new(),
        called: BTreeSet::new(),
        variables: vec![("$", Some(Vec::new()))],
        visits_left: template.nodes.saturating_mul(VISITS_PER_NODE).saturating_add(64),
        depth: 0,
        gave_up: false,
    };
    finder.body(&Some(Vec::new()), &template.main);
    if finder.gave_up {
        return References::from([Vec::new()]);
    }
    finder.used
}

struct Finder<'a> {
    template: &'a Template,
    used: References,
    /// Templates that were followed already, with the origin of their argument.
    called: BTreeSet<(&'a [u8], Origin)>,
    variables: Vec<(&'a str, Origin)>,
    visits_left: usize,
    depth: usize,
    gave_up: bool,
}

impl<'a> Finder<'a> {
    fn record(&mut self, origin: Origin) {
        if let Some(path) = origin {
            self.used.insert(path);
        }
    }

    fn visit(&mut self) {
        match self.visits_left.checked_sub(1) {
            Some(left) => self.visits_left = left,
            None => self.gave_up = true,
        }
    }

    fn body(&mut self, dot: &Origin, body: &'a Body) {
        if !self.enter() {
            return;
        }
        self.nodes(dot, body);
        self.depth -= 1;
    }

    /// One level deeper; false once it is too deep.
    fn enter(&mut self) -> bool {
        self.gave_up |= self.depth >= MAX_DEPTH;
        self.depth += usize::from(!self.gave_up);
        !self.gave_up
    }

    fn nodes(&mut self, dot: &Origin, body: &'a Body) {
        for node in body {
            self.visit();
            if self.gave_up {
                return;
            }
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(_, pipeline) => {
                    let value = self.pipeline(dot, pipeline);
                    if pipeline.variables.is_empty() {
                        self.record(value);
                    }
                }
                Node::If(branch) => {
                    self.branch(dot, branch, |finder, value| {
                        finder.record(value);
                        None
                    });
                }
                Node::With(branch) => {
                    self.branch(dot, branch, |finder, value| {
                        finder.record(value.clone());
                        Some(value)
                    });
                }
                Node::Range(branch) => {
                    self.branch(dot, branch, |finder, value| {
                        finder.record(value);
                        Some(None)
                    });
                }
                Node::Template { name, pipeline, .. } => {
                    let argument = pipeline.as_ref().and_then(|pipeline| self.pipeline(dot, pipeline));
                    self.call(name, argument);
                }
            }
        }
    }

    /// `new_dot` consumes the value of the pipeline and says what `.` is in the body, if it changes.
    fn branch(&mut self, dot: &Origin, branch: &'a Branch, new_dot: impl Fn(&mut Self, Origin) -> Option<Origin>) {
        let visible = self.variables.len();
        let value = self.pipeline(dot, &branch.pipeline);
        let inner = new_dot(self, value);
        self.body(inner.as_ref().unwrap_or(dot), &branch.body);
        if let Some(otherwise) = &branch.otherwise {
            self.body(dot, otherwise);
        }
        self.variables.truncate(visible);
    }

    fn call(&mut self, name: &'a [u8], argument: Origin) {
        let template = self.template;
        let Some(body) = template.definitions.get(name) else { return };
        if !self.called.insert((name, argument.clone())) {
            return;
        }
        let outer = std::mem::replace(&mut self.variables, vec![("$", argument.clone())]);
        self.body(&argument, body);
        self.variables = outer;
    }

    fn pipeline(&mut self, dot: &Origin, pipeline: &'a Pipeline) -> Origin {
        if !self.enter() {
            return None;
        }
        let value = self.stages(dot, pipeline);
        self.depth -= 1;
        value
    }

    fn stages(&mut self, dot: &Origin, pipeline: &'a Pipeline) -> Origin {
        let mut value = None;
        for (stage, command) in pipeline.commands.iter().enumerate() {
            if stage > 0 {
                // What flows into a later stage is an argument of its function.
                self.record(value.take());
            }
            value = self.command(dot, command);
        }
        for name in &pipeline.variables {
            if pipeline.assigns {
                // The variable keeps the origin of its declaration; the assigned value counts as used.
                self.record(value.clone());
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        value
    }

    fn command(&mut self, dot: &Origin, command: &'a Command) -> Origin {
        self.visit();
        if self.gave_up {
            return None;
        }
        if let OperandKind::Function(name) = &command.first.kind
            && name == "index"
            && let Some((collection, indices)) = command.arguments.split_first()
        {
            return self.index(dot, collection, indices);
        }
        for argument in &command.arguments {
            let origin = self.operand(dot, argument);
            self.record(origin);
        }
        self.operand(dot, &command.first)
    }

    /// `index` with literal keys continues a path.
    fn index(&mut self, dot: &Origin, collection: &'a Operand, indices: &'a [Operand]) -> Origin {
        let mut origin = self.operand(dot, collection);
        for index in indices {
            origin = match (origin, &index.kind) {
                (Some(path), OperandKind::String(Value::String(key))) => {
                    extend(path, &String::from_utf8_lossy(key.as_slice()))
                }
                (origin, _) => {
                    let key = self.operand(dot, index);
                    self.record(key);
                    self.record(origin);
                    None
                }
            };
        }
        if indices.is_empty() {
            // The key may come from an earlier stage of the pipeline.
            self.record(origin);
            return None;
        }
        origin
    }

    fn operand(&mut self, dot: &Origin, operand: &'a Operand) -> Origin {
        self.visit();
        if self.gave_up {
            return None;
        }
        match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Field(names) => follow(dot.clone(), names),
            OperandKind::Variable(name, names) => {
                let origin = self.variables.iter().rev().find(|(known, _)| known == name).and_then(|(_, o)| o.clone());
                follow(origin, names)
            }
            OperandKind::Pipeline(pipeline) => self.pipeline(dot, pipeline),
            OperandKind::Chain(inner, names) => follow(self.operand(dot, inner), names),
            OperandKind::Nil
            | OperandKind::Bool(_)
            | OperandKind::Number(_)
            | OperandKind::String(_)
            | OperandKind::Function(_) => None,
        }
    }
}

fn follow(origin: Origin, names: &[String]) -> Origin {
    names.iter().try_fold(origin?, |path, name| extend(path, name))
}

fn extend(mut path: Vec<String>, name: &str) -> Origin {
    if path.len() < MAX_PATH {
        path.push(name.to_owned());
    }
    Some(path)
}
