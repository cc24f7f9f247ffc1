//! What an update would do: a running manifest, one thing changed, the lines that people read.

use std::collections::{BTreeMap, BTreeSet};

use marblerun_manifest::plan::{
    ChangeKind, Difference, Direction, Fate, Plan, SecretUses, UpdateRefusal, UsedSecrets, logged_security_versions,
};
use marblerun_manifest::{Manifest, UpdateKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::check::{good, with};

fn decode(value: &Value) -> Manifest {
    Manifest::decode(value.to_string().as_bytes()).unwrap()
}

fn uses() -> SecretUses {
    uses_of(&[("web", &["token", "disk", "srv"]), ("job", &[])])
}

fn uses_of(uses: &[(&str, &[&str])]) -> SecretUses {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let used = |secrets: &[&str]| UsedSecrets { current: names(secrets), previous: BTreeSet::new() };
    uses.iter().map(|(marble, secrets)| (marble.to_string(), used(secrets))).collect()
}

fn plan(update: &Manifest) -> Result<Plan, UpdateRefusal> {
    Plan::make((&decode(&good()), &uses()), (update, &uses()))
}

/// Everything that the plan says, except for what every update does.
fn lines(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<_> = plan.difference.changes.iter().map(ToString::to_string).collect();
    lines.extend(plan.difference.access.iter().map(ToString::to_string));
    let always = |name: &str, fate| fate == Fate::Kept || (name == "srv" && fate == Fate::Reissued);
    lines.extend(plan.secrets.iter().filter(|secret| !always(&secret.name, secret.fate)).map(ToString::to_string));
    let of_every_update = "counters-refused";
    lines.extend(
        plan.consequences
            .iter()
            .filter(|consequence| consequence.code.as_str() != of_every_update)
            .map(|consequence| format!("{}{consequence}", if consequence.code.breaks() { "! " } else { "" })),
    );
    lines
}

#[test]
fn each_change_of_a_manifest_is_named_with_what_follows_from_it() {
    let id = "2".repeat(64);
    let cases = [
        ("/Packages/app/SecurityVersion", json!(3)),
        ("/Packages/app/SecurityVersion", json!(1)),
        ("/Packages/app/SignerID", json!(id)),
        ("/Packages/app/AcceptedAdvisories", json!(["INTEL-SA-00615"])),
        ("/Packages/more", json!({"UniqueID": id})),
        ("/Infrastructures", json!({"rack": {"QESVN": 1}})),
        ("/Marbles/web/Package", json!("pinned")),
        ("/Marbles/web/MaxActivations", json!(5)),
        ("/Marbles/web/DisableSecretBinding", json!(true)),
        ("/Marbles/web/Parameters/Argv", json!(["/bin/web", "-v"])),
        ("/Marbles/web/Parameters/Env/TOKEN", json!("x")),
        ("/Marbles/web/Parameters/Files/~1new", json!("x")),
        ("/Marbles/more", json!({"Package": "app"})),
        ("/Marbles/web/TLS", json!([])),
        ("/TLS/front/Outgoing", json!([])),
        ("/Secrets/disk/Size", json!(128)),
        ("/Secrets/token", json!({"Type": "symmetric-key", "Size": 128, "UserDefined": true})),
        ("/Secrets/srv/ValidFor", json!(30)),
        ("/Secrets/srv/Cert", json!({"DNSNames": ["other"]})),
        ("/Secrets/more", json!({"Type": "plain", "UserDefined": true})),
        ("/Secrets/key", json!({"Type": "symmetric-key", "Size": 128})),
        ("/Users/ann/Roles", json!(["admin"])),
        ("/Users/ben/Roles", json!(["versions", "tokens"])),
        ("/Users", json!({"ann": {"Certificate": crate::activation_file("ben.pem"), "Roles": ["tokens", "admin"]}})),
        ("/Roles/tokens/Actions", json!(["WriteSecret", "ReadSecret"])),
        ("/RecoveryKeys", json!({})),
        ("/RecoveryKeys/other", json!(crate::recovery_key_pem())),
        ("/Config/RecoveryThreshold", json!(0)),
        ("/Config/UpdateThreshold", json!(0)),
        ("/Config/SealMode", json!("Disabled")),
        ("/Config/SealMode", json!("UniqueKey")),
        ("/Config/FeatureGates", json!([])),
        ("/Config/RotateRootSecret", json!(true)),
    ];
    let mut text = String::new();
    for (pointer, value) in cases {
        let plan = plan(&with(pointer, value)).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        text += &format!("{pointer}\n");
        for line in lines(&plan) {
            text += &format!("  {line}\n");
        }
    }
    insta::assert_snapshot!(text, @r##"
    /Packages/app/SecurityVersion
      Packages.app.SecurityVersion: 2 -> 3
      ! Packages.app.SecurityVersion: enclaves below security version 3 are refused when they are activated as "web" [enclave-refused]
    /Packages/app/SecurityVersion
      Packages.app.SecurityVersion: 2 -> 1
      ! Packages.app.SecurityVersion: enclaves of security version 1 are accepted, not only from 2 on [security-version-lowered]
    /Packages/app/SignerID
      Packages.app.SignerID: 1111111111111111111111111111111111111111111111111111111111111111 -> 2222222222222222222222222222222222222222222222222222222222222222
      ! Packages.app: the enclaves of before are refused when they are activated as "web" [enclave-refused]
      Packages.app: other software gets the credentials and the secrets "disk", "srv", "token" of "web" [other-software]
    /Packages/app/AcceptedAdvisories
      Packages.app.AcceptedAdvisories: (none) -> INTEL-SA-00615
    /Packages/more
      Packages.more: added
    /Infrastructures
      Infrastructures.rack: added
    /Marbles/web/Package
      Marbles.web.Package: app -> pinned
      ! Marbles.web.Package: enclaves of package "app" are refused when they are activated [enclave-refused]
      Marbles.web.Package: other software gets the credentials and the secrets "disk", "srv", "token" of "web" [other-software]
    /Marbles/web/MaxActivations
      Marbles.web.MaxActivations: 0 -> 5
      Marbles.web.MaxActivations: 5 activations are allowed from now on [activations-counted]
    /Marbles/web/DisableSecretBinding
      Marbles.web.DisableSecretBinding: false -> true
      ! Marbles.web.DisableSecretBinding: instances derive other keys: "disk"; what the old ones encrypted is lost [derived-keys-changed]
    /Marbles/web/Parameters/Argv
      Marbles.web.Parameters.Argv: changed
    /Marbles/web/Parameters/Env/TOKEN
      Marbles.web.Parameters.Env.TOKEN: changed
    /Marbles/web/Parameters/Files/~1new
      Marbles.web.Parameters.Files["/new"]: added
    /Marbles/more
      Marbles.more: added
    /Marbles/web/TLS
      Marbles.web.TLS: front -> (none)
    /TLS/front/Outgoing
      TLS.front.Outgoing: changed
    /Secrets/disk/Size
      Secrets.disk.Size: 256 -> 128
      secret "disk": new value; the old one is gone
      ! Secrets.disk: the old key is gone, and with it what it encrypted [value-lost]
    /Secrets/token
      Secrets.token.Type: plain -> symmetric-key
      Secrets.token.Size: 0 -> 128
      secret "token": the old value is gone; the new one has to be uploaded
      ! Secrets.token: the uploaded value is gone [upload-lost]
      Marbles.web: cannot be activated before these secrets are uploaded: "token" [upload-needed]
    /Secrets/srv/ValidFor
      Secrets.srv.ValidFor: 0 -> 30
      secret "srv": new value; the old one is gone
      ! Secrets.srv: the old key and certificate are gone [value-lost]
    /Secrets/srv/Cert
      Secrets.srv.Cert: changed
    /Secrets/more
      Secrets.more: added
      secret "more": new, has to be uploaded
    /Secrets/key
      Secrets.key: added
      secret "key": new, is generated
    /Users/ann/Roles
      Users.ann.Roles: admin, tokens -> admin
      user "ann" loses WriteSecret on secret "token"
    /Users/ben/Roles
      Users.ben.Roles: versions -> tokens, versions
      user "ben" gains WriteSecret on secret "token"
    /Users
      Users.ann.Certificate: changed
      Users.ben: removed
      user "ben" loses UpdateSecurityVersion on package "app"
      ! Users.ann.Certificate: the old certificate is not accepted any more [user-certificate-replaced]
      ! Users.ben: the user's certificate is not accepted any more [user-removed]
    /Roles/tokens/Actions
      Roles.tokens.Actions: writesecret -> readsecret, writesecret
      user "ann" gains ReadSecret on secret "token"
    /RecoveryKeys
      RecoveryKeys.ops: removed
      ! RecoveryKeys: nobody can recover the state any more; what the recovery parties hold opens it no more [recovery-removed]
    /RecoveryKeys/other
      RecoveryKeys.other: added
      ! RecoveryKeys: whoever applies the update gets new recovery data, the old do not open the new state; 2 of 2 keys are needed [recovery-replaced]
    /Config/RecoveryThreshold
    /Config/UpdateThreshold
      Config.UpdateThreshold: 1 -> 0
    /Config/SealMode
      Config.SealMode: ProductKey -> Disabled
      ! Config.SealMode: the state is not stored any more: it ends with the Coordinator's process [state-not-sealed]
    /Config/SealMode
      Config.SealMode: ProductKey -> UniqueKey
      Config.SealMode: the state is sealed in mode UniqueKey [seal-mode-changed]
    /Config/FeatureGates
      Config.FeatureGates: MonotonicCounter -> (none)
      ! Config.FeatureGates: MonotonicCounter is switched off [feature-off]
    /Config/RotateRootSecret
      Config.RotateRootSecret: false -> true
      secret "disk": new key; the old one is the previous value
      ! Marbles.web: looks at the new keys, but not at the previous ones, and cannot read what those encrypted: "disk" [previous-unused]
    "##);
}

#[test]
fn removed_entries_take_their_access_with_them() {
    let mut update = good();
    for (section, name) in [("Marbles", "job"), ("Packages", "pinned"), ("Users", "ben"), ("Roles", "versions")] {
        update[section].as_object_mut().unwrap().remove(name);
    }
    insta::assert_snapshot!(lines(&plan(&decode(&update)).unwrap()).join("\n"), @r##"
    Packages.pinned: removed
    Marbles.job: removed
    Users.ben: removed
    Roles.versions: removed
    user "ben" loses UpdateSecurityVersion on package "app"
    ! Marbles.job: running instances keep what they have, but none can be activated any more [marble-removed]
    ! Users.ben: the user's certificate is not accepted any more [user-removed]
    "##);
}

#[test]
fn marbles_gain_and_lose_the_secrets_that_their_templates_use() {
    let manifest = decode(&good());
    let new = uses_of(&[("web", &["token", "missing"]), ("job", &["disk"]), ("nobody", &["disk"])]);
    let difference = Difference::between((&manifest, &uses()), (&manifest, &new));
    assert_eq!(difference.changes, []);
    let lines: Vec<_> = difference.access.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"Marble "job" gains secret "disk""#,
            r#"Marble "web" loses secret "disk""#,
            r#"Marble "web" loses secret "srv""#,
        ]
    );
}

// rules: UPD-5, UPD-6
#[test]
fn the_running_manifest_says_who_has_to_agree() {
    let mut running = good();
    running["Users"]["ben"]["Roles"] = json!(["admin"]);
    let mut update = running.clone();
    update["Users"]["ann"]["Roles"] = json!([]);
    update["Config"]["UpdateThreshold"] = json!(1);
    for (threshold, needed, text) in
        [(0, 2, r#"all of "ann", "ben" have to agree"#), (1, 1, r#"any one of "ann", "ben" has to apply it"#)]
    {
        running["Config"]["UpdateThreshold"] = json!(threshold);
        let plan = Plan::make((&decode(&running), &uses()), (&decode(&update), &uses())).unwrap();
        assert_eq!(
            (plan.approval.needed, plan.approval.users.as_slice()),
            (needed, &["ann", "ben"].map(String::from)[..])
        );
        assert_eq!(plan.approval.to_string(), text);
    }
}

#[test]
fn an_update_after_which_nobody_may_update_locks_everybody_out() {
    let mut update = good();
    update["Users"]["ann"]["Roles"] = json!(["tokens"]);
    update["Config"]["UpdateThreshold"] = json!(0);
    let plan = plan(&decode(&update)).unwrap();
    assert!(plan.consequences.iter().any(|consequence| consequence.code.as_str() == "locked-out"), "{plan:?}");
    // And the one after that is refused.
    let refused = Plan::make((&decode(&update), &uses()), (&decode(&good()), &uses())).unwrap_err();
    assert_eq!(refused, UpdateRefusal::Nobody { permission: "UpdateManifest" });
}

// rules: UPD-9, UPD-10, UPD-11
#[test]
fn the_fate_of_secrets_follows_their_definition() {
    let fate = |old: Value, new: Value, rotates: bool| {
        let manifest = |secret: Value, rotates: bool| {
            let mut manifest = good();
            manifest["Secrets"]["s"] = secret;
            manifest["Config"]["RotateRootSecret"] = json!(rotates);
            if manifest["Secrets"]["s"].is_null() {
                manifest["Secrets"].as_object_mut().unwrap().remove("s");
            }
            decode(&manifest)
        };
        let plan = Plan::make((&manifest(old, false), &uses()), (&manifest(new, rotates), &uses())).unwrap();
        plan.secrets.iter().find(|secret| secret.name == "s").map(|secret| secret.fate)
    };
    let key = |size: u64| json!({"Type": "symmetric-key", "Size": size});
    let upload = |kind: &str| json!({"Type": kind, "UserDefined": true});
    let certificate = |valid_for: u64| json!({"Type": "cert-ecdsa", "Size": 256, "ValidFor": valid_for});
    assert_eq!(fate(json!(null), json!(null), false), None);
    assert_eq!(fate(json!(null), key(128), false), Some(Fate::Generated));
    assert_eq!(fate(json!(null), upload("plain"), false), Some(Fate::AwaitsUpload));
    let given = json!({"Type": "plain", "UserDefined": true, "Private": "QQ==", "Public": "QQ=="});
    assert_eq!(fate(json!(null), given.clone(), false), Some(Fate::InManifest));
    assert_eq!(fate(key(128), given, false), Some(Fate::Replaced));
    assert_eq!(fate(key(128), upload("plain"), false), Some(Fate::UploadLost));
    assert_eq!(fate(key(128), json!(null), false), Some(Fate::Removed));
    assert_eq!(fate(key(128), key(128), false), Some(Fate::Kept));
    assert_eq!(fate(key(128), key(128), true), Some(Fate::Rotated));
    assert_eq!(fate(key(128), key(256), true), Some(Fate::Replaced));
    assert_eq!(fate(upload("plain"), upload("plain"), true), Some(Fate::Kept));
    assert_eq!(fate(upload("plain"), upload("symmetric-key"), false), Some(Fate::UploadLost));
    assert_eq!(fate(upload("symmetric-key"), key(128), false), Some(Fate::Replaced));
    assert_eq!(fate(certificate(0), certificate(0), false), Some(Fate::Reissued));
    assert_eq!(fate(certificate(0), certificate(30), false), Some(Fate::Replaced));
}

#[test]
fn rotation_breaks_marbles_that_do_not_look_at_the_previous_key() {
    let update = with("/Config/RotateRootSecret", json!(true));
    let unused = |uses: &SecretUses| {
        let plan = Plan::make((&decode(&good()), uses), (&update, uses)).unwrap();
        let unused = plan.consequences.into_iter().find(|consequence| consequence.code.as_str() == "previous-unused");
        unused.map(|consequence| consequence.to_string())
    };
    let mut uses = uses();
    assert_eq!(
        unused(&uses).unwrap(),
        "Marbles.web: looks at the new keys, but not at the previous ones, and cannot read what those encrypted: \"disk\" \
         [previous-unused]"
    );
    uses.get_mut("web").unwrap().previous.insert("disk".to_owned());
    assert_eq!(unused(&uses), None);
}

// rules: SAFE-7
#[test]
fn the_default_validity_is_no_other_definition() {
    let plan = plan(&with("/Secrets/srv/ValidFor", json!(365))).unwrap();
    assert!(plan.secrets.iter().any(|secret| secret.name == "srv" && secret.fate == Fate::Reissued), "{plan:?}");
}

// rules: UPD-13
#[test]
fn a_threshold_of_all_recovery_keys_is_the_same_as_none() {
    let keys = json!({"a": crate::recovery_key_pem(), "b": crate::recovery_key_pem()});
    let manifest = |threshold: u64| {
        let mut manifest = good();
        manifest["RecoveryKeys"] = keys.clone();
        manifest["Config"]["RecoveryThreshold"] = json!(threshold);
        decode(&manifest)
    };
    let plan = Plan::make((&manifest(0), &uses()), (&manifest(2), &uses())).unwrap();
    assert!(plan.consequences.iter().all(|consequence| consequence.code.as_str() != "recovery-replaced"), "{plan:?}");
}

fn package_update(running: &Manifest, update: Value) -> Result<Plan, UpdateRefusal> {
    Plan::make((running, &uses()), (&decode(&update), &SecretUses::new()))
}

// rules: UPD-4
#[test]
fn an_update_of_packages_keeps_everything_but_versions_and_certificates() {
    let plan = package_update(&decode(&good()), json!({"Packages": {"app": {"SecurityVersion": 3}}})).unwrap();
    assert_eq!(plan.kind, UpdateKind::PackageOnly);
    assert_eq!(
        lines(&plan),
        [
            "Packages.app.SecurityVersion: 2 -> 3",
            "! Packages.app.SecurityVersion: enclaves below security version 3 are refused when they are activated as \
             \"web\" [enclave-refused]",
        ]
    );
    let reissued: Vec<_> = plan.reissued.iter().map(ToString::to_string).collect();
    assert_eq!(reissued, ["intermediate certificate", "Marble root certificate", "certificate of secret \"srv\""]);
    assert_eq!(plan.approval.to_string(), r#""ben" has to apply it"#);
}

// rules: UPD-2, UPD-3
#[test]
fn each_mistake_in_an_update_of_packages_is_refused() {
    let running = decode(&good());
    let text = |update: Value| {
        let error = package_update(&running, update).unwrap_err();
        let place = error.place();
        assert!(place.is_top() || error.to_string().starts_with(&format!("{place}: ")), "{place}, {error}");
        format!("{error}; {}", error.hint().unwrap_or_default())
    };
    let app = |package: Value| json!({"Packages": {"app": package}});
    let lines = [
        text(json!({})),
        text(json!({"Config": {"UpdateThreshold": 1}})),
        text(json!({"Packages": {"App": {"SecurityVersion": 3}}})),
        text(app(json!({"SecurityVersion": 3, "Debug": true}))),
        text(app(json!({"SecurityVersion": 3, "UniqueID": "aa"}))),
        text(app(json!({"SecurityVersion": 3, "SignerID": "aa"}))),
        text(app(json!({"SecurityVersion": 3, "ProductID": 0}))),
        text(app(json!({}))),
        text(app(json!({"SecurityVersion": 1}))),
        text(json!({"Packages": {"pinned": {"SecurityVersion": 1}}})),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r##"
    Packages: expected at least one package, got none; an update without Marbles, Secrets, Users, Roles, TLS and RecoveryKeys is one of packages only
    Packages: expected at least one package, got none; an update without Marbles, Secrets, Users, Roles, TLS and RecoveryKeys is one of packages only
    Packages.App: expected a package of the manifest that is set; 
    Packages.app.Debug: expected only a SecurityVersion, got also this; for other changes give a whole manifest
    Packages.app.UniqueID: expected only a SecurityVersion, got also this; for other changes give a whole manifest
    Packages.app.SignerID: expected only a SecurityVersion, got also this; for other changes give a whole manifest
    Packages.app.ProductID: expected only a SecurityVersion, got also this; for other changes give a whole manifest
    Packages.app.SecurityVersion: expected a number, got none; 
    Packages.app.SecurityVersion: expected at least 2, got 1; 
    Users: expected a user of the running manifest with UpdateSecurityVersion, got none; no single user has it on all packages of the update
    "##);
    // The version in force is enough, and a package that had none gets one.
    assert!(package_update(&running, app(json!({"SecurityVersion": 2}))).is_ok());
    let mut with_permission = good();
    with_permission["Roles"]["versions"]["ResourceNames"] = json!(["app", "pinned"]);
    let pinned = json!({"Packages": {"pinned": {"SecurityVersion": 1}}});
    assert!(package_update(&decode(&with_permission), pinned).is_ok());
}

#[test]
fn a_full_update_that_is_no_manifest_is_refused_in_the_words_of_the_check() {
    let error = plan(&with("/Marbles/web/Package", json!("App"))).unwrap_err();
    assert_eq!(error.to_string(), "Marbles.web.Package: expected the name of a package, got \"App\"");
    assert_eq!(error.hint().unwrap(), "did you mean \"app\"?");
}

#[test]
fn the_update_log_gives_the_security_versions_in_force() {
    let log = [
        r#"{"time":"t","update":"Initial manifest set"}"#,
        r#"{"time":"t","update":"SecurityVersion increased","user":"ben","package":"app","new version":9}"#,
        r#"{"time":"t","update":"Complete Manifest updated","manifestFingerprint":"00"}"#,
        r#"{"time":"t","update":"Secret set","user":"ann","secret":"token","type":"plain"}"#,
        r#"{"time":"t","update":"SecurityVersion increased","user":"ben","package":"app","new version":4}"#,
        r#"{"time":"t","update":"SecurityVersion increased","user":"ben","package":"gone","new version":7}"#,
        "",
    ];
    let versions = logged_security_versions(log).unwrap();
    assert_eq!(versions, BTreeMap::from([("app".to_owned(), 4), ("gone".to_owned(), 7)]));
    let mut running = decode(&good());
    running.apply_security_versions(&versions);
    assert_eq!(running.packages["app"].security_version, Some(4));
    let error = package_update(&running, json!({"Packages": {"app": {"SecurityVersion": 3}}})).unwrap_err();
    assert_eq!(error.to_string(), "Packages.app.SecurityVersion: expected at least 4, got 3");
    // A log that is older than the manifest lowers nothing.
    running.apply_security_versions(&BTreeMap::from([("app".to_owned(), 1)]));
    assert_eq!(running.packages["app"].security_version, Some(4));
    assert!(logged_security_versions(["x"]).is_err());
}

/// Manifests that differ in any of these places.
fn manifests() -> impl Strategy<Value = (Value, SecretUses)> {
    let names = prop::sample::subsequence(vec!["token", "disk", "srv"], 0..=3);
    (0..3_u64, 0..3_u64, any::<[bool; 8]>(), names.clone(), names).prop_map(|(version, size, flags, web, job)| {
        let mut manifest = good();
        manifest["Packages"]["app"]["SecurityVersion"] = json!(version);
        manifest["Secrets"]["disk"]["Size"] = json!(128 << size);
        manifest["Marbles"]["web"]["DisableSecretBinding"] = json!(flags[0]);
        manifest["Secrets"]["srv"]["Shared"] = json!(flags[1]);
        if flags[2] {
            manifest["Users"]["ben"]["Roles"] = json!(["versions", "tokens"]);
        }
        if flags[3] {
            manifest["Roles"]["tokens"]["Actions"] = json!(["ReadSecret"]);
        }
        if flags[4] {
            manifest["Marbles"].as_object_mut().unwrap().remove("job");
        }
        if flags[5] {
            manifest["Secrets"]["extra"] = json!({"Type": "plain", "UserDefined": true});
        }
        if flags[6] {
            manifest["RecoveryKeys"] = json!({});
        }
        manifest["Config"]["RotateRootSecret"] = json!(flags[7]);
        (manifest, uses_of(&[("web", &web), ("job", &job)]))
    })
}

proptest! {
    #[test]
    fn a_manifest_differs_from_itself_in_nothing((manifest, uses) in manifests()) {
        let manifest = decode(&manifest);
        let difference = Difference::between((&manifest, &uses), (&manifest, &uses));
        prop_assert!(difference.is_empty(), "{difference:?}");
    }

    #[test]
    fn a_difference_read_backwards_is_the_opposite((old, old_uses) in manifests(), (new, new_uses) in manifests()) {
        let (old, new) = (decode(&old), decode(&new));
        let there = Difference::between((&old, &old_uses), (&new, &new_uses));
        let mut back = Difference::between((&new, &new_uses), (&old, &old_uses));
        for change in &mut back.changes {
            change.kind = match change.kind.clone() {
                ChangeKind::Added => ChangeKind::Removed,
                ChangeKind::Removed => ChangeKind::Added,
                ChangeKind::Changed { from, to } => ChangeKind::Changed { from: to, to: from },
            };
        }
        for change in &mut back.access {
            change.direction = match change.direction {
                Direction::Gained => Direction::Lost,
                Direction::Lost => Direction::Gained,
            };
        }
        back.access.sort();
        prop_assert_eq!(there, back);
    }

    #[test]
    fn a_plan_of_an_unchanged_manifest_loses_nothing((manifest, uses) in manifests()) {
        let manifest = decode(&manifest);
        let plan = Plan::make((&manifest, &uses), (&manifest, &uses)).unwrap();
        prop_assert!(plan.difference.is_empty());
        let lost = |fate| matches!(fate, Fate::Removed | Fate::Replaced | Fate::UploadLost);
        prop_assert!(!plan.secrets.iter().any(|secret| lost(secret.fate)), "{plan:?}");
        let broken: Vec<_> =
            plan.consequences.iter().map(|consequence| consequence.code.as_str()).collect();
        prop_assert!(broken.contains(&"counters-refused"));
        let expected = if manifest.config.rotate_root_secret { &["previous-unused", "counters-refused"][..] } else { &broken[..1] };
        prop_assert!(broken.iter().all(|code| expected.contains(code)), "{:?}", broken);
    }
}
