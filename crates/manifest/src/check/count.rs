//! How many entries a manifest may have.
//!
//! Far above what a deployment has, and far below what would hurt: whatever is listed here is looked at, kept and shown
//! for as long as the manifest is in force.

use marblerun_json::Place;

use super::CheckError;
use crate::schema::Manifest;

/// Packages.
pub const MAX_PACKAGES: usize = 10_000;
/// Infrastructures.
pub const MAX_INFRASTRUCTURES: usize = 1_000;
/// Marble types.
pub const MAX_MARBLES: usize = 10_000;
/// Users.
pub const MAX_USERS: usize = 10_000;
/// Roles, and names of roles of one user.
pub const MAX_ROLES: usize = 10_000;
/// Secrets, and names of resources of one role.
pub const MAX_SECRETS: usize = 50_000;
/// Tags for transparent TLS, and names of tags of one Marble.
pub const MAX_TLS_TAGS: usize = 10_000;
/// Connections of one tag, for each direction.
pub const MAX_TLS_ENTRIES: usize = 1_000;
/// Files of one Marble.
pub const MAX_FILES: usize = 10_000;
/// Variables of one Marble.
pub const MAX_VARIABLES: usize = 10_000;
/// Arguments of one Marble.
pub const MAX_ARGUMENTS: usize = 10_000;
/// Actions of one role; there are four in all.
pub const MAX_ACTIONS: usize = 100;

pub(super) fn check_counts(manifest: &Manifest) -> Result<(), CheckError> {
    let top = |member| Place::top().member(member);
    bounded(manifest.packages.len(), MAX_PACKAGES, || top("Packages"))?;
    bounded(manifest.infrastructures.len(), MAX_INFRASTRUCTURES, || top("Infrastructures"))?;
    bounded(manifest.marbles.len(), MAX_MARBLES, || top("Marbles"))?;
    bounded(manifest.users.len(), MAX_USERS, || top("Users"))?;
    bounded(manifest.roles.len(), MAX_ROLES, || top("Roles"))?;
    bounded(manifest.secrets.len(), MAX_SECRETS, || top("Secrets"))?;
    bounded(manifest.tls.len(), MAX_TLS_TAGS, || top("TLS"))?;
    for (name, marble) in &manifest.marbles {
        let place = || top("Marbles").member(name);
        let parameters = |member| place().member("Parameters").member(member);
        bounded(marble.tls.len(), MAX_TLS_TAGS, || place().member("TLS"))?;
        bounded(marble.parameters.files.len(), MAX_FILES, || parameters("Files"))?;
        bounded(marble.parameters.env.len(), MAX_VARIABLES, || parameters("Env"))?;
        bounded(marble.parameters.argv.len(), MAX_ARGUMENTS, || parameters("Argv"))?;
    }
    for (name, tag) in &manifest.tls {
        let place = || top("TLS").member(name);
        bounded(tag.incoming.len(), MAX_TLS_ENTRIES, || place().member("Incoming"))?;
        bounded(tag.outgoing.len(), MAX_TLS_ENTRIES, || place().member("Outgoing"))?;
    }
    for (name, user) in &manifest.users {
        bounded(user.roles.len(), MAX_ROLES, || top("Users").member(name).member("Roles"))?;
    }
    for (name, role) in &manifest.roles {
        let place = || top("Roles").member(name);
        bounded(role.resource_names.len(), MAX_SECRETS, || place().member("ResourceNames"))?;
        bounded(role.actions.len(), MAX_ACTIONS, || place().member("Actions"))?;
    }
    Ok(())
}

fn bounded(got: usize, max: usize, place: impl FnOnce() -> Place) -> Result<(), CheckError> {
    if got > max { Err(CheckError::TooManyEntries { place: place(), max, got }) } else { Ok(()) }
}
