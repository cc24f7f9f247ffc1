//! The Go `text/template` language over a small value model.
//!
//! Knows nothing of the Coordinator: the caller brings values ([`Value`], [`Object`], [`Map`]) and functions
//! ([`Function`]). Output, error classes and positions are those of Go's `text/template` and `fmt`; whole structures
//! are not printed. Everything is bounded: the text when it is parsed (`MAX_*`), work, intermediate values and output
//! by a [`Budget`] that several executions may share. Intermediate values and output are wiped when they end, and no
//! value appears in an error.

mod budget;
mod builtin;
mod error;
mod exec;
mod fmt;
mod lex;
mod literal;
mod parse;
mod references;
mod template;
mod text;
mod tree;
mod value;

pub use budget::{
    Budget, Buffer, Charge, Limits, MAX_EXEC_DEPTH, MAX_INTEGER_BYTES, MAX_NODES, MAX_PARSE_DEPTH, MAX_SOURCE_BYTES,
    MAX_VARIABLES, MAX_WIDTH,
};
pub use error::{Error, ErrorKind, HostError, Limit, Stage, SyntaxError};
pub use references::References;
pub use template::Template;
pub use value::{
    BigInt, Blob, Bytes, BytesType, Function, IntType, List, Map, Object, PLAIN_BYTES, Param, UintType, Value, View,
};
