//! Manifests with too many entries: each kind with as many as it may have, and with one more.

use marblerun_manifest::{
    AzureHsm, CheckError, File, Infrastructure, MAX_ACTIONS, MAX_ARGUMENTS, MAX_FILES, MAX_INFRASTRUCTURES,
    MAX_MARBLES, MAX_PACKAGES, MAX_ROLES, MAX_SECRETS, MAX_TLS_ENTRIES, MAX_TLS_TAGS, MAX_USERS, MAX_VARIABLES,
    Manifest, Marble, Package, Role, SecretDefinition, TlsEntry, TlsTag, User,
};

use crate::check::good;

#[track_caller]
fn check(place: &str, max: usize, fill: impl Fn(&mut Manifest, usize)) {
    for count in [max, max + 1] {
        let mut manifest = Manifest::decode(good().to_string().as_bytes()).unwrap();
        fill(&mut manifest, count);
        let result = manifest.check(AzureHsm::Unavailable);
        if count == max {
            // Other rules may refuse what was filled in.
            assert!(!matches!(result, Err(CheckError::TooManyEntries { .. })), "{place}: {result:?}");
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.to_string(), format!("{place}: expected at most {max} entries, got {count}"));
            assert_eq!(error.place().as_str(), place);
        }
    }
}

/// So many names, in a map with a value for each of them.
fn named<T: Default>(count: usize) -> impl Iterator<Item = (String, T)> {
    (0..count).map(|index| (format!("n{index}"), T::default()))
}

fn names(count: usize) -> Vec<String> {
    vec!["n".to_owned(); count]
}

fn web(manifest: &mut Manifest) -> &mut Marble {
    manifest.marbles.get_mut("web").unwrap()
}

#[test]
fn each_section_has_a_highest_number_of_entries() {
    check("Packages", MAX_PACKAGES, |manifest, count| manifest.packages = named::<Package>(count).collect());
    check("Infrastructures", MAX_INFRASTRUCTURES, |manifest, count| {
        manifest.infrastructures = named::<Infrastructure>(count).collect();
    });
    check("Marbles", MAX_MARBLES, |manifest, count| manifest.marbles = named::<Marble>(count).collect());
    check("Users", MAX_USERS, |manifest, count| manifest.users = named::<User>(count).collect());
    check("Roles", MAX_ROLES, |manifest, count| manifest.roles = named::<Role>(count).collect());
    check("Secrets", MAX_SECRETS, |manifest, count| manifest.secrets = named::<SecretDefinition>(count).collect());
    check("TLS", MAX_TLS_TAGS, |manifest, count| manifest.tls = named::<TlsTag>(count).collect());
}

#[test]
fn each_marble_has_a_highest_number_of_parameters() {
    check("Marbles.web.TLS", MAX_TLS_TAGS, |manifest, count| web(manifest).tls = names(count));
    check("Marbles.web.Parameters.Files", MAX_FILES, |manifest, count| {
        web(manifest).parameters.files = named::<File>(count).collect();
    });
    check("Marbles.web.Parameters.Env", MAX_VARIABLES, |manifest, count| {
        web(manifest).parameters.env = named::<File>(count).collect();
    });
    check("Marbles.web.Parameters.Argv", MAX_ARGUMENTS, |manifest, count| web(manifest).parameters.argv = names(count));
}

#[test]
fn tags_users_and_roles_have_a_highest_number_of_entries() {
    let entries = |count| vec![TlsEntry::default(); count];
    check("TLS.front.Incoming", MAX_TLS_ENTRIES, |manifest, count| {
        manifest.tls.get_mut("front").unwrap().incoming = entries(count);
    });
    check("TLS.front.Outgoing", MAX_TLS_ENTRIES, |manifest, count| {
        manifest.tls.get_mut("front").unwrap().outgoing = entries(count);
    });
    check("Users.ann.Roles", MAX_ROLES, |manifest, count| {
        manifest.users.get_mut("ann").unwrap().roles = names(count);
    });
    check("Roles.tokens.ResourceNames", MAX_SECRETS, |manifest, count| {
        manifest.roles.get_mut("tokens").unwrap().resource_names = names(count);
    });
    check("Roles.tokens.Actions", MAX_ACTIONS, |manifest, count| {
        manifest.roles.get_mut("tokens").unwrap().actions = names(count);
    });
}
