//! Reading and uploading secrets: every check, what is stored, and what a restart finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use marblerun_coordinator_core::activation::Candidate;
use marblerun_coordinator_core::generate::MAX_SECRETS_BYTES;
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal, ReplayError};
use marblerun_coordinator_core::record::{Record, SecretsSet};
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::secrets::Secrets;
use marblerun_coordinator_core::user_secrets::{PreparedUpload, UserSecretsError, prepare_upload, read};
use marblerun_coordinator_core::users::User;
use marblerun_manifest::{UserSecret, decode_user_secrets_v1, user_certificate};
use marblerun_pki::Certificate;
use marblerun_secret::SecretBytes;

use crate::fixture::{self, NOW, PACKAGES, UUID, activate, ledger, user_pem, variable};

/// ann may do everything with each secret that allows it, ben may write `token`.
fn manifest() -> String {
    let pem = |name: &str| serde_json::json!(user_pem(name));
    let templates = r#""A":"{{ string .Secrets.token }}","B":"{{ if eq (len .Secrets.one.Private) (len .Secrets.two.Private) }}{{ hex .Secrets.key }}{{ else }}{{ hex .Secrets.none }}{{ end }}""#;
    format!(
        r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p","MaxActivations":2,"Parameters":{{"Env":{{{templates}}}}}}}}},
        "Secrets":{{"token":{{"Type":"plain","UserDefined":true}},"one":{{"Type":"plain","UserDefined":true}},
            "two":{{"Type":"plain","UserDefined":true}},"pin":{{"Type":"symmetric-key","Size":32,"UserDefined":true}},
            "odd":{{"Type":"symmetric-key","Size":12,"UserDefined":true}},"zero":{{"Type":"symmetric-key","UserDefined":true}},
            "web":{{"Type":"cert-rsa","Size":2048,"UserDefined":true}},
            "key":{{"Type":"symmetric-key","Size":128,"Shared":true}},"own":{{"Type":"symmetric-key","Size":128}}}},
        "Users":{{"ann":{{"Certificate":{},"Roles":["all","shared"]}},"ben":{{"Certificate":{},"Roles":["token"]}}}},
        "Roles":{{"all":{{"ResourceType":"Secrets","ResourceNames":["token","one","two","pin","odd","zero","web"],
                "Actions":["ReadSecret","WriteSecret"]}},
            "shared":{{"ResourceType":"Secrets","ResourceNames":["key"],"Actions":["ReadSecret"]}},
            "token":{{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["WriteSecret"]}}}}}}"#,
        pem("ann"),
        pem("ben"),
    )
}

fn der(name: &str) -> Vec<u8> {
    user_certificate(&user_pem(name)).unwrap()
}

fn user(ledger: &Ledger, name: &str) -> Arc<User> {
    Arc::clone(ledger.snapshot().deployment().unwrap().users.authenticate(&der(name)).unwrap())
}

fn prepare(ledger: &Ledger, name: &str, upload: &str) -> Result<PreparedUpload, UserSecretsError> {
    prepare_upload(&ledger.snapshot(), &user(ledger, name), decode_user_secrets_v1(upload.as_bytes()).unwrap(), NOW)
}

/// Uploads as ann; returns what is stored for a restart.
#[track_caller]
fn upload(ledger: &mut Ledger, upload: &str) -> SecretBytes {
    let prepared = prepare(ledger, "ann", upload).unwrap();
    let record = ledger.decide(Command::SetSecrets(prepared)).unwrap().unwrap();
    let bytes = record.encode();
    ledger.apply(record).unwrap();
    bytes
}

fn read_as(ledger: &Ledger, name: &str, secrets: &[&str]) -> Result<Secrets, UserSecretsError> {
    read(&ledger.snapshot(), &user(ledger, name), secrets.iter().copied())
}

/// The private and public value of a secret.
fn values(ledger: &Ledger, name: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let snapshot = ledger.snapshot();
    let secret = snapshot.deployment().unwrap().secrets.get(name).unwrap();
    let value = |bytes: &Option<SecretBytes>| bytes.as_ref().map(|bytes| bytes.expose().to_vec());
    (value(&secret.private), value(&secret.public))
}

#[track_caller]
fn check_refused(name: &str, upload: &str, expected: &str) {
    let ledger = ledger(&manifest());
    let error = prepare(&ledger, name, upload).unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    assert_eq!(format!("{error}{cause}"), expected);
}

// rules: SEC-2, SEC-3, SEC-4
#[test]
fn each_value_that_does_not_fit_its_secret_is_refused() {
    let certificate = base64(&der("ann"));
    let cases = [
        ("{}", "expected at least one secret, got none"),
        (r#"{"no":{"Key":"AA=="}}"#, r#"secret "no" is not defined in the manifest"#),
        (r#"{"key":{"Key":"AA=="}}"#, r#"secret "key": expected a user-defined secret, got one that is generated"#),
        (
            r#"{"pin":{"Key":"AQID"}}"#,
            r#"secret "pin": declared size and actual size don't match: Key: expected 4 bytes, got 3"#,
        ),
        (r#"{"pin":{}}"#, r#"secret "pin": declared size and actual size don't match: Key: expected 4 bytes, got 0"#),
        (
            r#"{"odd":{"Key":"AQ=="}}"#,
            r#"secret "odd": the manifest's Size: expected a positive multiple of 8 bits, got 12"#,
        ),
        (
            r#"{"zero":{"Key":""}}"#,
            r#"secret "zero": the manifest's Size: expected a positive multiple of 8 bits, got 0"#,
        ),
        (
            r#"{"pin":{"Key":"AQIDBA==","Private":""}}"#,
            r#"secret "pin": Private: expected none for a secret of type symmetric-key, got one"#,
        ),
        (
            r#"{"pin":{"Key":"AQIDBA==","Cert":"CERT"}}"#,
            r#"secret "pin": Cert: expected none for a secret of type symmetric-key, got one"#,
        ),
        (
            r#"{"token":{"Key":"AA==","Private":""}}"#,
            r#"secret "token": Private: expected none for a secret of type plain, got one"#,
        ),
        (r#"{"token":{"Cert":{}}}"#, r#"secret "token": Cert: expected none for a secret of type plain, got one"#),
        (
            r#"{"web":{"Cert":"CERT","Key":""}}"#,
            r#"secret "web": Key: expected none for a secret of type cert-rsa, got one"#,
        ),
        (r#"{"web":{}}"#, r#"secret "web": Cert: expected a DER certificate in base64, got none"#),
        (r#"{"web":{"Cert":{}}}"#, r#"secret "web": Cert: expected a DER certificate in base64, got none"#),
        (r#"{"web":{"Cert":"%"}}"#, r#"secret "web": Cert: expected a DER certificate in base64, got none"#),
    ];
    for (upload, expected) in cases {
        check_refused("ann", &upload.replace("CERT", &certificate), expected);
    }
}

#[test]
fn a_certificate_with_a_key_of_an_unknown_kind_is_refused() {
    // The algorithm's identifier becomes one that nobody has given out.
    let mut certificate = der("ann");
    let public = Certificate::parse(&certificate).unwrap().public_key_der().to_vec();
    let at = certificate.windows(public.len()).position(|bytes| bytes == public).unwrap();
    let oid = at + public.iter().position(|byte| *byte == 6).unwrap();
    let last = oid + 1 + usize::from(certificate[oid + 1]);
    certificate[last] = 0x7f;
    let upload = format!(r#"{{"web":{{"Cert":"{}"}}}}"#, base64(&certificate));
    let expected =
        r#"secret "web": Cert: expected an RSA, ECDSA (NIST curves), Ed25519 or X25519 public key, got another kind"#;
    check_refused("ann", &upload, expected);
}

// rules: SEC-5
#[test]
fn an_upload_with_one_bad_or_forbidden_secret_is_refused_whole() {
    let denied = r#"user "ben" is not allowed to WriteSecret "pin""#;
    check_refused("ben", r#"{"token":{"Key":"AA=="},"pin":{"Key":"AQIDBA=="}}"#, denied);
    // Whether a value fits comes before the permission.
    check_refused(
        "ben",
        r#"{"pin":{}}"#,
        r#"secret "pin": declared size and actual size don't match: Key: expected 4 bytes, got 0"#,
    );
    // The permission comes before templates are executed.
    check_refused(
        "ben",
        r#"{"one":{"Key":""},"token":{"Key":""}}"#,
        r#"user "ben" is not allowed to WriteSecret "one""#,
    );
    let ledger = ledger(&manifest());
    assert!(prepare(&ledger, "ben", r#"{"token":{"Key":"AQ=="}}"#).is_ok());
}

// rules: SEC-8
#[test]
fn an_upload_with_which_a_template_fails_is_refused() {
    let ledger = ledger(&manifest());
    for upload in [r#"{"token":{}}"#, r#"{"token":{"Key":""}}"#, r#"{"token":{"Key":"YQBi"}}"#] {
        let error = prepare(&ledger, "ann", upload).unwrap_err();
        assert!(matches!(error, UserSecretsError::DryRun(_)), "{upload}: {error}");
    }
    // Nothing is set to nothing where no template looks at it.
    assert!(prepare(&ledger, "ann", r#"{"one":{"Key":"AQ=="},"two":{"Key":"AQ=="}}"#).is_ok());
}

// rules: R20
#[test]
fn secrets_that_do_not_fit_into_one_record_are_refused() {
    let ledger = ledger(&manifest());
    // The value is stored twice.
    let value = UserSecret { key: Some(SecretBytes::new(vec![1; MAX_SECRETS_BYTES / 2])), ..UserSecret::default() };
    let upload = BTreeMap::from([("one".to_owned(), value)]);
    let error = prepare_upload(&ledger.snapshot(), &user(&ledger, "ann"), upload, NOW).unwrap_err();
    assert!(matches!(error, UserSecretsError::TotalSize { got } if got > MAX_SECRETS_BYTES), "{error}");
}

#[test]
fn an_upload_is_stored_logged_and_found_by_a_restart() {
    let mut ledger = fixture::new_ledger();
    let set = fixture::prepare(&manifest()).unwrap().record;
    let mut stored = vec![Record::Genesis(fixture::genesis()).encode(), Record::ManifestSet(set).encode()];
    ledger.apply(Record::decode(stored[1].expose()).unwrap()).unwrap();
    let key = values(&ledger, "key");

    let certificate = der("ann");
    stored.push(upload(&mut ledger, r#"{"token":{"Key":"aGk="},"pin":{"Key":"AQIDBA=="}}"#));
    stored.push(upload(&mut ledger, &format!(r#"{{"web":{{"Cert":"{}"}}}}"#, base64(&certificate))));
    stored.push(upload(&mut ledger, r#"{"pin":{"Key":"BAMCAQ=="},"one":{},"two":{}}"#));
    let restarted = Ledger::replay(stored.iter().map(|bytes| Record::decode(bytes.expose()).unwrap())).unwrap();
    for ledger in [&ledger, &restarted] {
        let twice = |value: &[u8]| (Some(value.to_vec()), Some(value.to_vec()));
        assert_eq!(values(ledger, "token"), twice(b"hi"));
        assert_eq!(values(ledger, "pin"), twice(&[4, 3, 2, 1]));
        assert_eq!(values(ledger, "one"), twice(b""));
        assert_eq!(values(ledger, "two"), twice(b""));
        assert_eq!(values(ledger, "zero"), (None, None));
        assert_eq!(values(ledger, "key"), key);
        let public = Certificate::parse(&certificate).unwrap().public_key_der().to_vec();
        assert_eq!(values(ledger, "web"), (None, Some(public)));
        let snapshot = ledger.snapshot();
        let web = snapshot.deployment().unwrap().secrets.get("web").unwrap();
        assert_eq!(
            (web.certificate.as_deref(), web.size, web.user_defined),
            (Some(certificate.as_slice()), 2048, true)
        );
        let events: Vec<_> =
            snapshot.update_log.iter().skip(1).map(|line| line.split_once("Secret set").unwrap().1).collect();
        assert_eq!(
            events,
            [
                r#"","user":"ann","secret":"pin","type":"symmetric-key"}"#,
                r#"","user":"ann","secret":"token","type":"plain"}"#,
                r#"","user":"ann","secret":"web","type":"cert-rsa"}"#,
                r#"","user":"ann","secret":"one","type":"plain"}"#,
                r#"","user":"ann","secret":"pin","type":"symmetric-key"}"#,
                r#"","user":"ann","secret":"two","type":"plain"}"#,
            ]
        );
    }
}

// rules: EP-7
#[test]
fn one_name_that_may_not_be_read_hides_all() {
    let mut ledger = ledger(&manifest());
    upload(&mut ledger, r#"{"token":{"Key":"aGk="}}"#);
    let secrets = read_as(&ledger, "ann", &["token", "key", "token", "two"]).unwrap();
    assert_eq!(secrets.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["key", "token", "two"]);
    for names in [&["token", "own"][..], &["token", "missing"], &["missing"]] {
        assert!(matches!(read_as(&ledger, "ann", names).unwrap_err(), UserSecretsError::Denied(_)), "{names:?}");
    }
    let error = read_as(&ledger, "ben", &["token"]).unwrap_err();
    assert_eq!(error.to_string(), r#"user "ben" is not allowed to ReadSecret"#);
}

#[test]
fn without_a_manifest_nothing_is_read_or_set() {
    let ann = user(&ledger(&manifest()), "ann");
    let snapshot = fixture::new_ledger().snapshot();
    assert_eq!(read(&snapshot, &ann, ["token"]).unwrap_err(), UserSecretsError::State);
    assert_eq!(prepare_upload(&snapshot, &ann, BTreeMap::new(), NOW).unwrap_err(), UserSecretsError::State);
}

#[test]
fn an_upload_neither_resets_budgets_nor_disturbs_activations_at_work() {
    let mut ledger = ledger(&manifest());
    upload(&mut ledger, r#"{"token":{"Key":"aGk="},"one":{"Key":"AQ=="},"two":{"Key":"AQ=="}}"#);
    let count = |ledger: &mut Ledger, Candidate { marble_type, deployment }: Candidate| {
        let record = ledger.decide(Command::CountActivation { marble_type, deployment })?.unwrap();
        ledger.apply(record).unwrap();
        Ok::<_, Refusal>(())
    };
    let before = Candidate::find(&ledger.snapshot(), "m").unwrap();
    upload(&mut ledger, r#"{"token":{"Key":"aG8="}}"#);
    assert_eq!(count(&mut ledger, before.clone()), Ok(()));
    assert_eq!(variable(&activate(&ledger, "m", UUID).unwrap(), "A"), "ho");
    upload(&mut ledger, r#"{"token":{"Key":"aGE="}}"#);
    assert_eq!(count(&mut ledger, before.clone()), Ok(()));
    assert!(matches!(count(&mut ledger, before), Err(Refusal::BudgetUsed { limit: 2, .. })));
}

// rules: R17
#[test]
fn two_uploads_that_do_not_go_together_are_not_both_accepted() {
    let mut ledger = ledger(&manifest());
    upload(&mut ledger, r#"{"one":{"Key":"AQ=="},"two":{"Key":"AQ=="}}"#);
    // Each alone keeps the templates at work only if the other one changes in the same way.
    let both = prepare(&ledger, "ann", r#"{"one":{"Key":"AQI="},"two":{"Key":"AQI="}}"#).unwrap();
    let token = prepare(&ledger, "ann", r#"{"token":{"Key":"aGk="}}"#).unwrap();
    let record = ledger.decide(Command::SetSecrets(token)).unwrap().unwrap();
    ledger.apply(record).unwrap();
    let same = prepare(&ledger, "ann", r#"{"one":{"Key":"AQ=="}}"#).unwrap();
    // What was uploaded meanwhile is no obstacle in itself.
    let record = ledger.decide(Command::SetSecrets(both)).unwrap().unwrap();
    ledger.apply(record).unwrap();
    let before = format!("{:?}", ledger.snapshot());
    assert!(matches!(ledger.decide(Command::SetSecrets(same)).unwrap_err(), Refusal::Secrets(_)));
    assert_eq!(format!("{:?}", ledger.snapshot()), before);
}

#[test]
fn an_upload_for_another_manifest_is_refused() {
    let (first, second) = (ledger(&manifest()), ledger(&manifest()));
    let prepared = prepare(&first, "ann", r#"{"token":{"Key":"aGk="}}"#).unwrap();
    assert_eq!(second.decide(Command::SetSecrets(prepared)).unwrap_err(), Refusal::DeploymentChanged);
}

#[test]
fn a_stored_value_for_a_secret_that_takes_none_ends_the_replay() {
    let mut ledger = ledger(&manifest());
    let snapshot = ledger.snapshot();
    let secrets = &snapshot.deployment().unwrap().secrets;
    for (name, from) in [("key", "key"), ("no", "token"), ("token", "pin"), ("token", "key")] {
        let record = SecretsSet {
            secrets: vec![(name.to_owned(), Arc::clone(secrets.get(from).unwrap()))],
            log_lines: Vec::new(),
        };
        let error = ledger.apply(Record::SecretsSet(record)).unwrap_err();
        assert!(matches!(error, ReplayError::OutOfPlace(_)), "{name}: {error}");
    }
    // What the deployment and what the record says of the user: each alone is not enough.
    for (name, user_defined) in [("key", true), ("token", false)] {
        let old = secrets.get(name).unwrap();
        let (private, public) = (Some(SecretBytes::new(vec![1; 16])), Some(SecretBytes::new(vec![1; 16])));
        let (secret_type, certificate) = (old.secret_type, None);
        let (size, shared, valid_for) = (old.size, old.shared, old.valid_for);
        let value = Secret { secret_type, size, shared, user_defined, valid_for, certificate, private, public };
        let record = SecretsSet { secrets: vec![(name.to_owned(), Arc::new(value))], log_lines: Vec::new() };
        let error = ledger.apply(Record::SecretsSet(record)).unwrap_err();
        assert!(matches!(error, ReplayError::OutOfPlace(_)), "{name}: {error}");
    }
    let record = SecretsSet { secrets: Vec::new(), log_lines: Vec::new() };
    assert!(fixture::new_ledger().apply(Record::SecretsSet(record)).is_err());
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
