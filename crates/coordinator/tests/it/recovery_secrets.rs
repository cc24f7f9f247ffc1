//! What setting a manifest gives to the recovery parties opens the sealed state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use marblerun_coordinator::manifest_setter::ManifestSetter;
use marblerun_coordinator::quoter::Quoter;
use marblerun_coordinator::tls::Listeners;
use marblerun_coordinator::trust::Trust;
use marblerun_coordinator::view::SharedView;
use marblerun_coordinator::writer::{self, Backing};
use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_coordinator_core::time::Timestamp;
use marblerun_pki::{AltNames, pem};
use marblerun_sealing::{Fault, FixedSealKeys, SealMode, SealPolicy, TrustContext};
use marblerun_secret::SecretBytes;
use marblerun_storage::{Existing, OpenError, Opened, RECOVERY_FILE, RecoverError, StoreError, open_directory};
use marblerun_tee::TrustClass;

/// 2026-02-01.
const NOW: Timestamp = Timestamp::from_millis(1_769_904_000_000);

fn open(directory: &Path, trust: TrustContext) -> Opened {
    let keys = || Arc::new(FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16])));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match open_directory(directory, keys(), trust.clone()) {
            // The writer's thread gives the directory back soon after its last handle is dropped.
            Err(OpenError::Store(StoreError::Locked { .. })) if Instant::now() < deadline => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

/// Sets `manifest` on a new deployment in `directory`, as the client API does, and stops.
fn set_manifest(directory: &Path, manifest: &str) -> (BTreeMap<String, Vec<u8>>, TrustContext) {
    let trust = Arc::new(Trust::new(&TrustClass::Simulation, None).unwrap());
    let context = trust.context();
    let Opened::New(new) = open(directory, context.clone()) else { panic!("expected an empty directory") };
    let genesis = Genesis::create(&AltNames::from_list("localhost"), NOW).unwrap();
    let ledger = Ledger::new(&genesis).unwrap();
    let log = new.create(SealMode::default(), &[Record::Genesis(genesis).encode().expose()]).unwrap();
    let backing = Backing::Log(log);
    let view = SharedView::new(writer::view(&ledger, &backing));
    let writer = writer::start(ledger, backing, view.clone(), Listeners::new().unwrap()).unwrap();
    let tee = Arc::new(marblerun_tee::detect(Some("1")).unwrap());
    let quoter = Arc::new(Quoter::new(tee, trust, view.clone()).unwrap());
    let setter = ManifestSetter::new(view, writer, quoter);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let shares = runtime.block_on(setter.set(manifest.as_bytes().to_vec())).unwrap();
    (shares, context)
}

struct Party {
    name: &'static str,
    key: PrivateDecryptingKey,
}

impl Party {
    fn new(name: &'static str) -> Self {
        Self { name, key: PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap() }
    }

    fn pem(&self) -> String {
        pem::encode("PUBLIC KEY", self.key.public_key().as_der().unwrap().as_ref())
    }

    fn decrypt(&self, shares: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let key = OaepPrivateDecryptingKey::new(self.key.clone()).unwrap();
        let mut plain = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA256_MGF1SHA256, &shares[self.name], &mut plain, None).unwrap().to_vec()
    }
}

fn manifest(parties: &[Party], config: &str) -> String {
    let keys: Vec<String> =
        parties.iter().map(|party| format!("\"{}\": \"{}\"", party.name, party.pem().replace('\n', "\\n"))).collect();
    format!(
        r#"{{
            "Packages": {{"backend": {{"UniqueID": "{}"}}}},
            "Marbles": {{"server": {{"Package": "backend"}}}},
            "RecoveryKeys": {{{}}},
            "Config": {{{config}}}
        }}"#,
        "ab".repeat(32),
        keys.join(", ")
    )
}

/// Opens a state whose `sealed_key` is gone with the key that the shares make, and finds the manifest in it.
fn check_opens(directory: &Path, trust: &TrustContext, key: Vec<u8>, manifest: &str, mode: SealMode) {
    std::fs::remove_file(directory.join("sealed_key")).unwrap();
    let Opened::Recovery(recovery) = open(directory, trust.clone()) else { panic!("expected recovery") };
    assert!(matches!(recovery.fault(), Fault::KeyMissing));
    let mut wrong = key.clone();
    wrong[0] ^= 1;
    let refused = recovery.open_with(&SecretBytes::new(wrong)).unwrap_err();
    assert!(matches!(refused.error, RecoverError::Refused(Fault::WrongRecoveryKey)));
    let Existing { records, log, .. } = refused.recovery.open_with(&SecretBytes::new(key)).unwrap();
    assert_eq!(log.mode(), mode);
    let records = records.iter().map(|record| Record::decode(record.expose()).unwrap());
    let ledger = Ledger::replay(records).unwrap();
    assert_eq!(ledger.snapshot().deployment().unwrap().raw_manifest.as_slice(), manifest.as_bytes());
}

// rules: SET-3
#[test]
fn the_recovery_secret_of_one_party_opens_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let party = [Party::new("ops")];
    let manifest = manifest(&party, r#""SealMode": "UniqueKey""#);
    let (shares, trust) = set_manifest(directory.path(), &manifest);
    let mode = SealMode::Sealed(SealPolicy::UniqueKey);
    check_opens(directory.path(), &trust, party[0].decrypt(&shares), &manifest, mode);
}

// rules: SET-3
#[test]
fn the_recovery_secrets_of_all_parties_together_open_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let parties = ["ann", "ben", "cleo"].map(Party::new);
    let manifest = manifest(&parties, "");
    let (shares, trust) = set_manifest(directory.path(), &manifest);
    let key = parties.iter().map(|party| party.decrypt(&shares)).fold(vec![0; 32], |key, share| {
        assert_eq!(share.len(), 32);
        key.iter().zip(share).map(|(byte, other)| byte ^ other).collect()
    });
    check_opens(directory.path(), &trust, key, &manifest, SealMode::default());
}

/// The value at 0 of the line through two Shamir shares over GF(2^8), written out from the definition.
fn combine_two(first: &[u8], second: &[u8]) -> Vec<u8> {
    fn multiply(a: u8, b: u8) -> u8 {
        (0..8).rev().fold(0, |product, bit| {
            let doubled = if product & 0x80 == 0 { product << 1 } else { (product << 1) ^ 0x1b };
            doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
        })
    }
    let (x, other_x) = (first[32], second[32]);
    let inverse = (1..=255).find(|candidate| multiply(x ^ other_x, *candidate) == 1).unwrap();
    let weighted = |y: u8, x: u8| multiply(y, multiply(x, inverse));
    (0..32).map(|index| weighted(first[index], other_x) ^ weighted(second[index], x)).collect()
}

// rules: SET-3
#[test]
fn the_recovery_secrets_of_any_two_of_three_parties_open_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let parties = ["ann", "ben", "cleo"].map(Party::new);
    let manifest = manifest(&parties, r#""RecoveryThreshold": 2"#);
    let (shares, trust) = set_manifest(directory.path(), &manifest);
    let shares = parties.each_ref().map(|party| party.decrypt(&shares));
    for [first, second] in [[0, 1], [1, 2], [2, 0]] {
        let key = combine_two(&shares[first], &shares[second]);
        check_opens(directory.path(), &trust, key, &manifest, SealMode::default());
    }
}

#[test]
fn a_manifest_without_recovery_keys_gives_no_secret_and_stores_no_recipient() {
    let directory = tempfile::tempdir().unwrap();
    let (shares, _) = set_manifest(directory.path(), &manifest(&[], ""));
    assert!(shares.is_empty());
    assert!(!directory.path().join(RECOVERY_FILE).exists());
}
