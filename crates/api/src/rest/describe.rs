//! Members that are written and described by the same lines.
//!
//! `docs/openapi.json` must be true. Libraries that derive descriptions describe what `serde` would write; our answers are
//! written by [`ObjectEncoder`], byte for byte as existing clients expect. So an object lists its members once, and the
//! list goes either into a text or into a description: a member that is written is described.

use std::collections::BTreeMap;

use marblerun_json::{Encode, ObjectEncoder, RawJson};
use marblerun_secret::SecretBytes;

/// The JSON that a Rust type is written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any JSON value.
    Any,
    /// `true` or `false`.
    Boolean,
    /// An integer from 0 to 2^64-1.
    Integer,
    /// A string.
    String,
    /// A string: standard base64 with padding.
    Bytes,
    /// That, or `null`.
    Nullable(Box<Shape>),
    /// A list.
    List(Box<Shape>),
    /// An object whose member names are data.
    Map(Box<Shape>),
    /// An object.
    Object {
        /// What the description calls it.
        name: &'static str,
        /// Its members, in the order in which they are written.
        members: Vec<Member>,
    },
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub shape: Shape,
    /// Whether it is always there.
    pub required: bool,
}

/// A type whose JSON is known without a value.
pub trait Described {
    /// That JSON.
    fn shape() -> Shape;
}

/// Where the members of an object go.
pub trait Members: Sized {
    /// A member that is always there.
    fn member<T: Encode + Described + ?Sized>(self, name: &'static str, value: &T) -> Self;

    /// A member that is left out without a value.
    fn optional<T: Encode + Described + ?Sized>(self, name: &'static str, value: Option<&T>) -> Self;
}

/// An object of version 2 of the client API.
pub trait Object {
    /// Hands over all members that can be written, in the order in which they are written.
    fn members<M: Members>(&self, members: M) -> M;
}

impl Members for ObjectEncoder<'_> {
    fn member<T: Encode + Described + ?Sized>(self, name: &'static str, value: &T) -> Self {
        self.member(name, value)
    }

    fn optional<T: Encode + Described + ?Sized>(self, name: &'static str, value: Option<&T>) -> Self {
        self.optional(name, value)
    }
}

struct Description(Vec<Member>);

impl Description {
    fn with<T: Described + ?Sized>(mut self, name: &'static str, required: bool) -> Self {
        self.0.push(Member { name, shape: T::shape(), required });
        self
    }
}

impl Members for Description {
    fn member<T: Encode + Described + ?Sized>(self, name: &'static str, _: &T) -> Self {
        self.with::<T>(name, true)
    }

    fn optional<T: Encode + Described + ?Sized>(self, name: &'static str, _: Option<&T>) -> Self {
        self.with::<T>(name, false)
    }
}

/// The members of an object; those of any value of its type are the same.
pub fn describe(object: &impl Object) -> Vec<Member> {
    object.members(Description(Vec::new())).0
}

/// An object as a value that can be written.
pub(super) struct Written<'object, T>(pub(super) &'object T);

impl<T: Object> Encode for Written<'_, T> {
    fn encode(&self, out: &mut String) {
        self.0.members(ObjectEncoder::new(out)).finish();
    }
}

macro_rules! described {
    ($($type:ty => $shape:ident),* $(,)?) => {$(
        impl Described for $type {
            fn shape() -> Shape {
                Shape::$shape
            }
        }
    )*};
}

described! {
    RawJson => Any,
    bool => Boolean,
    u64 => Integer,
    str => String,
    String => String,
    [u8] => Bytes,
    Vec<u8> => Bytes,
    SecretBytes => Bytes,
}

impl<T: Described + ?Sized> Described for &T {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Described> Described for Option<T> {
    fn shape() -> Shape {
        Shape::Nullable(Box::new(T::shape()))
    }
}

impl<T: Described> Described for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }
}
