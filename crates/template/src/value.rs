//! The values that templates compute with: Go's kinds, as far as a template can meet them.

use std::fmt;
use std::sync::Arc;

use marblerun_secret::SecretBytes;

use crate::budget::{Budget, Buffer, Charge};
use crate::error::{HostError, Limit};

/// A value. Clones share their content.
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// `nil`, and "no value": what a missing key of a map yields.
    Nil,
    /// Go `bool`.
    Bool(bool),
    /// A signed integer.
    Int(i64, IntType),
    /// An unsigned integer.
    Uint(u64, UintType),
    /// Go `float64`.
    Float(f64),
    /// Go `complex128`: real and imaginary part.
    Complex(f64, f64),
    /// Go `string`: any bytes.
    String(View),
    /// A slice of bytes, with its type.
    Bytes(Bytes),
    /// A slice of other values.
    List(List),
    /// A map with strings as keys.
    Map(Arc<dyn Map>),
    /// A structure of the host.
    Object(Arc<dyn Object>),
    /// Go `*big.Int`.
    BigInt(Arc<BigInt>),
}

impl fmt::Debug for Value {
    /// Shows the type only: the content may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.type_name())
    }
}

/// Go's signed integer types that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntType {
    /// `int`, the type of literals.
    Int,
    /// `int64`.
    Int64,
}

/// Go's unsigned integer types that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UintType {
    /// `uint`.
    Uint,
    /// `uint8`, the elements of byte slices.
    Uint8,
}

/// Something that owns bytes, such as a secret that is shared with its owner.
pub trait Blob: Send + Sync {
    /// The bytes; always the same.
    fn bytes(&self) -> &[u8];
}

impl Blob for SecretBytes {
    fn bytes(&self) -> &[u8] {
        self.expose()
    }
}

impl Blob for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A part of shared bytes.
#[derive(Clone)]
pub struct View {
    blob: Arc<dyn Blob>,
    start: usize,
    end: usize,
    capacity_end: usize,
}

impl View {
    /// All bytes of `blob`.
    pub fn whole(blob: Arc<dyn Blob>) -> Self {
        let end = blob.bytes().len();
        Self { blob, start: 0, end, capacity_end: end }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // `start` and `end` were checked when the view was made and the bytes of a blob do not change.
        self.blob.bytes().get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// How far a slice may be lengthened again (Go's capacity).
    pub(crate) fn capacity(&self) -> usize {
        self.capacity_end - self.start
    }

    /// The part from `from` to `to`, both at most the capacity, with a new capacity.
    pub(crate) fn part(&self, from: usize, to: usize, capacity: usize) -> Self {
        Self {
            blob: Arc::clone(&self.blob),
            start: self.start + from,
            end: self.start + to,
            capacity_end: self.start + capacity,
        }
    }
}

/// The type of a byte slice.
#[derive(Debug)]
pub struct BytesType {
    /// Go's name of the type, as `%T` prints it.
    pub name: &'static str,
    /// How a value of the type prints as text, if not as a list of numbers; at most 64 bytes long.
    pub text: Option<fn(&[u8]) -> String>,
}

/// Go `[]uint8`.
pub static PLAIN_BYTES: BytesType = BytesType { name: "[]uint8", text: None };

/// A slice of bytes.
#[derive(Clone)]
pub struct Bytes {
    pub(crate) view: View,
    pub(crate) bytes_type: &'static BytesType,
    pub(crate) is_nil: bool,
}

impl Bytes {
    /// The bytes of `blob`.
    pub fn new(blob: Arc<dyn Blob>, bytes_type: &'static BytesType) -> Self {
        Self { view: View::whole(blob), bytes_type, is_nil: false }
    }

    /// A slice that was never set.
    pub fn nil(bytes_type: &'static BytesType) -> Self {
        Self { view: View::whole(Arc::new(Vec::new())), bytes_type, is_nil: true }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.view.as_slice()
    }

    /// The type.
    pub fn bytes_type(&self) -> &'static BytesType {
        self.bytes_type
    }
}

/// A slice of values.
#[derive(Clone)]
pub struct List {
    items: Arc<[Value]>,
    start: usize,
    end: usize,
    capacity_end: usize,
    pub(crate) type_name: &'static str,
}

impl List {
    /// A slice with Go's type name, such as `[]string`.
    pub fn new(items: Vec<Value>, type_name: &'static str) -> Self {
        let end = items.len();
        Self { items: items.into(), start: 0, end, capacity_end: end, type_name }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[Value] {
        self.items.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity_end - self.start
    }

    pub(crate) fn part(&self, from: usize, to: usize, capacity: usize) -> Self {
        Self {
            items: Arc::clone(&self.items),
            start: self.start + from,
            end: self.start + to,
            capacity_end: self.start + capacity,
            type_name: self.type_name,
        }
    }
}

/// An integer of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigInt {
    pub(crate) negative: bool,
    /// Big-endian; `None` is Go's nil pointer.
    pub(crate) magnitude: Option<Vec<u8>>,
}

impl BigInt {
    /// The nil pointer.
    pub fn nil() -> Self {
        Self { negative: false, magnitude: None }
    }

    /// A number from its sign and big-endian magnitude.
    pub fn new(negative: bool, magnitude: Vec<u8>) -> Self {
        let negative = negative && magnitude.iter().any(|b| *b != 0);
        Self { negative, magnitude: Some(magnitude) }
    }
}

/// A map of the host with strings as keys.
pub trait Map: Send + Sync {
    /// Go's name of the type.
    fn type_name(&self) -> &'static str;
    /// Number of entries.
    fn len(&self) -> usize;
    /// True without entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All keys, sorted bytewise.
    fn keys(&self) -> Vec<String>;
    /// The value of a key.
    fn get(&self, key: &str) -> Option<Value>;
    /// What `index` gives for a missing key.
    fn zero(&self) -> Value;
}

/// What a parameter of a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// Any value.
    Any,
    /// A string.
    String,
}

/// A structure of the host.
pub trait Object: std::any::Any + Send + Sync {
    /// Go's name of the type.
    fn type_name(&self) -> &'static str;
    /// The names of the fields, for messages.
    fn field_names(&self) -> &'static [&'static str] {
        &[]
    }
    /// The value of a field.
    fn field(&self, name: &str) -> Option<Value>;
    /// The parameters of a method.
    fn method(&self, _name: &str) -> Option<&'static [Param]> {
        None
    }
    /// Calls a method; `arguments` fit its parameters.
    ///
    /// # Errors
    /// Whatever the method refuses, and limits.
    fn call(&self, name: &str, _arguments: &[Value], _budget: &mut Budget) -> Result<Value, HostError> {
        Err(HostError::Refused { class: "missing-field", message: format!("no method {name}") })
    }
    /// The text that the structure prints as; `None` if it cannot be printed as a whole.
    fn text(&self) -> Option<String> {
        None
    }
    /// Whether it equals another structure; `None` if its type cannot be compared.
    fn equals(&self, _other: &dyn Object) -> Option<bool> {
        None
    }
}

/// A function that the host adds to the built-in ones; it takes one argument of any type.
pub struct Function {
    /// Its name in templates.
    pub name: &'static str,
    /// What it does. Results must be charged to the budget before they are made; see [`Value::build_string`].
    pub call: fn(&Value, &mut Budget) -> Result<Value, HostError>,
}

impl Value {
    /// An `int`.
    pub fn int(value: i64) -> Self {
        Self::Int(value, IntType::Int)
    }

    /// A string of the given bytes; wiped when the last clone ends.
    pub fn string_from(bytes: Vec<u8>) -> Self {
        Self::String(View::whole(Arc::new(SecretBytes::new(bytes))))
    }

    /// A string that is written into a buffer which is charged to the budget.
    ///
    /// # Errors
    /// What `write` returns.
    pub fn build_string<E>(
        budget: &mut Budget,
        write: impl FnOnce(&mut Buffer, &mut Budget) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut buffer = Buffer::new(Charge::Value);
        write(&mut buffer, budget)?;
        Ok(Self::String(View::whole(Arc::new(buffer.into_secret()))))
    }

    /// A `[]string`.
    pub fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Self {
        let items = items.into_iter().map(|s| Self::string_from(s.as_bytes().to_vec())).collect();
        Self::List(List::new(items, "[]string"))
    }

    /// Go's name of the type; `nil` for no value.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_, IntType::Int) => "int",
            Self::Int(_, IntType::Int64) => "int64",
            Self::Uint(_, UintType::Uint) => "uint",
            Self::Uint(_, UintType::Uint8) => "uint8",
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::String(_) => "string",
            Self::Bytes(bytes) => bytes.bytes_type.name,
            Self::List(list) => list.type_name,
            Self::Map(map) => map.type_name(),
            Self::Object(object) => object.type_name(),
            Self::BigInt(_) => "*big.Int",
        }
    }

    /// Go template truth: not zero, not empty, not nil; structures are always true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value, _) => *value != 0,
            Self::Uint(value, _) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
            Self::String(view) => view.len() > 0,
            Self::Bytes(bytes) => bytes.view.len() > 0,
            Self::List(list) => !list.as_slice().is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Object(_) => true,
            Self::BigInt(number) => number.magnitude.is_some(),
        }
    }

    /// A literal integer as Go's `int`.
    pub(crate) fn length(length: usize) -> Result<Self, Limit> {
        i64::try_from(length).map(Self::int).map_err(|_| Limit::ValueSize { max: usize::MAX })
    }
}
