//! Each reason for which an activation is refused, their order, and what an activated Marble gets.

use std::sync::Arc;

use marblerun_coordinator_core::activation::{ActivationError, Candidate};
use marblerun_coordinator_core::deployment::Deployment;
use marblerun_coordinator_core::generate::GenerateReason;
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal};
use marblerun_coordinator_core::parameters::{
    ENV_COORDINATOR_ROOT_CA, ENV_MARBLE_CERTIFICATE_CHAIN, ENV_PRIVATE_KEY, ENV_ROOT_CA,
};
use marblerun_coordinator_core::record::{ManifestSet, Record};
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::uuid::UuidError;
use marblerun_manifest::SecretType;
use marblerun_pki::{AltNames, Certificate, KeyPair, RequestError, oid, pem, request};

use crate::fixture::{self, NOW, PACKAGES, UUID, activate, certificate_request, ledger, variable};

const ROOT_CHECKED: &str = "the signature verifies";

/// A Marble `m` with these members beside its package.
fn marble(members: &str, rest: &str) -> String {
    format!(r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p",{members}}}}}{rest}}}"#)
}

fn simple() -> Ledger {
    ledger(&marble(r#""MaxActivations":1"#, ""))
}

fn refusal(ledger: &Ledger, marble_type: &str, uuid: &str, request: &[u8]) -> ActivationError {
    let snapshot = ledger.snapshot();
    match Candidate::find(&snapshot, marble_type) {
        Err(error) => error,
        Ok(candidate) => candidate.prepare(&snapshot.identity, uuid, request, NOW).unwrap_err(),
    }
}

/// Uses the only unit of `m`.
fn use_up(ledger: &mut Ledger) {
    let candidate = Candidate::find(&ledger.snapshot(), "m").unwrap();
    let command = Command::CountActivation { marble_type: candidate.marble_type, deployment: candidate.deployment };
    let record = ledger.decide(command).unwrap().unwrap();
    ledger.apply(record).unwrap();
}

#[test]
fn activation_is_refused_before_a_manifest_is_set() {
    let error = refusal(&fixture::new_ledger(), "m", UUID, certificate_request());
    assert!(matches!(error, ActivationError::State), "{error}");
}

#[test]
fn activation_is_refused_for_a_type_that_the_manifest_does_not_have() {
    for name in ["M", "m ", "", "n"] {
        let error = refusal(&simple(), name, UUID, certificate_request());
        assert!(matches!(&error, ActivationError::UnknownType(shown) if shown == name), "{error}");
    }
    let error = refusal(&simple(), &"é".repeat(10_000), UUID, certificate_request());
    assert!(error.to_string().len() < 256, "{error}");
}

// rules: ACT-2.2
#[test]
fn activation_is_refused_when_the_budget_is_used_also_for_the_same_uuid() {
    let mut ledger = simple();
    activate(&ledger, "m", UUID).unwrap();
    use_up(&mut ledger);
    let error = activate(&ledger, "m", UUID).unwrap_err();
    let expected = Refusal::BudgetUsed { marble_type: "m".to_owned(), limit: 1 };
    assert!(matches!(&error, ActivationError::Refused(refusal) if *refusal == expected), "{error}");
}

#[test]
fn activation_is_refused_with_a_uuid_that_names_no_instance() {
    let check = |uuid: &str, expected: UuidError| {
        let error = refusal(&simple(), "m", uuid, certificate_request());
        assert!(matches!(&error, ActivationError::Uuid(cause) if *cause == expected), "{error}");
    };
    check("web", UuidError::Malformed { length: 3 });
    check("", UuidError::Malformed { length: 0 });
    check(&format!("{UUID}\n"), UuidError::Malformed { length: 37 });
    check("00000000-0000-0000-0000-000000000000", UuidError::Nil);
}

#[test]
fn activation_is_refused_with_a_certificate_request_that_is_malformed_or_badly_signed() {
    let error = refusal(&simple(), "m", UUID, b"");
    assert!(matches!(error, ActivationError::Request(RequestError::Malformed(_))), "{error}");
    let mut forged = certificate_request().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let error = refusal(&simple(), "m", UUID, &forged);
    assert!(matches!(error, ActivationError::Request(RequestError::Signature(_))), "{error}");
    let error = refusal(&simple(), "m", UUID, &vec![0; 1 << 20]);
    assert!(matches!(error, ActivationError::Request(RequestError::TooLong { .. })), "{error}");
}

// rules: ACT-2.3, ACT-6.6
#[test]
fn activation_is_refused_while_a_secret_that_it_uses_is_not_uploaded_and_uses_no_budget() {
    let ledger = ledger(&marble(
        r#""MaxActivations":1,"Parameters":{"Env":{"E":"{{ string .Secrets.pw }}"}}"#,
        r#","Secrets":{"pw":{"Type":"plain","UserDefined":true}}"#,
    ));
    for _ in 0..3 {
        let error = activate(&ledger, "m", UUID).unwrap_err();
        assert!(matches!(error, ActivationError::Parameters(_)), "{error}");
    }
    let snapshot = ledger.snapshot();
    let used = snapshot.deployment().unwrap().marbles["m"].activations.load(std::sync::atomic::Ordering::Acquire);
    assert_eq!(used, 0);
}

// rules: ACT-1.6, ACT-2.1
#[test]
fn the_first_of_several_mistakes_is_reported_in_the_order_of_the_steps() {
    let template = r#""MaxActivations":1,"Parameters":{"Env":{"E":"{{ string .Secrets.pw }}"}}"#;
    let mut ledger = ledger(&marble(template, r#","Secrets":{"pw":{"Type":"plain","UserDefined":true}}"#));
    assert!(matches!(refusal(&ledger, "n", "x", b"x"), ActivationError::UnknownType(_)));
    assert!(matches!(refusal(&ledger, "m", "x", b"x"), ActivationError::Uuid(_)));
    assert!(matches!(refusal(&ledger, "m", UUID, b"x"), ActivationError::Request(_)));
    assert!(matches!(refusal(&ledger, "m", UUID, certificate_request()), ActivationError::Parameters(_)));
    use_up(&mut ledger);
    assert!(matches!(refusal(&ledger, "m", "x", b"x"), ActivationError::Refused(_)));
}

/// A stored manifest whose secret `broken` is a certificate of each Marble with a placeholder that nothing can read.
fn with_broken_placeholder(file: &str) -> Ledger {
    let manifest = marble(
        &format!(r#""Parameters":{{"Files":{{"/f":"{file}"}}}}"#),
        r#","Secrets":{"broken":{"Type":"cert-rsa","Size":8192},"k":{"Type":"symmetric-key","Size":128}}"#,
    );
    let placeholder = |secret_type, size, certificate| Secret {
        secret_type,
        size,
        shared: false,
        user_defined: false,
        valid_for: 0,
        certificate,
        private: None,
        public: None,
    };
    let record = ManifestSet {
        raw: manifest.into_bytes(),
        signature: Vec::new(),
        secrets: vec![
            ("broken".to_owned(), placeholder(SecretType::CertRsa, 8192, Some(b"no certificate".to_vec()))),
            ("k".to_owned(), placeholder(SecretType::SymmetricKey, 128, None)),
        ],
        log_line: String::new(),
    };
    let mut ledger = fixture::new_ledger();
    ledger.apply(Record::ManifestSet(record)).unwrap();
    ledger
}

#[test]
fn only_the_secrets_that_the_templates_use_are_generated() {
    // A secret that cannot be generated shows whether it was tried.
    activate(&with_broken_placeholder("{{ hex .Secrets.k }}"), "m", UUID).unwrap();
    activate(&with_broken_placeholder("no template at all"), "m", UUID).unwrap();
    let walks = [
        "{{ pem .Secrets.broken.Cert }}",
        "{{ hex .Previous.Secrets.broken }}",
        "{{ range .Secrets }}x{{ end }}",
        "{{ with .Secrets }}{{ hex .k }}{{ pem .broken.Cert }}{{ end }}",
    ];
    for file in walks {
        let error = activate(&with_broken_placeholder(file), "m", UUID).unwrap_err();
        let ActivationError::Secret(error) = error else { panic!("{file}: {error}") };
        assert_eq!(error.name, "broken");
        assert!(matches!(error.reason, GenerateReason::Placeholder(_)), "{error}");
    }
}

// rules: R17
#[test]
fn an_activation_prepared_for_another_deployment_is_not_counted() {
    let mut ledger = simple();
    let record = fixture::prepare(&marble(r#""MaxActivations":1"#, "")).unwrap().record;
    let other = Arc::new(Deployment::new(record).unwrap());
    let command = Command::CountActivation { marble_type: "m".to_owned(), deployment: other };
    assert_eq!(ledger.decide(command).unwrap_err(), Refusal::DeploymentChanged);
    use_up(&mut ledger);
}

// rules: ACT-2.4, ACT-4.3
#[test]
fn the_marble_is_named_by_its_canonical_uuid_and_gets_a_key_of_its_own() {
    let ledger = simple();
    let key = KeyPair::generate().unwrap();
    let request = request::premain_request(&key, &AltNames::from_list("a.example,10.1.2.3")).unwrap();
    let snapshot = ledger.snapshot();
    let candidate = Candidate::find(&snapshot, "m").unwrap();
    let upper = format!("urn:uuid:{}", UUID.to_uppercase());
    let prepared = candidate.prepare(&snapshot.identity, &upper, &request, NOW).unwrap();
    assert_eq!(prepared.uuid.to_string(), UUID);

    let chain = pem::decode_certificates(variable(&prepared, ENV_MARBLE_CERTIFICATE_CHAIN).as_bytes()).unwrap();
    let [leaf, intermediate] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
    assert_eq!(intermediate.as_slice(), snapshot.identity.intermediate_certificate.as_ref());
    let leaf = Certificate::parse(leaf).unwrap();
    let subject = leaf.subject().unwrap();
    assert_eq!((subject.common_name.as_str(), subject.organization.len()), (UUID, 0));
    assert_eq!(leaf.extension(oid::MARBLE_TYPE).unwrap().as_deref(), Some(&b"m"[..]));
    assert_eq!(leaf.alt_names().unwrap().dns, ["a.example"]);
    assert_ne!(leaf.public_key_der(), key.public_key_der());
    assert!(leaf.validity().unwrap().not_before <= NOW.unix());

    // One leaf, two ways: the mesh trusts the Marble root, outsiders go through the intermediate to the root.
    let roots = pem::decode_certificates(variable(&prepared, ENV_ROOT_CA).as_bytes()).unwrap();
    assert_eq!(roots, [snapshot.identity.marble_root_certificate.to_vec()]);
    let marble_root = Certificate::parse(&roots[0]).unwrap();
    leaf.verify_signed_by(marble_root.public_key_der()).expect(ROOT_CHECKED);
    let intermediate = Certificate::parse(intermediate).unwrap();
    leaf.verify_signed_by(intermediate.public_key_der()).expect(ROOT_CHECKED);
    let roots = pem::decode_certificates(variable(&prepared, ENV_COORDINATOR_ROOT_CA).as_bytes()).unwrap();
    intermediate.verify_signed_by(Certificate::parse(&roots[0]).unwrap().public_key_der()).expect(ROOT_CHECKED);

    let private = pem::decode_all(variable(&prepared, ENV_PRIVATE_KEY).as_bytes()).unwrap();
    assert_eq!(KeyPair::from_pkcs8(&private[0].der).unwrap().public_key_der(), leaf.public_key_der());
}

// rules: ACT-6.4
#[test]
fn the_reserved_variables_replace_those_of_the_manifest() {
    let ledger = ledger(&marble(r#""Parameters":{"Env":{"MARBLE_PREDEFINED_ROOT_CA":"mine","MY":"mine"}}"#, ""));
    let prepared = activate(&ledger, "m", UUID).unwrap();
    assert!(variable(&prepared, ENV_ROOT_CA).starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(variable(&prepared, "MY"), "mine");
}

#[test]
fn each_activation_has_a_new_key() {
    let ledger = ledger(&marble(r#""MaxActivations":0"#, ""));
    let key = || variable(&activate(&ledger, "m", UUID).unwrap(), ENV_PRIVATE_KEY);
    assert_ne!(key(), key());
}
