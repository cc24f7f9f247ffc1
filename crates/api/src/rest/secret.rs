use std::collections::BTreeMap;

use marblerun_json::{Decode, DecodeError, Decoder, Encode, ObjectEncoder, decode_object, encode};
use marblerun_secret::SecretBytes;

use crate::rest::describe::{Described, Members, Object, Shape, Written, describe};
use crate::rest::envelope::{success, success_object};

/// A secret as it is read through the client API: its definition and its value.
#[derive(Debug, Default)]
pub struct Secret {
    /// The word for its kind.
    pub type_word: String,
    /// Size in bits as in the manifest.
    pub size: u64,
    /// One value for all Marbles.
    pub shared: bool,
    /// Uploaded by a user.
    pub user_defined: bool,
    /// Certificate, DER.
    pub cert: Option<Vec<u8>>,
    /// Validity in days.
    pub valid_for: u64,
    /// The value, or the private key in PKCS#8 DER.
    pub private: Option<SecretBytes>,
    /// The value again, or the public key as SubjectPublicKeyInfo DER.
    pub public: Option<SecretBytes>,
}

/// All eight members, unset ones as `null`: existing clients cannot read an empty certificate.
impl Object for Secret {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { type_word, size, shared, user_defined, cert, valid_for, private, public } = self;
        members
            .member("Type", type_word)
            .member("Size", size)
            .member("Shared", shared)
            .member("UserDefined", user_defined)
            .member("Cert", cert)
            .member("ValidFor", valid_for)
            .member("Private", &private.as_ref().map(SecretBytes::expose))
            .member("Public", &public.as_ref().map(SecretBytes::expose))
    }
}

impl Encode for Secret {
    fn encode(&self, out: &mut String) {
        self.members(ObjectEncoder::new(out)).finish();
    }
}

impl Described for Secret {
    fn shape() -> Shape {
        Shape::Object { name: "Secret", members: describe(&Self::default()) }
    }
}

/// Secrets by name as version 2 has them, in answers and in requests: as the member `secrets`.
#[derive(Clone, Copy, Debug)]
pub struct SecretsObject<'secrets, T>(pub &'secrets BTreeMap<String, T>);

impl<T: Encode + Described> Object for SecretsObject<'_, T> {
    fn members<M: Members>(&self, members: M) -> M {
        members.member("secrets", self.0)
    }
}

/// The body of GET secrets in version 1. It holds the secrets in plain text.
pub fn encode_secrets_v1(secrets: &BTreeMap<String, Secret>) -> String {
    success(secrets)
}

/// The body of GET secrets in version 2. It holds the secrets in plain text.
pub fn encode_secrets_v2(secrets: &BTreeMap<String, Secret>) -> String {
    success_object(&SecretsObject(secrets))
}

/// Bytes that are wiped when they are dropped.
#[derive(Default)]
struct Wiped(Option<SecretBytes>);

impl Decode for Wiped {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let mut bytes: Option<Vec<u8>> = None;
        bytes.decode(decoder)?;
        self.0 = bytes.map(SecretBytes::new);
        Ok(())
    }
}

#[derive(Default)]
struct SecretObject {
    type_word: String,
    size: u64,
    shared: bool,
    user_defined: bool,
    cert: Option<Vec<u8>>,
    valid_for: u64,
    private: Wiped,
    public: Wiped,
}

decode_object!(SecretObject {
    "Type" => type_word,
    "Size" => size,
    "Shared" => shared,
    "UserDefined" => user_defined,
    "Cert" => cert,
    "ValidFor" => valid_for,
    "Private" => private,
    "Public" => public,
});

impl Decode for Secret {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let mut object = SecretObject::default();
        object.decode(decoder)?;
        *self = Self {
            type_word: object.type_word,
            size: object.size,
            shared: object.shared,
            user_defined: object.user_defined,
            cert: object.cert,
            valid_for: object.valid_for,
            private: object.private.0,
            public: object.public.0,
        };
        Ok(())
    }
}

/// Answer of GET secrets in version 2; version 1 answers with the map itself.
#[derive(Debug, Default)]
pub struct SecretsAnswer {
    /// The secrets by name.
    pub secrets: BTreeMap<String, Secret>,
}

decode_object!(SecretsAnswer { "secrets" => secrets });

/// The value of a user-defined secret, as a user uploads it.
///
/// Certificate secrets take `cert` and perhaps `private`, the other types `key` alone. Absent members are not written:
/// an empty one would count as present.
#[derive(Debug, Default)]
pub struct UserSecretValue {
    /// Certificate, DER.
    pub cert: Option<Vec<u8>>,
    /// The certificate's private key, PKCS#8 DER.
    pub private: Option<SecretBytes>,
    /// The value of a `symmetric-key` or `plain` secret.
    pub key: Option<SecretBytes>,
}

#[derive(Default)]
struct UserSecretObject {
    cert: Option<Vec<u8>>,
    private: Wiped,
    key: Wiped,
}

decode_object!(UserSecretObject { "Cert" => cert, "Private" => private, "Key" => key });

impl Decode for UserSecretValue {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let mut object = UserSecretObject::default();
        object.decode(decoder)?;
        *self = Self { cert: object.cert, private: object.private.0, key: object.key.0 };
        Ok(())
    }
}

impl Object for UserSecretValue {
    fn members<M: Members>(&self, members: M) -> M {
        let Self { cert, private, key } = self;
        members
            .optional("Cert", cert.as_ref())
            .optional("Private", private.as_ref().map(SecretBytes::expose))
            .optional("Key", key.as_ref().map(SecretBytes::expose))
    }
}

impl Encode for UserSecretValue {
    fn encode(&self, out: &mut String) {
        self.members(ObjectEncoder::new(out)).finish();
    }
}

impl Described for UserSecretValue {
    fn shape() -> Shape {
        Shape::Object { name: "UserSecret", members: describe(&Self::default()) }
    }
}

/// The body of POST secrets in version 1. It holds the secrets in plain text.
pub fn set_secrets_body_v1(secrets: &BTreeMap<String, UserSecretValue>) -> Vec<u8> {
    encode(secrets).into_bytes()
}

/// The body of POST secrets in version 2. It holds the secrets in plain text.
pub fn set_secrets_body_v2(secrets: &BTreeMap<String, UserSecretValue>) -> Vec<u8> {
    encode(&Written(&SecretsObject(secrets))).into_bytes()
}

#[cfg(test)]
mod tests {
    use marblerun_json::decode_whole;

    use super::*;

    #[test]
    fn a_secret_reads_back_with_unset_members_apart_from_empty_ones() {
        let secret = Secret {
            type_word: "plain".to_owned(),
            user_defined: true,
            private: Some(SecretBytes::copy_from(b"")),
            ..Secret::default()
        };
        let (read, _) = decode_whole::<Secret>(encode(&secret).as_bytes(), 1000).unwrap();
        assert_eq!((read.type_word.as_str(), read.user_defined, read.cert), ("plain", true, None));
        assert_eq!(read.private.map(|value| value.len()), Some(0));
        assert!(read.public.is_none());
    }

    #[test]
    fn an_upload_writes_the_members_that_are_given_and_no_others() {
        let value = UserSecretValue { key: Some(SecretBytes::copy_from(b"hello")), ..UserSecretValue::default() };
        let secrets: BTreeMap<_, _> = [("token".to_owned(), value)].into();
        assert_eq!(set_secrets_body_v1(&secrets), br#"{"token":{"Key":"aGVsbG8="}}"#);
        assert_eq!(set_secrets_body_v2(&secrets), br#"{"secrets":{"token":{"Key":"aGVsbG8="}}}"#);
    }
}
