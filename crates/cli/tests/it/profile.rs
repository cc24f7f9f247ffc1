//! Profiles: what they stand for, and what they never do.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::fake::{Fake, Identity, Script, now};
use crate::{Place, Run};

const PROFILES: &str = "home/.config/marblerun/profiles";
const SOFTWARE: &str = "Warning: profile dev trusts a software root: no hardware protects this deployment\n";

fn place(fake: &Fake) -> Place {
    let place = Place::new();
    place.write("era.json", format!(r#"{{"UniqueID": "{}"}}"#, "aa".repeat(32)));
    place.write("root.pem", fake.script().tee.root.root_pem());
    let address = fake.address();
    let added = place.run(&format!("profile add dev {address} --era-config era.json --trust-software-root root.pem"));
    assert_eq!((added.stdout.as_str(), added.stderr.as_str(), added.code), ("Profile dev saved\n", SOFTWARE, 0));
    place
}

#[track_caller]
fn failed_with(run: &Run, expected: &str) {
    assert!(run.code == 1 && run.stderr.contains(expected), "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_profile_stands_for_the_address_and_the_way_to_verify() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    let run = place.run("status --profile dev");
    assert!(run.stdout.ends_with("2: Coordinator is ready to accept a manifest.\n") && run.code == 0, "{}", run.stderr);
    assert_eq!(run.stderr, SOFTWARE);
    let file = std::fs::metadata(place.path().join(PROFILES).join("dev.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // From another directory as well: paths are kept whole.
    let shown: Value = serde_json::from_str(&place.run("profile show dev --output json").stdout).unwrap();
    assert_eq!((&shown["eraConfig"], &shown["default"]), (&"[DIR]/era.json".into(), &false.into()));
    assert_eq!(shown["state"]["deployment"], "d0");
    assert!(shown["rootSHA256"].is_string());
}

#[test]
fn a_default_profile_is_used_only_where_no_address_is_given() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    failed_with(&place.run("status"), "<IP:PORT>");
    assert_eq!(place.run("profile use dev").stdout, "Profile dev is the default\n");
    assert_eq!(place.run("status").code, 0);
    assert_eq!(place.run("profile list").stdout, format!("* dev\t{}\n", fake.address()));
    let other = place.run(&format!("status {}", fake.address()));
    failed_with(&other, "no certificate cache");
    assert_eq!(place.run("profile use --none").code, 0);
    failed_with(&place.run("status"), "<IP:PORT>");
}

#[test]
fn a_plan_against_a_file_needs_no_profile() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    assert_eq!(place.run("profile use dev").code, 0);
    let packages = format!(r#""Packages":{{"p":{{"UniqueID":"{}"}}}}"#, "00".repeat(32));
    place.write("old.json", format!(r#"{{{packages},"Marbles":{{"m":{{"Package":"p"}}}}}}"#));
    place.write("new.json", r#"{"Packages":{"p":{"SecurityVersion":2}}}"#);
    let run = place.run("manifest plan new.json --running old.json");
    assert!(!run.stderr.contains("profile dev"), "{}", run.stderr);
    assert_eq!(fake.requests().len(), 0);
}

#[test]
fn files_that_a_profile_names_in_vain_are_warned_of() {
    let place = Place::new();
    place.write("era.json", "{}");
    let run = place.run("profile add x localhost:1 --era-config era.json --cert ann.pem --key keys/ann.pem");
    assert_eq!((run.stdout.as_str(), run.code), ("Profile x saved\n", 0));
    assert_eq!(run.stderr, "Warning: there is no [DIR]/ann.pem\nWarning: there is no [DIR]/keys/ann.pem\n");
}

#[test]
fn a_profile_is_never_used_without_verification() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    failed_with(&place.run("status --profile dev --insecure"), "--insecure and a profile exclude each other");
    failed_with(&place.run("profile add x localhost:1 --insecure"), "--insecure is never kept in a profile");
    place.write(&format!("{PROFILES}/dev.json"), r#"{"address":"localhost:1","insecure":true}"#);
    failed_with(&place.run("status --profile dev"), "insecure: there is no such member");
    assert_eq!(fake.requests().len(), 0);
}

fn statement(deployment: &str, sequence: u64, hash: &str) -> Option<String> {
    Some(format!(
        r#"{{"version":1,"deployment":"{deployment}","trustClass":"software","rootHashes":[],"anchor":"none","manifestFingerprint":null,"logHead":{{"epoch":1,"sequence":{sequence},"hash":"{hash}"}}}}"#
    ))
}

fn set_statement(fake: &Fake, text: Option<String>) {
    let mut script = fake.script();
    script.statement.clone_from(&text);
    script.covered_statement = text;
}

#[test]
fn a_state_that_goes_back_is_refused_until_it_is_accepted() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    set_statement(&fake, statement("d0", 7, "aa"));
    assert_eq!(place.run("status --profile dev").code, 0);
    for (deployment, sequence, hash) in [("d0", 6, "aa"), ("d0", 7, "bb"), ("d1", 9, "cc")] {
        set_statement(&fake, statement(deployment, sequence, hash));
        failed_with(&place.run("status --profile dev"), "is not the one that is remembered");
    }
    // Nothing of that was remembered.
    set_statement(&fake, statement("d0", 8, "dd"));
    assert_eq!(place.run("status --profile dev").code, 0);
    set_statement(&fake, statement("d1", 1, "ee"));
    let accepted = place.run("status --profile dev --accept-other-state");
    assert!(accepted.code == 0 && accepted.stderr.contains("Warning: "), "{}", accepted.stderr);
    assert_eq!(place.run("status --profile dev").code, 0);
}

/// Whoever writes the Coordinator's disk can claim any state in recovery mode.
#[test]
fn what_is_claimed_in_recovery_mode_is_compared_but_not_remembered() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    set_statement(&fake, statement("d0", 7, "aa"));
    assert_eq!(place.run("status --profile dev").code, 0);
    let head = format!("{PROFILES}/dev.pem.head.json");
    let remembered = place.read(&head);
    let waiting = |sequence: u64| {
        Some(format!(
            r#"{{"version":1,"deployment":"","trustClass":"software","logHead":null,"recovering":{{"deployment":"d0","logHead":{{"epoch":1,"sequence":{sequence},"hash":"aa"}},"manifestFingerprint":"ee"}}}}"#
        ))
    };
    set_statement(&fake, waiting(1000));
    assert_eq!(place.run("status --profile dev").code, 0);
    assert_eq!(place.read(&head), remembered);
    set_statement(&fake, waiting(6));
    failed_with(&place.run("status --profile dev"), "is not the one that is remembered");
}

#[test]
fn a_coordinator_that_no_longer_states_anything_is_refused() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    set_statement(&fake, statement("d0", 7, "aa"));
    assert_eq!(place.run("status --profile dev").code, 0);
    set_statement(&fake, None);
    failed_with(&place.run("status --profile dev"), "remembers a state");
}

#[test]
fn another_root_is_refused_until_it_is_accepted() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    set_statement(&fake, None);
    assert_eq!(place.run("status --profile dev").code, 0);
    fake.script().identity = Identity::new("localhost", now());
    failed_with(&place.run("status --profile dev"), "root certificate is not the one");
    assert_eq!(place.run("status --profile dev --accept-other-state").code, 0);
    assert_eq!(place.run("status --profile dev").code, 0);
}

#[test]
fn in_recovery_mode_the_statement_counts_and_the_root_stays_remembered() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    assert_eq!(place.run("status --profile dev").code, 0);
    let certificates = format!("{PROFILES}/dev.pem");
    let remembered = place.read(&certificates);
    fake.script().identity = Identity::new("localhost", now());
    assert_eq!(place.run("status --profile dev").code, 0);
    assert_eq!(place.read(&certificates), remembered);
}

#[test]
fn the_variable_names_a_profile_and_flags_come_first() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    let with_variable = |words: &[&str], name: &str| place.run_with(words, &[("MARBLERUN_PROFILE", name)]);
    assert_eq!(with_variable(&["status"], "dev").code, 0);
    failed_with(&with_variable(&["status"], "other"), "there is no profile \"other\"");
    failed_with(&with_variable(&["status", "--era-config", "none.json"], "dev"), "none.json");
    // Commands that talk to nobody need no profile.
    assert_eq!(with_variable(&["version"], "other").code, 0);
}

#[test]
fn names_of_secrets_and_users_of_profiles_are_told_apart_from_addresses() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    failed_with(&place.run("secret get token --profile dev"), "expected the user's --cert and --key, got neither");
    let address = fake.address();
    let added = place.run(&format!("profile add ann {address} --era-config era.json --cert ann.pem --key ann-key.pem"));
    assert_eq!(added.code, 0, "{}", added.stderr);
    failed_with(&place.run("secret get token --profile ann"), "[DIR]/ann.pem");
    assert_eq!(place.run("profile use ann").code, 0);
    failed_with(&place.run("secret get token"), "[DIR]/ann.pem");
    // With an address no profile is meant.
    let other = place.run(&format!("secret get token {address}"));
    failed_with(&other, "expected the user's --cert and --key, got neither");
    // Half of another user is not completed.
    failed_with(&place.run("secret get token --profile ann --cert other.pem"), "--cert needs --key");
}

#[test]
fn a_profile_is_not_replaced_by_mistake_and_goes_as_a_whole() {
    let fake = Fake::start(Script::new());
    let place = place(&fake);
    assert_eq!(place.run("status --profile dev").code, 0);
    failed_with(&place.run("profile add dev localhost:1"), "there is a profile \"dev\" already");
    assert_eq!(place.run("profile add dev localhost:1 --replace").code, 0);
    assert_eq!(place.run("profile remove dev").stdout, "Profile dev removed\n");
    assert_eq!(std::fs::read_dir(place.path().join(PROFILES)).unwrap().count(), 0);
    failed_with(&place.run("status --profile dev"), "there is no profile \"dev\"");
    failed_with(&place.run("profile add ../x localhost:1"), "expected a name");
    failed_with(&place.run("profile add x localhost:1 --cert ann.pem"), "--key");
}
