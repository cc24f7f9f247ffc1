//! What the Coordinator refuses about an update.

use marblerun_json::Place;

use crate::certificate::shorten;
use crate::check::{AzureHsm, CheckError};
use crate::nearest::nearest;
use crate::schema::{Manifest, Package};

/// Why an update would be refused.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the members are the place, what was given, and what was probably meant")]
pub enum UpdateRefusal {
    /// The new manifest could not be set either.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A package update without packages.
    #[error("Packages: expected at least one package, got none")]
    NoPackages,
    /// A package update of a package that does not exist.
    #[error("{place}: expected the name of a package of the running manifest, got {name:?}")]
    UnknownPackage { place: Place, name: String, nearest: Option<String> },
    /// A package update gives more than the version.
    #[error("{place}: expected only SecurityVersion in an update of packages, got {member}")]
    OtherMember { place: Place, member: &'static str },
    /// A package update without version.
    #[error("{place}: expected a number, got none")]
    VersionMissing { place: Place },
    /// A package update to a lower version.
    #[error("{place}: expected at least {running}, the version in force, got {got}")]
    VersionLowered { place: Place, running: u64, got: u64 },
    /// Nobody has the permission.
    #[error("Users: expected a user of the running manifest with {permission}, got none")]
    Nobody { permission: &'static str },
}

impl UpdateRefusal {
    /// What the author of the update can do; the message stands without it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::Check(error) => return error.hint(),
            Self::UnknownPackage { nearest, .. } => {
                return nearest.as_ref().map(|name| format!("did you mean {name:?}?"));
            }
            Self::NoPackages => {
                "an update without Marbles, Secrets, Users, Roles, TLS and RecoveryKeys is one of packages"
            }
            Self::OtherMember { .. } => "for other changes give a whole manifest",
            Self::Nobody { permission: "UpdateManifest" } => "this deployment's manifest cannot be updated any more",
            Self::Nobody { .. } => "no single user has it on all packages of the update",
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

/// The checks of a whole manifest, which the running one plays no part in.
pub(super) fn check_full(new: &Manifest, update_users: &[String]) -> Result<(), UpdateRefusal> {
    // Whether the Coordinator has an HSM is only known there.
    new.check(AzureHsm::Available)?;
    if update_users.is_empty() {
        return Err(UpdateRefusal::Nobody { permission: "UpdateManifest" });
    }
    Ok(())
}

/// The checks of a package update against the running manifest, whose security versions are those in force.
pub(super) fn check_packages(running: &Manifest, update: &Manifest) -> Result<(), UpdateRefusal> {
    if update.packages.is_empty() {
        return Err(UpdateRefusal::NoPackages);
    }
    for (name, package) in &update.packages {
        let place = Place::top().member("Packages").member(name);
        let Some(in_force) = running.packages.get(name) else {
            let nearest = nearest(name, running.packages.keys().map(String::as_str)).map(str::to_owned);
            return Err(UpdateRefusal::UnknownPackage { place, name: shorten(name), nearest });
        };
        check_package(&place, in_force, package)?;
    }
    Ok(())
}

fn check_package(place: &Place, in_force: &Package, package: &Package) -> Result<(), UpdateRefusal> {
    let others = [
        ("Debug", package.debug),
        ("UniqueID", !package.unique_id.is_empty()),
        ("SignerID", !package.signer_id.is_empty()),
        ("ProductID", package.product_id.is_some()),
    ];
    if let Some((member, _)) = others.into_iter().find(|(_, given)| *given) {
        return Err(UpdateRefusal::OtherMember { place: place.clone(), member });
    }
    let place = place.member("SecurityVersion");
    let Some(got) = package.security_version else { return Err(UpdateRefusal::VersionMissing { place }) };
    match in_force.security_version {
        Some(running) if got < running => Err(UpdateRefusal::VersionLowered { place, running, got }),
        _ => Ok(()),
    }
}
