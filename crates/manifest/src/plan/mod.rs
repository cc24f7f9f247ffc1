//! What an update would do to a running deployment.
//!
//! [`Plan::make`] takes the running manifest and the update and says what changes, who gains or loses access, what
//! becomes of secrets and certificates, what breaks, and who has to agree. Nothing is applied.
//!
//! Two things are not in a manifest and come from outside: the security versions that package updates set
//! ([`logged_security_versions`], [`Manifest::apply_security_versions`]), and which secrets the templates of a Marble
//! look at ([`SecretUses`]).

mod access;
mod consequence;
mod difference;
mod effect;
mod refusal;
mod update_log;

pub use access::{Access, AccessChange, Direction, Holder, SecretUses, UsedSecrets};
pub use consequence::{Consequence, ConsequenceCode};
pub use difference::{Change, ChangeKind};
pub use effect::{Fate, Reissued, SecretFate};
pub use refusal::UpdateRefusal;
pub use update_log::logged_security_versions;

use std::fmt;

use crate::schema::Manifest;
use crate::update::UpdateKind;

/// What differs between two manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries and members, in the order of the sections.
    pub changes: Vec<Change>,
    /// Who gains or loses access.
    pub access: Vec<AccessChange>,
}

impl Difference {
    /// Compares two manifests, each with the secrets that its Marbles use. Neither needs to pass [`Manifest::check`].
    pub fn between(old: (&Manifest, &SecretUses), new: (&Manifest, &SecretUses)) -> Self {
        Self { changes: difference::changes(old.0, new.0), access: access::changes(old, new) }
    }

    /// True if both manifests mean the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.access.is_empty()
    }
}

/// Who has to agree to an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Users of the running manifest who may agree.
    pub users: Vec<String>,
    /// How many of them have to, whoever uploads the update included.
    pub needed: u64,
}

/// One line for people.
impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = consequence::names(&self.users);
        match (self.needed, self.users.len()) {
            (1, 1) => write!(f, "{users} has to apply it"),
            (1, _) => write!(f, "any one of {users} has to apply it"),
            (needed, count) if needed == count as u64 => write!(f, "all of {users} have to agree"),
            (needed, _) => write!(f, "{needed} of {users} have to agree"),
        }
    }
}

/// What an update would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kind of the update.
    pub kind: UpdateKind,
    /// What differs from the running manifest.
    pub difference: Difference,
    /// What becomes of every secret.
    pub secrets: Vec<SecretFate>,
    /// Certificates that are made anew.
    pub reissued: Vec<Reissued>,
    /// What follows; what breaks comes first.
    pub consequences: Vec<Consequence>,
    /// Who has to agree.
    pub approval: Approval,
}

impl Plan {
    /// Plans an update of the running manifest, whose security versions are those in force.
    ///
    /// The uses of secrets of a package update are not looked at.
    ///
    /// # Errors
    ///
    /// If the Coordinator would refuse the update. That templates and secrets can be made is not looked at here.
    pub fn make(running: (&Manifest, &SecretUses), update: (&Manifest, &SecretUses)) -> Result<Self, UpdateRefusal> {
        match update.0.update_kind() {
            UpdateKind::PackageOnly => Self::of_packages(running, update.0),
            UpdateKind::Full => Self::full(running, update),
        }
    }

    /// True if something that works now will not work afterwards.
    pub fn breaks(&self) -> bool {
        self.consequences.iter().any(|consequence| consequence.code.breaks())
    }

    fn of_packages(running: (&Manifest, &SecretUses), update: &Manifest) -> Result<Self, UpdateRefusal> {
        let running_version = |name: &str| running.0.packages.get(name).map(|package| package.security_version);
        let versions = update.check_package_update(running_version)?;
        let may_update = |name: &&String| {
            let allowed = access::resources(running.0, name, Access::UpdateSecurityVersion);
            versions.keys().all(|package| allowed.contains(package.as_str()))
        };
        let users: Vec<String> = running.0.users.keys().filter(may_update).cloned().collect();
        if users.is_empty() {
            return Err(UpdateRefusal::Nobody { permission: "UpdateSecurityVersion" });
        }
        let mut updated = running.0.clone();
        for (name, version) in versions {
            if let Some(package) = updated.packages.get_mut(&name) {
                package.security_version = Some(version);
            }
        }
        Ok(Self::new(UpdateKind::PackageOnly, running, (&updated, running.1), Approval { users, needed: 1 }))
    }

    fn full(running: (&Manifest, &SecretUses), update: (&Manifest, &SecretUses)) -> Result<Self, UpdateRefusal> {
        let users = access::update_users(running.0);
        refusal::check_full(update.0, &users)?;
        // A length always fits 64 bits.
        let needed = match running.0.config.update_threshold {
            0 => users.len() as u64,
            threshold => threshold,
        };
        Ok(Self::new(UpdateKind::Full, running, update, Approval { users, needed }))
    }

    fn new(kind: UpdateKind, old: (&Manifest, &SecretUses), new: (&Manifest, &SecretUses), approval: Approval) -> Self {
        let secrets = effect::fates(kind, old.0, new.0);
        let facts = consequence::Facts { kind, old: old.0, new: new.0, new_uses: new.1, fates: &secrets };
        let consequences = consequence::consequences(&facts);
        Self {
            kind,
            difference: Difference::between(old, new),
            reissued: effect::reissued(kind, old.0, new.0),
            secrets,
            consequences,
            approval,
        }
    }
}
