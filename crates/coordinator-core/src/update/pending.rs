//! A full update that waits for acknowledgements.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::deployment::Deployment;
use crate::users::Permission;

/// A full update that waits for acknowledgements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpdate {
    raw: Arc<Vec<u8>>,
    fingerprint: String,
    /// The users of the running manifest who may update, and whether they agreed.
    asked: BTreeMap<String, bool>,
    missing: u64,
}

impl PendingUpdate {
    /// The update to `raw` that `user` begins, who so agrees; `None` if the user may not update.
    ///
    /// Who is asked and how many must agree is what the running manifest says, not the new one.
    pub(crate) fn new(running: &Deployment, raw: Vec<u8>, user: &str) -> Option<Self> {
        let asked = running.users.with_permission(Permission::UpdateManifest);
        let asked: BTreeMap<String, bool> = asked.into_iter().map(|name| (name.to_owned(), false)).collect();
        let missing = match running.manifest.config.update_threshold {
            // A length always fits 64 bits.
            0 => asked.len() as u64,
            threshold => threshold,
        };
        let fingerprint = marblerun_manifest::fingerprint(&raw);
        Self { raw: Arc::new(raw), fingerprint, asked, missing }.acknowledged_by(user)
    }

    /// The same update after `user` agreed, once more or for the first time; `None` if the user is not asked.
    pub(crate) fn acknowledged_by(&self, user: &str) -> Option<Self> {
        let mut next = self.clone();
        let agreed = next.asked.get_mut(user)?;
        if !*agreed {
            *agreed = true;
            next.missing = next.missing.saturating_sub(1);
        }
        Some(next)
    }

    /// The new manifest, byte for byte as uploaded.
    pub fn raw(&self) -> &Arc<Vec<u8>> {
        &self.raw
    }

    /// Lower-case hex SHA-256 of the new manifest.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many users must still agree.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The users who may still agree, all of them even if fewer are needed; sorted.
    pub fn missing_users(&self) -> Vec<String> {
        self.asked.iter().filter(|(_, agreed)| !**agreed).map(|(name, _)| name.clone()).collect()
    }

    /// What the names of all users who are asked take as a JSON list.
    pub(super) fn names_bytes(&self) -> usize {
        let mut text = String::new();
        marblerun_json::Encode::encode(&self.asked.keys().cloned().collect::<Vec<_>>(), &mut text);
        text.len()
    }
}
