//! What the Coordinator refuses about an update.

use marblerun_json::Place;

use crate::check::{AzureHsm, CheckError};
use crate::schema::Manifest;
use crate::update::PackageUpdateError;

/// Why an update would be refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefusal {
    /// The new manifest could not be set either.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The packages of a package-only update.
    #[error(transparent)]
    Packages(#[from] PackageUpdateError),
    /// Nobody has the permission.
    #[error("Users: expected a user of the running manifest with {permission}, got none")]
    Nobody {
        /// The action that no role grants.
        permission: &'static str,
    },
}

impl UpdateRefusal {
    /// What in the update it is about.
    pub fn place(&self) -> Place {
        let packages = Place::top().member("Packages");
        match self {
            Self::Check(error) => error.place(),
            Self::Packages(error) => match error {
                PackageUpdateError::Nothing => packages,
                PackageUpdateError::Unknown { name } => packages.member(name),
                PackageUpdateError::Member { name, member } => packages.member(name).member(member),
                PackageUpdateError::NoVersion { name } | PackageUpdateError::Lower { name, .. } => {
                    packages.member(name).member("SecurityVersion")
                }
            },
            // The running manifest is at fault.
            Self::Nobody { .. } => Place::top(),
        }
    }

    /// What the author of the update can do; the message stands without it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::Check(error) => return error.hint(),
            Self::Packages(PackageUpdateError::Nothing) => {
                "an update without Marbles, Secrets, Users, Roles, TLS and RecoveryKeys is one of packages only"
            }
            Self::Packages(PackageUpdateError::Member { .. }) => "for other changes give a whole manifest",
            Self::Packages(_) => return None,
            Self::Nobody { permission: "UpdateManifest" } => "this deployment's manifest cannot be updated any more",
            Self::Nobody { .. } => "no single user has it on all packages of the update",
        };
        Some(fixed.to_owned())
    }
}

/// The checks of a whole manifest, which the running one plays no part in, and that somebody may update it.
pub(super) fn check_full(new: &Manifest, update_users: &[String]) -> Result<(), UpdateRefusal> {
    // Whether the Coordinator has an HSM is only known there.
    new.check(AzureHsm::Available)?;
    if update_users.is_empty() {
        return Err(UpdateRefusal::Nobody { permission: "UpdateManifest" });
    }
    Ok(())
}
