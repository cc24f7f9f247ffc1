//! Users and roles.

use std::collections::BTreeMap;

use marblerun_json::Place;

use super::{CheckError, lookup};
use crate::certificate::shorten;
use crate::schema::{Manifest, Role, User};

/// Who the users are, by name only.
pub(crate) fn check_users(manifest: &Manifest) -> Result<(), CheckError> {
    let mut texts: BTreeMap<&str, Place> = BTreeMap::new();
    for (name, user) in &manifest.users {
        let place = user_place(name);
        if user.certificate.is_empty() {
            return Err(CheckError::UserWithoutCertificate { place: place.member("Certificate") });
        }
        for (index, role) in user.roles.iter().enumerate() {
            lookup(&manifest.roles, role).map_err(|nearest| CheckError::UnknownRole {
                place: place.member("Roles").index(index),
                name: shorten(role),
                nearest,
            })?;
        }
        if let Some(other) = texts.insert(&user.certificate, place.clone()) {
            return Err(CheckError::SameCertificate { place: place.member("Certificate"), other });
        }
    }
    Ok(())
}

/// Certificates must be usable, and different as certificates, not only as texts.
pub(crate) fn check_user_certificates(manifest: &Manifest) -> Result<(), CheckError> {
    let mut certificates: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
    for (name, user) in &manifest.users {
        let place = user_place(name).member("Certificate");
        let der = crate::pem::user_certificate(&user.certificate)
            .map_err(|source| CheckError::UserCertificate { place: place.clone(), source })?;
        if let Some(other) = certificates.insert(der, user_place(name)) {
            return Err(CheckError::SameCertificate { place, other });
        }
    }
    Ok(())
}

fn user_place(name: &str) -> Place {
    Place::top().member("Users").member(name)
}

/// Also roles that nobody has.
pub(crate) fn check_roles(manifest: &Manifest) -> Result<(), CheckError> {
    for (name, role) in &manifest.roles {
        let place = Place::top().member("Roles").member(name);
        match role.resource_type.as_str() {
            "Packages" => check_package_role(manifest, &place, role)?,
            "Secrets" => check_secret_role(manifest, &place, role)?,
            "Manifest" => {
                let count = role.resource_names.len();
                if count > 0 {
                    let place = place.member("ResourceNames");
                    return Err(CheckError::ResourceNamesOfManifestRole { place, count });
                }
                check_actions(&place, role, &["UpdateManifest"], "UpdateManifest")?;
            }
            got => {
                let place = place.member("ResourceType");
                return Err(CheckError::UnknownResourceType { place, got: shorten(got) });
            }
        }
    }
    Ok(())
}

fn check_package_role(manifest: &Manifest, place: &Place, role: &Role) -> Result<(), CheckError> {
    for (index, name) in role.resource_names.iter().enumerate() {
        lookup(&manifest.packages, name).map_err(|nearest| CheckError::UnknownResource {
            place: place.member("ResourceNames").index(index),
            resource: "package",
            name: shorten(name),
            nearest,
        })?;
    }
    check_actions(place, role, &["UpdateSecurityVersion"], "UpdateSecurityVersion")
}

fn check_secret_role(manifest: &Manifest, place: &Place, role: &Role) -> Result<(), CheckError> {
    check_actions(place, role, &["ReadSecret", "WriteSecret"], "ReadSecret or WriteSecret")?;
    let (reads, writes) = (role.allows("ReadSecret"), role.allows("WriteSecret"));
    for (index, name) in role.resource_names.iter().enumerate() {
        let place = place.member("ResourceNames").index(index);
        let secret = lookup(&manifest.secrets, name).map_err(|nearest| CheckError::UnknownResource {
            place: place.clone(),
            resource: "secret",
            name: shorten(name),
            nearest,
        })?;
        if writes && !secret.user_defined {
            return Err(CheckError::WriteOfGeneratedSecret { place, name: shorten(name) });
        }
        if reads && !secret.user_defined && !secret.shared {
            return Err(CheckError::ReadOfUniqueSecret { place, name: shorten(name) });
        }
    }
    Ok(())
}

fn check_actions(place: &Place, role: &Role, known: &[&str], expected: &'static str) -> Result<(), CheckError> {
    for (index, action) in role.actions.iter().enumerate() {
        if !known.iter().any(|known| known.eq_ignore_ascii_case(action)) {
            let place = place.member("Actions").index(index);
            return Err(CheckError::UnknownAction { place, expected, got: shorten(action) });
        }
    }
    Ok(())
}

/// Users with a role of type `Manifest` whose first action is `UpdateManifest`; each counts once.
pub(crate) fn count_update_users(manifest: &Manifest) -> u64 {
    let may_update = |user: &User| {
        user.roles.iter().filter_map(|role| manifest.roles.get(role)).any(|role| {
            let first = role.actions.first();
            role.resource_type == "Manifest"
                && first.is_some_and(|action| action.eq_ignore_ascii_case("UpdateManifest"))
        })
    };
    // A length always fits 64 bits.
    manifest.users.values().filter(|user| may_update(user)).count() as u64
}
