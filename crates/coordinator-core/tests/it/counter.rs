//! Which certificates are those of Marbles, and that counters are found by a restart.

use std::sync::{Arc, OnceLock};

use marblerun_coordinator_core::counter::{MarbleName, RaiseCounter};
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::ledger::{Command, Ledger, ReplayError};
use marblerun_coordinator_core::parameters::ENV_MARBLE_CERTIFICATE_CHAIN;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_manifest::user_certificate;
use marblerun_pki::AltNames;
use marblerun_secret::SecretBytes;
use rustls_pki_types::UnixTime;

use crate::fixture::{self, NOW, PACKAGES, UUID, activate, ledger, user_pem, variable};

fn manifest() -> String {
    // A certificate of the same issuer that names an instance, but no type.
    let secret =
        format!(r#"{{"Type":"cert-ecdsa","Size":256,"Shared":true,"Cert":{{"Subject":{{"CommonName":"{UUID}"}}}}}}"#);
    format!(r#"{{{PACKAGES},"Marbles":{{"m":{{"Package":"p"}}}},"Secrets":{{"c":{secret}}}}}"#)
}

fn marble_leaf(ledger: &Ledger) -> Vec<u8> {
    user_certificate(&variable(&activate(ledger, "m", UUID).unwrap(), ENV_MARBLE_CERTIFICATE_CHAIN)).unwrap()
}

// rules: AUTH-6
#[test]
fn a_marble_is_known_by_its_certificate_while_it_is_valid() {
    let ledger = ledger(&manifest());
    let snapshot = ledger.snapshot();
    let leaf = marble_leaf(&ledger);
    let expected = MarbleName { marble_type: "m".to_owned(), uuid: UUID.to_owned() };
    assert_eq!(MarbleName::authenticate(&snapshot.identity, &leaf, NOW.unix()), Some(expected));

    let early = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
    assert_eq!(MarbleName::authenticate(&snapshot.identity, &leaf, early), None);
    let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
    assert_eq!(MarbleName::authenticate(&snapshot.identity, &leaf, late), None);
}

// rules: AUTH-6, AUTH-7
#[test]
fn other_certificates_are_not_those_of_marbles() {
    let ledger = ledger(&manifest());
    let snapshot = ledger.snapshot();
    let secret = snapshot.deployment().unwrap().secrets.get("c").unwrap().certificate.clone().unwrap();
    let ann = user_certificate(&user_pem("ann")).unwrap();
    let root = snapshot.identity.marble_root_certificate.to_vec();
    let mut forged = marble_leaf(&ledger);
    *forged.last_mut().unwrap() ^= 1;
    for leaf in [secret, ann, root, forged, Vec::new()] {
        assert_eq!(MarbleName::authenticate(&snapshot.identity, &leaf, NOW.unix()), None);
    }
    // A Marble of another deployment, whose issuer has the same name.
    let other = Identity::from_genesis(&Genesis::create(&AltNames::from_list("localhost"), NOW).unwrap()).unwrap();
    assert_eq!(MarbleName::authenticate(&other, &marble_leaf(&ledger), NOW.unix()), None);
}

#[test]
fn a_restart_finds_the_counters_and_no_line_of_the_log() {
    let mut ledger = fixture::new_ledger();
    let mut stored = vec![Record::Genesis(fixture::genesis()).encode()];
    let raise = |ledger: &mut Ledger, stored: &mut Vec<SecretBytes>, value| {
        let marble = MarbleName { marble_type: "m".to_owned(), uuid: UUID.to_owned() };
        let before = Arc::new(OnceLock::new());
        let wish = RaiseCounter { marble, name: "c".to_owned(), value, before: Arc::clone(&before) };
        if let Some(record) = ledger.decide(Command::RaiseCounter(wish)).unwrap() {
            stored.push(record.encode());
            ledger.apply(record).unwrap();
        }
        *before.get().unwrap()
    };
    assert_eq!([5, 5, 9].map(|value| raise(&mut ledger, &mut stored, value)), [0, 5, 5]);
    assert_eq!(stored.len(), 3, "what does not rise is not written");
    let read = |bytes: &SecretBytes| Record::decode(bytes.expose()).unwrap();
    let mut restarted = Ledger::replay(stored.iter().map(read)).unwrap();
    assert!(matches!(restarted.apply(read(&stored[2])).unwrap_err(), ReplayError::OutOfPlace(_)));
    assert_eq!(raise(&mut restarted, &mut stored, 0), 9);
    assert!(restarted.snapshot().update_log.is_empty());
}
