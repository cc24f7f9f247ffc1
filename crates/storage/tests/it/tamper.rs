//! A hostile host changes, swaps and mixes stored bytes.

use std::ops::Range;
use std::sync::Arc;

use marblerun_sealing::{Fault, FixedSealKeys, SealMode, SealPolicy, TrustClass, TrustContext};
use marblerun_secret::SecretBytes;
use marblerun_storage::{DirectoryStore, Existing, LOG_OFFSET, Opened, Recovery, SealedLog};

use crate::disk::{Computer, Disk, trust};

const UNIQUE: SealMode = SealMode::Sealed(SealPolicy::UniqueKey);
const FRAMES: usize = LOG_OFFSET as usize;

fn created() -> (Computer, SealedLog) {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    let log = new.create(SealMode::default(), &[b"root"]).unwrap();
    (computer, log)
}

/// A start record and four data records, all confirmed.
fn state() -> Disk {
    let (computer, mut log) = created();
    log.commit(&[b"a", b"b"]).unwrap();
    log.commit(&[b"c"]).unwrap();
    computer.disk()
}

fn existing(disk: Disk) -> Existing {
    match Computer::with(disk).open().unwrap() {
        Opened::Existing(existing) => existing,
        other => panic!("expected a state, got {other:?}"),
    }
}

/// A state that must not open, and that opening must not touch.
#[track_caller]
fn refusal(disk: &Disk, trust: TrustContext) -> Recovery {
    let computer = Computer::with(disk.clone());
    match computer.open_under(trust).unwrap() {
        Opened::Recovery(recovery) => {
            assert!(computer.lock().operations.is_empty(), "a refused state was changed: {recovery:?}");
            recovery
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

macro_rules! assert_refused {
    ($disk:expr, $pattern:pat $(if $guard:expr)?) => {
        let recovery = refusal(&$disk, trust());
        let fault = recovery.fault();
        assert!(matches!(fault, $pattern $(if $guard)?), "{fault}");
    };
}

fn with_data(disk: &Disk, change: impl FnOnce(&mut Vec<u8>)) -> Disk {
    with_file(disk, "sealed_data", change)
}

fn with_file(disk: &Disk, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Disk {
    let mut disk = disk.clone();
    let mut content = disk.file(name).to_vec();
    change(&mut content);
    disk.put(name, content);
    disk
}

/// Where the records lie in `sealed_data`; record n is at index n - 1.
fn frames(data: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut begin = FRAMES;
    while begin < data.len() {
        let salt = if data[begin + 5] == 1 { 32 } else { 0 };
        let sealed = u32::from_le_bytes(data[begin + 8..begin + 12].try_into().unwrap());
        let end = begin + 80 + salt + usize::try_from(sealed).unwrap() + 16;
        ranges.push(begin..end);
        begin = end;
    }
    assert_eq!(begin, data.len());
    ranges
}

/// The same state with its records in another order.
fn reordered(disk: &Disk, order: &[usize]) -> Disk {
    with_data(disk, |data| {
        let ranges = frames(data);
        let records: Vec<Vec<u8>> = ranges.into_iter().map(|range| data[range].to_vec()).collect();
        data.truncate(FRAMES);
        order.iter().for_each(|number| data.extend_from_slice(&records[number - 1]));
    })
}

// rules: STA-1.7
#[test]
fn an_untouched_state_opens_and_opening_writes_nothing() {
    let computer = Computer::with(state());
    let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
    let records: Vec<&[u8]> = existing.records.iter().map(SecretBytes::expose).collect();
    assert_eq!(records, [b"root".as_slice(), b"a", b"b", b"c"]);
    assert_eq!(existing.log.head().sequence, 5);
    assert!(computer.lock().operations.is_empty());
}

// rules: STA-2.10, STA-9.1, R3, R13
#[test]
fn every_changed_byte_of_the_records_is_refused_with_its_record_and_offset() {
    let disk = state();
    for (number, range) in (1..).zip(frames(disk.file("sealed_data"))) {
        for position in range.clone() {
            let changed = with_data(&disk, |data| data[position] ^= 1 << (position % 8));
            let recovery = refusal(&changed, trust());
            let (record, offset) = match recovery.fault() {
                Fault::Tampered { record, offset }
                | Fault::RecordMalformed { record, offset, .. }
                | Fault::Truncated { record, offset, .. } => (*record, *offset),
                other => panic!("byte {position}: {other}"),
            };
            // A longer length of one record swallows the next ones; the place named is where the trouble begins.
            assert_eq!((record, offset), (number, range.start as u64), "byte {position}");
        }
    }
}

#[test]
fn every_changed_byte_before_the_records_is_refused_or_repaired_without_loss() {
    let disk = state();
    let mut repaired = 0;
    for position in 0..FRAMES {
        let changed = with_data(&disk, |data| data[position] ^= 1 << (position % 8));
        match Computer::with(changed).open().unwrap() {
            // One of the two copies of the head: the other one, and every record, are still there.
            Opened::Existing(existing) => {
                assert!(existing.report.damaged_head && position >= 4096, "byte {position}");
                assert_eq!(existing.records.len(), 4);
                assert_eq!(existing.log.head().sequence, 5);
                assert!(existing.report.unconfirmed <= 1, "the other copy is older than the commit before");
                repaired += 1;
            }
            Opened::Recovery(_) => assert!(position < 4096, "byte {position}"),
            Opened::New(_) => panic!("byte {position} makes it a first start"),
        }
    }
    assert_eq!(repaired, 8192);
}

// rules: STA-2.10, STA-9.1, R13, STA-2.4
#[test]
fn every_changed_byte_and_truncation_of_the_key_is_refused() {
    let disk = state();
    let length = disk.file("sealed_key").len();
    for position in 0..length {
        refusal(&with_file(&disk, "sealed_key", |key| key[position] ^= 1 << (position % 8)), trust());
        refusal(&with_file(&disk, "sealed_key", |key| key.truncate(position)), trust());
    }
}

// rules: STA-2.10, STA-9.1, R13
#[test]
fn every_truncation_is_refused() {
    let disk = state();
    let data = disk.file("sealed_data").to_vec();
    let ranges = frames(&data);
    for length in 0..data.len() {
        let recovery = refusal(&with_data(&disk, |data| data.truncate(length)), trust());
        let Some(cut) = length.checked_sub(FRAMES) else { continue };
        let index = ranges.iter().position(|range| range.end > FRAMES + cut).unwrap();
        match recovery.fault() {
            Fault::Truncated { record, offset, head: 5 } => {
                assert_eq!((*record, *offset), (index as u64 + 1, ranges[index].start as u64), "length {length}");
            }
            other => panic!("length {length}: {other}"),
        }
    }
}

#[test]
fn both_copies_of_the_head_damaged_are_refused() {
    let damaged = with_data(&state(), |data| {
        data[4096 + 60] ^= 1;
        data[8192 + 60] ^= 1;
    });
    assert_refused!(damaged, Fault::HeadDamaged { first: 4096, second: 8192 });
}

// rules: STA-9.1, R3
#[test]
fn dropped_records_are_refused() {
    let disk = state();
    assert_refused!(reordered(&disk, &[2, 3, 4, 5]), Fault::OutOfPlace { expected: 1, found: 2, .. });
    assert_refused!(reordered(&disk, &[1, 3, 4, 5]), Fault::OutOfPlace { expected: 2, found: 3, .. });
    assert_refused!(reordered(&disk, &[1, 2, 3, 5]), Fault::OutOfPlace { expected: 4, found: 5, .. });
    assert_refused!(reordered(&disk, &[1, 2, 3, 4]), Fault::Truncated { record: 5, head: 5, .. });
}

// rules: STA-9.1, R3
#[test]
fn swapped_and_duplicated_records_are_refused_even_behind_the_head() {
    let disk = state();
    assert_refused!(reordered(&disk, &[1, 3, 2, 4, 5]), Fault::OutOfPlace { expected: 2, found: 3, .. });
    assert_refused!(reordered(&disk, &[1, 2, 2, 3, 4, 5]), Fault::OutOfPlace { expected: 3, found: 2, .. });
    assert_refused!(reordered(&disk, &[1, 2, 3, 4, 5, 5]), Fault::OutOfPlace { expected: 6, found: 5, .. });
    assert_refused!(reordered(&disk, &[1, 2, 3, 4, 5, 1]), Fault::OutOfPlace { expected: 6, found: 1, .. });
}

/// Two histories that part after the same two records, as two instances on copies of one directory make them.
fn fork() -> (Disk, Disk) {
    let (computer, mut log) = created();
    log.commit(&[b"common"]).unwrap();
    let common = computer.disk();
    let go_on = |payload: &[u8]| {
        let computer = Computer::with(common.clone());
        let Ok(Opened::Existing(mut existing)) = computer.open() else { panic!("expected a state") };
        existing.log.commit(&[payload]).unwrap();
        existing.log.commit(&[payload]).unwrap();
        computer.disk()
    };
    (go_on(b"one"), go_on(b"two"))
}

// rules: STA-9.1, R3
#[test]
fn a_record_of_a_fork_is_refused() {
    let (one, two) = fork();
    let (data, ranges) = (two.file("sealed_data").to_vec(), frames(two.file("sealed_data")));
    // A data record without its start record, then a start record with everything that follows it.
    let last =
        with_data(&one, |own| own.splice(ranges[5].clone(), data[ranges[5].clone()].iter().copied()).for_each(drop));
    assert_refused!(last, Fault::Tampered { record: 6, .. });
    let tail =
        with_data(&one, |own| own.splice(ranges[3].start.., data[ranges[3].start..].iter().copied()).for_each(drop));
    assert_refused!(tail, Fault::HeadMismatch { .. });
}

#[test]
fn the_head_of_a_fork_is_refused() {
    let (one, two) = fork();
    let heads = two.file("sealed_data")[4096..FRAMES].to_vec();
    assert_refused!(
        with_data(&one, |data| data[4096..FRAMES].copy_from_slice(&heads)),
        Fault::HeadMismatch { record: 5 | 6, .. }
    );
}

#[test]
fn an_older_log_with_a_newer_head_is_refused() {
    let (computer, mut log) = created();
    let older = computer.disk();
    log.commit(&[b"a"]).unwrap();
    let newer = computer.disk();
    let heads = newer.file("sealed_data")[4096..FRAMES].to_vec();
    let mixed = with_data(&older, |data| data[4096..FRAMES].copy_from_slice(&heads));
    assert_refused!(mixed, Fault::Truncated { record: 3, head: 3, .. });
}

/// Nothing is lost: the records behind the older head are authentic and in place.
#[test]
fn an_older_head_with_a_newer_log_opens_with_all_records() {
    let (computer, mut log) = created();
    let older = computer.disk();
    log.commit(&[b"a", b"b"]).unwrap();
    let heads = older.file("sealed_data")[4096..FRAMES].to_vec();
    let existing = existing(with_data(&computer.disk(), |data| data[4096..FRAMES].copy_from_slice(&heads)));
    assert_eq!(existing.records.len(), 3);
    assert_eq!(existing.report.unconfirmed, 2);
}

/// Without a freshness anchor nothing outside the directory knows that there was more. This test states the limit; the
/// sequence number and hash in status and statement let clients notice.
#[test]
fn an_older_copy_of_all_files_opens_because_there_is_no_anchor() {
    let (computer, mut log) = created();
    let older = computer.disk();
    let head = log.head();
    log.commit(&[b"a"]).unwrap();
    let existing = existing(older);
    assert_eq!(existing.records.len(), 1);
    assert_eq!(existing.log.head(), head);
}

#[test]
fn garbage_behind_the_head_is_cut_off_and_reported() {
    let disk = state();
    let length = disk.file("sealed_data").len();
    let records = frames(disk.file("sealed_data"));
    let cut_record = disk.file("sealed_data")[records[4].start..records[4].end - 1].to_vec();
    for garbage in [vec![0], vec![0; 5000], b"MRRC".to_vec(), vec![0xff; 200], cut_record] {
        let computer = Computer::with(with_data(&disk, |data| data.extend_from_slice(&garbage)));
        let Ok(Opened::Existing(existing)) = computer.open() else { panic!("expected a state") };
        let tail = existing.report.torn_tail.expect("reported");
        assert_eq!((tail.record, tail.offset, tail.bytes), (6, length as u64, garbage.len() as u64));
        assert_eq!(existing.records.len(), 4);
        assert_eq!(computer.file("sealed_data").len(), length);
        assert!(computer.disk().pending("sealed_data").is_empty(), "the cut is not flushed");
    }
}

// rules: STA-1.9, STA-9.1, R2
#[test]
fn files_of_another_deployment_are_refused() {
    let (one, two) = (state(), state());
    let mut mixed = one.clone();
    mixed.put("sealed_key", two.file("sealed_key").to_vec());
    assert_refused!(mixed, Fault::ForeignDeployment { .. });

    // The header tells the deployment of the key, but the heads and records are of the other one.
    let header = one.file("sealed_data")[..4096].to_vec();
    let heads = one.file("sealed_data")[..FRAMES].to_vec();
    let mut mixed = one.clone();
    mixed.put("sealed_data", [&header, &two.file("sealed_data")[4096..]].concat());
    assert_refused!(mixed, Fault::HeadDamaged { .. });
    mixed.put("sealed_data", [&heads, &two.file("sealed_data")[FRAMES..]].concat());
    assert_refused!(mixed, Fault::Tampered { record: 1, .. });
}

#[test]
fn another_trust_class_and_other_roots_are_refused() {
    let disk = state();
    let hardware = refusal(&disk, TrustContext::new(TrustClass::Hardware, vec![[5; 32]]));
    assert!(matches!(hardware.fault(), Fault::TrustClass { .. }));
    let roots = refusal(&disk, TrustContext::new(TrustClass::Software, vec![[6; 32]]));
    assert!(matches!(roots.fault(), Fault::TrustRoots { .. }));
}

/// Writing the own class over the stored one does not help: it is authenticated data of the wrap.
#[test]
fn a_rewritten_trust_class_is_refused() {
    let hardware = TrustContext::new(TrustClass::Hardware, Vec::new());
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open_under(hardware.clone()) else { panic!("expected an empty store") };
    new.create(SealMode::default(), &[b"root"]).unwrap();
    let header = computer.file("sealed_key")[..64].to_vec();
    let forged = with_file(&state(), "sealed_key", |key| {
        key[10] = header[10];
        key[32..64].copy_from_slice(&header[32..64]);
    });
    assert!(matches!(refusal(&forged, hardware).fault(), Fault::WrongKey { .. }));
}

#[test]
fn another_tee_is_refused() {
    let keys = FixedSealKeys::new(SecretBytes::new(vec![9; 16]), SecretBytes::new(vec![2; 16]));
    let store = DirectoryStore::on(Computer::with(state()));
    let Ok(Opened::Recovery(recovery)) = marblerun_storage::open(Box::new(store), Arc::new(keys), trust()) else {
        panic!("expected a refusal")
    };
    assert!(matches!(recovery.fault(), Fault::WrongKey { policy: SealPolicy::ProductKey }));
}

// rules: R7
#[test]
fn a_key_of_a_weaker_seal_mode_is_refused() {
    let (computer, mut log) = created();
    let weaker = computer.file("sealed_key");
    log.commit_with(UNIQUE, &[b"manifest"]).unwrap();
    let mut disk = computer.disk();
    disk.put("sealed_key", weaker);
    assert_refused!(disk, Fault::SealModeDowngrade { log: SealPolicy::UniqueKey, key: SealPolicy::ProductKey });
}

// rules: STA-2.9, R9
#[test]
fn a_missing_file_is_never_a_first_start() {
    let mut disk = state();
    disk.delete("sealed_key");
    assert_refused!(disk, Fault::KeyMissing);
    let mut disk = state();
    disk.delete("sealed_data");
    assert_refused!(disk, Fault::DataMissing);
}

// rules: STA-1.9
#[test]
fn other_formats_and_versions_are_refused_by_name() {
    let disk = state();
    for (name, length_field) in [("sealed_data", 0_u32), ("sealed_key", 1024)] {
        // What MarbleRun v1 writes begins with a length.
        let other = with_file(&disk, name, |file| file[..4].copy_from_slice(&length_field.to_le_bytes()));
        assert_refused!(other, Fault::Magic { object } if *object == name);
        let newer = with_file(&disk, name, |file| file[8] = 2);
        assert_refused!(newer, Fault::Version { object, expected: 1, got: 2 } if *object == name);
    }
}

// rules: R13
#[test]
fn faults_read_well_and_say_what_to_do() {
    let mut disk = state();
    disk.delete("sealed_key");
    let recovery = refusal(&disk, trust());
    assert_eq!(recovery.fault().to_string(), "sealed_key is missing, but sealed_data exists");
    assert!(recovery.fault().hint().is_some());
    let cut = refusal(&with_data(&state(), |data| data.truncate(data.len() - 1)), trust());
    assert_eq!(cut.fault().to_string(), "log is truncated in record 5 at offset 12960: the head names record 5");
}
