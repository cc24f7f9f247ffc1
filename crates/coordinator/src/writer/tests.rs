#![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

use marblerun_coordinator_core::counter::{MarbleName, RaiseCounter};
use marblerun_coordinator_core::identity::Identity;
use marblerun_coordinator_core::set_manifest;
use marblerun_coordinator_core::user_secrets::prepare_upload;
use marblerun_pki::{AltNames, KeyPair, pem, profile};
use marblerun_storage::{Opened, open_directory};

use super::*;
use crate::clock::now;
use crate::seal_keys::TeeSealKeys;
use crate::trust::Trust;

/// A writer without its thread, and an upload that it can decide on.
fn writer(directory: &std::path::Path) -> (Writer, impl Fn() -> Command) {
    let user = profile::premain_certificate(&KeyPair::generate().unwrap(), &AltNames::default(), now().unix()).unwrap();
    let manifest = serde_json::json!({
        "Packages": {"p": {"SignerID": "ab".repeat(32), "ProductID": 1, "SecurityVersion": 1}},
        "Marbles": {"m": {"Package": "p"}},
        "Secrets": {"pw": {"Type": "plain", "UserDefined": true}},
        "Users": {"alice": {"Certificate": pem::encode("CERTIFICATE", &user), "Roles": ["write"]}},
        "Roles": {"write": {"ResourceType": "Secrets", "ResourceNames": ["pw"], "Actions": ["WriteSecret"]}},
    });
    let genesis = Genesis::create(&AltNames::from_list("localhost"), now()).unwrap();
    let identity = Identity::from_genesis(&genesis).unwrap();
    let prepared = set_manifest::prepare(&identity, manifest.to_string().as_bytes(), now()).unwrap();
    let records = [Record::Genesis(genesis), Record::ManifestSet(prepared.record)];
    let payloads = records.each_ref().map(Record::encode);
    let ledger = Ledger::replay(records).unwrap();

    let keys = Arc::new(TeeSealKeys(Arc::new(marblerun_tee::detect(Some("1")).unwrap())));
    let Opened::New(new) = open_directory(directory, keys, Trust::Simulation.context()).unwrap() else {
        panic!("expected an empty directory")
    };
    let log = new.create(CommitOptions::default(), &payloads.each_ref().map(SecretBytes::expose)).unwrap();
    let snapshot = ledger.snapshot();
    let upload = move || {
        let alice = snapshot.deployment().unwrap().users.authenticate(&user).unwrap();
        let value = marblerun_manifest::decode_user_secrets_v1(br#"{"pw":{"Key":"aGVsbG8="}}"#).unwrap();
        Command::SetSecrets(prepare_upload(&snapshot, alice, value, now()).unwrap())
    };
    let backing = Backing::Log(log);
    let writer = Writer {
        shared: SharedView::new(view(&ledger, &backing)),
        ledger,
        backing: Some(backing),
        has_ended: Arc::default(),
        listeners: Listeners::new().unwrap(),
        max_log_bytes_for_uploads: MAX_LOG_BYTES_FOR_UPLOADS,
    };
    (writer, upload)
}

#[test]
fn uploads_leave_a_part_of_the_log_to_other_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, upload) = writer(directory.path());
    let Some(Backing::Log(log)) = &writer.backing else { unreachable!() };
    let length = log.stored_bytes();
    writer.max_log_bytes_for_uploads = length;
    let (reply, mut answer) = oneshot::channel();
    writer.commit(vec![Change { command: upload(), options: None, reply }]);
    answer.try_recv().unwrap().unwrap();

    let refused = writer.decide(upload()).unwrap_err();
    assert!(matches!(refused, WriteError::Full { max, got } if max == length && got > length), "{refused:?}");
    let marble = MarbleName { marble_type: "m".to_owned(), uuid: "u".to_owned() };
    let wish = RaiseCounter { marble, name: String::new(), value: 1, before: Arc::default() };
    assert!(writer.decide(Command::RaiseCounter(wish)).unwrap().is_some());
}
