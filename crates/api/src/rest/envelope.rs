use marblerun_json::{Decode, DecodeError, Encode, ObjectEncoder, RawJson, decode_first, decode_object, decode_whole};

use crate::rest::describe::{Object, Written};

/// What an envelope says about the request, with the headers that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// Status 200.
    Success,
    /// Version 2 only: 400 and 401.
    Fail,
    /// Every other failure, and every failure of version 1.
    Error,
}

impl EnvelopeKind {
    /// The member `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Fail => "fail",
            Self::Error => "error",
        }
    }

    /// The header `Content-Type`. That of errors is text although the body is JSON: existing clients see it so.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Success | Self::Fail => "application/json",
            Self::Error => "text/plain; charset=utf-8",
        }
    }

    /// The header `X-Content-Type-Options`, if there is one.
    pub fn content_type_options(self) -> Option<&'static str> {
        match self {
            Self::Success | Self::Fail => None,
            Self::Error => Some("nosniff"),
        }
    }
}

fn write(kind: EnvelopeKind, data: &(impl Encode + ?Sized), message: &str) -> String {
    let mut out = String::new();
    let message = (!message.is_empty()).then_some(message);
    ObjectEncoder::new(&mut out)
        .member("status", kind.as_str())
        .member("data", data)
        .optional("message", message)
        .finish();
    out.push('\n');
    out
}

/// The body of a successful answer.
pub fn success(data: &(impl Encode + ?Sized)) -> String {
    write(EnvelopeKind::Success, data, "")
}

/// The body of a successful answer that has nothing to say.
pub fn success_without_data() -> String {
    write(EnvelopeKind::Success, &RawJson::default(), "")
}

/// The body of a refusal of kind [`EnvelopeKind::Fail`].
pub fn fail(message: &str) -> String {
    write(EnvelopeKind::Fail, &RawJson::default(), message)
}

/// The body of a refusal of kind [`EnvelopeKind::Fail`] that names the member at fault.
pub fn fail_with_data(member: &str, reason: &str, message: &str) -> String {
    let data = [(member.to_owned(), reason.to_owned())].into_iter().collect::<std::collections::BTreeMap<_, _>>();
    write(EnvelopeKind::Fail, &data, message)
}

/// The body of a refusal of kind [`EnvelopeKind::Error`]; an empty message is left out.
pub fn error(message: &str) -> String {
    write(EnvelopeKind::Error, &RawJson::default(), message)
}

/// An answer as a client reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `success`, `fail` or `error`.
    pub status: String,
    /// The member `data` as JSON text; empty or `null` if there is none.
    pub data: RawJson,
    /// Empty if there is none.
    pub message: String,
}

decode_object!(Envelope { "status" => status, "data" => data, "message" => message });

/// Reads an answer's body. Neither the content type nor what follows the first value is looked at.
///
/// # Errors
///
/// If the body is longer than `max_bytes` or is not an envelope.
pub fn decode_envelope(body: &[u8], max_bytes: usize) -> Result<Envelope, DecodeError> {
    Ok(decode_first(body, max_bytes)?.0)
}

impl Envelope {
    /// Reads the member `data`; members that `T` does not have are skipped.
    ///
    /// # Errors
    ///
    /// If the data do not fit `T`.
    pub fn data<T: Decode + Default>(&self) -> Result<T, DecodeError> {
        let text: &[u8] = if self.data.0.is_empty() { b"null" } else { &self.data.0 };
        Ok(decode_whole(text, text.len())?.0)
    }

    /// The member `data` as text for people: the content of a string, nothing for `null`, else its JSON text.
    pub fn data_text(&self) -> String {
        match self.data.0.as_slice() {
            b"" | b"null" => String::new(),
            [b'"', ..] => self.data::<String>().unwrap_or_default(),
            other => String::from_utf8_lossy(other).into_owned(),
        }
    }
}

/// The body of a successful answer of version 2.
pub(crate) fn success_object(object: &impl Object) -> String {
    success(&Written(object))
}

/// The body of a successful answer of version 1 whose data are an object; the closure writes its members.
pub(crate) fn success_of(members: impl for<'out> Fn(ObjectEncoder<'out>) -> ObjectEncoder<'out>) -> String {
    success(&Members(members))
}

/// An object whose members a closure writes.
struct Members<F>(F);

impl<F> Encode for Members<F>
where
    F: for<'out> Fn(ObjectEncoder<'out>) -> ObjectEncoder<'out>,
{
    fn encode(&self, out: &mut String) {
        (self.0)(ObjectEncoder::new(out)).finish();
    }
}
