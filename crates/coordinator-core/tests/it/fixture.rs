//! A deployment of known keys, and what Marbles send.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use marblerun_coordinator_core::activation::{ActivationError, Candidate, Prepared};
use marblerun_coordinator_core::ledger::{Command, Ledger};
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_coordinator_core::set_manifest::{self, PreparedManifest, SetManifestError};
use marblerun_coordinator_core::time::Timestamp;
use marblerun_coordinator_core::users::User;
use marblerun_manifest::user_certificate;
use marblerun_pki::{AltNames, KeyPair, pem, profile, request};
use marblerun_secret::SecretBytes;

pub const UUID: &str = "11111111-2222-3333-4444-555555555555";
pub const OTHER_UUID: &str = "99999999-2222-3333-4444-555555555555";
/// 2026-02-01T09:30:00.125Z.
pub const NOW: Timestamp = Timestamp::from_millis(1_769_938_200_125);

/// A definition of a package that fits every Marble here.
pub const PACKAGES: &str =
    r#""Packages":{"p":{"UniqueID":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}}"#;

static GENESIS: LazyLock<SecretBytes> = LazyLock::new(|| {
    let mut genesis = Genesis::create(&AltNames::from_list("localhost"), NOW).unwrap();
    genesis.root_secret = SecretBytes::new((0..32).collect());
    Record::Genesis(genesis).encode()
});

/// The identity's record; the root secret has the bytes 00 to 1f.
pub fn genesis() -> Genesis {
    let Record::Genesis(genesis) = Record::decode(GENESIS.expose()).unwrap() else { panic!("another kind") };
    genesis
}

/// A ledger without manifest.
pub fn new_ledger() -> Ledger {
    Ledger::new(&genesis()).unwrap()
}

/// A ledger with this manifest.
#[track_caller]
pub fn ledger(manifest: &str) -> Ledger {
    let mut ledger = new_ledger();
    let prepared = prepare(manifest).unwrap();
    let record = ledger.decide(Command::SetManifest(Box::new(prepared.record))).unwrap().unwrap();
    ledger.apply(record).unwrap();
    ledger
}

pub fn prepare(manifest: &str) -> Result<PreparedManifest, SetManifestError> {
    let snapshot = new_ledger().snapshot();
    set_manifest::prepare(&snapshot.identity, manifest.as_bytes(), NOW)
}

static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    request::premain_request(&key, &AltNames::from_list("a.example,10.1.2.3")).unwrap()
});

/// A good certificate request for a.example and 10.1.2.3 (beside the default addresses).
pub fn certificate_request() -> &'static [u8] {
    &REQUEST
}

/// Everything up to the parameters, as an edge does it.
pub fn activate(ledger: &Ledger, marble_type: &str, uuid: &str) -> Result<Prepared, ActivationError> {
    let snapshot = ledger.snapshot();
    Candidate::find(&snapshot, marble_type)?.prepare(&snapshot.identity, uuid, certificate_request(), NOW)
}

/// The content of a file that a Marble got.
#[track_caller]
pub fn file(prepared: &Prepared, path: &str) -> String {
    String::from_utf8(prepared.parameters.files[path].expose().to_vec()).unwrap()
}

/// The value of a variable that a Marble got.
#[track_caller]
pub fn variable(prepared: &Prepared, name: &str) -> String {
    String::from_utf8(prepared.parameters.env[name].expose().to_vec()).unwrap()
}

/// The PEM certificate of the user `ann` or `ben`.
pub fn user_pem(name: &str) -> String {
    let testdata = std::env::var_os("MARBLERUN_TESTDATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata").into(), std::path::PathBuf::from);
    std::fs::read_to_string(testdata.join("activation").join(format!("{name}.pem"))).unwrap()
}

/// The PEM certificate of a user of any name; the same each time.
pub fn made_user_pem(name: &str) -> String {
    static MADE: LazyLock<Mutex<BTreeMap<String, String>>> = LazyLock::new(Mutex::default);
    let make = || {
        let key = KeyPair::generate().unwrap();
        pem::encode("CERTIFICATE", &profile::premain_certificate(&key, &AltNames::default(), NOW.unix()).unwrap())
    };
    MADE.lock().unwrap().entry(name.to_owned()).or_insert_with(make).clone()
}

/// The user of this name in the ledger's manifest, whose certificate is [`made_user_pem`].
#[track_caller]
pub fn made_user(ledger: &Ledger, name: &str) -> Arc<User> {
    let der = user_certificate(&made_user_pem(name)).unwrap();
    Arc::clone(ledger.snapshot().deployment().unwrap().users.authenticate(&der).unwrap())
}

/// The state that a restart makes of `stored`.
#[track_caller]
pub fn replayed(stored: &[SecretBytes]) -> Ledger {
    Ledger::replay(stored.iter().map(|bytes| Record::decode(bytes.expose()).unwrap())).unwrap()
}

/// Everything about a state, secret values and keys included, for comparison.
pub fn whole_state(ledger: &Ledger) -> String {
    use std::fmt::Write as _;
    let snapshot = ledger.snapshot();
    let identity = &snapshot.identity;
    let hash = |secret: &SecretBytes| marblerun_manifest::fingerprint(secret.expose());
    let mut text = format!("{snapshot:?}");
    let keys = [identity.root_key.to_pkcs8().unwrap(), identity.intermediate_key.to_pkcs8().unwrap()];
    for secret in keys.iter().chain([identity.root_secret.as_ref(), identity.previous_root_secret.as_ref()]) {
        write!(text, " {}", hash(secret)).unwrap();
    }
    if let Some(deployment) = snapshot.deployment() {
        for (name, secret) in deployment.secrets.iter().chain(deployment.previous_secrets.iter()) {
            for value in [&secret.private, &secret.public] {
                write!(text, " {name} {:?}", value.as_ref().map(hash)).unwrap();
            }
        }
    }
    text
}
