//! Who may do what: users, known by their certificates, and the permissions that their roles grant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use marblerun_manifest::{Manifest, PemError, Role, user_certificate};
use thiserror::Error;

/// What a role can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Raise the security version of packages.
    UpdateSecurityVersion,
    /// Read secrets, keys included.
    ReadSecret,
    /// Set the values of user-defined secrets.
    WriteSecret,
    /// Replace the manifest; names nothing.
    UpdateManifest,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 4] = [Self::UpdateSecurityVersion, Self::ReadSecret, Self::WriteSecret, Self::UpdateManifest];

    /// The word in a role's actions, compared without regard to case.
    pub fn action(self) -> &'static str {
        match self {
            Self::UpdateSecurityVersion => "UpdateSecurityVersion",
            Self::ReadSecret => "ReadSecret",
            Self::WriteSecret => "WriteSecret",
            Self::UpdateManifest => "UpdateManifest",
        }
    }

    /// The resource type of the roles that can grant it, compared exactly.
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::UpdateSecurityVersion => "Packages",
            Self::ReadSecret | Self::WriteSecret => "Secrets",
            Self::UpdateManifest => "Manifest",
        }
    }
}

/// A permission that a user does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("user {user:?} is not allowed to {}{}", permission.action(), on(resource))]
pub struct Denied {
    /// The user.
    pub user: String,
    /// What was asked for.
    pub permission: Permission,
    /// The first name without the permission; empty if the user does not have it at all.
    pub resource: String,
}

/// The name, where there is one.
fn on(resource: &str) -> String {
    if resource.is_empty() { String::new() } else { format!(" {resource:?}") }
}

/// What one role grants; shared by all users who have it.
#[derive(Debug)]
struct Grant {
    permissions: BTreeSet<Permission>,
    resources: BTreeSet<String>,
}

impl Grant {
    fn new(role: &Role) -> Self {
        let granted = |permission: &Permission| {
            role.resource_type == permission.resource_type() && role.allows(permission.action())
        };
        Self {
            permissions: Permission::ALL.into_iter().filter(granted).collect(),
            resources: role.resource_names.iter().cloned().collect(),
        }
    }
}

/// A user of the client API.
#[derive(Debug)]
pub struct User {
    name: String,
    grants: Vec<Arc<Grant>>,
}

impl User {
    /// The name in the manifest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the user's roles together grant `permission` on each of `resources`. Without resources, having the
    /// permission at all is enough.
    ///
    /// # Errors
    ///
    /// The first resource that it is not granted on.
    pub fn check<'a>(
        &self,
        permission: Permission,
        resources: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Denied> {
        let denied = |resource: &str| Denied { user: self.name.clone(), permission, resource: resource.to_owned() };
        let grants: Vec<_> = self.grants.iter().filter(|grant| grant.permissions.contains(&permission)).collect();
        if grants.is_empty() {
            return Err(denied(""));
        }
        match resources.into_iter().find(|name| !grants.iter().any(|grant| grant.resources.contains(*name))) {
            Some(name) => Err(denied(name)),
            None => Ok(()),
        }
    }
}

/// A user's certificate that cannot be read.
#[derive(Debug, Error)]
#[error("Users.{name}.Certificate")]
pub struct UserError {
    /// The user.
    pub name: String,
    /// Why.
    #[source]
    pub source: PemError,
}

/// The users of a manifest.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<Vec<u8>, Arc<User>>);

impl Users {
    /// The users of `manifest`. That their certificates differ and their roles exist was checked when it was set.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be read.
    pub fn new(manifest: &Manifest) -> Result<Self, UserError> {
        let grants: BTreeMap<_, _> =
            manifest.roles.iter().map(|(name, role)| (name.as_str(), Arc::new(Grant::new(role)))).collect();
        let users = manifest.users.iter().map(|(name, user)| {
            let der = user_certificate(&user.certificate).map_err(|source| UserError { name: name.clone(), source })?;
            // A role that is named twice grants nothing more.
            let roles: BTreeSet<&str> = user.roles.iter().map(String::as_str).collect();
            let grants = roles.into_iter().filter_map(|role| grants.get(role).cloned()).collect();
            Ok((der, Arc::new(User { name: name.clone(), grants })))
        });
        Ok(Self(users.collect::<Result<_, _>>()?))
    }

    /// The user whose certificate this is, byte for byte. Nothing in the certificate is looked at, so that it may be of
    /// any version, expired, or hold extensions that nobody knows.
    ///
    /// `leaf` must be the leaf of the client's TLS certificates: only for it possession of the key was proven.
    pub fn authenticate(&self, leaf: &[u8]) -> Option<&Arc<User>> {
        self.0.get(leaf)
    }

    /// The names of the users who have `permission` at all, sorted.
    pub fn with_permission(&self, permission: Permission) -> BTreeSet<&str> {
        self.0.values().filter(|user| user.check(permission, []).is_ok()).map(|user| user.name()).collect()
    }
}
