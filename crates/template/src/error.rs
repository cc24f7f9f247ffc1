use std::fmt;

/// Why a template was refused or failed, and where.
///
/// The text names identifiers of the template and type names only; it never contains a value, because values may be
/// secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Whether parsing or execution noticed it.
    pub stage: Stage,
    /// Line in the template's source, from 1.
    pub line: usize,
    /// Bytes from the start of the line, from 0; known for errors of execution.
    pub column: Option<usize>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "line {}, column {}: {}", self.line, column + 1, self.kind),
            None => write!(f, "line {}: {}", self.line, self.kind),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The stable class of the error, such as `missing-field`; see [`ErrorKind::class`].
    pub fn class(&self) -> &'static str {
        self.kind.class()
    }

    /// What the author of the template can do; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.kind {
            ErrorKind::Syntax(SyntaxError::BadCharacter { .. } | SyntaxError::BadNumber) => {
                Some("a key that is not an identifier is reached with index, as in (index .Map \"my-key\")")
            }
            ErrorKind::Limit(_) => Some("templates are bounded so that one manifest cannot exhaust the Coordinator"),
            _ => None,
        }
    }
}

/// When an error was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// While the text was read.
    Parse,
    /// While the template was executed.
    Exec,
}

/// The cause of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a template.
    #[error(transparent)]
    Syntax(SyntaxError),
    /// An identifier that is no function in this context.
    #[error("function {name:?} is not defined here")]
    UndefinedFunction {
        /// The identifier.
        name: String,
    },
    /// A variable that was not declared.
    #[error("variable {name:?} is not defined")]
    UndefinedVariable {
        /// The variable with its `$`.
        name: String,
    },
    /// Two templates with a body share a name.
    #[error("template {name:?} is defined twice")]
    Redefinition {
        /// The template's name.
        name: String,
    },
    /// `break` or `continue` outside of `range`.
    #[error("{word} outside of range")]
    LoopControl {
        /// `break` or `continue`.
        word: &'static str,
    },
    /// A value has no such field or method.
    #[error("{type_name} has no field {name:?}{}", list(known))]
    MissingField {
        /// The field's name.
        name: String,
        /// The type of the value.
        type_name: String,
        /// The fields that it has, as far as the host names them.
        known: &'static [&'static str],
    },
    /// A function or method got too few or too many arguments.
    #[error("{function} expected {expected}, got {got}")]
    ArgCount {
        /// The function's name.
        function: String,
        /// How many arguments it takes.
        expected: String,
        /// How many it got.
        got: usize,
    },
    /// A function or method got an argument of an unsuitable type.
    #[error("{function} cannot take a value of type {got}")]
    ArgType {
        /// The function's name.
        function: String,
        /// The type of the argument.
        got: String,
    },
    /// Arguments were given to something that takes none, or `call` got no function.
    #[error("arguments given to something that is not a function")]
    NotAFunction,
    /// `nil` stands where a command is needed.
    #[error("nil is not a command")]
    NilValue,
    /// An index or slice bound lies outside of the value.
    #[error("{function}: index outside of the value's bounds")]
    IndexRange {
        /// `index` or `slice`.
        function: &'static str,
    },
    /// Values of these types cannot be compared or ordered.
    #[error("{function} cannot compare values of type {left} and {right}")]
    Comparison {
        /// `eq`, `lt` and so on.
        function: &'static str,
        /// Type of the first operand.
        left: String,
        /// Type of the second operand.
        right: String,
    },
    /// `range` over something that cannot be iterated, or with too many variables.
    #[error("range cannot iterate over {got} here")]
    RangeType {
        /// The type of the value.
        got: String,
    },
    /// `template` names a template that was not defined.
    #[error("template {name:?} is not defined")]
    UndefinedTemplate {
        /// The template's name.
        name: String,
    },
    /// An integer literal does not fit into 64 bits with sign.
    #[error("integer literal overflows 64 bits")]
    NumberRange,
    /// A whole structure would be printed.
    #[error("a value of type {type_name} cannot be printed as a whole; name one of its fields")]
    Unprintable {
        /// The type of the value.
        type_name: String,
    },
    /// A limit was reached.
    #[error(transparent)]
    Limit(Limit),
    /// A function of the host refused its argument.
    #[error("{function}: {message}")]
    Host {
        /// The function's name.
        function: String,
        /// The host's class for this error.
        class: &'static str,
        /// The host's message, free of values.
        message: String,
    },
}

impl ErrorKind {
    /// The stable class of the error.
    ///
    /// The classes are `syntax`, `undefined-function`, `undefined-variable`, `redefinition`, `loop-control`,
    /// `missing-field`, `arg-count`, `arg-type`, `not-a-function`, `nil-value`, `index-range`, `comparison`,
    /// `range-type`, `undefined-template`, `number-range`, `unprintable`, `limit` and those of the host's functions.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::UndefinedFunction { .. } => "undefined-function",
            Self::UndefinedVariable { .. } => "undefined-variable",
            Self::Redefinition { .. } => "redefinition",
            Self::LoopControl { .. } => "loop-control",
            Self::MissingField { .. } => "missing-field",
            Self::ArgCount { .. } => "arg-count",
            Self::ArgType { .. } => "arg-type",
            Self::NotAFunction => "not-a-function",
            Self::NilValue => "nil-value",
            Self::IndexRange { .. } => "index-range",
            Self::Comparison { .. } => "comparison",
            Self::RangeType { .. } => "range-type",
            Self::UndefinedTemplate { .. } => "undefined-template",
            Self::NumberRange => "number-range",
            Self::Unprintable { .. } => "unprintable",
            Self::Limit(_) => "limit",
            Self::Host { class, .. } => class,
        }
    }
}

/// The known fields, as the end of a message.
fn list(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!(", only {}", known.join(", ")) }
}

impl From<Limit> for ErrorKind {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}

impl From<SyntaxError> for ErrorKind {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// How a text fails to be a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// The text ends inside of an action, a block, a comment or a literal.
    #[error("unclosed {what}")]
    Unclosed {
        /// What was not closed.
        what: &'static str,
    },
    /// A character that may not occur or follow here.
    #[error("unexpected character {character:?}")]
    BadCharacter {
        /// The character.
        character: char,
    },
    /// A `:` that is not part of `:=`.
    #[error("expected :=")]
    ExpectedDeclare,
    /// A right parenthesis without a left one.
    #[error("unexpected right parenthesis")]
    RightParen,
    /// A number that is none.
    #[error("malformed number")]
    BadNumber,
    /// A literal with a well-formed outline but no value.
    #[error("literal has no value")]
    BadLiteral,
    /// A token that cannot stand here.
    #[error("unexpected {got} in {context}")]
    Unexpected {
        /// What was found.
        got: &'static str,
        /// Where.
        context: &'static str,
    },
    /// A clause without a value.
    #[error("missing value in {context}")]
    MissingValue {
        /// The clause.
        context: &'static str,
    },
    /// A later stage of a pipeline cannot take a value.
    #[error("stage {stage} of the pipeline is not a function")]
    NotExecutable {
        /// The stage, from 2.
        stage: usize,
    },
    /// More variables than the clause can declare.
    #[error("too many variables declared in {context}")]
    TooManyDeclarations {
        /// The clause.
        context: &'static str,
    },
}

/// A limit that a template reached. Each is charged before memory is allocated or work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// The source is too long.
    #[error("template is longer than {max} bytes")]
    Source {
        /// The limit in bytes.
        max: usize,
    },
    /// The template has too many parts.
    #[error("template has more than {max} parts")]
    Nodes {
        /// The limit.
        max: usize,
    },
    /// Blocks or parentheses are nested too deeply.
    #[error("template is nested deeper than {max} levels")]
    ParseDepth {
        /// The limit.
        max: usize,
    },
    /// Too many variables are alive at once.
    #[error("more than {max} variables at once")]
    Variables {
        /// The limit.
        max: usize,
    },
    /// Calls of templates and blocks inside of them are nested too deeply.
    #[error("templates call each other deeper than {max} levels")]
    ExecDepth {
        /// The limit.
        max: usize,
    },
    /// Execution takes too long.
    #[error("template takes more than {max} steps")]
    Steps {
        /// The limit.
        max: u64,
    },
    /// One intermediate value is too long.
    #[error("a value is longer than {max} bytes")]
    ValueSize {
        /// The limit in bytes.
        max: usize,
    },
    /// All intermediate values together are too long.
    #[error("intermediate values take more than {max} bytes together")]
    ValueTotal {
        /// The limit in bytes.
        max: u64,
    },
    /// The output of all templates together is too long.
    #[error("output is longer than {max} bytes")]
    Output {
        /// The limit in bytes.
        max: usize,
    },
    /// A width or precision of `printf` is too large.
    #[error("printf width or precision is larger than {max}")]
    Width {
        /// The limit.
        max: usize,
    },
    /// A number has too many digits to be printed.
    #[error("integer is longer than {max} bytes")]
    Integer {
        /// The limit in bytes.
        max: usize,
    },
}

/// The answer of a host function that cannot give a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The argument is refused.
    Refused {
        /// A stable class, such as `empty-secret`.
        class: &'static str,
        /// The reason; must not contain values.
        message: String,
    },
    /// The budget does not allow the result.
    Limit(Limit),
}

impl From<Limit> for HostError {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}
