//! Which value a secret has: shared or of one instance, bound to a type, from a template, given by the manifest.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marblerun_coordinator_core::certificate_template::TemplateError;
use marblerun_coordinator_core::generate::{self, GenerateReason, MarbleContext};
use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::set_manifest::SetManifestError;
use marblerun_coordinator_core::uuid::MarbleUuid;
use marblerun_manifest::{Manifest, SecretType};
use marblerun_pki::certificate::Validity;
use marblerun_pki::{AltNames, Certificate, KeyPair, pem, profile};
use marblerun_secret::SecretBytes;

use crate::fixture::{self, NOW, OTHER_UUID, PACKAGES, UUID, activate, file, ledger, prepare};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Marbles `backend`, `frontend`, and `loose-a`, `loose-b` without binding; all get the file.
fn four_types(file: &str, secrets: &str) -> String {
    let marble = |extra: &str| format!(r#"{{"Package":"p"{extra},"Parameters":{{"Files":{{"/f":"{file}"}}}}}}"#);
    let (bound, loose) = (marble(""), marble(r#","DisableSecretBinding":true"#));
    format!(
        r#"{{{PACKAGES},"Marbles":{{"backend":{bound},"frontend":{bound},"loose-a":{loose},"loose-b":{loose}}},"Secrets":{{{secrets}}}}}"#
    )
}

fn one(secret: &str) -> Ledger {
    ledger(&four_types("{{ pem .Secrets.s.Cert }}", &format!(r#""s":{secret}"#)))
}

#[track_caller]
fn content(ledger: &Ledger, marble_type: &str, uuid: &str) -> String {
    file(&activate(ledger, marble_type, uuid).unwrap(), "/f")
}

/// The stored value of `s`.
fn stored(ledger: &Ledger) -> std::sync::Arc<Secret> {
    ledger.snapshot().deployment().unwrap().secrets.get("s").unwrap().clone()
}

fn der(text: &str) -> Vec<u8> {
    pem::decode_certificates(text.as_bytes()).unwrap().remove(0)
}

// rules: ACT-5.1
#[test]
fn keys_of_an_instance_are_those_of_the_published_vectors() {
    #[track_caller]
    fn check(name: &str, marble_type: &str, bits: usize, expected: &str) {
        let secret = format!(r#""{name}":{{"Type":"symmetric-key","Size":{bits}}}"#);
        for which in ["", ".Previous"] {
            let template = format!("{{{{ hex {which}.Secrets.{name} }}}}");
            let ledger = ledger(&four_types(&template, &secret));
            assert_eq!(content(&ledger, marble_type, UUID), expected, "{name} {marble_type} {bits} {which}");
        }
    }
    const PRIVATE: &str = "symmetricKeyPrivate";
    check(PRIVATE, "backend", 256, "8bd740c44d33db3a56a0763247b82f02df2e4c94023abf2e99faceae210e1cc9");
    check(PRIVATE, "loose-a", 256, "b24859a817ce24deaa0332066f54fa2c7cc37a6fe18a8842d61600e799511ae4");
    check("k", "backend", 128, "4d5101fbaa7cdf9eaf14a1c0da1c8adf");
    check(
        "k",
        "backend",
        512,
        "4d5101fbaa7cdf9eaf14a1c0da1c8adfc5cc9f3af785cbf19bb2e8753172de9c1eacce86c482d2a4f514b532c1cd86708a6921332b3ce6134583c667000ee9fd",
    );
}

// rules: ACT-5.2
#[test]
fn a_key_depends_on_instance_and_type_unless_binding_is_disabled() {
    let ledger = ledger(&four_types("{{ hex .Secrets.k }}", r#""k":{"Type":"symmetric-key","Size":128}"#));
    let key = |marble_type: &str, uuid: &str| content(&ledger, marble_type, uuid);
    assert_eq!(key("backend", UUID), key("backend", &UUID.to_uppercase()), "a restart finds its key again");
    assert_ne!(key("backend", UUID), key("backend", OTHER_UUID));
    assert_ne!(key("backend", UUID), key("frontend", UUID));
    assert_eq!(key("loose-a", UUID), key("loose-b", UUID));
    assert_ne!(key("loose-a", UUID), key("loose-a", OTHER_UUID));
    assert_ne!(key("loose-a", UUID), key("backend", UUID));
}

// rules: ACT-5.4
#[test]
fn a_shared_secret_is_the_same_for_all_and_that_of_an_instance_is_not() {
    let shared = one(r#"{"Type":"cert-ecdsa","Size":256,"Shared":true}"#);
    assert_eq!(content(&shared, "backend", UUID), content(&shared, "frontend", OTHER_UUID));
    let unique = one(r#"{"Type":"cert-ecdsa","Size":256}"#);
    assert_ne!(content(&unique, "backend", UUID), content(&unique, "backend", UUID), "also for the same UUID");
    let key = ledger(&four_types("{{ hex .Secrets.k }}", r#""k":{"Type":"symmetric-key","Size":128,"Shared":true}"#));
    assert_eq!(content(&key, "backend", UUID), content(&key, "frontend", OTHER_UUID));
    assert_ne!(
        content(&key, "backend", UUID),
        content(
            &ledger(&four_types("{{ hex .Secrets.k }}", r#""k":{"Type":"symmetric-key","Size":128,"Shared":true}"#)),
            "backend",
            UUID
        ),
        "it is random"
    );
}

#[test]
fn nothing_that_an_activation_generates_is_kept() {
    let ledger = one(r#"{"Type":"cert-ecdsa","Size":256}"#);
    let before = stored(&ledger);
    activate(&ledger, "backend", UUID).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &stored(&ledger)));
}

#[test]
fn the_key_belongs_to_the_certificate_and_the_marble_root_signed_it() {
    for definition in
        [r#""Type":"cert-ecdsa","Size":384"#, r#""Type":"cert-ed25519""#, r#""Type":"cert-rsa","Size":2048"#]
    {
        let text =
            "{{ pem .Secrets.s.Cert }}|{{ hex .Secrets.s.Public }}|{{ hex .Secrets.s }}|{{ hex .Secrets.s.Private }}";
        let ledger = ledger(&four_types(text, &format!(r#""s":{{{definition}}}"#)));
        let content = content(&ledger, "backend", UUID);
        let parts: Vec<&str> = content.split('|').collect();
        let certificate = der(parts[0]);
        let certificate = Certificate::parse(&certificate).unwrap();
        assert_eq!(hex::encode(certificate.public_key_der()), parts[1], "{definition}");
        assert_eq!(parts[1], parts[2], "a whole certificate secret stands for its public key");
        assert_ne!(parts[1], parts[3]);
        let root = ledger.snapshot().identity.marble_root_certificate.clone();
        certificate.verify_signed_by(Certificate::parse(&root).unwrap().public_key_der()).unwrap();
    }
}

#[test]
fn the_template_of_an_instances_certificate_is_applied_at_each_activation() {
    let unique = one(
        r#"{"Type":"cert-ecdsa","Size":256,"Cert":{"Subject":{"CommonName":"db","OrganizationalUnit":["u"]},"DNSNames":["db.example"],"IsCA":true}}"#,
    );
    let certificate = der(&content(&unique, "backend", UUID));
    let certificate = Certificate::parse(&certificate).unwrap();
    let subject = certificate.subject().unwrap();
    assert_eq!((subject.common_name.as_str(), subject.organizational_unit.as_slice()), ("db", &["u".to_owned()][..]));
    assert_eq!(certificate.alt_names().unwrap().dns, ["db.example"]);
    assert!(certificate.is_ca().unwrap());
    // The key is new, but whoever names the CA by its key identifier still finds it.
    let placeholder = stored(&unique);
    let placeholder = Certificate::parse(placeholder.certificate.as_deref().unwrap()).unwrap();
    assert_ne!(placeholder.public_key_der(), certificate.public_key_der());
    assert_eq!(placeholder.subject_key_id().unwrap(), certificate.subject_key_id().unwrap());
}

#[test]
fn a_certificate_given_as_der_serves_as_template() {
    let key = KeyPair::generate().unwrap();
    let given = profile::premain_certificate(&key, &AltNames::from_list("given.example"), NOW.unix()).unwrap();
    let end = Certificate::parse(&given).unwrap().validity().unwrap().not_after;
    for shared in [true, false] {
        let definition =
            format!(r#"{{"Type":"cert-ecdsa","Size":256,"Shared":{shared},"Cert":"{}"}}"#, STANDARD.encode(&given));
        let made = der(&content(&one(&definition), "backend", UUID));
        let made = Certificate::parse(&made).unwrap();
        assert_eq!(made.subject().unwrap().common_name, "MarbleRun Marble");
        assert_eq!(made.alt_names().unwrap().dns, ["given.example"]);
        assert_eq!(made.validity().unwrap().not_after, end);
        assert_ne!(made.public_key_der(), key.public_key_der(), "the template's key is not used");
    }
}

// rules: ACT-4.7
#[test]
fn the_end_of_validity_is_counted_or_kept() {
    #[track_caller]
    fn check(definition: &str, expected_days: u32, stored_days: u64) {
        let ledger = one(definition);
        assert_eq!(stored(&ledger).valid_for, stored_days, "{definition}");
        // Ten days later.
        let later = marblerun_coordinator_core::time::Timestamp::from_duration(
            Duration::from_secs(NOW.unix().as_secs()) + 10 * DAY,
        );
        let snapshot = ledger.snapshot();
        let candidate = marblerun_coordinator_core::activation::Candidate::find(&snapshot, "backend").unwrap();
        let prepared = candidate.prepare(&snapshot.identity, UUID, fixture::certificate_request(), later).unwrap();
        let certificate = der(&file(&prepared, "/f"));
        let Validity { not_after, .. } = Certificate::parse(&certificate).unwrap().validity().unwrap();
        let days = (not_after.as_secs() - NOW.unix().as_secs()) / DAY.as_secs();
        assert_eq!(days, u64::from(expected_days), "{definition}");
    }
    // An instance's certificate counts from its activation, a shared one from the manifest.
    check(r#"{"Type":"cert-ecdsa","Size":256}"#, 10 + 365, 365);
    check(r#"{"Type":"cert-ecdsa","Size":256,"ValidFor":7}"#, 10 + 7, 7);
    check(r#"{"Type":"cert-ecdsa","Size":256,"Shared":true}"#, 365, 365);
    check(r#"{"Type":"cert-ecdsa","Size":256,"Shared":true,"ValidFor":7}"#, 7, 7);
    // 2027-02-01T09:30:00Z is 365 days after the manifest.
    check(r#"{"Type":"cert-ecdsa","Size":256,"Cert":{"NotAfter":"2027-02-01T09:30:00Z"}}"#, 365, 0);
    check(r#"{"Type":"cert-ecdsa","Size":256,"Shared":true,"Cert":{"NotAfter":"2027-02-01T09:30:00Z"}}"#, 365, 0);
}

#[test]
fn values_that_the_manifest_gives_to_user_defined_secrets_are_used() {
    let ledger = ledger(&four_types(
        "{{ hex .Secrets.s.Private }}{{ hex .Secrets.s.Public }}",
        r#""s":{"Type":"symmetric-key","Size":16,"UserDefined":true,"Private":"AQI=","Public":"AwQ="}"#,
    ));
    assert_eq!(content(&ledger, "backend", UUID), "01020304");
    assert_eq!(content(&ledger, "frontend", OTHER_UUID), "01020304");
}

#[test]
fn user_defined_secrets_begin_empty() {
    let ledger = one(r#"{"Type":"cert-ecdsa","Size":256,"UserDefined":true}"#);
    let secret = stored(&ledger);
    assert!(secret.certificate.is_none() && secret.private.is_none() && secret.public.is_none());
    assert_eq!(secret.valid_for, 0);
    assert!(activate(&ledger, "backend", UUID).is_err());
}

#[test]
fn stored_definitions_are_those_of_the_manifest() {
    let manifest = four_types(
        "",
        r#""a":{"Type":"symmetric-key","Size":128,"Shared":true},"b":{"Type":"cert-ed25519"},"c":{"Type":"plain","UserDefined":true}"#,
    );
    let record = prepare(&manifest).unwrap().record;
    let secrets: BTreeMap<_, _> = record.secrets.iter().map(|(name, secret)| (name.as_str(), secret)).collect();
    assert_eq!(secrets.keys().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        (secrets["a"].secret_type, secrets["a"].size, secrets["a"].shared),
        (SecretType::SymmetricKey, 128, true)
    );
    let key = |secret: &Secret| secret.private.as_ref().map(SecretBytes::len);
    assert_eq!((key(secrets["a"]), key(secrets["c"])), (Some(16), None));
    assert!(secrets["c"].user_defined && !secrets["b"].shared);
    assert_eq!(secrets["a"].private.as_ref().unwrap().expose(), secrets["a"].public.as_ref().unwrap().expose());
}

#[test]
fn no_message_about_a_secret_shows_its_value() {
    let manifest = four_types(
        "{{ eq .Secrets.s .Secrets.s }}",
        r#""s":{"Type":"plain","UserDefined":true,"Private":"dG9wc2VjcmV0","Public":"dG9wc2VjcmV0"}"#,
    );
    let error = prepare(&manifest).unwrap_err();
    assert!(matches!(error, SetManifestError::DryRun(_)), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("topsecret"));
    let error = activate(
        &ledger(&four_types(
            "{{ if eq (len .Secrets.s.Private) 9 }}{{ eq .Secrets.s .Secrets.s }}{{ end }}",
            r#""s":{"Type":"plain","UserDefined":true,"Private":"dG9wc2VjcmV0","Public":"dG9wc2VjcmV0"}"#,
        )),
        "backend",
        UUID,
    )
    .unwrap_err();
    assert!(!format!("{error:?}{error}").contains("topsecret"), "{error:?}");
    assert!(!format!("{error:?}").contains("116, 111, 112"), "{error:?}");
}

/// What `first_values` says to secrets that no check of a manifest has seen.
#[track_caller]
fn check_unchecked(definition: &str, is_reason: impl Fn(&GenerateReason) -> bool) {
    let manifest = four_types("", &format!(r#""s":{definition}"#));
    let manifest = Manifest::decode(manifest.as_bytes()).unwrap();
    let identity = &fixture::new_ledger().snapshot().identity;
    let uuid = MarbleUuid::parse(UUID).unwrap();
    let context = MarbleContext { uuid, binding_name: "", root_secret: &identity.root_secret };
    let issuer = identity.marble_issuer().unwrap();
    let error = generate::first_values(&manifest, context, &issuer, NOW.unix()).unwrap_err();
    assert_eq!(error.name, "s");
    assert!(is_reason(&error.reason), "{definition}: {error:?}");
}

#[test]
fn what_cannot_be_generated_is_refused_also_without_the_checks_of_the_manifest() {
    use GenerateReason::{Ed25519Size, KeySize, Plain, Size, Template, TooLong, Type};
    check_unchecked(r#"{"Type":"nonsense"}"#, |reason| matches!(reason, Type(_)));
    check_unchecked(r#"{"Type":"plain"}"#, |reason| matches!(reason, Plain));
    for size in [0, 4, 12] {
        for shared in [true, false] {
            let definition = format!(r#"{{"Type":"symmetric-key","Size":{size},"Shared":{shared}}}"#);
            check_unchecked(&definition, |reason| matches!(reason, Size(got) if *got == size));
        }
    }
    check_unchecked(r#"{"Type":"symmetric-key","Size":65288}"#, |reason| matches!(reason, TooLong(_)));
    check_unchecked(r#"{"Type":"symmetric-key","Size":8388616,"Shared":true}"#, |reason| matches!(reason, Size(_)));
    check_unchecked(r#"{"Type":"cert-rsa","Size":1024}"#, |reason| matches!(reason, KeySize(_)));
    check_unchecked(r#"{"Type":"cert-ecdsa","Size":224}"#, |reason| matches!(reason, KeySize(_)));
    check_unchecked(r#"{"Type":"cert-ed25519","Size":256}"#, |reason| matches!(reason, Ed25519Size(256)));
    check_unchecked(
        r#"{"Type":"cert-ed25519","Cert":{"ExtraExtensions":[{"Id":[1,3,9903,2,1],"Value":"bQ=="}]}}"#,
        |reason| matches!(reason, Template(TemplateError::MarbleType)),
    );
    check_unchecked(r#"{"Type":"cert-ed25519","Cert":{"ExtraExtensions":[{"Id":[1,-3],"Value":"bQ=="}]}}"#, |reason| {
        matches!(reason, Template(TemplateError::Oid { member: "ExtraExtensions", .. }))
    });
    check_unchecked(r#"{"Type":"cert-ed25519","Cert":{"IPAddresses":["10.0.0.1",null]}}"#, |reason| {
        matches!(reason, Template(TemplateError::Missing { member: "IPAddresses", index: 1, .. }))
    });
    check_unchecked(r#"{"Type":"cert-ed25519","Cert":{"URIs":[null]}}"#, |reason| {
        matches!(reason, Template(TemplateError::Missing { member: "URIs", index: 0, .. }))
    });
}
