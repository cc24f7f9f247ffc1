//! What a full update makes of secrets, current and previous, at rest and at activation.

use std::sync::Arc;

use marblerun_coordinator_core::generate::MAX_SECRETS_BYTES;
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::snapshot::Snapshot;
use marblerun_coordinator_core::update::UpdateError;
use marblerun_coordinator_core::user_secrets::{UserSecretsError, prepare_upload};
use marblerun_manifest::decode_user_secrets_v1;
use marblerun_pki::Certificate;
use marblerun_secret::SecretBytes;

use crate::fixture::{NOW, PACKAGES, UUID, activate, file, made_user, made_user_pem};
use crate::update_manifest::World;

const SHARED: &str = r#""Type":"symmetric-key","Size":128,"Shared":true"#;
const OWN: &str = r#""Type":"symmetric-key","Size":128"#;
const SHARED_CERT: &str = r#""Type":"cert-ed25519","Shared":true"#;
const OWN_CERT: &str = r#""Type":"cert-ed25519""#;
const PLAIN: &str = r#""Type":"plain","UserDefined":true"#;
const PIN: &str = r#""Type":"symmetric-key","Size":16,"UserDefined":true"#;

/// A manifest whose one secret `s` has this definition; nothing defines none. ann may do everything.
fn manifest(definition: &str, config: &str) -> String {
    let write = r#""write":{"ResourceType":"Secrets","ResourceNames":["s"],"Actions":["WriteSecret"]},"#;
    let write = if definition.contains("UserDefined") { write } else { "" };
    let secret = if definition.is_empty() { String::new() } else { format!(r#""s":{{{definition}}}"#) };
    let template = |function: &str, path: &str| format!("{{{{ {function} .{path}.s }}}}");
    let files = if definition.contains("symmetric-key") && !definition.contains("UserDefined") {
        format!(r#""/now":"{}","/before":"{}""#, template("hex", "Secrets"), template("hex", "Previous.Secrets"))
    } else {
        String::new()
    };
    format!(
        r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p","Parameters":{{"Files":{{{files}}}}}}}}},"Secrets":{{{secret}}},
            "Users":{{"ann":{{"Certificate":{},"Roles":["update"{}]}}}},
            "Roles":{{{write}"update":{{"ResourceType":"Manifest","Actions":["UpdateManifest"]}}}},"Config":{{{config}}}}}"#,
        serde_json::json!(made_user_pem("ann")),
        if write.is_empty() { "" } else { r#","write""# },
    )
}

const ROTATE: &str = r#""RotateRootSecret":true"#;

/// What a value is after an update, as the tables say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// There is none.
    Gone,
    /// No user uploaded one.
    Empty,
    /// The current value before.
    OldCurrent,
    /// The previous value before.
    OldPrevious,
    /// Another than both, and the same now and as previous value.
    New,
}

fn secrets(snapshot: &Snapshot) -> [Option<Arc<Secret>>; 2] {
    let deployment = snapshot.deployment().unwrap();
    [deployment.secrets.get("s").cloned(), deployment.previous_secrets.get("s").cloned()]
}

fn bytes(secret: &Secret) -> Option<Vec<u8>> {
    secret.private.as_ref().map(|bytes| bytes.expose().to_vec())
}

/// Uploads to user-defined secrets, makes current and previous values differ where that can be, then updates.
#[track_caller]
fn check(old: &str, new: &str, config: &str, current: Value, previous: Value) {
    let mut world = World::new(&manifest(old, ""));
    if old.contains("UserDefined") {
        world.upload("ann", r#"{"s":{"Key":"aGk="}}"#);
    } else if !old.is_empty() {
        world.update("ann", &manifest(old, ROTATE));
    }
    let before = secrets(&world.ledger.snapshot());
    if !old.is_empty() {
        assert_ne!(before[0].as_deref().map(bytes), before[1].as_deref().map(bytes), "they can be told apart");
    }
    world.update("ann", &manifest(new, config));
    let after = secrets(&world.ledger.snapshot());
    let is = |value: &Option<Arc<Secret>>| {
        let Some(secret) = value else { return Value::Gone };
        let same = |other: &Option<Arc<Secret>>| other.as_ref().is_some_and(|other| bytes(other) == bytes(secret));
        match bytes(secret) {
            None => Value::Empty,
            Some(_) if same(&before[0]) => Value::OldCurrent,
            Some(_) if same(&before[1]) => Value::OldPrevious,
            Some(_) => {
                assert!(same(&after[0]), "a new value is the current one");
                Value::New
            }
        }
    };
    assert_eq!([is(&after[0]), is(&after[1])], [current, previous], "{old} -> {new} {config}");
}

// rules: UPD-9, UPD-11, ACT-5.5, SAFE-7
#[test]
fn each_row_of_the_table_of_current_and_previous_values_holds() {
    use Value::{Empty, Gone, New, OldCurrent, OldPrevious};
    for generated in [SHARED, OWN, SHARED_CERT, OWN_CERT] {
        check(generated, "", "", Gone, Gone);
        check("", generated, "", New, New);
        check("", generated, ROTATE, New, New);
    }
    for uploaded in [PLAIN, PIN] {
        check(uploaded, "", "", Gone, Gone);
        check("", uploaded, "", Empty, Empty);
        check(uploaded, uploaded, "", OldCurrent, Empty);
        check(uploaded, uploaded, ROTATE, OldCurrent, Empty);
    }
    // Changed definitions.
    check(SHARED, &SHARED.replace("128", "256"), "", New, New);
    check(SHARED, OWN, "", New, New);
    check(SHARED, SHARED_CERT, ROTATE, New, New);
    check(SHARED_CERT, &format!(r#"{SHARED_CERT},"ValidFor":7"#), "", New, New);
    check(SHARED, &format!(r#"{SHARED},"ValidFor":7"#), "", New, New);
    check(PIN, &PIN.replace("16", "24"), "", Empty, Empty);
    check(PLAIN, PIN, "", Empty, Empty);
    check(PLAIN, SHARED, "", New, New);
    check(SHARED, PLAIN, "", Empty, Empty);
    // Equal definitions.
    for key in [SHARED, OWN] {
        check(key, key, "", OldCurrent, OldPrevious);
    }
    check(SHARED, SHARED, ROTATE, New, OldCurrent);
    for certificate in [SHARED_CERT, OWN_CERT] {
        check(certificate, certificate, "", New, OldCurrent);
        check(certificate, certificate, ROTATE, New, OldCurrent);
    }
    // 365 days are what nothing stands for; another template is no other definition.
    check(SHARED_CERT, &format!(r#"{SHARED_CERT},"ValidFor":365"#), "", New, OldCurrent);
    check(SHARED_CERT, &format!(r#"{SHARED_CERT},"Cert":{{"IsCA":true}}"#), "", New, OldCurrent);
}

fn files(world: &World) -> [String; 2] {
    let prepared = activate(&world.ledger, "m", UUID).unwrap();
    ["/now", "/before"].map(|path| file(&prepared, path))
}

// rules: UPD-10, ACT-5.5
#[test]
fn a_rotation_makes_new_keys_and_keeps_the_former_ones_as_previous() {
    for key in [SHARED, OWN] {
        let mut world = World::new(&manifest(key, ""));
        let [first, previous] = files(&world);
        assert_eq!(first, previous, "before the first rotation both are one");
        world.update("ann", &manifest(key, ""));
        assert_eq!(files(&world), [first.clone(), first.clone()], "without rotation nothing changes");
        world.update("ann", &manifest(key, ROTATE));
        let [second, previous] = files(&world);
        assert_ne!(second, first);
        assert_eq!(previous, first);
        world.update("ann", &manifest(key, ""));
        assert_eq!(files(&world), [second.clone(), first], "an update without rotation keeps both");
        world.update("ann", &manifest(key, ROTATE));
        let [third, previous] = files(&world);
        assert_eq!(previous, second);
        assert!(third != second);
    }
}

// rules: ACT-4.6, ACT-4.7
#[test]
fn certificates_come_from_the_new_template_under_the_new_authority() {
    let mut world = World::new(&manifest(SHARED_CERT, ""));
    let cert = r#","Cert":{"Subject":{"CommonName":"next"},"NotAfter":"2090-01-01T00:00:00Z"}"#;
    world.update("ann", &manifest(&format!("{SHARED_CERT}{cert}"), ""));
    let snapshot = world.ledger.snapshot();
    let [Some(secret), _] = secrets(&snapshot) else { panic!("no secret") };
    let der = secret.certificate.clone().unwrap();
    let certificate = Certificate::parse(&der).unwrap();
    assert_eq!(certificate.subject().unwrap().common_name, "next");
    assert_eq!(certificate.validity().unwrap().not_after.as_secs(), 3_786_912_000);
    let marble_root = Certificate::parse(&snapshot.identity.marble_root_certificate).unwrap();
    certificate.verify_signed_by(marble_root.public_key_der()).unwrap();
}

// rules: UPD-11
#[test]
fn a_secret_that_comes_back_has_nothing_of_its_former_value() {
    let mut world = World::new(&manifest(SHARED, ""));
    let [first, _] = files(&world);
    world.update("ann", &manifest("", ""));
    let deployment = Arc::clone(world.ledger.snapshot().deployment().unwrap());
    assert!(deployment.secrets.is_empty() && deployment.previous_secrets.is_empty());
    world.update("ann", &manifest(SHARED, ""));
    let [second, previous] = files(&world);
    assert_eq!(second, previous);
    assert_ne!(second, first);
}

#[test]
fn a_value_that_stands_in_the_manifest_is_the_first_value_only() {
    let given = |value: &str| format!(r#"{PLAIN},"Private":"{value}","Public":"{value}""#);
    let mut world = World::new(&manifest(PLAIN, ""));
    world.upload("ann", r#"{"s":{"Key":"aGk="}}"#);
    world.update("ann", &manifest(&given("aG8="), ""));
    let [Some(secret), _] = secrets(&world.ledger.snapshot()) else { panic!("no secret") };
    assert_eq!(bytes(&secret), Some(b"hi".to_vec()));
    world.update("ann", &manifest("", ""));
    world.update("ann", &manifest(&given("aG8="), ""));
    let [Some(secret), _] = secrets(&world.ledger.snapshot()) else { panic!("no secret") };
    assert_eq!(bytes(&secret), Some(b"ho".to_vec()));
}

/// A manifest with so many keys of one MiB, each stored twice, and a secret to upload to.
fn large(keys: usize, config: &str) -> String {
    let keys: String =
        (0..keys).map(|n| format!(r#""k{n}":{{"Type":"symmetric-key","Size":8388608,"Shared":true}},"#)).collect();
    manifest(PLAIN, config).replacen(r#""Secrets":{"#, &format!(r#""Secrets":{{{keys}"#), 1)
}

#[test]
fn generated_values_are_limited_and_uploads_do_not_count() {
    let mut world = World::new(&large(3, ""));
    world.upload("ann", &format!(r#"{{"s":{{"Key":"{}"}}}}"#, "AAAA".repeat(MAX_SECRETS_BYTES / 16)));
    let too_many = world.prepare("ann", &large(8, ""));
    let Err(UpdateError::Manifest(error)) = too_many else { panic!("too many were accepted") };
    assert!(std::error::Error::source(&error).is_some(), "{error}");
    world.update("ann", &large(7, ""));
    world.update("ann", &large(7, ROTATE));
    let [Some(secret), _] = secrets(&world.ledger.snapshot()) else { panic!("no secret") };
    assert_eq!(secret.private.as_ref().map(SecretBytes::len), Some(MAX_SECRETS_BYTES / 16 * 3));
    // Together it is more than uploads may make it: it can shrink and not grow.
    let smaller = format!(r#"{{"s":{{"Key":"{}"}}}}"#, "AAAA".repeat(MAX_SECRETS_BYTES / 32));
    world.upload("ann", &smaller);
    let upload = decode_user_secrets_v1(smaller.replace("AAAA\"", "AAAAAAAA\"").as_bytes()).unwrap();
    let ann = made_user(&world.ledger, "ann");
    let error = prepare_upload(&world.ledger.snapshot(), &ann, upload, NOW).unwrap_err();
    assert!(matches!(error, UserSecretsError::TotalSize { .. }), "{error}");
}
