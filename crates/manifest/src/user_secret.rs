use std::collections::BTreeMap;

use marblerun_json::{Decode, DecodeError, Decoder, decode_first, decode_object, decode_whole};
use marblerun_secret::SecretBytes;

use crate::certificate::SecretCertificate;

/// Longer requests to set secrets are refused before they are looked at.
pub const MAX_USER_SECRETS_BYTES: usize = 16 * 1024 * 1024;

/// The value of a user-defined secret, as a user uploads it.
///
/// Whether a member is present counts, also when it is empty.
#[derive(Debug, Default)]
pub struct UserSecret {
    /// For certificate secrets: the certificate. A template decodes, but cannot be used.
    pub cert: SecretCertificate,
    /// For certificate secrets: the private key, PKCS#8 DER, unchecked.
    pub private: Option<SecretBytes>,
    /// For `symmetric-key` and `plain`: the value.
    pub key: Option<SecretBytes>,
}

/// Bytes of a request that are wiped when they are dropped.
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
struct UserSecretObject {
    cert: SecretCertificate,
    private: Wiped,
    key: Wiped,
}

decode_object!(UserSecretObject { "Cert" => cert, "Private" => private, "Key" => key });

impl Decode for UserSecret {
    fn decode(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        let mut object = UserSecretObject::default();
        object.decode(decoder)?;
        *self = Self { cert: object.cert, private: object.private.0, key: object.key.0 };
        Ok(())
    }
}

/// The body of a v2 request to set secrets.
#[derive(Default)]
struct SetSecrets {
    secrets: BTreeMap<String, UserSecret>,
}

decode_object!(SetSecrets { "secrets" => secrets });

/// Decodes the body of a v1 request to set secrets: the whole text is a map from name to value.
///
/// # Errors
///
/// If the text is too long, is not JSON, or a member holds what its type does not allow.
pub fn decode_user_secrets_v1(body: &[u8]) -> Result<BTreeMap<String, UserSecret>, DecodeError> {
    Ok(decode_whole(body, MAX_USER_SECRETS_BYTES)?.0)
}

/// Decodes the body of a v2 request to set secrets: the first value is an object whose member `secrets` is that map.
///
/// # Errors
///
/// If the text is too long, is not JSON, or a member holds what its type does not allow.
pub fn decode_user_secrets_v2(body: &[u8]) -> Result<BTreeMap<String, UserSecret>, DecodeError> {
    Ok(decode_first::<SetSecrets>(body, MAX_USER_SECRETS_BYTES)?.0.secrets)
}
