//! Full updates: who must agree, in which order, what is logged, and what a restart finds.

use std::sync::Arc;

use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal, ReplayError};
use marblerun_coordinator_core::record::{Record, UpdateAcknowledged, UpdateCancelled, UpdateInitiated};
use marblerun_coordinator_core::update::{self, Outcome, Prepared, RecoveryChange, UpdateError};
use marblerun_coordinator_core::user_secrets::prepare_upload;
use marblerun_manifest::{SealMode, decode_user_secrets_v1};
use marblerun_pki::Certificate;
use marblerun_pki::signature::verify_p384_sha256;
use marblerun_secret::SecretBytes;

use crate::fixture::{self, NOW, PACKAGES, UUID, activate, made_user, made_user_pem, variable};

/// A deployment under test, with what a restart begins with.
pub struct World {
    pub ledger: Ledger,
    pub stored: Vec<SecretBytes>,
}

impl World {
    #[track_caller]
    pub fn new(manifest: &str) -> Self {
        let set = Record::ManifestSet(fixture::prepare(manifest).unwrap().record).encode();
        let stored = vec![Record::Genesis(fixture::genesis()).encode(), set];
        Self { ledger: fixture::replayed(&stored), stored }
    }

    pub fn submit(&mut self, command: Command) -> Result<(), Refusal> {
        let record = self.ledger.decide(command)?.unwrap();
        let bytes = record.encode();
        self.ledger.apply(record).unwrap();
        self.stored.push(bytes);
        // Live and after a restart it is the same state.
        assert_eq!(fixture::whole_state(&fixture::replayed(&self.stored)), fixture::whole_state(&self.ledger));
        Ok(())
    }

    pub fn prepare(&self, user: &str, text: &str) -> Result<Prepared, UpdateError> {
        update::prepare(&self.ledger.snapshot(), &made_user(&self.ledger, user), text.as_bytes(), NOW)
    }

    fn prepare_acknowledgement(&self, user: &str, text: &str) -> Result<Prepared, UpdateError> {
        let user = made_user(&self.ledger, user);
        update::prepare_acknowledgement(&self.ledger.snapshot(), &user, text.as_bytes(), NOW)
    }

    fn prepare_cancellation(&self, user: &str) -> Result<Prepared, UpdateError> {
        update::prepare_cancellation(&self.ledger.snapshot(), &made_user(&self.ledger, user), NOW)
    }

    #[track_caller]
    pub fn take(&mut self, prepared: Result<Prepared, UpdateError>) -> Outcome {
        let Prepared { step, outcome } = prepared.unwrap();
        self.submit(Command::Update(Box::new(step))).unwrap();
        outcome
    }

    #[track_caller]
    pub fn update(&mut self, user: &str, text: &str) -> Outcome {
        self.take(self.prepare(user, text))
    }

    #[track_caller]
    fn acknowledge(&mut self, user: &str, text: &str) -> Outcome {
        self.take(self.prepare_acknowledgement(user, text))
    }

    #[track_caller]
    pub fn upload(&mut self, user: &str, text: &str) {
        let upload = decode_user_secrets_v1(text.as_bytes()).unwrap();
        let snapshot = self.ledger.snapshot();
        let prepared = prepare_upload(&snapshot, &made_user(&self.ledger, user), upload, NOW).unwrap();
        self.submit(Command::SetSecrets(prepared)).unwrap();
    }

    /// The log without the line of the first manifest and without times.
    fn log(&self) -> Vec<String> {
        let time = r#""time":"2026-02-01T09:30:00.125Z","#;
        self.ledger.snapshot().update_log.iter().skip(1).map(|line| line.replace(time, "")).collect()
    }

    fn pending(&self) -> Option<(u64, Vec<String>)> {
        self.ledger.snapshot().pending_update.as_ref().map(|pending| (pending.missing(), pending.missing_users()))
    }

    fn raw_manifest(&self) -> Vec<u8> {
        self.ledger.snapshot().deployment().unwrap().raw_manifest.to_vec()
    }
}

/// A manifest whose `updaters` may update, `dora` may only raise `p` and write `token`.
fn manifest(updaters: &[&str], threshold: u64, argument: &str) -> String {
    with(updaters, &format!(r#""UpdateThreshold":{threshold}"#), &format!(r#""Env":{{"A":"{argument}"}}"#), "")
}

fn with(updaters: &[&str], config: &str, parameters: &str, rest: &str) -> String {
    let user = |name: &str, roles: &str| {
        format!(r#""{name}":{{"Certificate":{},"Roles":[{roles}]}}"#, serde_json::json!(made_user_pem(name)))
    };
    let mut users: Vec<String> = updaters.iter().map(|name| user(name, r#""update""#)).collect();
    users.push(user("dora", r#""raise","token""#));
    format!(
        r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p","Parameters":{{{parameters}}}}}}},"Users":{{{}}},
            "Secrets":{{"token":{{"Type":"plain","UserDefined":true}}}},
            "Roles":{{"update":{{"ResourceType":"Manifest","Actions":["updatemanifest"]}},
                "raise":{{"ResourceType":"Packages","ResourceNames":["p"],"Actions":["UpdateSecurityVersion"]}},
                "token":{{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["WriteSecret"]}}}},
            "Config":{{{config}}}{rest}}}"#,
        users.join(",")
    )
}

const THREE: [&str; 3] = ["ann", "ben", "cy"];

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

// rules: UPD-5, UPD-6
#[test]
fn threshold_and_users_are_those_of_the_running_manifest() {
    for (threshold, missing) in [(0, 2), (3, 2), (2, 1)] {
        let mut world = World::new(&manifest(&THREE, threshold, "old"));
        // The new manifest asks nobody but dora.
        let new = manifest(&[], 0, "new");
        let Outcome::Waits(pending) = world.update("ben", &new) else { panic!("it waits") };
        assert_eq!((pending.missing(), pending.missing_users()), (missing, names(&["ann", "cy"])));
        assert_eq!(world.pending(), Some((missing, names(&["ann", "cy"]))));
    }
    let mut world = World::new(&manifest(&THREE, 1, "old"));
    assert!(matches!(world.update("cy", &manifest(&THREE, 0, "new")), Outcome::Applied(_)));
    assert_eq!(world.pending(), None);
    assert!(matches!(world.update("cy", &manifest(&THREE, 0, "newer")), Outcome::Waits(_)));
}

// rules: UPD-6, UPD-14, LOG-1, LOG-3
#[test]
fn an_update_of_three_is_applied_with_the_last_acknowledgement_and_logged_step_by_step() {
    let mut world = World::new(&manifest(&THREE, 0, "old"));
    let new = manifest(&THREE, 0, "new");
    let fingerprint = marblerun_manifest::fingerprint(new.as_bytes());
    world.update("ben", &new);
    world.acknowledge("cy", &new);
    assert_eq!(variable(&activate(&world.ledger, "m", UUID).unwrap(), "A"), "old");
    world.ledger = fixture::replayed(&world.stored);
    assert_eq!(world.pending(), Some((1, names(&["ann"]))));
    let Outcome::Applied(applied) = world.acknowledge("ann", &new) else { panic!("it is applied") };
    assert_eq!(applied.fingerprint, fingerprint);
    assert!(matches!(applied.recovery, RecoveryChange::Kept));
    assert_eq!(variable(&activate(&world.ledger, "m", UUID).unwrap(), "A"), "new");
    assert_eq!((world.raw_manifest(), world.pending()), (new.into_bytes(), None));
    let acknowledged = r#""update":"Complete Manifest update acknowledged by user""#;
    assert_eq!(
        world.log(),
        [
            format!(
                r#"{{"update":"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update","user":"ben","missingAcknowledgments":2,"missingUsers":["ann","cy"],"manifestFingerprint":"{fingerprint}"}}"#
            ),
            format!(
                r#"{{{acknowledged},"user":"cy","missingAcknowledgments":1,"missingUsers":["ann"],"manifestFingerprint":"{fingerprint}"}}"#
            ),
            format!(
                r#"{{{acknowledged},"user":"ann","missingAcknowledgments":0,"missingUsers":[],"manifestFingerprint":"{fingerprint}"}}"#
            ),
            format!(r#"{{"update":"Complete Manifest updated","manifestFingerprint":"{fingerprint}"}}"#),
        ]
    );
}

// rules: LOG-1
#[test]
fn an_update_that_needs_nobody_else_is_logged_as_begun_and_done() {
    let mut world = World::new(&manifest(&["ann"], 0, "old"));
    let new = manifest(&["ann"], 0, "new");
    let fingerprint = marblerun_manifest::fingerprint(new.as_bytes());
    world.update("ann", &new);
    assert_eq!(
        world.log(),
        [
            format!(
                r#"{{"update":"Complete Manifest update initiated by user. No further acknowledgements required","user":"ann","manifestFingerprint":"{fingerprint}"}}"#
            ),
            format!(r#"{{"update":"Complete Manifest updated","manifestFingerprint":"{fingerprint}"}}"#),
        ]
    );
}

// rules: UPD-7
#[test]
fn a_repeated_acknowledgement_is_logged_and_not_counted() {
    let mut world = World::new(&manifest(&THREE, 0, "old"));
    let new = manifest(&THREE, 0, "new");
    world.update("ann", &new);
    for user in ["ann", "ben", "ben", "ann"] {
        assert!(matches!(world.acknowledge(user, &new), Outcome::Waits(_)));
    }
    assert_eq!(world.pending(), Some((1, names(&["cy"]))));
    assert_eq!(world.log().len(), 5);
}

// rules: UPD-7, UPD-8, LOG-4
#[test]
fn an_acknowledgement_is_refused_without_pending_update_by_others_and_with_other_bytes_in_this_order() {
    let mut world = World::new(&manifest(&THREE, 0, "old"));
    let new = manifest(&THREE, 0, "new");
    let error = world.prepare_acknowledgement("dora", "x").unwrap_err();
    assert!(matches!(error, UpdateError::NothingPending), "{error}");
    world.update("ann", &new);
    let before = fixture::whole_state(&world.ledger);
    let error = world.prepare_acknowledgement("dora", "x").unwrap_err();
    assert!(matches!(&error, UpdateError::NotAsked { user } if user == "dora"), "{error}");
    for other in [format!("{new}\n"), new.replace('\n', " "), String::new(), manifest(&THREE, 0, "old")] {
        let error = world.prepare_acknowledgement("ben", &other).unwrap_err();
        assert!(matches!(error, UpdateError::OtherManifest { .. }), "{error}");
    }
    assert_eq!(fixture::whole_state(&world.ledger), before);
}

// rules: UPD-1, LOG-4, SAFE-8
#[test]
fn while_an_update_is_pending_no_other_begins() {
    let mut world = World::new(&manifest(&THREE, 0, "old"));
    let new = manifest(&THREE, 0, "new");
    let packages = r#"{"Packages":{"p":{"SecurityVersion":9}}}"#;
    let early = [world.prepare("ben", &new).unwrap(), world.prepare("dora", packages).unwrap()];
    world.update("ann", &new);
    let before = fixture::whole_state(&world.ledger);
    for (user, text) in [("ann", new.as_str()), ("ben", packages), ("dora", packages), ("dora", "{}")] {
        let error = world.prepare(user, text).unwrap_err();
        assert!(matches!(error, UpdateError::Pending), "{error}");
    }
    // What was prepared before has to be prepared again, so two that begin together cannot both succeed.
    for early in early {
        assert_eq!(world.submit(Command::Update(Box::new(early.step))).unwrap_err(), Refusal::UpdateChanged);
    }
    assert_eq!(fixture::whole_state(&world.ledger), before);
}

// rules: UPD-8, LOG-1
#[test]
fn whoever_may_update_cancels_and_then_nothing_is_pending() {
    let mut world = World::new(&manifest(&THREE, 0, "old"));
    let new = manifest(&THREE, 0, "new");
    let denied = world.prepare_cancellation("dora").unwrap_err();
    assert!(matches!(denied, UpdateError::Denied(_)), "the permission comes first: {denied}");
    assert!(matches!(world.prepare_cancellation("ben").unwrap_err(), UpdateError::NothingPending));
    world.update("ann", &new);
    world.acknowledge("cy", &new);
    let late = world.prepare_acknowledgement("ben", &new).unwrap();
    assert!(matches!(world.take(world.prepare_cancellation("ben")), Outcome::Cancelled));
    assert_eq!(world.pending(), None);
    assert!(matches!(world.prepare_acknowledgement("cy", &new).unwrap_err(), UpdateError::NothingPending));
    assert_eq!(world.submit(Command::Update(Box::new(late.step))).unwrap_err(), Refusal::UpdateChanged);
    assert_eq!(world.raw_manifest(), manifest(&THREE, 0, "old").into_bytes());
    let fingerprint = marblerun_manifest::fingerprint(new.as_bytes());
    assert_eq!(
        world.log().last().unwrap(),
        &format!(
            r#"{{"update":"Complete Manifest update cancelled by user","user":"ben","manifestFingerprint":"{fingerprint}"}}"#
        )
    );
    // The next one asks everybody again.
    world.update("cy", &new);
    assert_eq!(world.pending(), Some((2, names(&["ann", "ben"]))));
}

// rules: CHK-1, UPD-12, SAFE-12
#[test]
fn what_could_not_be_applied_is_refused_when_it_begins() {
    #[track_caller]
    fn check(new: &str) {
        for updaters in [&THREE[..], &THREE[..1]] {
            let world = World::new(&manifest(updaters, 0, "old"));
            let before = fixture::whole_state(&world.ledger);
            let error = world.prepare("ann", new).unwrap_err();
            assert!(matches!(error, UpdateError::Manifest(_)), "{error:?}");
            assert_eq!(fixture::whole_state(&world.ledger), before);
        }
    }
    let rest = |rest: &str| with(&THREE, "", "", rest);
    check(&rest("")[1..]);
    check(&rest("").replace(r#""Package":"p""#, r#""Package":"q""#));
    check(&with(&THREE, "", r#""Env":{"A":"{{ hex .Secrets.none }}"}"#, ""));
    check(&with(&THREE, "", r#""Env":{"A":"{{ hex"}"#, ""));
    check(&rest(r#","RecoveryKeys":{"a":"no key"}"#));
    check(&with(&THREE, r#""RecoveryThreshold":1"#, "", ""));
    check(&with(&THREE, r#""UpdateThreshold":4"#, "", ""));
    check(&with(&THREE, r#""FeatureGates":["AzureHSMSealing"]"#, "", ""));
    check(&rest("").replace("BEGIN CERTIFICATE-----\\nMII", "BEGIN CERTIFICATE-----\\nAAA"));
    let secret = r#""token":{"Type":"plain","UserDefined":true}"#;
    let bad = r#""bad":{"Type":"cert-ecdsa","Size":256,"Cert":{"NotAfter":"1960-01-01T00:00:00Z"}}"#;
    check(&rest("").replace(secret, &format!("{secret},{bad}")));
}

// rules: UPD-5
#[test]
fn only_who_may_update_begins_a_full_update() {
    let world = World::new(&manifest(&THREE, 0, "old"));
    let error = world.prepare("dora", &manifest(&THREE, 0, "new")).unwrap_err();
    assert!(matches!(error, UpdateError::Denied(_)), "{error}");
    assert!(fixture::new_ledger().snapshot().pending_update.is_none());
    let user = made_user(&world.ledger, "ann");
    let error = update::prepare(&fixture::new_ledger().snapshot(), &user, b"{}", NOW).unwrap_err();
    assert!(matches!(error, UpdateError::State), "{error}");
}

// rules: UPD-12, LOG-4, SAFE-9
#[test]
fn an_update_that_fails_after_the_last_acknowledgement_is_removed_and_logged() {
    let mut world = World::new(&manifest(&["ann", "ben"], 0, "old"));
    // A former version may have let it begin.
    let doomed = with(&["ann", "ben"], "", r#""Env":{"A":"{{ hex .Secrets.none }}"}"#, "");
    let fingerprint = marblerun_manifest::fingerprint(doomed.as_bytes());
    let raw = doomed.clone().into_bytes();
    let begun = Record::UpdateInitiated(UpdateInitiated { raw, user: "ann".to_owned(), log_line: "{}".to_owned() });
    world.stored.push(begun.encode());
    world.ledger.apply(begun).unwrap();
    let before = world.ledger.snapshot();
    let Outcome::Failed(error) = world.acknowledge("ben", &doomed) else { panic!("it fails") };
    assert!(matches!(*error, UpdateError::Manifest(_)), "{error:?}");
    let after = world.ledger.snapshot();
    assert!(after.pending_update.is_none());
    assert!(Arc::ptr_eq(after.deployment().unwrap(), before.deployment().unwrap()));
    assert!(Arc::ptr_eq(&after.identity, &before.identity));
    assert_eq!(
        world.log()[1..],
        [
            format!(
                r#"{{"update":"Complete Manifest update acknowledged by user","user":"ben","missingAcknowledgments":0,"missingUsers":[],"manifestFingerprint":"{fingerprint}"}}"#
            ),
            format!(
                r#"{{"update":"Complete Manifest update cancelled due to error during apply","manifestFingerprint":"{fingerprint}"}}"#
            ),
        ]
    );
}

// rules: UPD-12, LOG-4
#[test]
fn an_update_that_cannot_be_stored_is_removed_by_a_step_of_its_own() {
    let mut world = World::new(&manifest(&["ann", "ben"], 0, "old"));
    let new = manifest(&["ann", "ben"], 0, "new");
    let ben = made_user(&world.ledger, "ben");
    world.update("ann", &new);
    let prepared = world.prepare_acknowledgement("ben", &new).unwrap();
    let Outcome::Applied(applied) = prepared.outcome else { panic!("it would be applied") };
    let acknowledged = applied.acknowledged.unwrap();
    let step = update::prepare_failure(&world.ledger.snapshot(), &ben, &acknowledged, NOW).unwrap();
    world.submit(Command::Update(Box::new(step))).unwrap();
    assert_eq!(world.pending(), None);
    assert_eq!(world.raw_manifest(), manifest(&["ann", "ben"], 0, "old").into_bytes());
    assert!(world.log()[1].contains("acknowledged by user") && world.log()[2].contains("due to error during apply"));
    let again = update::prepare_failure(&world.ledger.snapshot(), &ben, &acknowledged, NOW);
    assert!(matches!(again.unwrap_err(), UpdateError::NothingPending));
}

// rules: UPD-9, SAFE-12
#[test]
fn an_upload_does_not_doom_a_pending_update_and_both_take_effect() {
    let mut world = World::new(&manifest(&["ann", "ben"], 0, "old"));
    let new = manifest(&["ann", "ben"], 0, "{{ string .Secrets.token }}");
    world.update("ann", &new);
    // The preparation of the last step saw nothing of the upload.
    let prepared = world.prepare_acknowledgement("ben", &new).unwrap();
    world.upload("dora", r#"{"token":{"Key":"aGk="}}"#);
    world.submit(Command::Update(Box::new(prepared.step))).unwrap();
    assert_eq!(variable(&activate(&world.ledger, "m", UUID).unwrap(), "A"), "hi");
}

// rules: R17
#[test]
fn an_upload_that_was_prepared_before_an_update_is_prepared_again() {
    let mut world = World::new(&manifest(&["ann"], 0, "old"));
    let prepare = |world: &World| {
        let upload = decode_user_secrets_v1(br#"{"token":{"Key":"aGk="}}"#).unwrap();
        prepare_upload(&world.ledger.snapshot(), &made_user(&world.ledger, "dora"), upload, NOW).unwrap()
    };
    let before_packages = prepare(&world);
    world.update("dora", r#"{"Packages":{"p":{"SecurityVersion":9}}}"#);
    // Security versions have nothing to do with what users upload.
    world.submit(Command::SetSecrets(before_packages)).unwrap();
    assert_eq!(world.ledger.snapshot().deployment().unwrap().security_version("p"), Some(Some(9)));
    let before_manifest = prepare(&world);
    world.update("ann", &manifest(&["ann"], 0, "new"));
    assert_eq!(world.submit(Command::SetSecrets(before_manifest)).unwrap_err(), Refusal::DeploymentChanged);
    let again = prepare(&world);
    world.submit(Command::SetSecrets(again)).unwrap();
}

// rules: SIG-1
#[test]
fn the_new_manifest_is_signed_with_the_same_root_and_fully_replaces_the_old_one() {
    let mut world = World::new(&manifest(&["ann"], 0, "old"));
    world.update("dora", r#"{"Packages":{"p":{"SecurityVersion":9}}}"#);
    let before = world.ledger.snapshot();
    let new = manifest(&["ben"], 0, "new") + " \n";
    world.update("ann", &new);
    let after = world.ledger.snapshot();
    let deployment = after.deployment().unwrap();
    assert_eq!(deployment.fingerprint, marblerun_manifest::fingerprint(new.as_bytes()));
    let root = Certificate::parse(&after.identity.root_certificate).unwrap();
    verify_p384_sha256(root.public_key_der(), new.as_bytes(), &deployment.manifest_signature).unwrap();
    assert_eq!(after.identity.root_certificate, before.identity.root_certificate);
    assert_ne!(after.identity.intermediate_certificate, before.identity.intermediate_certificate);
    assert_eq!(deployment.security_version("p"), Some(None), "versions of package updates end with the manifest");
    let ann = marblerun_manifest::user_certificate(&made_user_pem("ann")).unwrap();
    assert!(deployment.users.authenticate(&ann).is_none());
}

const KEY: &str = include_str!("recovery_key.pem");

fn recoverable(keys: usize, threshold: u64) -> String {
    let keys: Vec<String> = (0..keys).map(|n| format!(r#""k{n}":{}"#, serde_json::json!(KEY))).collect();
    let rest = format!(r#","RecoveryKeys":{{{}}}"#, keys.join(","));
    with(&["ann"], &format!(r#""RecoveryThreshold":{threshold}"#), "", &rest)
}

// rules: UPD-13
#[test]
fn recovery_secrets_are_new_only_if_the_recovery_configuration_is() {
    #[track_caller]
    fn check(old: &str, new: &str, shares: Option<usize>) {
        let mut world = World::new(old);
        let Outcome::Applied(applied) = world.update("ann", new) else { panic!("it is applied") };
        match (applied.recovery, shares) {
            (RecoveryChange::Kept, None) => {}
            (RecoveryChange::Replaced(secrets), Some(shares)) => {
                assert_eq!(secrets.map_or(0, |secrets| secrets.encrypted.len()), shares);
            }
            (change, _) => panic!("{change:?}"),
        }
    }
    check(&recoverable(3, 0), &recoverable(3, 3), None);
    check(&recoverable(3, 2), &recoverable(3, 2), None);
    check(&recoverable(0, 0), &recoverable(0, 0), None);
    check(&recoverable(3, 0), &recoverable(3, 2), Some(3));
    check(&recoverable(1, 0), &recoverable(2, 0), Some(2));
    check(&recoverable(0, 0), &recoverable(1, 0), Some(1));
    check(&recoverable(1, 0), &recoverable(0, 0), Some(0));
}

#[test]
fn the_seal_mode_is_that_of_the_new_manifest_unless_nothing_was_stored() {
    let mode = |word: &str| with(&["ann"], &format!(r#""SealMode":"{word}""#), "", "");
    for (old, new, expected) in [
        ("", "UniqueKey", SealMode::UniqueKey),
        ("UniqueKey", "ProductKey", SealMode::ProductKey),
        ("ProductKey", "Disabled", SealMode::Disabled),
        ("Disabled", "Disabled", SealMode::Disabled),
    ] {
        let mut world = World::new(&mode(old));
        let Outcome::Applied(applied) = world.update("ann", &mode(new)) else { panic!("it is applied") };
        assert_eq!(applied.seal_mode, expected);
    }
    for new in ["", "ProductKey", "UniqueKey"] {
        let error = World::new(&mode("Disabled")).prepare("ann", &mode(new)).unwrap_err();
        assert!(matches!(error, UpdateError::SealMode), "{error}");
    }
}

#[test]
fn names_that_would_not_fit_into_a_record_are_refused_before_anybody_is_asked() {
    let long = "n".repeat(update::MAX_UPDATER_LIST_BYTES);
    let manifest = |argument: &str| manifest(&["ann"], 1, argument).replacen(r#""ann":"#, &format!(r#""{long}":"#), 1);
    let world = World::new(&manifest("old"));
    let error = world.prepare("ann", &manifest("new")).unwrap_err();
    assert!(matches!(error, UpdateError::UpdaterNames), "{}", error.to_string().len());
}

#[test]
fn records_of_full_updates_out_of_place_are_refused_and_change_nothing() {
    #[track_caller]
    fn check(ledger: &mut Ledger, record: Record) {
        let before = fixture::whole_state(ledger);
        let error = ledger.apply(record).unwrap_err();
        assert!(matches!(error, ReplayError::OutOfPlace(_) | ReplayError::Deployment(_)), "{error}");
        assert_eq!(fixture::whole_state(ledger), before);
    }
    let line = || "{}".to_owned();
    let begun = |user: &str| {
        let raw = manifest(&THREE, 0, "new").into_bytes();
        Record::UpdateInitiated(UpdateInitiated { raw, user: user.to_owned(), log_line: line() })
    };
    let acknowledged =
        |user: &str| Record::UpdateAcknowledged(UpdateAcknowledged { user: user.to_owned(), log_line: line() });
    let cancelled = || Record::UpdateCancelled(UpdateCancelled { log_lines: vec![line()] });
    let updated = |argument: &str| {
        let world = World::new(&manifest(&["ann"], 0, "old"));
        let step = world.prepare("ann", &manifest(&THREE, 0, argument)).unwrap().step;
        world.ledger.decide(Command::Update(Box::new(step))).unwrap().unwrap()
    };
    for record in [begun("ann"), acknowledged("ann"), cancelled(), updated("new")] {
        check(&mut fixture::new_ledger(), record);
    }
    let World { mut ledger, .. } = World::new(&manifest(&THREE, 0, "old"));
    let packages = br#"{"Packages":{"p":{"SecurityVersion":9}}}"#;
    let step = update::prepare(&ledger.snapshot(), &made_user(&ledger, "dora"), packages, NOW).unwrap().step;
    let raised = ledger.decide(Command::Update(Box::new(step))).unwrap().unwrap();
    check(&mut ledger, acknowledged("ann"));
    check(&mut ledger, cancelled());
    check(&mut ledger, begun("dora"));
    ledger.apply(begun("ann")).unwrap();
    check(&mut ledger, begun("ben"));
    check(&mut ledger, acknowledged("dora"));
    check(&mut ledger, updated("another"));
    check(&mut ledger, raised);
    // A record that names too few secrets, and one that keeps what is not there.
    let Record::ManifestUpdated(mut short) = updated("new") else { panic!("another kind") };
    short.secrets.clear();
    check(&mut ledger, Record::ManifestUpdated(short));
    let Record::ManifestUpdated(mut missing) = updated("new") else { panic!("another kind") };
    missing.secrets[0].name = "none".to_owned();
    check(&mut ledger, Record::ManifestUpdated(missing));
    ledger.apply(updated("new")).unwrap();
}
