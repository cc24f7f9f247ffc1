//! JSON as Go's `encoding/json` (version 1) reads and writes it.
//!
//! Existing clients and manifests depend on that package's habits: member names match without regard to case,
//! duplicate members merge, `null` leaves some fields alone and resets others, byte strings are base64 or lists of
//! integers. No general JSON library offers them, so this crate has its own reader and writer:
//!
//! * [`decode_whole`] and [`decode_first`] fill a value that implements [`Decode`]; structures get their
//!   implementation from [`decode_object!`].
//! * [`Encode`] and [`ObjectEncoder`] write a document byte for byte as Go does.
//!
//! The text is checked as a whole before anything is decoded, with an explicit stack, so that hostile input can
//! neither exhaust the native stack nor be half applied. No tree is built: memory grows with what the target keeps, and
//! that is limited.

mod decode;
mod encode;
mod error;
mod place;
mod primitive;
mod scan;
mod string;

pub use decode::{Decode, Decoder, MAX_ITEMS, MAX_UNKNOWN_MEMBERS, Notes, UnknownMember, decode_first, decode_whole};
pub use encode::{Encode, ObjectEncoder, encode, write_bytes_as_string};
pub use error::{DecodeError, DecodeErrorKind, ValueKind};
pub use place::Place;
pub use primitive::RawJson;
pub use scan::MAX_DEPTH;
pub use string::{decode_base64, folds_to};
