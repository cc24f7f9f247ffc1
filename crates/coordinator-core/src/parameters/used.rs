use std::collections::BTreeSet;

use marblerun_template::References;

/// The secrets that a Marble's parameters can look at; nothing else needs to be generated for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedSecrets {
    /// It cannot be told, or a template walks over all of them.
    all: bool,
    names: BTreeSet<String>,
}

impl UsedSecrets {
    /// True if the secret `name` may be used.
    pub fn contains(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    /// The names that are used for certain, also of secrets that do not exist; for warnings about misspelt names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// True if every secret may be used.
    pub fn is_all(&self) -> bool {
        self.all
    }

    pub(super) fn insert(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Adds what a template uses below `collection`, the path to the map of secrets.
    pub(super) fn add(&mut self, references: &References, collection: &[&str]) {
        for path in references {
            let shared = path.iter().zip(collection).take_while(|(a, b)| a == *b).count();
            if shared < path.len().min(collection.len()) {
                continue;
            }
            match path.get(collection.len()) {
                Some(name) => {
                    self.names.insert(name.clone());
                }
                None => self.all = true,
            }
        }
    }
}
