//! The recovery recipient: who opens a state without the TEE's key, and what a hostile host can do about it.

use std::io;
use std::sync::Arc;

use marblerun_sealing::Fault as SealFault;
use marblerun_sealing::{
    FixedSealKeys, MAX_RECOVERY_BYTES, RecoveryScheme, SealError, SealKeys, SealMode, SealPolicy, TrustClass,
    TrustContext, WrappedForRecovery,
};
use marblerun_secret::SecretBytes;
use marblerun_storage::{
    CommitError, CommitOptions, DirectoryStore, Existing, Opened, RecipientChange, RecoverError, Recovery, SealedLog,
    open_directory,
};

use crate::disk::{Computer, Disk, Fault, keys, manifest, recoverable, recovery_key, trust};

const PRODUCT: SealMode = SealMode::Sealed(SealPolicy::ProductKey);
const UNIQUE: SealMode = SealMode::Sealed(SealPolicy::UniqueKey);
const FILE: &str = "sealed_recovery";

fn created() -> (Computer, SealedLog) {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    let log = new.create(SealMode::default(), &[b"root"]).unwrap();
    (computer, log)
}

/// A deployment whose manifest has one recovery key.
fn recoverable_state() -> (Computer, SealedLog) {
    let (computer, mut log) = created();
    log.commit_with(recoverable(PRODUCT, 1), &[b"manifest"]).unwrap();
    (computer, log)
}

/// The options of a later manifest that leaves the recovery parties alone.
fn kept(mode: SealMode) -> CommitOptions {
    CommitOptions { mode, recovery: RecipientChange::Keep { manifest: manifest(9) } }
}

fn without_key(disk: &Disk) -> Disk {
    let mut disk = disk.clone();
    disk.delete("sealed_key");
    disk
}

fn recovery(disk: Disk) -> (Computer, Recovery) {
    let computer = Computer::with(disk);
    match computer.open().unwrap() {
        Opened::Recovery(recovery) => (computer, recovery),
        other => panic!("expected recovery, got {other:?}"),
    }
}

fn existing(computer: &Computer) -> Existing {
    match computer.open().unwrap() {
        Opened::Existing(existing) => existing,
        other => panic!("expected a state, got {other:?}"),
    }
}

fn payloads(existing: &Existing) -> Vec<&[u8]> {
    existing.records.iter().map(SecretBytes::expose).collect()
}

/// A recovery that is refused changes nothing and can be tried again.
#[track_caller]
fn refused(disk: &Disk, byte: u8) -> SealFault {
    let (computer, recovery) = recovery(without_key(disk));
    let refusal = recovery.open_with(&recovery_key(byte)).unwrap_err();
    assert!(computer.lock().operations.is_empty(), "a refused recovery wrote something");
    assert!(matches!(refusal.recovery.fault(), SealFault::KeyMissing));
    match refusal.error {
        RecoverError::Refused(fault) => fault,
        other => panic!("expected a refusal, got {other}"),
    }
}

// rules: R11
#[test]
fn the_recovery_key_opens_the_state_after_the_key_file_was_removed() {
    let (computer, mut log) = recoverable_state();
    log.commit(&[b"later"]).unwrap();
    let deployment = log.deployment_id();
    let (computer, recovery) = recovery(without_key(&computer.disk()));
    let mut opened = recovery.open_with(&recovery_key(1)).unwrap();
    assert_eq!(payloads(&opened), [b"root".as_slice(), b"manifest", b"later"]);
    assert_eq!(opened.log.deployment_id(), deployment);
    assert!(opened.report.rewrapped);
    opened.log.commit(&[b"after"]).unwrap();
    drop(opened);

    // From now on the TEE's key opens it again, and so do the same shares.
    let again = existing(&computer);
    assert_eq!(payloads(&again), [b"root".as_slice(), b"manifest", b"later", b"after"]);
    assert!(!again.report.rewrapped && !again.report.recovery_rewritten);
    let (_, recovery) = self::recovery(without_key(&computer.disk()));
    assert_eq!(recovery.open_with(&recovery_key(1)).unwrap().records.len(), 4);
}

/// A manifest that leaves the recovery parties alone may still change the seal mode.
#[test]
fn a_kept_recipient_opens_the_state_that_came_after_it() {
    for mode in [PRODUCT, UNIQUE] {
        let (computer, mut log) = recoverable_state();
        log.commit_with(kept(mode), &[b"update"]).unwrap();
        let (_, recovery) = recovery(without_key(&computer.disk()));
        let opened = recovery.open_with(&recovery_key(1)).unwrap();
        assert_eq!(payloads(&opened), [b"root".as_slice(), b"manifest", b"update"]);
        assert_eq!(opened.log.mode(), mode);
    }
    // Where there was none, none comes.
    let (computer, mut log) = created();
    log.commit_with(kept(PRODUCT), &[b"update"]).unwrap();
    let (_, recovery) = recovery(without_key(&computer.disk()));
    assert!(recovery.open_with(&recovery_key(1)).is_err());
}

#[test]
fn the_recovery_key_opens_the_state_in_another_tee_under_the_seal_mode_of_the_manifest() {
    let (computer, mut log) = created();
    log.commit_with(recoverable(UNIQUE, 1), &[b"manifest"]).unwrap();
    let other: Arc<dyn SealKeys> =
        Arc::new(FixedSealKeys::new(SecretBytes::new(vec![8; 16]), SecretBytes::new(vec![9; 16])));
    let computer = Computer::with(computer.disk());
    let open = || {
        marblerun_storage::open(Box::new(DirectoryStore::on(computer.clone())), Arc::clone(&other), trust()).unwrap()
    };
    let Opened::Recovery(recovery) = open() else { panic!("expected recovery") };
    assert!(matches!(recovery.fault(), SealFault::WrongKey { policy: SealPolicy::UniqueKey }));
    assert_eq!(recovery.open_with(&recovery_key(1)).unwrap().log.mode(), UNIQUE);
    let Opened::Existing(existing) = open() else { panic!("expected a state") };
    assert_eq!((existing.log.mode(), existing.records.len()), (UNIQUE, 2));
}

#[test]
fn a_proven_state_can_still_be_refused_and_nothing_was_written() {
    let (computer, _) = recoverable_state();
    let (computer, recovery) = recovery(without_key(&computer.disk()));
    let proven = recovery.prove(&recovery_key(1)).unwrap();
    assert_eq!(proven.records().iter().map(SecretBytes::expose).collect::<Vec<_>>(), [b"root".as_slice(), b"manifest"]);
    let recovery = proven.refuse();
    assert!(computer.lock().operations.is_empty());
    assert!(!computer.disk().names().contains(&"sealed_key"));
    assert_eq!(recovery.prove(&recovery_key(1)).unwrap().restore().unwrap().records.len(), 2);
    assert!(!existing(&computer).report.rewrapped);
}

/// Each write of a recovery fails once; the same process and the next start can try again.
#[test]
fn a_recovery_that_the_disk_interrupts_can_be_repeated() {
    for at in 0..4 {
        let (computer, _) = recoverable_state();
        let (computer, recovery) = recovery(without_key(&computer.disk()));
        computer.lock().fault = Some(Fault::Fail { at, torn: 0, kind: io::ErrorKind::StorageFull });
        let refusal = recovery.open_with(&recovery_key(1)).unwrap_err();
        assert_eq!(refusal.error.hint(), Some("free disk space in the seal directory"), "step {at}");
        computer.lock().fault = None;
        let (_, next) = match computer.open().unwrap() {
            Opened::Recovery(next) => (0, next.open_with(&recovery_key(1)).unwrap().records.len()),
            Opened::Existing(existing) => (1, existing.records.len()),
            Opened::New(_) => panic!("the state is gone"),
        };
        assert_eq!(next, 2, "step {at}");
        assert_eq!(refusal.recovery.open_with(&recovery_key(1)).unwrap().records.len(), 2, "step {at}");
    }
}

#[track_caller]
fn check_unusable(disk: Disk, matches: impl Fn(&SealFault) -> bool) {
    let (_, recovery) = recovery(disk);
    let fault = recovery.recipient().unwrap_err();
    assert!(matches(fault), "{fault}");
    assert!(fault.hint().is_some(), "{fault}");
}

/// So that nobody gives shares away that open nothing.
#[test]
fn what_no_share_can_open_is_known_before_the_first_one_is_given() {
    let (computer, _) = recoverable_state();
    let disk = without_key(&computer.disk());
    let (_, recovery) = recovery(disk.clone());
    assert_eq!(recovery.recipient().unwrap().shares().len(), 1);
    let mut missing = disk.clone();
    missing.delete(FILE);
    check_unusable(missing, |fault| matches!(fault, SealFault::RecoveryMissing));
    let mut cut = disk.clone();
    cut.put(FILE, disk.file(FILE)[..50].to_vec());
    check_unusable(cut, |fault| matches!(fault, SealFault::Malformed { .. }));
    let mut empty = disk.clone();
    empty.delete("sealed_data");
    check_unusable(empty, |fault| matches!(fault, SealFault::OnlyRecovery));
    let mut without_data = computer.disk();
    without_data.delete("sealed_data");
    check_unusable(without_data, |fault| matches!(fault, SealFault::DataMissing));
    let hardware = TrustContext::new(TrustClass::Hardware, vec![[5; 32]]);
    let Ok(Opened::Recovery(recovery)) = Computer::with(disk).open_under(hardware) else { panic!("recovery") };
    assert!(matches!(recovery.recipient(), Err(SealFault::TrustClass { .. })));
}

#[test]
fn the_file_tells_whose_shares_are_needed_and_holds_no_secret() {
    let (computer, log) = recoverable_state();
    let file = computer.file(FILE);
    let parsed = WrappedForRecovery::parse(&file).unwrap();
    assert_eq!((parsed.deployment(), parsed.epoch()), (log.deployment_id(), 1));
    // Start, root, recovery, manifest.
    assert_eq!((parsed.sequence(), log.head().sequence), (3, 4));
    assert_eq!((parsed.scheme(), parsed.needed(), parsed.shares().len()), (RecoveryScheme::Single, 1, 1));
    assert_eq!(parsed.shares()[0].share_hash, [0xfe; 32]);
}

#[test]
fn the_file_is_durable_before_the_manifest_is_acknowledged() {
    let (computer, mut log) = created();
    let before = computer.lock().operations.len();
    log.commit_with(recoverable(PRODUCT, 1), &[b"manifest"]).unwrap();
    let operations: Vec<&str> = computer.lock().operations[before..].iter().map(|(name, _)| *name).collect();
    assert_eq!(operations, ["create", "sync", "write", "sync", "write", "rename", "sync names"]);
    assert!(computer.disk().pending(FILE).is_empty());
}

// rules: STA-3.16
#[test]
fn a_later_manifest_replaces_or_removes_the_recipient_and_other_commits_keep_it() {
    let (computer, mut log) = recoverable_state();
    let first = computer.file(FILE);
    log.commit(&[b"other"]).unwrap();
    assert_eq!(computer.file(FILE), first);
    log.commit_with(recoverable(PRODUCT, 2), &[b"manifest 2"]).unwrap();
    assert_ne!(computer.file(FILE), first);
    assert!(matches!(refused(&computer.disk(), 1), SealFault::WrongRecoveryKey));
    log.commit_with(PRODUCT, &[b"manifest 3"]).unwrap();
    assert_eq!(computer.disk().names(), ["sealed_data", "sealed_key"]);
    assert!(matches!(refused(&computer.disk(), 2), SealFault::RecoveryMissing));
    let before = log.head();
    assert_eq!(log.commit_with(PRODUCT, &[]).unwrap(), before, "there is nothing to remove");
    assert_eq!(existing(&computer).records.len(), 5);
}

#[test]
fn a_recipient_cannot_change_without_payload() {
    let (computer, mut log) = recoverable_state();
    let before = (log.head(), computer.lock().operations.len());
    for options in [recoverable(PRODUCT, 2), PRODUCT.into(), UNIQUE.into()] {
        let error = log.commit_with(options, &[]).unwrap_err();
        assert!(matches!(error, CommitError::Seal(SealError::RecoveryAlone)), "{error:?}");
    }
    assert_eq!((log.head(), computer.lock().operations.len()), before);
}

#[test]
fn a_restarted_process_still_knows_that_there_is_a_recipient_to_remove() {
    let (computer, log) = recoverable_state();
    drop(log);
    existing(&computer).log.commit_with(PRODUCT, &[b"manifest 2"]).unwrap();
    assert!(!computer.disk().names().contains(&FILE));
    let reopened = existing(&computer);
    assert!(!reopened.report.recovery_rewritten);
}

#[test]
fn a_new_deployment_can_begin_with_a_recipient() {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    new.create(recoverable(UNIQUE, 1), &[b"root", b"manifest"]).unwrap();
    let (_, recovery) = recovery(without_key(&computer.disk()));
    assert_eq!(recovery.open_with(&recovery_key(1)).unwrap().records.len(), 2);
}

#[test]
fn disabling_removes_the_file_and_stores_nothing_for_a_recipient() {
    let (computer, mut log) = recoverable_state();
    log.commit_with(recoverable(SealMode::Disabled, 2), &[b"manifest"]).unwrap();
    assert!(computer.disk().names().is_empty());
    let empty = Computer::default();
    let Ok(Opened::New(new)) = empty.open() else { panic!("expected an empty store") };
    new.create(recoverable(SealMode::Disabled, 1), &[b"root"]).unwrap();
    assert!(empty.lock().operations.is_empty());
}

#[test]
fn replacing_moves_the_file_aside_with_the_others() {
    let (computer, log) = recoverable_state();
    let file = computer.file(FILE);
    drop(log);
    let (computer, recovery) = recovery(without_key(&computer.disk()));
    let (new, kept) = recovery.replace().unwrap();
    assert_eq!(kept, "/state/replaced-1");
    assert_eq!(computer.disk().names(), ["replaced-1/sealed_data", "replaced-1/sealed_recovery"]);
    assert_eq!(computer.file("replaced-1/sealed_recovery"), file);
    new.create(SealMode::default(), &[b"new root"]).unwrap();
    assert!(!existing(&computer).report.recovery_rewritten);
}

/// The first replacement had no data to move, so its folder looks like that of an interrupted one.
#[test]
fn replacing_twice_never_overwrites_what_was_moved_aside_before() {
    let (computer, log) = recoverable_state();
    drop(log);
    let mut disk = computer.disk();
    disk.delete("sealed_data");
    let kept = ["sealed_key", FILE].map(|name| disk.file(name).to_vec());
    let (computer, recovery) = recovery(disk);
    recovery.replace().unwrap().0.create(recoverable(PRODUCT, 2), &[b"root"]).unwrap();
    let mut disk = computer.disk();
    disk.delete("sealed_data");
    let (computer, recovery) = self::recovery(disk);
    assert_eq!(recovery.replace().unwrap().1, "/state/replaced-2");
    assert_eq!(["replaced-1/sealed_key", "replaced-1/sealed_recovery"].map(|name| computer.file(name)), kept);
}

// rules: STA-2.9, R9
#[test]
fn the_file_alone_is_never_a_first_start_and_is_kept() {
    let (computer, _) = recoverable_state();
    let mut disk = without_key(&computer.disk());
    disk.delete("sealed_data");
    let file = disk.file(FILE).to_vec();
    let (computer, recovery) = recovery(disk);
    assert!(matches!(recovery.fault(), SealFault::OnlyRecovery));
    assert!(recovery.fault().hint().is_some());
    let refusal = recovery.open_with(&recovery_key(1)).unwrap_err();
    assert!(matches!(refusal.error, RecoverError::Refused(SealFault::DataMissing)));
    refusal.recovery.replace().unwrap();
    assert_eq!(computer.file("replaced-1/sealed_recovery"), file);
}

#[test]
fn a_full_disk_refuses_the_manifest_and_the_former_recipient_stays() {
    // Creating the file, flushing it, appending the records.
    for step in 0..3 {
        let (computer, mut log) = recoverable_state();
        let at = computer.lock().operations.len() + step;
        computer.lock().fault = Some(Fault::Fail { at, torn: 10, kind: io::ErrorKind::StorageFull });
        let error = log.commit_with(recoverable(PRODUCT, 2), &[b"refused"]).unwrap_err();
        assert!(matches!(error, CommitError::Refused(_)) && !error.is_fatal(), "step {step}: {error:?}");
        assert_eq!(error.hint(), Some("free disk space in the seal directory"));
        log.commit(&[b"accepted"]).unwrap();
        let (_, recovery) = recovery(without_key(&computer.disk()));
        assert_eq!(
            payloads(&recovery.open_with(&recovery_key(1)).unwrap()),
            [b"root".as_slice(), b"manifest", b"accepted"]
        );
    }
}

#[test]
fn after_a_failure_to_put_the_file_in_force_the_log_is_closed_and_the_next_start_repairs_it() {
    for step in 5..7 {
        let (computer, mut log) = recoverable_state();
        let at = computer.lock().operations.len() + step;
        computer.lock().fault = Some(Fault::Fail { at, torn: 0, kind: io::ErrorKind::Other });
        let error = log.commit_with(recoverable(PRODUCT, 2), &[b"manifest 2"]).unwrap_err();
        assert!(matches!(error, CommitError::Unknown(_)), "step {step}: {error:?}");
        assert!(matches!(log.commit(&[b"next"]), Err(CommitError::Closed)));
        assert_eq!(existing(&computer).records.len(), 3);
        let (_, recovery) = recovery(without_key(&computer.disk()));
        assert_eq!(recovery.open_with(&recovery_key(2)).unwrap().records.len(), 3);
    }
}

#[test]
fn a_second_writer_is_noticed_before_it_touches_the_file() {
    let (computer, mut first) = recoverable_state();
    let mut second = existing(&computer).log;
    first.commit(&[b"first"]).unwrap();
    let before = computer.lock().operations.len();
    let error = second.commit_with(recoverable(PRODUCT, 2), &[b"second"]).unwrap_err();
    assert!(matches!(error, CommitError::Unknown(marblerun_storage::StoreError::Conflict { .. })), "{error:?}");
    assert_eq!(computer.lock().operations.len(), before);
}

/// What the host does to the file while the TEE's key still opens the state: nothing is lost, and it is reported.
#[track_caller]
fn check_repaired(disk: &Disk, change: impl FnOnce(&mut Disk)) {
    let original = disk.file(FILE).to_vec();
    let mut changed = disk.clone();
    change(&mut changed);
    let computer = Computer::with(changed);
    let existing = existing(&computer);
    assert!(existing.report.recovery_rewritten);
    assert_eq!(computer.file(FILE), original);
    assert!(computer.disk().pending(FILE).is_empty());
    drop(existing);
    let operations = computer.lock().operations.len();
    assert!(!self::existing(&computer).report.recovery_rewritten);
    assert_eq!(computer.lock().operations.len(), operations);
}

#[test]
fn a_file_that_was_changed_cut_exchanged_or_removed_is_written_anew_from_the_log() {
    let (computer, mut log) = recoverable_state();
    let older = computer.file(FILE);
    log.commit_with(recoverable(PRODUCT, 2), &[b"manifest 2"]).unwrap();
    let disk = computer.disk();
    let length = disk.file(FILE).len();
    let put = |content: Vec<u8>| move |disk: &mut Disk| disk.put(FILE, content);
    for position in 0..length {
        let mut flipped = disk.file(FILE).to_vec();
        flipped[position] ^= 1 << (position % 8);
        check_repaired(&disk, put(flipped));
        check_repaired(&disk, put(disk.file(FILE)[..position].to_vec()));
    }
    check_repaired(&disk, put([disk.file(FILE), &[0]].concat()));
    check_repaired(&disk, put(vec![0; MAX_RECOVERY_BYTES + 1000]));
    check_repaired(&disk, put(older));
    check_repaired(&disk, put(recoverable_state().0.file(FILE)));
    check_repaired(&disk, |disk| disk.delete(FILE));
}

#[test]
fn a_file_that_the_log_does_not_know_is_removed() {
    let (computer, log) = created();
    drop(log);
    let mut disk = computer.disk();
    disk.put(FILE, recoverable_state().0.file(FILE));
    let computer = Computer::with(disk);
    assert!(existing(&computer).report.recovery_rewritten);
    assert_eq!(computer.disk().names(), ["sealed_data", "sealed_key"]);
}

// rules: R28, STA-2.10
#[test]
fn a_changed_or_cut_file_opens_nothing() {
    let (computer, _) = recoverable_state();
    let disk = computer.disk();
    for position in 0..disk.file(FILE).len() {
        let mut changed = disk.clone();
        let mut content = disk.file(FILE).to_vec();
        content[position] ^= 1 << (position % 8);
        changed.put(FILE, content.clone());
        refused(&changed, 1);
        content.truncate(position);
        changed.put(FILE, content);
        let fault = refused(&changed, 1);
        assert!(matches!(fault, SealFault::Magic { .. } | SealFault::Malformed { .. }), "length {position}: {fault}");
    }
}

#[test]
fn a_wrong_recovery_key_is_refused_and_the_right_one_still_opens() {
    let (computer, _) = recoverable_state();
    assert!(matches!(refused(&computer.disk(), 9), SealFault::WrongRecoveryKey));
    let (_, recovery) = recovery(without_key(&computer.disk()));
    let refusal = recovery.open_with(&recovery_key(9)).unwrap_err();
    assert_eq!(refusal.error.to_string(), "state does not open with this recovery key");
    assert!(refusal.error.hint().is_some());
    assert_eq!(refusal.recovery.open_with(&recovery_key(1)).unwrap().records.len(), 2);
}

// rules: STA-3.16
#[test]
fn an_older_file_with_its_own_shares_opens_nothing() {
    let (computer, mut log) = recoverable_state();
    let older = computer.file(FILE);
    log.commit_with(recoverable(PRODUCT, 2), &[b"manifest 2"]).unwrap();
    let mut disk = computer.disk();
    disk.put(FILE, older.clone());
    assert!(matches!(refused(&disk, 1), SealFault::RecoverySuperseded));
    // Nor after a manifest without recovery keys.
    log.commit_with(PRODUCT, &[b"manifest 3"]).unwrap();
    let mut disk = computer.disk();
    disk.put(FILE, older);
    assert!(matches!(refused(&disk, 1), SealFault::RecoverySuperseded));
}

// rules: R2
#[test]
fn the_file_of_another_deployment_with_its_own_shares_opens_nothing() {
    let (computer, log) = recoverable_state();
    let (other, other_log) = recoverable_state();
    let mut disk = computer.disk();
    disk.put(FILE, other.file(FILE));
    let fault = refused(&disk, 1);
    let (data_id, recovery_id) = (log.deployment_id(), other_log.deployment_id());
    assert!(
        matches!(fault, SealFault::ForeignRecovery { recovery, data } if recovery == recovery_id && data == data_id),
        "{fault}"
    );
}

#[test]
fn another_trust_class_and_other_roots_open_nothing() {
    let (computer, _) = recoverable_state();
    let disk = without_key(&computer.disk());
    let open = |trust| {
        let Ok(Opened::Recovery(recovery)) = Computer::with(disk.clone()).open_under(trust) else { panic!("recovery") };
        match recovery.open_with(&recovery_key(1)).unwrap_err().error {
            RecoverError::Refused(fault) => fault,
            other => panic!("expected a refusal, got {other}"),
        }
    };
    let hardware = open(TrustContext::new(TrustClass::Hardware, vec![[5; 32]]));
    assert!(matches!(hardware, SealFault::TrustClass { .. }), "{hardware}");
    let roots = open(TrustContext::new(TrustClass::Software, vec![[6; 32]]));
    assert!(matches!(roots, SealFault::TrustRoots { .. }), "{roots}");
}

#[test]
fn a_damaged_log_is_refused_with_the_recovery_key_as_with_any_other() {
    let (computer, _) = recoverable_state();
    let mut disk = computer.disk();
    let mut data = disk.file("sealed_data").to_vec();
    let last = data.len() - 1;
    data[last] ^= 1;
    disk.put("sealed_data", data);
    assert!(matches!(refused(&disk, 1), SealFault::Tampered { record: 4, .. }));
}

#[test]
fn a_state_that_goes_back_after_the_start_is_refused() {
    let (computer, mut log) = recoverable_state();
    let older = without_key(&computer.disk());
    log.commit(&[b"more"]).unwrap();
    let claimed = log.head();
    let (computer, recovery) = recovery(without_key(&computer.disk()));
    assert_eq!(recovery.claimed_head().map(|claimed| claimed.head), Some(claimed));
    computer.lock().disk = older;
    let refusal = recovery.open_with(&recovery_key(1)).unwrap_err();
    let RecoverError::Refused(SealFault::WentBack { claimed: at_start, opened }) = refusal.error else {
        panic!("expected a refusal, got {}", refusal.error)
    };
    assert_eq!((at_start, opened), (claimed.sequence, claimed.sequence - 1));
}

#[test]
fn the_file_tells_the_manifest_in_force_also_when_the_parties_stay() {
    let (computer, mut log) = recoverable_state();
    let first = computer.file(FILE);
    assert_eq!(WrappedForRecovery::parse(&first).unwrap().claimed_manifest(), manifest(1));
    log.commit_with(kept(PRODUCT), &[b"update"]).unwrap();
    let file = computer.file(FILE);
    assert_eq!(WrappedForRecovery::parse(&file).unwrap().claimed_manifest(), manifest(9));
    assert!(computer.disk().pending(FILE).is_empty());
    // The same manifest again, and other commits, write no file; the next process neither.
    let head = log.head();
    assert_eq!(log.commit_with(kept(PRODUCT), &[]).unwrap(), head);
    log.commit(&[b"more"]).unwrap();
    assert_eq!(log.head().sequence, head.sequence + 1);
    drop(log);
    let mut existing = existing(&computer);
    assert!(!existing.report.recovery_rewritten);
    existing.log.commit_with(kept(PRODUCT), &[b"again"]).unwrap();
    assert_eq!(computer.file(FILE), file);
    let (_, recovery) = recovery(without_key(&computer.disk()));
    assert_eq!(recovery.claimed_manifest(), Some(manifest(9)));
    assert_eq!(recovery.prove(&recovery_key(1)).unwrap().manifest(), manifest(9));
}

/// What an older copy, or a crash between commit and rename, leaves: the parties were told of another manifest. They are
/// asked again, now with what the log proved.
#[test]
fn a_file_with_an_older_manifest_is_refused_by_name_and_the_log_corrects_what_is_told() {
    let (computer, mut log) = recoverable_state();
    let older = computer.file(FILE);
    log.commit_with(kept(PRODUCT), &[b"update"]).unwrap();
    let newest = computer.file(FILE);
    let mut disk = computer.disk();
    disk.put(FILE, older);
    refused(&disk, 1);
    let (computer, recovery) = recovery(without_key(&disk));
    assert_eq!(recovery.claimed_manifest(), Some(manifest(1)));
    let refusal = recovery.open_with(&recovery_key(1)).unwrap_err();
    assert!(refusal.error.hint().is_some());
    let RecoverError::Refused(SealFault::RecoveryManifestOutdated { claimed, log }) = refusal.error else {
        panic!("expected a refusal, got {}", refusal.error)
    };
    assert_eq!((claimed, log), (manifest(1), manifest(9)));
    assert_eq!(refusal.recovery.claimed_manifest(), Some(manifest(9)));
    let opened = refusal.recovery.open_with(&recovery_key(1)).unwrap();
    assert!(opened.report.recovery_rewritten);
    assert_eq!(opened.records.len(), 3);
    assert_eq!(computer.file(FILE), newest);
}

#[test]
fn a_changed_manifest_in_the_file_is_refused_by_name() {
    let (computer, _) = recoverable_state();
    let mut disk = computer.disk();
    let mut file = disk.file(FILE).to_vec();
    let at = file.len() - 64;
    file[at..at + 32].copy_from_slice(manifest(7).as_bytes());
    disk.put(FILE, file);
    let fault = refused(&disk, 1);
    assert!(matches!(fault, SealFault::RecoveryManifestChanged { claimed } if claimed == manifest(7)), "{fault}");
}

/// The parties were told of one manifest; the right file comes too late.
#[test]
fn a_file_that_is_exchanged_after_the_start_is_refused() {
    let (computer, mut log) = recoverable_state();
    let older = computer.file(FILE);
    log.commit_with(kept(PRODUCT), &[b"update"]).unwrap();
    let newest = without_key(&computer.disk());
    let mut disk = newest.clone();
    disk.put(FILE, older);
    let (computer, recovery) = recovery(disk);
    computer.lock().disk = newest;
    let refusal = recovery.open_with(&recovery_key(1)).unwrap_err();
    assert!(
        matches!(refusal.error, RecoverError::Refused(SealFault::RecoveryManifestOutdated { .. })),
        "{}",
        refusal.error
    );
}

#[test]
fn the_manifest_of_another_deployment_is_not_claimed_for_this_one() {
    let (computer, _) = recoverable_state();
    let mut disk = without_key(&computer.disk());
    disk.put(FILE, recoverable_state().0.file(FILE));
    assert_eq!(recovery(disk).1.claimed_manifest(), None);
    let mut without_file = without_key(&computer.disk());
    without_file.delete(FILE);
    assert_eq!(recovery(without_file).1.claimed_manifest(), None);
}

#[test]
fn a_real_directory_opens_with_the_recovery_key_after_the_key_file_was_removed() {
    let directory = tempfile::tempdir().unwrap();
    let open = || open_directory(directory.path(), keys(), trust()).unwrap();
    let Opened::New(new) = open() else { panic!("expected an empty directory") };
    let mut log = new.create(PRODUCT, &[b"root"]).unwrap();
    log.commit_with(recoverable(PRODUCT, 1), &[b"manifest"]).unwrap();
    drop(log);
    std::fs::remove_file(directory.path().join("sealed_key")).unwrap();
    let Opened::Recovery(recovery) = open() else { panic!("expected recovery") };
    let opened = recovery.open_with(&recovery_key(1)).unwrap();
    assert_eq!(payloads(&opened), [b"root".as_slice(), b"manifest"]);
    drop(opened);
    assert!(matches!(open(), Opened::Existing(_)));
}
