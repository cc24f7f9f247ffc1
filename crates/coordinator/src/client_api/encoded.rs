//! Long answers that are the same for everyone.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hyper::body::Bytes;

/// The newest encoded answer made of a `T`, shared by all who ask for it.
///
/// Anybody may ask, on many streams at once, and read slowly or never: each time must cost a reference, not a copy.
#[derive(Debug)]
pub(super) struct Encoded<T: ?Sized>(ArcSwapOption<(Arc<T>, Bytes)>);

impl<T: ?Sized> Default for Encoded<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T: ?Sized> Encoded<T> {
    /// The answer made of `value`, which is encoded only if it is another one than the last.
    pub(super) fn of(&self, value: &Arc<T>, encode: impl FnOnce(&T) -> String) -> Bytes {
        if let Some(kept) = self.0.load_full()
            && Arc::ptr_eq(&kept.0, value)
        {
            return kept.1.clone();
        }
        let bytes = Bytes::from(encode(value));
        self.0.store(Some(Arc::new((Arc::clone(value), bytes.clone()))));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_share_one_copy_until_the_value_is_another() {
        let encoded = Encoded::default();
        let (one, other) = (Arc::new("one"), Arc::new("other"));
        let first = encoded.of(&one, |text| (*text).to_owned());
        let again = encoded.of(&one, |_| panic!("it is encoded already"));
        assert_eq!((first.as_ref(), first.as_ptr()), (&b"one"[..], again.as_ptr()));
        assert_eq!(encoded.of(&other, |text| (*text).to_owned()), "other");
        assert_eq!(encoded.of(&one, |text| (*text).to_owned()), "one");
    }
}
