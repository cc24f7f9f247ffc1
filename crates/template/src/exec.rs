//! Execution of a tree over a value.

use marblerun_secret::SecretBytes;

use crate::budget::{Budget, Buffer, Charge, MAX_EXEC_DEPTH, MAX_VARIABLES};
use crate::builtin::{Builtin, Signature};
use crate::error::{Error, ErrorKind, HostError, Limit, Stage};
use crate::fmt;
use crate::literal::Number;
use crate::template::Template;
use crate::tree::{Branch, Command, Node, Operand, OperandKind, Pipeline};
use crate::value::{Function, IntType, Object, Param, UintType, Value};

/// Errors travel boxed: every level of the recursion returns one.
type Fallible<T> = Result<T, Box<ErrorKind>>;

impl From<Limit> for Box<ErrorKind> {
    fn from(limit: Limit) -> Self {
        Box::new(ErrorKind::Limit(limit))
    }
}

pub(crate) fn execute(template: &Template, data: &Value, budget: &mut Budget) -> Result<SecretBytes, Error> {
    let mut executor = Executor {
        template,
        budget,
        output: Buffer::new(Charge::Output),
        variables: vec![("$", data.clone())],
        frame: 0,
        at: 0,
        depth: 0,
    };
    match executor.body(data, &template.main) {
        Ok(_) => Ok(executor.output.into_secret()),
        Err(kind) => {
            let before = template.source.get(..executor.at).unwrap_or_default();
            let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
            Err(Error {
                kind: *kind,
                stage: Stage::Exec,
                line: 1 + before.iter().filter(|b| **b == b'\n').count(),
                column: Some(before.len() - line_start),
            })
        }
    }
}

/// What follows after a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Executor<'a, 'b> {
    template: &'a Template,
    budget: &'b mut Budget,
    output: Buffer,
    /// Visible variables are those from `frame` on; the newest last.
    variables: Vec<(&'a str, Value)>,
    frame: usize,
    /// The element that is being evaluated: where an error is reported.
    at: usize,
    depth: usize,
}

/// What is called.
enum Callee<'a> {
    Builtin(Builtin),
    Host(&'a Function),
    Method(&'a dyn Object, &'a str, &'static [Param]),
}

impl<'a> Executor<'a, '_> {
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Fallible<T>) -> Fallible<T> {
        if self.depth == MAX_EXEC_DEPTH {
            return Err(Limit::ExecDepth { max: MAX_EXEC_DEPTH }.into());
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn body(&mut self, dot: &Value, body: &'a [Node]) -> Fallible<Flow> {
        self.nested(|executor| {
            for node in body {
                let flow = executor.node(dot, node)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Fallible<Flow> {
        self.budget.charge_steps(1)?;
        match node {
            Node::Text(range) => {
                let text = self.template.source.get(range.clone()).unwrap_or_default();
                self.output.write(text, self.budget)?;
                Ok(Flow::Next)
            }
            Node::Action(at, pipeline) => {
                self.at = *at;
                let value = self.pipeline(dot, pipeline)?;
                if pipeline.variables.is_empty() {
                    self.at = *at;
                    fmt::print_action(&mut self.output, &value, self.budget)?;
                }
                Ok(Flow::Next)
            }
            Node::Break => Ok(Flow::Break),
            Node::Continue => Ok(Flow::Continue),
            Node::If(branch) => self.conditional(dot, branch, false),
            Node::With(branch) => self.conditional(dot, branch, true),
            Node::Range(branch) => {
                self.at = branch.at;
                let visible = self.variables.len();
                let result = self.range(dot, branch);
                self.variables.truncate(visible);
                result
            }
            Node::Template { at, name, pipeline } => {
                self.at = *at;
                self.call_template(dot, name, pipeline.as_ref())?;
                Ok(Flow::Next)
            }
        }
    }

    fn conditional(&mut self, dot: &Value, branch: &'a Branch, sets_dot: bool) -> Fallible<Flow> {
        self.at = branch.at;
        let visible = self.variables.len();
        let value = self.pipeline(dot, &branch.pipeline)?;
        let flow = if value.is_true() {
            self.body(if sets_dot { &value } else { dot }, &branch.body)?
        } else if let Some(otherwise) = &branch.otherwise {
            self.body(dot, otherwise)?
        } else {
            Flow::Next
        };
        self.variables.truncate(visible);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Fallible<Flow> {
        let value = self.pipeline(dot, &branch.pipeline)?;
        let mut ran = false;
        match &value {
            Value::Int(count, int_type) => {
                self.one_variable(branch, &value)?;
                for i in 0..*count {
                    ran = true;
                    if self.round(branch, Value::Nil, Value::Int(i, *int_type))? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Uint(count, uint_type) => {
                self.one_variable(branch, &value)?;
                for i in 0..*count {
                    ran = true;
                    if self.round(branch, Value::Nil, Value::Uint(i, *uint_type))? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Bytes(bytes) => {
                for (i, byte) in bytes.as_slice().iter().enumerate() {
                    ran = true;
                    let element = Value::Uint(u64::from(*byte), UintType::Uint8);
                    if self.round(branch, Value::length(i)?, element)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::List(list) => {
                for (i, element) in list.as_slice().iter().enumerate() {
                    ran = true;
                    if self.round(branch, Value::length(i)?, element.clone())? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                self.budget.charge_steps(map.len() as u64)?;
                for key in map.keys() {
                    let Some(element) = map.get(&key) else { continue };
                    ran = true;
                    if self.round(branch, Value::string_from(key.into_bytes()), element)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Nil => {}
            other => return Err(Box::new(ErrorKind::RangeType { got: other.type_name().to_owned() })),
        }
        if !ran && let Some(otherwise) = &branch.otherwise {
            // As in Go, `break` in the else branch ends here, although it needs a loop around this one to be legal.
            return match self.body(dot, otherwise)? {
                Flow::Break => Ok(Flow::Next),
                other => Ok(other),
            };
        }
        Ok(Flow::Next)
    }

    /// Refuses two variables over an integer.
    fn one_variable(&self, branch: &Branch, value: &Value) -> Fallible<()> {
        if branch.pipeline.variables.len() > 1 {
            return Err(Box::new(ErrorKind::RangeType { got: format!("{} with two variables", value.type_name()) }));
        }
        Ok(())
    }

    /// One round of a loop.
    fn round(&mut self, branch: &'a Branch, index: Value, element: Value) -> Fallible<Flow> {
        self.budget.charge_steps(1)?;
        let declared = &branch.pipeline.variables;
        let visible = self.variables.len();
        match (declared.as_slice(), branch.pipeline.assigns) {
            ([], _) => {}
            ([name], true) => self.assign(name, element.clone())?,
            ([first, second, ..], true) => {
                self.assign(first, index)?;
                self.assign(second, element.clone())?;
            }
            ([_], false) => self.set_newest(1, element.clone()),
            ([..], false) => {
                self.set_newest(1, element.clone());
                self.set_newest(2, index);
            }
        }
        let flow = self.body(&element, &branch.body)?;
        self.variables.truncate(visible);
        Ok(flow)
    }

    /// Looking a variable up is linear.
    fn charge_lookup(&mut self) -> Fallible<()> {
        let visible = self.variables.len() - self.frame;
        Ok(self.budget.charge_steps(visible as u64 / 16)?)
    }

    fn set_newest(&mut self, from_end: usize, value: Value) {
        let slot = self.variables.len().checked_sub(from_end);
        if let Some((_, old)) = slot.and_then(|slot| self.variables.get_mut(slot)) {
            *old = value;
        }
    }

    fn assign(&mut self, name: &str, value: Value) -> Fallible<()> {
        self.charge_lookup()?;
        match self.variables[self.frame..].iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => Err(Box::new(ErrorKind::UndefinedVariable { name: name.to_owned() })),
        }
    }

    fn variable(&mut self, name: &str) -> Fallible<Value> {
        self.charge_lookup()?;
        self.variables[self.frame..]
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
            .ok_or_else(|| Box::new(ErrorKind::UndefinedVariable { name: name.to_owned() }))
    }

    fn call_template(&mut self, dot: &Value, name: &[u8], pipeline: Option<&'a Pipeline>) -> Fallible<()> {
        let template = self.template;
        let Some(body) = template.definitions.get(name) else {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(Box::new(ErrorKind::UndefinedTemplate { name }));
        };
        let argument = match pipeline {
            // Variables that the pipeline declares persist in the caller.
            Some(pipeline) => self.pipeline(dot, pipeline)?,
            None => Value::Nil,
        };
        // The called template sees none of the caller's variables.
        let caller_frame = std::mem::replace(&mut self.frame, self.variables.len());
        self.push("$", argument.clone())?;
        self.body(&argument, body)?;
        self.variables.truncate(self.frame);
        self.frame = caller_frame;
        Ok(())
    }

    fn push(&mut self, name: &'a str, value: Value) -> Fallible<()> {
        if self.variables.len() - self.frame >= MAX_VARIABLES {
            return Err(Limit::Variables { max: MAX_VARIABLES }.into());
        }
        self.variables.push((name, value));
        Ok(())
    }

    fn pipeline(&mut self, dot: &Value, pipeline: &'a Pipeline) -> Fallible<Value> {
        self.nested(|executor| {
            executor.at = pipeline.at;
            let mut value = None;
            for command in &pipeline.commands {
                value = Some(executor.command(dot, command, value.take())?);
            }
            let value = value.unwrap_or(Value::Nil);
            for name in &pipeline.variables {
                if pipeline.assigns {
                    executor.assign(name, value.clone())?;
                } else {
                    executor.push(name, value.clone())?;
                }
            }
            Ok(value)
        })
    }

    /// Evaluates a command; `last` is the value of the stage before it.
    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Fallible<Value> {
        self.budget.charge_steps(1)?;
        let first = &command.first;
        match &first.kind {
            OperandKind::Field(names) => {
                self.at = first.at;
                self.chain(dot, dot.clone(), first.at, names, &command.arguments, last)
            }
            OperandKind::Chain(inner, names) => {
                self.at = first.at;
                let receiver = self.chain_start(dot, inner)?;
                self.chain(dot, receiver, first.at, names, &command.arguments, last)
            }
            OperandKind::Variable(name, names) => {
                self.at = first.at;
                let value = self.variable(name)?;
                if names.is_empty() {
                    no_arguments(&command.arguments, last.as_ref())?;
                    return Ok(value);
                }
                self.chain(dot, value, first.at, names, &command.arguments, last)
            }
            OperandKind::Function(name) => {
                self.at = first.at;
                self.function(dot, name, command.at, &command.arguments, last)
            }
            OperandKind::Pipeline(pipeline) => {
                no_arguments(&command.arguments, last.as_ref())?;
                self.pipeline(dot, pipeline)
            }
            OperandKind::Bool(_)
            | OperandKind::Dot
            | OperandKind::Nil
            | OperandKind::Number(_)
            | OperandKind::String(_) => {
                self.at = first.at;
                no_arguments(&command.arguments, last.as_ref())?;
                match &first.kind {
                    OperandKind::Dot => Ok(dot.clone()),
                    OperandKind::Nil => Err(Box::new(ErrorKind::NilValue)),
                    _ => literal(first),
                }
            }
        }
    }

    /// The value before the fields of a chain such as `(pipeline).Field`.
    fn chain_start(&mut self, dot: &Value, inner: &'a Operand) -> Fallible<Value> {
        self.at = inner.at;
        match &inner.kind {
            OperandKind::Pipeline(pipeline) => self.pipeline(dot, pipeline),
            OperandKind::Function(name) => self.function(dot, name, inner.at, &[], None),
            _ => self.argument(dot, inner, Param::Any, ""),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        name: &'a str,
        at: usize,
        arguments: &'a [Operand],
        last: Option<Value>,
    ) -> Fallible<Value> {
        if let Some(builtin) = Builtin::by_name(name) {
            return self.call(dot, Callee::Builtin(builtin), name, at, arguments, last);
        }
        match self.template.functions.iter().find(|f| f.name == name) {
            Some(function) => self.call(dot, Callee::Host(function), name, at, arguments, last),
            None => Err(Box::new(ErrorKind::UndefinedFunction { name: name.to_owned() })),
        }
    }

    fn call(
        &mut self,
        dot: &Value,
        callee: Callee<'_>,
        name: &str,
        at: usize,
        arguments: &'a [Operand],
        last: Option<Value>,
    ) -> Fallible<Value> {
        let signature = match &callee {
            Callee::Builtin(builtin) => builtin.signature(),
            Callee::Host(_) => Signature { fixed: &[Param::Any], variadic: false },
            Callee::Method(_, _, fixed) => Signature { fixed, variadic: false },
        };
        let given = arguments.len() + usize::from(last.is_some());
        let fixed = signature.fixed.len();
        if given < fixed || (given > fixed && !signature.variadic) {
            let at_least = if signature.variadic { "at least " } else { "" };
            let plural = if fixed == 1 { "" } else { "s" };
            return Err(Box::new(ErrorKind::ArgCount {
                function: name.to_owned(),
                expected: format!("{at_least}{fixed} argument{plural}"),
                got: given,
            }));
        }
        if let Callee::Builtin(builtin @ (Builtin::And | Builtin::Or)) = callee {
            let mut value = Value::Nil;
            for argument in arguments {
                value = self.argument(dot, argument, Param::Any, name)?;
                if value.is_true() == (builtin == Builtin::Or) {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(given);
        for (i, argument) in arguments.iter().enumerate() {
            let param = signature.fixed.get(i).copied().unwrap_or(Param::Any);
            values.push(self.argument(dot, argument, param, name)?);
        }
        if let Some(last) = last {
            let param = signature.fixed.get(values.len()).copied().unwrap_or(Param::Any);
            values.push(fitting(last, param, name)?);
        }
        self.budget.charge_steps(values.len() as u64)?;
        let result = match callee {
            Callee::Builtin(builtin) => builtin.call(&values, self.budget),
            Callee::Host(function) => (function.call)(values.first().unwrap_or(&Value::Nil), self.budget)
                .map_err(|error| host_error(name, error)),
            Callee::Method(object, method, _) => {
                object.call(method, &values, self.budget).map_err(|error| host_error(name, error))
            }
        };
        result.map_err(|kind| {
            self.at = at;
            Box::new(kind)
        })
    }

    /// Evaluates an argument for a parameter of type `param` of the function `name`.
    fn argument(&mut self, dot: &Value, operand: &'a Operand, param: Param, name: &str) -> Fallible<Value> {
        self.budget.charge_steps(1)?;
        self.at = operand.at;
        let value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Field(names) => self.chain(dot, dot.clone(), operand.at, names, &[], None)?,
            OperandKind::Variable(variable, names) => {
                let value = self.variable(variable)?;
                if names.is_empty() { value } else { self.chain(dot, value, operand.at, names, &[], None)? }
            }
            OperandKind::Pipeline(pipeline) => self.pipeline(dot, pipeline)?,
            OperandKind::Function(function) => self.function(dot, function, operand.at, &[], None)?,
            OperandKind::Chain(inner, names) => {
                let receiver = self.chain_start(dot, inner)?;
                self.chain(dot, receiver, operand.at, names, &[], None)?
            }
            OperandKind::Bool(_) | OperandKind::Number(_) | OperandKind::String(_) => {
                if param == Param::String && !matches!(operand.kind, OperandKind::String(_)) {
                    return Err(wrong_type(name, literal_type(&operand.kind)));
                }
                literal(operand)?
            }
        };
        fitting(value, param, name)
    }

    /// Follows fields; the last of them may be a method and gets the arguments.
    fn chain(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        at: usize,
        names: &'a [String],
        arguments: &'a [Operand],
        last: Option<Value>,
    ) -> Fallible<Value> {
        let Some((final_name, path)) = names.split_last() else {
            return Ok(receiver);
        };
        for name in path {
            receiver = self.field(dot, &receiver, name, at, &[], None)?;
        }
        self.field(dot, &receiver, final_name, at, arguments, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: &Value,
        name: &'a str,
        at: usize,
        arguments: &'a [Operand],
        last: Option<Value>,
    ) -> Fallible<Value> {
        self.budget.charge_steps(1)?;
        match receiver {
            // A field of no value is no value, whatever follows.
            Value::Nil => Ok(Value::Nil),
            Value::Map(map) => {
                no_arguments(arguments, last.as_ref())?;
                Ok(map.get(name).unwrap_or(Value::Nil))
            }
            Value::Object(object) => {
                if let Some(params) = object.method(name) {
                    let callee = Callee::Method(object.as_ref(), name, params);
                    return self.call(dot, callee, name, at, arguments, last);
                }
                let value = object.field(name).ok_or_else(|| missing_field(receiver, name))?;
                no_arguments(arguments, last.as_ref())?;
                Ok(value)
            }
            _ => Err(missing_field(receiver, name)),
        }
    }
}

fn missing_field(receiver: &Value, name: &str) -> Box<ErrorKind> {
    let type_name = receiver.type_name().to_owned();
    let known = match receiver {
        Value::Object(object) => object.field_names(),
        _ => &[],
    };
    Box::new(ErrorKind::MissingField { name: name.to_owned(), type_name, known })
}

fn no_arguments(arguments: &[Operand], last: Option<&Value>) -> Fallible<()> {
    if arguments.is_empty() && last.is_none() { Ok(()) } else { Err(Box::new(ErrorKind::NotAFunction)) }
}

fn wrong_type(function: &str, got: &str) -> Box<ErrorKind> {
    Box::new(ErrorKind::ArgType { function: function.to_owned(), got: got.to_owned() })
}

/// The value if a parameter takes it.
fn fitting(value: Value, param: Param, function: &str) -> Fallible<Value> {
    match (param, &value) {
        (Param::Any, _) | (Param::String, Value::String(_)) => Ok(value),
        (Param::String, other) => Err(wrong_type(function, other.type_name())),
    }
}

fn host_error(function: &str, error: HostError) -> ErrorKind {
    match error {
        HostError::Limit(limit) => ErrorKind::Limit(limit),
        HostError::Refused { class, message } => ErrorKind::Host { function: function.to_owned(), class, message },
    }
}

fn literal_type(kind: &OperandKind) -> &'static str {
    match kind {
        OperandKind::Bool(_) => "bool",
        _ => "number",
    }
}

/// The value of a literal.
fn literal(operand: &Operand) -> Fallible<Value> {
    match &operand.kind {
        OperandKind::Bool(value) => Ok(Value::Bool(*value)),
        OperandKind::String(value) => Ok(value.clone()),
        OperandKind::Number(Number::Int(value)) => Ok(Value::Int(*value, IntType::Int)),
        OperandKind::Number(Number::Float(value)) => Ok(Value::Float(*value)),
        OperandKind::Number(Number::Complex(real, imaginary)) => Ok(Value::Complex(*real, *imaginary)),
        OperandKind::Number(Number::TooLarge) => Err(Box::new(ErrorKind::NumberRange)),
        _ => Ok(Value::Nil),
    }
}
