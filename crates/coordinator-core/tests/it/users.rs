//! Who is known, and what roles grant.

use marblerun_coordinator_core::users::{Permission, Users};
use marblerun_manifest::{Manifest, user_certificate};

use crate::fixture::user_pem;

fn users(roles: &str, of_ann: &str) -> Users {
    let json = format!(
        r#"{{"Users":{{"ann":{{"Certificate":{},"Roles":[{of_ann}]}},"ben":{{"Certificate":{},"Roles":[]}}}},"Roles":{{{roles}}}}}"#,
        serde_json::json!(user_pem("ann")),
        serde_json::json!(user_pem("ben")),
    );
    Users::new(&Manifest::decode(json.as_bytes()).unwrap()).unwrap()
}

fn leaf(name: &str) -> Vec<u8> {
    user_certificate(&user_pem(name)).unwrap()
}

/// What `roles` grant on `a`, on `b`, and at all.
#[track_caller]
fn granted(roles: &str, of_ann: &str) -> Vec<String> {
    let users = users(roles, of_ann);
    let ann = users.authenticate(&leaf("ann")).unwrap();
    let asked: [(&str, &[&str]); 4] = [("", &[]), ("a", &["a"]), ("b", &["b"]), ("ab", &["a", "b"])];
    let mut granted = Vec::new();
    for permission in Permission::ALL {
        for (shown, resources) in asked {
            if ann.check(permission, resources.iter().copied()).is_ok() {
                granted.push(format!("{}({shown})", permission.action()));
            }
        }
    }
    granted
}

// rules: AUTH-1
#[test]
fn a_user_is_known_by_the_exact_bytes_of_the_certificate() {
    let users = users("", "");
    assert_eq!(users.authenticate(&leaf("ann")).unwrap().name(), "ann");
    assert_eq!(users.authenticate(&leaf("ben")).unwrap().name(), "ben");
    assert!(users.authenticate(&[]).is_none());
    let mut longer = leaf("ann");
    longer.push(0);
    assert!(users.authenticate(&longer).is_none());
    let mut other = leaf("ann");
    *other.last_mut().unwrap() ^= 1;
    assert!(users.authenticate(&other).is_none());
}

#[test]
fn every_action_is_granted_by_roles_of_its_own_resource_type_alone() {
    for resource_type in ["Packages", "Secrets", "Manifest", "packages", "secrets", "manifest", ""] {
        for permission in Permission::ALL {
            for action in [permission.action().to_owned(), permission.action().to_uppercase()] {
                let role =
                    format!(r#""r":{{"ResourceType":"{resource_type}","ResourceNames":["a"],"Actions":["{action}"]}}"#);
                let expected = match resource_type == permission.resource_type() {
                    true => vec![format!("{}()", permission.action()), format!("{}(a)", permission.action())],
                    false => vec![],
                };
                assert_eq!(granted(&role, r#""r""#), expected, "{role}");
                assert!(granted(&role, "").is_empty(), "a role that the user does not have grants nothing");
            }
        }
    }
}

#[test]
fn roles_add_up_for_each_permission_by_itself() {
    let roles = r#""a":{"ResourceType":"Secrets","ResourceNames":["a"],"Actions":["ReadSecret","WriteSecret"]},
        "b":{"ResourceType":"Secrets","ResourceNames":["b"],"Actions":["ReadSecret"]},
        "none":{"ResourceType":"Secrets","ResourceNames":["b"],"Actions":[]}"#;
    let expected =
        ["ReadSecret()", "ReadSecret(a)", "ReadSecret(b)", "ReadSecret(ab)", "WriteSecret()", "WriteSecret(a)"];
    assert_eq!(granted(roles, r#""a","b","none","a""#), expected);
    assert!(granted(roles, r#""none""#).is_empty());
    let nameless = r#""r":{"ResourceType":"Manifest","Actions":["UpdateManifest"]}"#;
    assert_eq!(granted(nameless, r#""r""#), ["UpdateManifest()"]);
}
