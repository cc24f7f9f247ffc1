//! Package-only updates: who may, what is refused, what changes, and what a restart finds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use marblerun_coordinator_core::activation::Candidate;
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal, ReplayError};
use marblerun_coordinator_core::record::{PackagesUpdated, Record};
use marblerun_coordinator_core::time::Timestamp;
use marblerun_coordinator_core::update::{self, Outcome, Prepared, UpdateError};
use marblerun_pki::{AltNames, Certificate};
use marblerun_secret::SecretBytes;

use crate::fixture::{self, NOW, UUID, activate, file, ledger, made_user, made_user_pem};

const LATER: Timestamp = Timestamp::from_millis(1_769_938_200_125 + 86_400_000);

/// ann may raise `p` and `q`, ben only `p`, cy nothing.
fn manifest() -> String {
    let user = |name: &str, roles: &str| {
        format!(r#""{name}":{{"Certificate":{},"Roles":[{roles}]}}"#, serde_json::json!(made_user_pem(name)))
    };
    let signer = "00".repeat(32);
    format!(
        r#"{{"Packages":{{"p":{{"SignerID":"{signer}","ProductID":1,"SecurityVersion":3}},"q":{{"UniqueID":"{signer}"}},
                "other":{{"SignerID":"{signer}","ProductID":1,"SecurityVersion":3}}}},
            "Marbles":{{"m":{{"Package":"p","MaxActivations":9,"Parameters":{{"Files":{{"/k":"{{{{ hex .Secrets.own }}}}"}}}}}},
                "n":{{"Package":"q"}},"o":{{"Package":"other"}}}},
            "Secrets":{{"web":{{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":30,"Cert":{{"Subject":{{"CommonName":"web"}}}}}},
                "ed":{{"Type":"cert-ed25519","Shared":true}},"ownweb":{{"Type":"cert-ed25519"}},
                "own":{{"Type":"symmetric-key","Size":128}},"key":{{"Type":"symmetric-key","Size":128,"Shared":true}},
                "token":{{"Type":"plain","UserDefined":true}},"up":{{"Type":"cert-ed25519","UserDefined":true,"Shared":true}}}},
            "Users":{{{},{},{}}},
            "Roles":{{"both":{{"ResourceType":"Packages","ResourceNames":["p","q"],"Actions":["UpdateSecurityVersion"]}},
                "p":{{"ResourceType":"Packages","ResourceNames":["p"],"Actions":["UpdateSecurityVersion"]}}}}}}"#,
        user("ann", r#""both""#),
        user("ben", r#""p""#),
        user("cy", ""),
    )
}

fn prepare(ledger: &Ledger, user: &str, packages: &str) -> Result<Prepared, UpdateError> {
    let text = format!(r#"{{"Packages":{{{packages}}}}}"#);
    update::prepare(&ledger.snapshot(), &made_user(ledger, user), text.as_bytes(), LATER)
}

fn submit(ledger: &mut Ledger, prepared: Prepared) -> Result<SecretBytes, Refusal> {
    let record = ledger.decide(Command::Update(Box::new(prepared.step)))?.unwrap();
    let bytes = record.encode();
    ledger.apply(record).unwrap();
    Ok(bytes)
}

#[track_caller]
fn raise(ledger: &mut Ledger, packages: &str) -> SecretBytes {
    let prepared = prepare(ledger, "ann", packages).unwrap();
    assert!(matches!(prepared.outcome, Outcome::PackagesUpdated));
    submit(ledger, prepared).unwrap()
}

#[track_caller]
fn check_refused(user: &str, packages: &str, is_cause: impl Fn(&UpdateError) -> bool) {
    let ledger = ledger(&manifest());
    let before = fixture::whole_state(&ledger);
    let error = prepare(&ledger, user, packages).unwrap_err();
    assert!(is_cause(&error), "{packages}: {error:?}");
    assert_eq!(fixture::whole_state(&ledger), before);
}

// rules: UPD-3, LOG-4
#[test]
fn every_named_package_must_be_granted() {
    let denied = |error: &UpdateError| matches!(error, UpdateError::Denied(_));
    check_refused("ben", r#""q":{"SecurityVersion":4}"#, denied);
    check_refused("ben", r#""p":{"SecurityVersion":4},"q":{"SecurityVersion":4}"#, denied);
    check_refused("cy", r#""p":{"SecurityVersion":4}"#, denied);
    // The permission comes before everything about packages, and without packages having it at all is enough.
    check_refused("cy", "", denied);
    check_refused("ben", r#""nope":{}"#, denied);
    check_refused("ben", "", |error| matches!(error, UpdateError::Packages(_)));
}

// rules: UPD-2
#[test]
fn versions_never_fall_below_what_an_earlier_update_set() {
    let mut ledger = ledger(&manifest());
    raise(&mut ledger, r#""p":{"SecurityVersion":7}"#);
    let error = prepare(&ledger, "ann", r#""p":{"SecurityVersion":6}"#).unwrap_err();
    assert!(matches!(error, UpdateError::Packages(_)), "{error}");
    raise(&mut ledger, r#""p":{"SecurityVersion":7}"#);
    let snapshot = ledger.snapshot();
    let deployment = snapshot.deployment().unwrap();
    assert_eq!(deployment.security_version("p"), Some(Some(7)));
    assert_eq!(deployment.marbles["m"].package.security_version, Some(7));
    assert_eq!(deployment.marbles["o"].package.security_version, Some(3), "another package");
}

// Lines of the log and a new authority have to fit into one record.
#[test]
fn an_update_whose_lines_would_not_fit_into_a_record_is_refused() {
    let name = "a".repeat(100_000);
    let packages = |count: usize, entry: &str| {
        (0..count).map(|number| format!(r#""p{number}":{{{entry}}}"#)).collect::<Vec<_>>().join(",")
    };
    let identity = format!(r#""UniqueID":"{}""#, "00".repeat(32));
    let names = (0..100).map(|number| format!(r#""p{number}""#)).collect::<Vec<_>>().join(",");
    let manifest = format!(
        r#"{{"Packages":{{{}}},"Marbles":{{"m":{{"Package":"p0"}}}},
            "Users":{{"{name}":{{"Certificate":{},"Roles":["all"]}}}},
            "Roles":{{"all":{{"ResourceType":"Packages","ResourceNames":[{names}],"Actions":["UpdateSecurityVersion"]}}}}}}"#,
        packages(100, &identity),
        serde_json::json!(made_user_pem(&name)),
    );
    let mut ledger = ledger(&manifest);
    let prepared = prepare(&ledger, &name, &packages(80, r#""SecurityVersion":2"#)).unwrap();
    submit(&mut ledger, prepared).unwrap();
    let error = prepare(&ledger, &name, &packages(100, r#""SecurityVersion":3"#)).unwrap_err();
    assert!(matches!(error, UpdateError::LogSize { .. }), "{error:?}");
}

// rules: UPD-2
#[test]
fn a_package_without_version_gets_one() {
    let mut ledger = ledger(&manifest());
    assert_eq!(ledger.snapshot().deployment().unwrap().security_version("q"), Some(None));
    raise(&mut ledger, r#""q":{"SecurityVersion":0}"#);
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.deployment().unwrap().marbles["n"].package.security_version, Some(0));
    assert_eq!(snapshot.deployment().unwrap().security_version("nope"), None);
}

/// Public key and end of validity.
fn key_and_end(certificate: &[u8]) -> (Vec<u8>, u64) {
    let certificate = Certificate::parse(certificate).unwrap();
    (certificate.public_key_der().to_vec(), certificate.validity().unwrap().not_after.as_secs())
}

// rules: UPD-4, ACT-4.6, ACT-4.7, ACT-5.5
#[test]
fn authority_and_shared_certificates_are_new_and_everything_else_stays() {
    let mut ledger = ledger(&manifest());
    let before = ledger.snapshot();
    let old = before.deployment().unwrap();
    raise(&mut ledger, r#""p":{"SecurityVersion":3}"#);
    let after = ledger.snapshot();
    let new = after.deployment().unwrap();

    assert_eq!(new.raw_manifest, old.raw_manifest);
    assert_eq!((&new.fingerprint, &new.manifest_signature), (&old.fingerprint, &old.manifest_signature));
    assert_eq!(after.identity.root_certificate, before.identity.root_certificate);
    assert!(Arc::ptr_eq(&after.identity.root_secret, &before.identity.root_secret));
    for name in ["own", "key", "token", "up", "ownweb"] {
        assert!(Arc::ptr_eq(new.secrets.get(name).unwrap(), old.secrets.get(name).unwrap()), "{name}");
    }
    for (name, secret) in new.previous_secrets.iter() {
        assert!(Arc::ptr_eq(secret, old.previous_secrets.get(name).unwrap()), "{name}");
    }
    let root = Certificate::parse(&after.identity.root_certificate).unwrap();
    let intermediate = Certificate::parse(&after.identity.intermediate_certificate).unwrap();
    let marble_root = Certificate::parse(&after.identity.marble_root_certificate).unwrap();
    intermediate.verify_signed_by(root.public_key_der()).unwrap();
    assert_eq!(intermediate.public_key_der(), marble_root.public_key_der());
    let former = key_and_end(&before.identity.intermediate_certificate);
    assert_ne!(intermediate.public_key_der(), former.0);
    for name in ["web", "ed"] {
        let [old, new] =
            [old, new].map(|deployment| deployment.secrets.get(name).unwrap().certificate.clone().unwrap());
        assert_ne!(key_and_end(&new).0, key_and_end(&old).0, "{name}");
        assert_eq!(key_and_end(&new).1, key_and_end(&old).1, "{name}: made a day later, it ends on the same day");
        Certificate::parse(&new).unwrap().verify_signed_by(marble_root.public_key_der()).unwrap();
    }
}

// rules: UPD-4, SAFE-6
#[test]
fn the_names_of_the_root_stay_in_the_new_authority() {
    let names = AltNames::from_list("mesh.example,192.0.2.7,::1");
    let genesis = marblerun_coordinator_core::record::Genesis::create(&names, NOW).unwrap();
    let identity = marblerun_coordinator_core::identity::Identity::from_genesis(&genesis).unwrap();
    let authority = identity.new_authority(LATER).unwrap();
    let root = Certificate::parse(&identity.root_certificate).unwrap().alt_names().unwrap();
    for certificate in [&authority.intermediate_certificate, &authority.marble_root_certificate] {
        assert_eq!(Certificate::parse(certificate).unwrap().alt_names().unwrap(), root);
    }
}

// rules: LOG-1, LOG-2
#[test]
fn each_package_gets_its_line() {
    let mut ledger = ledger(&manifest());
    raise(&mut ledger, r#""q":{"SecurityVersion":1},"p":{"SecurityVersion":3}"#);
    let snapshot = ledger.snapshot();
    let lines: Vec<&str> = snapshot.update_log.iter().skip(1).map(AsRef::as_ref).collect();
    let line = |package: &str, version: u64| {
        format!(
            r#"{{"time":"2026-02-02T09:30:00.125Z","update":"SecurityVersion increased","user":"ann","package":"{package}","new version":{version}}}"#
        )
    };
    assert_eq!(lines, [line("p", 3), line("q", 1)]);
}

// rules: UPD-2
#[test]
fn a_restart_finds_the_versions_and_certificates() {
    let set = Record::ManifestSet(fixture::prepare(&manifest()).unwrap().record).encode();
    let mut stored = vec![Record::Genesis(fixture::genesis()).encode(), set];
    let mut ledger = fixture::replayed(&stored);
    stored.push(raise(&mut ledger, r#""p":{"SecurityVersion":7}"#));
    stored.push(raise(&mut ledger, r#""q":{"SecurityVersion":1}"#));
    assert_eq!(fixture::whole_state(&fixture::replayed(&stored)), fixture::whole_state(&ledger));
    assert!(prepare(&fixture::replayed(&stored), "ann", r#""p":{"SecurityVersion":6}"#).is_err());
}

// rules: R17
#[test]
fn of_two_updates_that_were_prepared_together_one_is_prepared_again() {
    let mut ledger = ledger(&manifest());
    let first = prepare(&ledger, "ann", r#""p":{"SecurityVersion":9}"#).unwrap();
    let second = prepare(&ledger, "ann", r#""p":{"SecurityVersion":5}"#).unwrap();
    submit(&mut ledger, first).unwrap();
    let before = fixture::whole_state(&ledger);
    assert_eq!(submit(&mut ledger, second).unwrap_err(), Refusal::UpdateChanged);
    assert_eq!(fixture::whole_state(&ledger), before);
}

// rules: R17, ACT-4.6
#[test]
fn an_activation_prepared_before_an_update_is_not_counted_after_it() {
    let mut ledger = ledger(&manifest());
    let Candidate { marble_type, deployment } = Candidate::find(&ledger.snapshot(), "m").unwrap();
    let key = file(&activate(&ledger, "m", UUID).unwrap(), "/k");
    raise(&mut ledger, r#""p":{"SecurityVersion":3}"#);
    let count = Command::CountActivation { marble_type: marble_type.clone(), deployment };
    assert_eq!(ledger.decide(count).unwrap_err(), Refusal::DeploymentChanged);
    let Candidate { deployment, .. } = Candidate::find(&ledger.snapshot(), "m").unwrap();
    let record = ledger.decide(Command::CountActivation { marble_type, deployment }).unwrap().unwrap();
    ledger.apply(record).unwrap();
    // The count is one with that of the former deployment.
    raise(&mut ledger, r#""p":{"SecurityVersion":3}"#);
    assert_eq!(ledger.snapshot().deployment().unwrap().marbles["m"].activations.load(Ordering::Acquire), 1);
    assert_eq!(file(&activate(&ledger, "m", UUID).unwrap(), "/k"), key, "keys of Marbles stay");
}

#[test]
fn records_of_package_updates_out_of_place_are_refused_and_change_nothing() {
    let mut ledger = ledger(&manifest());
    let snapshot = ledger.snapshot();
    let key = Arc::clone(snapshot.deployment().unwrap().secrets.get("key").unwrap());
    let record = |versions: &[(&str, u64)], secrets: &[&str]| {
        Record::PackagesUpdated(PackagesUpdated {
            versions: versions.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect(),
            authority: snapshot.identity.new_authority(LATER).unwrap(),
            secrets: secrets.iter().map(|name| ((*name).to_owned(), Arc::clone(&key))).collect(),
            log_lines: vec!["{}".to_owned()],
        })
    };
    let before = fixture::whole_state(&ledger);
    for bad in [
        record(&[("p", 2)], &[]),
        record(&[("nope", 9)], &[]),
        record(&[("p", 3)], &["key"]),
        record(&[("p", 3)], &["ownweb"]),
        record(&[("p", 3)], &["up"]),
        record(&[("p", 3)], &["nope"]),
    ] {
        let error = ledger.apply(bad).unwrap_err();
        assert!(matches!(error, ReplayError::OutOfPlace(_)), "{error}");
        assert_eq!(fixture::whole_state(&ledger), before);
    }
    assert!(fixture::new_ledger().apply(record(&[("p", 3)], &[])).is_err());
}
