//! Symmetric keys that are derived instead of stored.

use aws_lc_rs::hkdf;
use marblerun_secret::SecretBytes;

/// Longest output of HKDF with SHA-256 (RFC 5869 2.3: 255 blocks), in bytes.
pub const MAX_DERIVED_BYTES: usize = 255 * 32;

/// A key longer than HKDF can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a derived key of at most {MAX_DERIVED_BYTES} bytes, got {got}")]
pub struct DerivedKeyTooLong {
    got: usize,
}

struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

/// The unique symmetric key `name` of the Marble `uuid`: HKDF-SHA-256 (RFC 5869) of the root secret.
///
/// `uuid` is the canonical lower-case text; salt is `uuid` followed by `name`. `info` is the Marble's type, or empty
/// where the Marble disables the binding of secrets to types. `length` is in bytes.
///
/// # Errors
///
/// If `length` is above [`MAX_DERIVED_BYTES`].
pub fn derive_symmetric_key(
    root_secret: &SecretBytes,
    uuid: &str,
    name: &str,
    info: &str,
    length: usize,
) -> Result<SecretBytes, DerivedKeyTooLong> {
    let too_long = DerivedKeyTooLong { got: length };
    if length > MAX_DERIVED_BYTES {
        return Err(too_long);
    }
    let salt = [uuid.as_bytes(), name.as_bytes()].concat();
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(root_secret.expose());
    let mut output = vec![0; length];
    key.expand(&[info.as_bytes()], OutputLength(length)).and_then(|okm| okm.fill(&mut output)).map_err(|_| too_long)?;
    Ok(SecretBytes::new(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    fn derive(name: &str, info: &str, length: usize) -> String {
        let root = SecretBytes::new((0..32).collect());
        let key = derive_symmetric_key(&root, UUID, name, info, length).unwrap();
        key.expose().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // rules: ACT-5.1
    #[test]
    fn known_root_secrets_give_the_known_keys() {
        for (name, info, length, expected) in [
            ("symmetricKeyPrivate", "backend", 32, "8bd740c44d33db3a56a0763247b82f02df2e4c94023abf2e99faceae210e1cc9"),
            ("symmetricKeyPrivate", "", 32, "b24859a817ce24deaa0332066f54fa2c7cc37a6fe18a8842d61600e799511ae4"),
            ("k", "backend", 16, "4d5101fbaa7cdf9eaf14a1c0da1c8adf"),
            (
                "k",
                "backend",
                64,
                "4d5101fbaa7cdf9eaf14a1c0da1c8adfc5cc9f3af785cbf19bb2e8753172de9c\
                 1eacce86c482d2a4f514b532c1cd86708a6921332b3ce6134583c667000ee9fd",
            ),
        ] {
            assert_eq!(derive(name, info, length), expected, "{name} {info} {length}");
        }
    }

    #[test]
    fn the_longest_key_is_given_and_a_longer_one_refused() {
        assert_eq!(derive("k", "", MAX_DERIVED_BYTES).len(), 2 * MAX_DERIVED_BYTES);
        let root = SecretBytes::new(vec![0; 32]);
        let error = derive_symmetric_key(&root, UUID, "k", "", MAX_DERIVED_BYTES + 1).unwrap_err();
        assert_eq!(error.to_string(), "expected a derived key of at most 8160 bytes, got 8161");
    }
}
