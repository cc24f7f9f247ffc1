//! Normal operation, failing storage, and modes.

use std::io;

use marblerun_sealing::{MAX_PAYLOAD_BYTES, SealMode, SealPolicy};
use marblerun_storage::{CommitError, DirectoryStore, LOG_OFFSET, OpenError, Opened, SealedLog, StoreError};

use crate::disk::{Computer, Fault, Pending, keys, trust};

const UNIQUE: SealMode = SealMode::Sealed(SealPolicy::UniqueKey);

fn created() -> (Computer, SealedLog) {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    let id = new.deployment_id();
    let log = new.create(SealMode::default(), &[b"root"]).unwrap();
    assert_eq!(log.deployment_id(), id);
    (computer, log)
}

fn records(computer: &Computer) -> Vec<Vec<u8>> {
    match computer.open().unwrap() {
        Opened::Existing(existing) => existing.records.iter().map(|record| record.expose().to_vec()).collect(),
        other => panic!("expected a state, got {other:?}"),
    }
}

// rules: STA-2.11, R12
#[test]
fn a_commit_is_flushed_before_it_is_acknowledged() {
    let (computer, mut log) = created();
    assert!(computer.disk().pending("sealed_data").is_empty());
    for payload in [b"a", b"b", b"c"] {
        log.commit(&[payload]).unwrap();
        let disk = computer.disk();
        let head_only = |change: &Pending| matches!(change, Pending::Write(offset, _) if *offset < LOG_OFFSET as usize);
        assert!(disk.pending("sealed_data").iter().all(head_only), "a record was acknowledged without a flush");
    }
}

#[test]
fn a_batch_costs_one_flush_and_an_empty_one_nothing() {
    let (computer, mut log) = created();
    let before = computer.lock().operations.len();
    let payloads = vec![b"x".as_slice(); 64];
    log.commit(&payloads).unwrap();
    let operations = computer.lock().operations[before..].to_vec();
    let names: Vec<&str> = operations.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["write", "sync", "write"]);

    let head = log.head();
    assert_eq!(log.commit(&[]).unwrap(), head);
    assert_eq!(computer.lock().operations.len(), before + 3);
}

// rules: STA-8.2, R15
#[test]
fn the_cost_of_a_commit_does_not_grow_with_the_log() {
    let (computer, mut log) = created();
    let written = |log: &mut SealedLog| {
        let before = computer.lock().operations.len();
        log.commit(&[&[7; 100]]).unwrap();
        computer.lock().operations[before..].iter().map(|(_, bytes)| bytes).sum::<usize>()
    };
    written(&mut log);
    let early = written(&mut log);
    log.commit(&[&[0; 1 << 20]]).unwrap();
    assert_eq!(written(&mut log), early);
}

#[test]
fn the_head_advances_with_every_commit_and_is_the_same_after_a_restart() {
    let (computer, mut log) = created();
    let first = log.head();
    let second = log.commit(&[b"a"]).unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 1));
    assert!(second.sequence > first.sequence && second.hash != first.hash);
    drop(log);
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    assert_eq!(existing.log.head(), second);
}

#[test]
fn stored_bytes_do_not_contain_the_payload() {
    let (computer, mut log) = created();
    log.commit(&[b"correct horse battery staple"]).unwrap();
    let contains = |name: &str| computer.file(name).windows(13).any(|window| window == b"correct horse");
    assert!(!contains("sealed_data") && !contains("sealed_key"));
}

// rules: STA-9.6
#[test]
fn records_of_similar_size_have_the_same_size_on_disk() {
    let sizes = [1, 20, 60].map(|length| {
        let (computer, mut log) = created();
        log.commit(&[&vec![0; length]]).unwrap();
        computer.file("sealed_data").len()
    });
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

#[test]
fn an_oversized_payload_is_refused_and_the_log_goes_on() {
    let (computer, mut log) = created();
    let large = vec![0; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(log.commit(&[&large]), Err(CommitError::Seal(_))));
    let full = vec![0; MAX_PAYLOAD_BYTES];
    assert!(matches!(log.commit(&[&full, &full, b"x"]), Err(CommitError::Seal(_))));
    log.commit(&[b"small"]).unwrap();
    assert_eq!(records(&computer), [b"root".to_vec(), b"small".to_vec()]);
}

// rules: R22
#[test]
fn a_full_disk_refuses_the_commit_and_the_log_goes_on() {
    for torn in [0, 1, 100] {
        let (computer, mut log) = created();
        let at = computer.lock().operations.len();
        computer.lock().fault = Some(Fault::Fail { at, torn, kind: io::ErrorKind::StorageFull });
        let head = log.head();
        let error = log.commit(&[b"refused"]).unwrap_err();
        assert!(matches!(error, CommitError::Refused(_)) && !error.is_fatal());
        assert_eq!(error.hint(), Some("free disk space in the seal directory"));
        assert_eq!(log.head(), head);
        assert!(computer.disk().pending("sealed_data").is_empty(), "the cut is not flushed");
        log.commit(&[b"accepted"]).unwrap();
        assert_eq!(records(&computer), [b"root".to_vec(), b"accepted".to_vec()]);
    }
}

#[test]
fn a_full_disk_while_the_seal_mode_changes_leaves_the_former_mode() {
    let (computer, mut log) = created();
    // Key: create, sync, rename, sync names. Then the records.
    let at = computer.lock().operations.len() + 4;
    computer.lock().fault = Some(Fault::Fail { at, torn: 3, kind: io::ErrorKind::StorageFull });
    assert!(matches!(log.commit_with(UNIQUE, &[b"manifest"]), Err(CommitError::Refused(_))));
    assert_eq!(log.mode(), SealMode::default());
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    assert!(!existing.report.rewrapped, "the key was left under the mode that was refused");
}

// rules: R22
#[test]
fn after_a_failed_flush_the_log_is_closed_until_it_is_opened_again() {
    let (computer, mut log) = created();
    let at = computer.lock().operations.len() + 1;
    computer.lock().fault = Some(Fault::Fail { at, torn: 0, kind: io::ErrorKind::Other });
    let error = log.commit(&[b"unknown"]).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(_)) && error.is_fatal());
    assert!(matches!(log.commit(&[b"next"]), Err(CommitError::Closed)));
    assert!(matches!(log.commit(&[]), Err(CommitError::Closed)));
    drop(log);
    let Ok(Opened::Existing(mut existing)) = computer.open() else { panic!("expected a state") };
    assert_eq!(existing.report.unconfirmed, 1, "what is on disk decides");
    assert!(computer.disk().pending("sealed_data").is_empty(), "kept records are not flushed");
    existing.log.commit(&[b"next"]).unwrap();
    assert_eq!(records(&computer), [b"root".to_vec(), b"unknown".to_vec(), b"next".to_vec()]);
}

// rules: R8
#[test]
fn of_two_writers_on_one_state_the_second_stops() {
    let (computer, mut first) = created();
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    let mut second = existing.log;
    first.commit(&[b"first"]).unwrap();
    let error = second.commit(&[b"second"]).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(StoreError::Conflict { .. })), "{error:?}");
    assert!(matches!(second.commit(&[b"second"]), Err(CommitError::Closed)));
    first.commit(&[b"again"]).unwrap();
    assert_eq!(records(&computer), [b"root".to_vec(), b"first".to_vec(), b"again".to_vec()]);
}

/// The other writer has flushed its records, but not written its head yet.
#[test]
fn a_writer_between_records_and_head_is_noticed() {
    let (computer, mut first) = created();
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    let mut second = existing.log;
    let at = computer.lock().operations.len() + 2;
    computer.lock().fault = Some(Fault::Fail { at, torn: 0, kind: io::ErrorKind::Other });
    first.commit(&[b"first"]).unwrap_err();
    let error = second.commit(&[b"second"]).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(StoreError::Conflict { .. })), "{error:?}");
}

// rules: STA-2.12
#[test]
fn a_change_of_the_seal_mode_survives_a_restart_even_without_payload() {
    let (computer, mut log) = created();
    log.commit_with(UNIQUE, &[]).unwrap();
    assert_eq!(log.mode(), UNIQUE);
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    assert_eq!(existing.log.mode(), UNIQUE);
    assert!(!existing.report.rewrapped);
}

// rules: STA-2.6
#[test]
fn a_disabled_log_leaves_no_file_and_goes_on_in_memory() {
    let (computer, mut log) = created();
    let before = log.head();
    let head = log.commit_with(SealMode::Disabled, &[b"manifest"]).unwrap();
    assert!(head.sequence > before.sequence);
    assert!(computer.disk().names().is_empty());
    assert!(log.commit(&[b"more"]).unwrap().sequence > head.sequence);
    log.commit_with(SealMode::Disabled, &[b"more"]).unwrap();
    assert_eq!(log.mode(), SealMode::Disabled);
    assert!(matches!(log.commit_with(UNIQUE, &[b"manifest"]), Err(CommitError::Disabled)));
    assert!(computer.disk().names().is_empty());
    assert!(matches!(computer.open().unwrap(), Opened::New(_)));
}

#[test]
fn a_deployment_that_begins_disabled_writes_nothing() {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    let mut log = new.create(SealMode::Disabled, &[b"root"]).unwrap();
    log.commit(&[b"a"]).unwrap();
    assert!(computer.lock().operations.is_empty());
}

// rules: SET-4
#[test]
fn replacing_a_state_keeps_each_former_one_and_makes_a_new_deployment() {
    let (computer, log) = created();
    let first = log.deployment_id();
    drop(log);
    for number in 1..=2 {
        let mut disk = computer.disk();
        disk.delete("sealed_key");
        let former = disk.file("sealed_data").to_vec();
        computer.lock().disk = disk;
        let Ok(Opened::Recovery(recovery)) = computer.open() else { panic!("expected recovery") };
        let (new, kept) = recovery.replace().unwrap();
        assert_eq!(kept, format!("/state/replaced-{number}"));
        assert_ne!(new.deployment_id(), first);
        new.create(SealMode::default(), &[b"new root"]).unwrap();
        assert!(computer.file(&format!("replaced-{number}/sealed_data")) == former);
        assert_eq!(records(&computer), [b"new root".to_vec()]);
    }
}

#[test]
fn a_log_never_grows_beyond_what_can_be_opened_again() {
    let computer = Computer::default();
    let open = |limit| {
        let store = DirectoryStore::on(computer.clone()).with_data_limit(limit);
        marblerun_storage::open(Box::new(store), keys(), trust())
    };
    let limit = LOG_OFFSET + 10_000;
    let Ok(Opened::New(new)) = open(limit) else { panic!("expected an empty store") };
    let mut log = new.create(SealMode::default(), &[b"root"]).unwrap();
    let refused = loop {
        if let Err(error) = log.commit(&[b"more"]) {
            break error;
        }
    };
    assert!(matches!(refused, CommitError::Refused(_)), "{refused:?}");
    drop(log);
    assert!(matches!(open(limit), Ok(Opened::Existing(_))));
    assert!(matches!(open(limit / 2), Err(OpenError::Store(StoreError::TooLarge { .. }))));
}

/// The host puts the files of a fork, of the very same size, under a running process.
// rules: R5
#[test]
fn a_fork_of_equal_length_under_a_running_process_is_noticed() {
    let (computer, log) = created();
    drop(log);
    let start = |computer: &Computer| match computer.open().unwrap() {
        Opened::Existing(existing) => existing.log,
        other => panic!("expected a state, got {other:?}"),
    };
    let fork = Computer::with(computer.disk());
    let (mut log, mut other) = (start(&computer), start(&fork));
    log.commit(&[b"one"]).unwrap();
    other.commit(&[b"two"]).unwrap();
    assert_eq!(computer.file("sealed_data").len(), fork.file("sealed_data").len());
    computer.lock().disk = fork.disk();
    let error = log.commit(&[b"next"]).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(StoreError::Conflict { .. })), "{error:?}");
}
