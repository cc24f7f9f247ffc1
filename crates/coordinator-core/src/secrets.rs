//! The secrets of a deployment by name.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::parameters::UsedSecrets;
use crate::secret::Secret;

/// What a secret takes in a record beside its name and values, at most; in bytes.
pub(crate) const SECRET_OVERHEAD_BYTES: usize = 80;

/// Secrets by name, in the order of the names.
///
/// Copies share what they have in common, so that a state with one other value costs the same beside ten secrets and
/// beside ten thousand.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    by_name: RedBlackTreeMapSync<String, Arc<Secret>>,
    stored_bytes: usize,
}

impl Secrets {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The secret `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Secret>> {
        self.by_name.get(name)
    }

    /// True if there is a secret `name`.
    pub fn contains_key(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.size()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Secret>)> {
        self.by_name.iter()
    }

    /// Those that templates may look at; looking them up costs nothing for the others.
    pub fn used_by<'a>(&'a self, used: &'a UsedSecrets) -> Box<dyn Iterator<Item = (&'a str, &'a Arc<Secret>)> + 'a> {
        if used.is_all() {
            Box::new(self.iter().map(|(name, secret)| (name.as_str(), secret)))
        } else {
            Box::new(used.names().filter_map(|name| Some((name, self.get(name)?))))
        }
    }

    /// Sets one, also in place of another of its name.
    pub fn insert(&mut self, name: String, secret: Arc<Secret>) {
        let taken = |name: &str, secret: &Secret| SECRET_OVERHEAD_BYTES + name.len() + secret.stored_bytes();
        let replaced = self.get(&name).map_or(0, |old| taken(&name, old));
        self.stored_bytes = self.stored_bytes - replaced + taken(&name, &secret);
        self.by_name.insert_mut(name, secret);
    }

    /// What the names, values and certificates of all of them take in a record, in bytes.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }
}

impl Extend<(String, Arc<Secret>)> for Secrets {
    fn extend<T: IntoIterator<Item = (String, Arc<Secret>)>>(&mut self, secrets: T) {
        secrets.into_iter().for_each(|(name, secret)| self.insert(name, secret));
    }
}

impl FromIterator<(String, Arc<Secret>)> for Secrets {
    fn from_iter<T: IntoIterator<Item = (String, Arc<Secret>)>>(secrets: T) -> Self {
        let mut all = Self::new();
        all.extend(secrets);
        all
    }
}

impl<const N: usize> From<[(String, Arc<Secret>); N]> for Secrets {
    fn from(secrets: [(String, Arc<Secret>); N]) -> Self {
        secrets.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use marblerun_manifest::SecretType;
    use marblerun_secret::SecretBytes;

    use super::*;

    fn secret(length: usize) -> Arc<Secret> {
        Arc::new(Secret {
            secret_type: SecretType::Plain,
            size: 0,
            shared: false,
            user_defined: true,
            valid_for: 0,
            certificate: None,
            private: Some(SecretBytes::new(vec![1; length])),
            public: None,
        })
    }

    #[test]
    fn what_is_stored_is_counted_through_replacements() {
        let mut secrets = Secrets::from([("ab".to_owned(), secret(10)), ("c".to_owned(), secret(0))]);
        assert_eq!(secrets.stored_bytes(), 2 * SECRET_OVERHEAD_BYTES + 3 + 10);
        let before = secrets.clone();
        secrets.insert("ab".to_owned(), secret(1));
        assert_eq!(secrets.stored_bytes(), 2 * SECRET_OVERHEAD_BYTES + 3 + 1);
        assert_eq!(before.stored_bytes(), 2 * SECRET_OVERHEAD_BYTES + 3 + 10);
        assert_eq!(before.get("ab").unwrap().private.as_ref().unwrap().len(), 10);
        assert!(Arc::ptr_eq(before.get("c").unwrap(), secrets.get("c").unwrap()));
    }
}
