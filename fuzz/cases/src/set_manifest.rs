//! Setting a manifest, as whoever reaches a new Coordinator first can.

use std::sync::LazyLock;

use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::ledger::Ledger;
use marblerun_coordinator_core::record::{Genesis, Record};
use marblerun_coordinator_core::set_manifest::prepare;
use marblerun_coordinator_core::time::Timestamp;
use marblerun_manifest::{AzureHsm, MAX_WARNINGS, Manifest, SecretType};
use marblerun_pki::AltNames;

use crate::Verdict;

/// Manifests with more parts of a kind are left out: they cost time and say nothing new.
const MAX_ENTRIES: usize = 8;

/// 2026-01-01.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// A deployment's first record; its keys are new in each process, because no verdict depends on them.
static GENESIS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let genesis = Genesis::create(&AltNames::default(), NOW).expect("the provider makes keys");
    Record::Genesis(genesis).encode().expose().to_vec()
});

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let Ok(Record::Genesis(genesis)) = Record::decode(&GENESIS) else { unreachable!("the record was just made") };
    Identity::from_genesis(&genesis).expect("the record was just made")
});

/// The state after a restart, from the deployment's identity and `record`.
pub(crate) fn replay(record: Record) -> Result<Ledger, impl std::error::Error> {
    let genesis = Record::decode(&GENESIS).expect("the record was just made");
    Ledger::replay([genesis, record])
}

/// A manifest with all that is made from it: secrets, recovery data, compiled and tried templates. What was accepted
/// comes back after a restart.
///
/// Manifests that ask for RSA keys are left out, because making one takes seconds here.
pub fn set_manifest(data: &[u8]) -> Verdict {
    let Ok(manifest) = Manifest::decode(data) else { return Verdict::Refused };
    let slow = |secret: &marblerun_manifest::SecretDefinition| secret.secret_type() == Some(SecretType::CertRsa);
    let entries = [manifest.secrets.len(), manifest.marbles.len(), manifest.recovery_keys.len()];
    if entries.iter().any(|entries| *entries > MAX_ENTRIES) || manifest.secrets.values().any(slow) {
        return Verdict::Refused;
    }
    let prepared = prepare(&IDENTITY, data, NOW);
    match prepared {
        Ok(prepared) => {
            manifest.check(AzureHsm::Unavailable).expect("an inconsistent manifest was accepted");
            assert!(prepared.warnings.len() <= MAX_WARNINGS);
            let stored = Record::ManifestSet(prepared.record).encode();
            let read = Record::decode(stored.expose()).expect("our own record reads");
            let ledger = replay(read).expect("what was accepted comes back after a restart");
            assert!(ledger.snapshot().deployment().is_some());
            Verdict::Accepted
        }
        Err(error) => Verdict::of(&Err::<(), _>(error)),
    }
}
