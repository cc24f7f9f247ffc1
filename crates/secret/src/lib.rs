//! Byte strings that are wiped on drop, redacted in `Debug` and compared in constant time.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// Secret bytes: a private key, a derived key, a password.
///
/// The bytes are boxed, so that moving the value leaves no copy behind, and wiped on drop. There is no `Clone`,
/// `Display` or `==`; [`SecretBytes::duplicate`] and [`SecretBytes::expose`] are the words to search for.
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Takes ownership of `bytes`; spare capacity of the vector is wiped before it is given back.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        let exact: Box<[u8]> = bytes.as_slice().into();
        bytes.zeroize();
        Self(exact)
    }

    /// Copies `bytes`; the caller remains responsible for the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves. Whoever calls this decides where a secret goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A second copy of the secret, wiped on its own.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

impl ConstantTimeEq for SecretBytes {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static_assertions::assert_not_impl_any!(SecretBytes: Clone, PartialEq, fmt::Display);

    #[test]
    fn debug_output_does_not_contain_the_bytes() {
        let secret = SecretBytes::copy_from(b"hunter2");
        assert_eq!(format!("{secret:?}"), "SecretBytes([redacted])");
    }

    #[test]
    fn equal_bytes_compare_equal_and_others_do_not() {
        let secret = SecretBytes::new(vec![1, 2, 3]);
        assert!(bool::from(secret.ct_eq(&secret.duplicate())));
        assert!(!bool::from(secret.ct_eq(&SecretBytes::new(vec![1, 2]))));
        assert!(!bool::from(secret.ct_eq(&SecretBytes::new(vec![1, 2, 4]))));
    }
}
