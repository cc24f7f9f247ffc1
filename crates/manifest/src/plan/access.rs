//! Who may do or see what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::schema::Manifest;

/// The secrets that each Marble type can look at.
pub type SecretUses = BTreeMap<String, UsedSecrets>;

/// The secrets that the templates and TLS tags of one Marble type can look at, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedSecrets {
    /// Of which the current value can be seen.
    pub current: BTreeSet<String>,
    /// Of which the previous value can be seen.
    pub previous: BTreeSet<String>,
}

impl UsedSecrets {
    /// All names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.current.union(&self.previous)
    }
}

/// Who has access.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A user, by the name in the manifest.
    User(String),
    /// The instances of a Marble type.
    Marble(String),
}

/// What access allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// A user may raise a package's security version.
    UpdateSecurityVersion,
    /// A user may read a secret.
    ReadSecret,
    /// A user may upload a secret.
    WriteSecret,
    /// A user may update the manifest.
    UpdateManifest,
    /// A Marble can look at a secret.
    UseSecret,
}

impl Access {
    /// What roles can grant.
    const OF_ROLES: [Self; 4] =
        [Self::UpdateSecurityVersion, Self::ReadSecret, Self::WriteSecret, Self::UpdateManifest];

    /// The name for programs; for users the action in a role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpdateSecurityVersion => "UpdateSecurityVersion",
            Self::ReadSecret => "ReadSecret",
            Self::WriteSecret => "WriteSecret",
            Self::UpdateManifest => "UpdateManifest",
            Self::UseSecret => "UseSecret",
        }
    }

    fn resource_type(self) -> &'static str {
        match self {
            Self::UpdateSecurityVersion => "Packages",
            Self::ReadSecret | Self::WriteSecret | Self::UseSecret => "Secrets",
            Self::UpdateManifest => "Manifest",
        }
    }
}

/// Whether access comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Only the old manifest gives it.
    Lost,
    /// Only the new manifest gives it.
    Gained,
}

impl Direction {
    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Gained => "gained",
        }
    }
}

/// Somebody gains or loses access. Users and Marbles are known by their names, before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessChange {
    /// Who.
    pub holder: Holder,
    /// Whether it comes or goes.
    pub direction: Direction,
    /// What it allows.
    pub access: Access,
    /// The package or secret; empty for the manifest.
    pub resource: String,
}

/// One line for people.
impl fmt::Display for AccessChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Holder::User(name) => write!(f, "user {name:?}")?,
            Holder::Marble(name) => write!(f, "Marble {name:?}")?,
        }
        let verb = match self.direction {
            Direction::Gained => "gains",
            Direction::Lost => "loses",
        };
        match self.access {
            Access::UseSecret => write!(f, " {verb} secret {:?}", self.resource),
            Access::UpdateManifest => write!(f, " {verb} {}", self.access.as_str()),
            Access::UpdateSecurityVersion => {
                write!(f, " {verb} {} on package {:?}", self.access.as_str(), self.resource)
            }
            Access::ReadSecret | Access::WriteSecret => {
                write!(f, " {verb} {} on secret {:?}", self.access.as_str(), self.resource)
            }
        }
    }
}

type Held<'a> = BTreeSet<(Holder, Access, &'a str)>;

/// All access that one manifest gives and the other does not, sorted by holder.
pub(super) fn changes(old: (&Manifest, &SecretUses), new: (&Manifest, &SecretUses)) -> Vec<AccessChange> {
    let (old, new) = (held(old.0, old.1), held(new.0, new.1));
    let change = |direction| {
        move |(holder, access, resource): &(Holder, Access, &str)| AccessChange {
            holder: holder.clone(),
            direction,
            access: *access,
            resource: (*resource).to_owned(),
        }
    };
    let mut changes: Vec<_> = old.difference(&new).map(change(Direction::Lost)).collect();
    changes.extend(new.difference(&old).map(change(Direction::Gained)));
    changes.sort();
    changes
}

fn held<'a>(manifest: &'a Manifest, uses: &'a SecretUses) -> Held<'a> {
    let mut held = Held::new();
    for name in manifest.users.keys() {
        for access in Access::OF_ROLES {
            let holder = Holder::User(name.clone());
            held.extend(resources(manifest, name, access).into_iter().map(|name| (holder.clone(), access, name)));
        }
    }
    for (marble, secrets) in uses.iter().filter(|(marble, _)| manifest.marbles.contains_key(*marble)) {
        // A template may name a secret that does not exist.
        for secret in secrets.names().filter(|secret| manifest.secrets.contains_key(*secret)) {
            held.insert((Holder::Marble(marble.clone()), Access::UseSecret, secret));
        }
    }
    held
}

/// On what a user has this access: the union of the user's roles. For the manifest the one empty name.
pub(super) fn resources<'a>(manifest: &'a Manifest, user: &str, access: Access) -> BTreeSet<&'a str> {
    let roles = manifest.users.get(user).into_iter().flat_map(|user| &user.roles);
    let granting = roles
        .filter_map(|role| manifest.roles.get(role))
        .filter(|role| role.resource_type == access.resource_type() && role.allows(access.as_str()));
    let mut found = BTreeSet::new();
    for role in granting {
        match access {
            Access::UpdateManifest => {
                found.insert("");
            }
            _ => found.extend(role.resource_names.iter().map(String::as_str)),
        }
    }
    found
}

/// Users who may update the manifest.
pub(super) fn update_users(manifest: &Manifest) -> Vec<String> {
    let may_update = |name: &&String| !resources(manifest, name, Access::UpdateManifest).is_empty();
    manifest.users.keys().filter(may_update).cloned().collect()
}
