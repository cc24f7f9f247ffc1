use marblerun_json::{Decode, DecodeError, Decoder, decode_first, decode_object, encode};
use marblerun_secret::SecretBytes;

use crate::rest::describe::{Members, Object, Written};

/// Longer request bodies are refused. A manifest of 16 MiB fits in base64, so that version 2 accepts what version 1
/// accepts.
pub const MAX_REQUEST_BODY_BYTES: usize = 24 * 1024 * 1024;

/// What follows these bytes of a recover request is not read, as in MarbleRun v1.9.1.
pub const MAX_RECOVER_BODY_BYTES: usize = 20_480;

/// Decodes the body of a request of version 2: the first JSON value counts, the rest is not looked at.
///
/// # Errors
///
/// If the body is too long, is empty or not JSON, or a member holds what its type does not allow.
pub fn decode_request<T: Decode + Default>(body: &[u8]) -> Result<T, DecodeError> {
    Ok(decode_first(body, MAX_REQUEST_BODY_BYTES)?.0)
}

/// Body of POST manifest, update and update-manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetManifestRequest {
    /// The manifest, byte for byte; empty if it was not given.
    pub manifest: Vec<u8>,
}

decode_object!(SetManifestRequest { "manifest" => manifest });

impl Object for SetManifestRequest {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { manifest } = self;
        members.member("manifest", manifest)
    }
}

impl SetManifestRequest {
    /// The body.
    pub fn to_body(&self) -> Vec<u8> {
        encode(&Written(self)).into_bytes()
    }
}

/// Body of POST recover.
#[derive(Debug, Default)]
pub struct RecoverRequest {
    /// The recovery secret, plain or encrypted to the ephemeral key.
    pub recovery_secret: Option<SecretBytes>,
    /// Signature over the plain secret with the recovery key.
    pub recovery_secret_signature: Vec<u8>,
}

impl Object for RecoverRequest {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { recovery_secret, recovery_secret_signature } = self;
        members
            .member("recoverySecret", &recovery_secret.as_ref().map(SecretBytes::expose))
            .member("recoverySecretSignature", recovery_secret_signature)
    }
}

#[derive(Default)]
struct RecoverObject {
    recovery_secret: Option<Vec<u8>>,
    recovery_secret_signature: Vec<u8>,
}

decode_object!(RecoverObject {
    "recoverySecret" => recovery_secret,
    "recoverySecretSignature" => recovery_secret_signature,
});

impl Decode for RecoverRequest {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let mut object = RecoverObject::default();
        object.decode(decoder)?;
        *self = Self {
            recovery_secret: object.recovery_secret.map(SecretBytes::new),
            recovery_secret_signature: object.recovery_secret_signature,
        };
        Ok(())
    }
}

impl RecoverRequest {
    /// The body. It holds the secret as it is in the request.
    pub fn to_body(&self) -> Vec<u8> {
        encode(&Written(self)).into_bytes()
    }
}

/// Body of POST sign-quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignQuoteRequest {
    /// The quote, with or without Open Enclave header.
    pub sgx_quote: Vec<u8>,
}

decode_object!(SignQuoteRequest { "sgxQuote" => sgx_quote });

impl Object for SignQuoteRequest {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { sgx_quote } = self;
        members.member("sgxQuote", sgx_quote)
    }
}

impl SignQuoteRequest {
    /// The body.
    pub fn to_body(&self) -> Vec<u8> {
        encode(&Written(self)).into_bytes()
    }
}

/// Body of POST monotonic-counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonotonicCounterRequest {
    /// The counter's name; may be empty.
    pub name: String,
    /// The value to reach; 0 only reads.
    pub value: u64,
}

decode_object!(MonotonicCounterRequest { "name" => name, "value" => value });

impl Object for MonotonicCounterRequest {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { name, value } = self;
        members.member("name", name).member("value", value)
    }
}

impl MonotonicCounterRequest {
    /// The body.
    pub fn to_body(&self) -> Vec<u8> {
        encode(&Written(self)).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_back_as_they_were_written() {
        let secret = Some(SecretBytes::copy_from(&[7; 33]));
        let request = RecoverRequest { recovery_secret: secret, recovery_secret_signature: vec![1, 2] };
        let read: RecoverRequest = decode_request(&request.to_body()).unwrap();
        assert_eq!(read.recovery_secret.map(|secret| secret.expose().to_vec()), Some(vec![7; 33]));
        assert_eq!(read.recovery_secret_signature, [1, 2]);
        let request = SignQuoteRequest { sgx_quote: vec![0, 255] };
        assert_eq!(decode_request::<SignQuoteRequest>(&request.to_body()).unwrap(), request);
        let request = MonotonicCounterRequest { name: "db\"".to_owned(), value: u64::MAX };
        assert_eq!(decode_request::<MonotonicCounterRequest>(&request.to_body()).unwrap(), request);
    }
}
