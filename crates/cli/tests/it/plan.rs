//! `manifest plan`: what an update would do, from files and from a Coordinator.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::Place;
use crate::fake::{Fake, Script};

fn certificate(name: &str) -> String {
    let directory = std::env::var("MARBLERUN_TESTDATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata").to_owned());
    std::fs::read_to_string(format!("{directory}/activation/{name}.pem")).unwrap()
}

fn running() -> Value {
    json!({
        "Packages": {"app": {"SignerID": "11".repeat(32), "ProductID": 1, "SecurityVersion": 2}},
        "Marbles": {"web": {"Package": "app", "Parameters": {"Argv": ["web"], "Env": {
            "TOKEN": "{{ string .Secrets.token }}", "KEY": "{{ hex .Secrets.key }}"}}}},
        "Secrets": {
            "token": {"Type": "plain", "UserDefined": true},
            "key": {"Type": "symmetric-key", "Size": 128, "Shared": true},
        },
        "Users": {
            "ann": {"Certificate": certificate("ann"), "Roles": ["admin", "tokens"]},
            "ben": {"Certificate": certificate("ben"), "Roles": ["admin", "versions"]},
        },
        "Roles": {
            "admin": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
            "tokens": {"ResourceType": "Secrets", "ResourceNames": ["token"], "Actions": ["WriteSecret"]},
            "versions": {"ResourceType": "Packages", "ResourceNames": ["app"], "Actions": ["UpdateSecurityVersion"]},
        },
    })
}

/// A place with the running manifest, and an update of it.
fn place(update: &Value) -> Place {
    let place = Place::new();
    place.write("old.json", running().to_string());
    place.write("new.json", format!("{update:#}"));
    place
}

const OFFLINE: &str = "manifest plan new.json --running old.json";

#[test]
fn an_unchanged_manifest_breaks_nothing_but_is_made_anew() {
    let place = place(&running());
    let run = place.run(OFFLINE);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let text = run.stdout.split_once('\n').unwrap().1;
    assert_eq!(
        text,
        "Changes: none\nAccess: none\nSecrets:\n  2 secrets with kept value\nMade anew:\n  intermediate certificate\n  \
         Marble root certificate\nBreaks: none\nAlso: none\nAgreement:\n  all of \"ann\", \"ben\" have to agree\n"
    );
}

#[test]
fn what_breaks_is_listed_and_told_by_the_exit_code() {
    let mut update = running();
    update["Secrets"]["token"]["Type"] = json!("symmetric-key");
    update["Secrets"]["token"]["Size"] = json!(128);
    update["Marbles"]["web"]["Parameters"]["Env"] = json!({"TOKEN": "{{ hex .Secrets.token }}"});
    update["Users"]["ben"]["Roles"] = json!(["admin", "tokens"]);
    let place = place(&update);
    let run = place.run(OFFLINE);
    assert_eq!(run.code, 3, "{}", run.stderr);
    for line in [
        "  Secrets.token.Type: plain -> symmetric-key",
        "  user \"ben\" gains WriteSecret on secret \"token\"",
        "  user \"ben\" loses UpdateSecurityVersion on package \"app\"",
        "  Marble \"web\" loses secret \"key\"",
        "  secret \"token\": the old value is gone; the new one has to be uploaded",
        "  Secrets.token: the uploaded value is gone [upload-lost]",
        "  Marbles.web: cannot be activated before these secrets are uploaded: \"token\" [upload-needed]",
    ] {
        assert!(run.stdout.lines().any(|got| got == line), "{line} is not in\n{}", run.stdout);
    }
}

#[test]
fn a_rotation_needs_templates_that_look_at_the_previous_key() {
    let mut update = running();
    update["Config"] = json!({"RotateRootSecret": true});
    let run = place(&update).run(OFFLINE);
    assert!(run.code == 3 && run.stdout.contains(": \"key\" [previous-unused]\n"), "{}", run.stdout);
    update["Marbles"]["web"]["Parameters"]["Env"]["OLD"] = json!("{{ hex .Previous.Secrets.key }}");
    let run = place(&update).run(OFFLINE);
    assert!(run.code == 0 && run.stdout.contains("  secret \"key\": new key; the old one"), "{}", run.stdout);
}

#[test]
fn the_plan_as_json() {
    let mut update = running();
    update["Packages"]["app"]["SecurityVersion"] = json!(1);
    let run = place(&update).run(&format!("{OFFLINE} --output json"));
    assert_eq!((run.code, run.stderr.as_str()), (3, ""));
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&value["refused"], &value["coordinator"], &value["pending"]),
        (&json!(false), &json!(null), &json!(null))
    );
    let plan = &value["plan"];
    assert_eq!((&plan["kind"], &plan["breaks"]), (&json!("full"), &json!(true)));
    let change = json!({"place": "Packages.app.SecurityVersion", "change": "changed", "from": "2", "to": "1"});
    assert_eq!(plan["changes"], json!([change]));
    assert_eq!(plan["consequences"][0]["code"], "security-version-lowered");
    assert_eq!(plan["approval"], json!({"needed": 2, "users": ["ann", "ben"]}));
    assert_eq!(plan["secrets"][0], json!({"name": "key", "fate": "kept"}));
    assert_eq!(plan["reissued"][1], json!({"certificate": "marble-root", "secret": null}));
}

#[test]
fn an_update_of_packages_is_compared_with_the_update_log() {
    let update = json!({"Packages": {"app": {"SecurityVersion": 4}}});
    let place = place(&update);
    let run = place.run(OFFLINE);
    assert!(run.stdout.contains("  Packages.app.SecurityVersion: 2 -> 4\n"), "{}", run.stdout);
    assert!(run.stdout.contains("  \"ben\" has to apply it\n"), "{}", run.stdout);
    place.write(
        "log",
        "{\"time\":\"t\",\"update\":\"Initial manifest set\"}\n{\"time\":\"t\",\"update\":\"SecurityVersion \
         increased\",\"user\":\"ben\",\"package\":\"app\",\"new version\":5}",
    );
    let refused = place.run(&format!("{OFFLINE} --updates log"));
    assert_eq!(refused.code, 2);
    assert_eq!(
        refused.stdout,
        "new.json:4:7: error: Packages.app.SecurityVersion: expected at least 5, got 4\nThe Coordinator would refuse this \
         update.\n"
    );
    place.write("log", "no json");
    let run = place.run(&format!("{OFFLINE} --updates log"));
    assert!(run.code == 1 && run.stderr.starts_with("Error: update log log: "), "{}", run.stderr);
}

#[test]
fn a_refused_update_is_told_in_the_words_of_the_check() {
    let mut update = running();
    update["Marbles"]["web"]["Package"] = json!("App");
    let place = place(&update);
    let planned = place.run(OFFLINE);
    let checked = place.run("manifest check new.json");
    assert_eq!((planned.code, checked.code), (2, 2));
    let first = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first(&planned.stdout), first(&checked.stdout));
    assert_eq!(first(&planned.stdout)[1], "  hint: did you mean \"app\"?");
}

#[test]
fn templates_of_the_update_are_tried_out() {
    let mut update = running();
    update["Marbles"]["web"]["Parameters"]["Env"]["KEY"] = json!("{{ hex .Secrets.none }}");
    let run = place(&update).run(OFFLINE);
    assert_eq!(run.code, 2, "{}", run.stdout);
    assert!(run.stdout.contains("error: ") && run.stdout.contains("Marbles.web"), "{}", run.stdout);
}

#[test]
fn an_update_that_nobody_may_make_is_refused() {
    let place = place(&running());
    let mut locked = running();
    locked["Roles"]["admin"]["Actions"] = json!([]);
    place.write("old.json", locked.to_string());
    let run = place.run(OFFLINE);
    assert_eq!(run.code, 2);
    assert!(
        run.stdout.contains("expected a user of the running manifest with UpdateManifest, got none"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_plan_needs_a_running_manifest() {
    let place = place(&running());
    assert_eq!(place.run("manifest plan new.json").code, 1);
    assert_eq!(place.run("manifest plan new.json localhost:1 --running old.json").code, 1);
    assert_eq!(place.run("manifest plan new.json localhost:1 --updates old.json").code, 1);
}

const NOTHING_PENDING: (&str, u16, &str) =
    ("GET /api/v2/update-manifest", 404, r#"{"status":"error","data":null,"message":"no update in progress"}"#);

/// A Coordinator with the running manifest, and what is needed to verify it.
fn coordinator(pending: (&'static str, u16, &str), update: &Value) -> (Fake, Place) {
    let log = json!({"status": "success", "data": {"updateLog": [
        r#"{"time":"t","update":"Initial manifest set"}"#,
        r#"{"time":"t","update":"SecurityVersion increased","user":"ben","package":"app","new version":5}"#,
    ]}});
    let canned = vec![("GET /api/v2/update", 200, log.to_string()), (pending.0, pending.1, pending.2.to_owned())];
    let fake = Fake::start(Script { manifest: Some(running().to_string().into()), canned, ..Script::new() });
    let place = place(update);
    place.write("era.json", format!(r#"{{"UniqueID": "{}"}}"#, "aa".repeat(32)));
    place.write("root.pem", fake.script().tee.root.root_pem());
    (fake, place)
}

fn online(fake: &Fake) -> String {
    let address = fake.address();
    format!("manifest plan new.json {address} --era-config era.json --trust-software-root root.pem")
}

#[test]
fn a_verified_coordinator_is_asked_for_manifest_and_log() {
    let (fake, place) = coordinator(NOTHING_PENDING, &json!({"Packages": {"app": {"SecurityVersion": 6}}}));
    let run = place.run(&online(&fake));
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stdout.contains("\n  Packages.app.SecurityVersion: 5 -> 6\n"), "{}", run.stdout);
    let json = place.run(&format!("{} --output json", online(&fake)));
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&value["coordinator"]["trust"], &value["plan"]["kind"]), (&json!("software"), &json!("packages")));
    // Nothing is changed.
    assert!(fake.requests().iter().all(|request| request.starts_with("GET ")), "{:?}", fake.requests());
    let other = place.run(&online(&fake).replace(" --trust-software-root root.pem", ""));
    assert_eq!((other.code, other.stdout.as_str()), (1, ""));
}

// rules: UPD-1
#[test]
fn beside_a_pending_update_every_other_one_is_refused() {
    let pending = r#"{"status":"success","data":{"manifest":"e30=","message":"1 user still needs to acknowledge the update manifest","missingUsers":["ben"]}}"#;
    let pending = ("GET /api/v2/update-manifest", 200, pending);
    let (fake, place) = coordinator(pending, &json!({"Packages": {"app": {"SecurityVersion": 6}}}));
    let run = place.run(&online(&fake));
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stdout.contains("error: another update is pending: 44136fa355b3678a"), "{}", run.stdout);
    let json: Value = serde_json::from_str(&place.run(&format!("{} --output json", online(&fake))).stdout).unwrap();
    assert_eq!((&json["refused"], &json["pending"]["missingUsers"]), (&json!(true), &json!(["ben"])));
    assert_eq!(json["pending"]["agreedUsers"], json!(null));
}

// rules: UPD-1
#[test]
fn the_pending_update_itself_is_planned_for_those_who_must_decide() {
    let mut update = running();
    update["Packages"]["app"]["SecurityVersion"] = json!(6);
    let text = format!("{update:#}");
    let answer = json!({"status": "success", "data": {
        "manifest": base64::engine::general_purpose::STANDARD.encode(&text),
        "message": "1 user still needs to acknowledge the update manifest",
        "missingUsers": ["ben"],
    }});
    let pending = ("GET /api/v2/update-manifest", 200, answer.to_string());
    let (fake, place) = coordinator((pending.0, pending.1, &pending.2), &update);
    let run = place.run(&online(&fake));
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("\n  Packages.app.SecurityVersion: 5 -> 6\n"), "{}", run.stdout);
    assert!(
        run.stdout.ends_with("\nPending:\n  has agreed: \"ann\"\n  1 more must agree, of: \"ben\"\n"),
        "{}",
        run.stdout
    );
    let json: Value = serde_json::from_str(&place.run(&format!("{} --output json", online(&fake))).stdout).unwrap();
    assert_eq!((&json["refused"], &json["plan"]["breaks"]), (&json!(false), &json!(true)));
    assert_eq!(json["pending"]["agreedUsers"], json!(["ann"]));
    // Other bytes are another update, also where they mean the same.
    place.write("new.json", format!("{text}\n"));
    let other = place.run(&online(&fake));
    assert_eq!(other.code, 2, "{}", other.stdout);
    assert!(other.stdout.contains("error: another update is pending: "), "{}", other.stdout);
}
