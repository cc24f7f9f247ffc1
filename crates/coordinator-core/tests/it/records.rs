//! Records are read exactly as they were written.

use std::sync::Arc;

use marblerun_attestation::{EvaluationNumbers, Fmspc, Tee};
use marblerun_coordinator_core::counter::{CounterRaised, MarbleName};
use marblerun_coordinator_core::record::{
    Authority, CollateralAccepted, Genesis, ManifestSet, ManifestUpdated, PackagesUpdated, PreviousValue, Record,
    SecretsSet, UpdateAcknowledged, UpdateCancelled, UpdateInitiated, UpdatedSecret,
};
use marblerun_coordinator_core::secret::Secret;
use marblerun_manifest::SecretType;
use marblerun_secret::SecretBytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rustls_pki_types::UnixTime;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn secret() -> impl Strategy<Value = Secret> {
    let types = [
        SecretType::SymmetricKey,
        SecretType::CertRsa,
        SecretType::CertEcdsa,
        SecretType::CertEd25519,
        SecretType::Plain,
    ];
    let flags = (any::<bool>(), any::<bool>());
    let values = (option::of(bytes()), option::of(bytes()), option::of(bytes()));
    (prop::sample::select(types.to_vec()), any::<u64>(), flags, any::<u64>(), values).prop_map(
        |(secret_type, size, (shared, user_defined), valid_for, (certificate, private, public))| Secret {
            secret_type,
            size,
            shared,
            user_defined,
            valid_for,
            certificate,
            private: private.map(SecretBytes::new),
            public: public.map(SecretBytes::new),
        },
    )
}

fn genesis() -> impl Strategy<Value = Record> {
    (bytes(), bytes(), bytes(), bytes(), bytes(), bytes()).prop_map(|(a, b, c, d, e, f)| {
        Record::Genesis(Genesis {
            root_key: SecretBytes::new(a),
            root_certificate: b,
            intermediate_key: SecretBytes::new(c),
            intermediate_certificate: d,
            marble_root_certificate: e,
            root_secret: SecretBytes::new(f),
        })
    })
}

fn manifest_set() -> impl Strategy<Value = Record> {
    (bytes(), bytes(), vec(("\\PC{0,10}", secret()), 0..4), "\\PC{0,30}").prop_map(
        |(raw, signature, secrets, log_line)| Record::ManifestSet(ManifestSet { raw, signature, secrets, log_line }),
    )
}

fn collateral() -> impl Strategy<Value = Record> {
    (any::<[u8; 6]>(), any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(fmspc, tcb_info, qe_identity, issued)| {
        Record::CollateralAccepted(CollateralAccepted {
            tee: Tee::Sgx,
            fmspc: Fmspc(fmspc),
            numbers: EvaluationNumbers { tcb_info, qe_identity },
            newest_issue: UnixTime::since_unix_epoch(std::time::Duration::from_secs(issued)),
        })
    })
}

fn secrets_set() -> impl Strategy<Value = Record> {
    let secrets = vec(("\\PC{0,10}", secret().prop_map(Arc::new)), 0..4);
    (secrets, vec("\\PC{0,30}", 0..4))
        .prop_map(|(secrets, log_lines)| Record::SecretsSet(SecretsSet { secrets, log_lines }))
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    vec("\\PC{0,30}", 0..4)
}

fn authority() -> impl Strategy<Value = Authority> {
    (bytes(), bytes(), bytes()).prop_map(|(key, intermediate_certificate, marble_root_certificate)| Authority {
        intermediate_key: SecretBytes::new(key),
        intermediate_certificate,
        marble_root_certificate,
    })
}

fn packages_updated() -> impl Strategy<Value = Record> {
    let versions = vec(("\\PC{0,10}", any::<u64>()), 0..4);
    let secrets = vec(("\\PC{0,10}", secret().prop_map(Arc::new)), 0..4);
    (versions, authority(), secrets, lines()).prop_map(|(versions, authority, secrets, log_lines)| {
        Record::PackagesUpdated(PackagesUpdated { versions, authority, secrets, log_lines })
    })
}

fn step_of_an_update() -> impl Strategy<Value = Record> {
    prop_oneof![
        (bytes(), "\\PC{0,9}", "\\PC{0,30}")
            .prop_map(|(raw, user, log_line)| Record::UpdateInitiated(UpdateInitiated { raw, user, log_line })),
        ("\\PC{0,9}", "\\PC{0,30}")
            .prop_map(|(user, log_line)| Record::UpdateAcknowledged(UpdateAcknowledged { user, log_line })),
        lines().prop_map(|log_lines| Record::UpdateCancelled(UpdateCancelled { log_lines })),
    ]
}

fn manifest_updated() -> impl Strategy<Value = Record> {
    let previous = prop_oneof![Just(PreviousValue::Kept), Just(PreviousValue::OldCurrent), Just(PreviousValue::New)];
    let updated = ("\\PC{0,10}", option::of(secret().prop_map(Arc::new)), previous)
        .prop_map(|(name, value, previous)| UpdatedSecret { name, value, previous });
    (bytes(), bytes(), authority(), option::of(bytes()), vec(updated, 0..4), lines()).prop_map(
        |(raw, signature, authority, root_secret, secrets, log_lines)| {
            let root_secret = root_secret.map(SecretBytes::new);
            Record::ManifestUpdated(ManifestUpdated { raw, signature, authority, root_secret, secrets, log_lines })
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let counted = "\\PC{0,20}".prop_map(|marble_type| Record::ActivationCounted { marble_type });
    let raised = ("\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}", any::<u64>()).prop_map(|(marble_type, uuid, name, value)| {
        Record::CounterRaised(CounterRaised { marble: MarbleName { marble_type, uuid }, name, value })
    });
    prop_oneof![
        genesis(),
        manifest_set(),
        counted,
        collateral(),
        secrets_set(),
        raised,
        packages_updated(),
        step_of_an_update(),
        manifest_updated()
    ]
}

/// Everything about a secret as text, its values included.
fn whole(name: &str, secret: &Secret) -> String {
    let shown = |secret: &Option<SecretBytes>| secret.as_ref().map(|bytes| bytes.expose().to_vec());
    // Debug output shows everything but the values.
    format!("{name} {secret:?} {:?} {:?} {:?}", secret.certificate, shown(&secret.private), shown(&secret.public))
}

fn whole_authority(authority: &Authority) -> String {
    format!("{authority:?} {:?}", authority.intermediate_key.expose())
}

/// Two records by all their members; secrets are compared here, so they are exposed.
#[track_caller]
fn assert_same(left: &Record, right: &Record) {
    match (left, right) {
        (Record::Genesis(left), Record::Genesis(right)) => {
            assert_eq!(left.root_key.expose(), right.root_key.expose());
            assert_eq!(left.root_certificate, right.root_certificate);
            assert_eq!(left.intermediate_key.expose(), right.intermediate_key.expose());
            assert_eq!(left.intermediate_certificate, right.intermediate_certificate);
            assert_eq!(left.marble_root_certificate, right.marble_root_certificate);
            assert_eq!(left.root_secret.expose(), right.root_secret.expose());
        }
        (Record::ManifestSet(left), Record::ManifestSet(right)) => {
            assert_eq!((&left.raw, &left.signature, &left.log_line), (&right.raw, &right.signature, &right.log_line));
            let pairs =
                |set: &ManifestSet| set.secrets.iter().map(|(name, secret)| whole(name, secret)).collect::<Vec<_>>();
            assert_eq!(pairs(left), pairs(right));
        }
        (Record::SecretsSet(left), Record::SecretsSet(right)) => {
            assert_eq!(left.log_lines, right.log_lines);
            let pairs =
                |set: &SecretsSet| set.secrets.iter().map(|(name, secret)| whole(name, secret)).collect::<Vec<_>>();
            assert_eq!(pairs(left), pairs(right));
        }
        (Record::ActivationCounted { marble_type: left }, Record::ActivationCounted { marble_type: right }) => {
            assert_eq!(left, right);
        }
        (Record::CollateralAccepted(left), Record::CollateralAccepted(right)) => assert_eq!(left, right),
        (Record::CounterRaised(left), Record::CounterRaised(right)) => assert_eq!(left, right),
        (Record::PackagesUpdated(left), Record::PackagesUpdated(right)) => {
            assert_eq!((&left.versions, &left.log_lines), (&right.versions, &right.log_lines));
            assert_eq!(whole_authority(&left.authority), whole_authority(&right.authority));
            let pairs = |set: &PackagesUpdated| {
                set.secrets.iter().map(|(name, secret)| whole(name, secret)).collect::<Vec<_>>()
            };
            assert_eq!(pairs(left), pairs(right));
        }
        (Record::UpdateInitiated(left), Record::UpdateInitiated(right)) => {
            assert_eq!((&left.raw, &left.user, &left.log_line), (&right.raw, &right.user, &right.log_line));
        }
        (Record::UpdateAcknowledged(left), Record::UpdateAcknowledged(right)) => {
            assert_eq!((&left.user, &left.log_line), (&right.user, &right.log_line));
        }
        (Record::UpdateCancelled(left), Record::UpdateCancelled(right)) => assert_eq!(left.log_lines, right.log_lines),
        (Record::ManifestUpdated(left), Record::ManifestUpdated(right)) => {
            assert_eq!((&left.raw, &left.signature, &left.log_lines), (&right.raw, &right.signature, &right.log_lines));
            assert_eq!(whole_authority(&left.authority), whole_authority(&right.authority));
            let root = |update: &ManifestUpdated| update.root_secret.as_ref().map(|bytes| bytes.expose().to_vec());
            assert_eq!(root(left), root(right));
            let one = |secret: &UpdatedSecret| {
                let value = secret.value.as_ref().map(|value| whole(&secret.name, value));
                (secret.name.clone(), value, secret.previous)
            };
            let all = |update: &ManifestUpdated| update.secrets.iter().map(one).collect::<Vec<_>>();
            assert_eq!(all(left), all(right));
        }
        _ => panic!("{left:?} became {right:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_read_as_it_was_written(record in record()) {
        let bytes = record.encode();
        let read = Record::decode(bytes.expose()).unwrap();
        assert_same(&record, &read);
        assert_eq!(read.encode().expose(), bytes.expose());
    }

    #[test]
    fn a_damaged_record_never_panics(record in record(), position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = record.encode().expose().to_vec();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        let _ = Record::decode(&bytes);
        let _ = Record::decode(&bytes[..position]);
    }
}
