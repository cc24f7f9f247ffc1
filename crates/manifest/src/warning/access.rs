use std::collections::BTreeSet;

use marblerun_json::Place;

use super::{WarningCode, Warnings};
use crate::schema::Manifest;

pub(super) fn warn(manifest: &Manifest, warnings: &mut Warnings) {
    for (name, user) in &manifest.users {
        if user.roles.is_empty() {
            let place = Place::top().member("Users").member(name);
            warnings.add(place, WarningCode::NothingGranted, "the user has no role and may do nothing");
        }
    }
    let used: BTreeSet<&str> = manifest.users.values().flat_map(|user| &user.roles).map(String::as_str).collect();
    for (name, role) in &manifest.roles {
        let place = Place::top().member("Roles").member(name);
        if !used.contains(name.as_str()) {
            warnings.add(place.clone(), WarningCode::UnusedRole, "no user has this role");
        }
        if role.actions.is_empty() {
            warnings.add(place.clone(), WarningCode::NothingGranted, "the role has no actions and grants nothing");
        } else if role.resource_names.is_empty() && role.resource_type != "Manifest" {
            let text = "the role names no resources and grants nothing";
            warnings.add(place.clone(), WarningCode::NothingGranted, text);
        }
    }
}
