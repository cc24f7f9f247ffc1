//! Crashes at every byte of every operation, and power loss.

use marblerun_sealing::{SealMode, SealPolicy};
use marblerun_storage::{CommitError, CommitOptions, Opened, RecipientChange, SealedLog};

use crate::disk::{Computer, Disk, Fault, Random, manifest, recoverable, recovery_key};

const PRODUCT: SealMode = SealMode::Sealed(SealPolicy::ProductKey);
const UNIQUE: SealMode = SealMode::Sealed(SealPolicy::UniqueKey);

/// All payloads of [`life`], in order.
const ATTEMPTED: [&[u8]; 9] = [b"root", b"a", b"b", b"c", b"unique", b"d", b"e", b"product", b"last"];

/// A deployment's life in two processes. Counts what was acknowledged in `acknowledged`.
fn life(computer: &Computer, acknowledged: &mut usize) -> Result<(), CommitError> {
    let Ok(Opened::New(new)) = computer.open() else { return Err(CommitError::Closed) };
    let mut log = new.create(PRODUCT, &[b"root"])?;
    *acknowledged += 1;
    log.commit(&[b"a"])?;
    *acknowledged += 1;
    log.commit(&[b"b", b"c"])?;
    *acknowledged += 2;
    log.commit_with(recoverable(UNIQUE, 1), &[b"unique"])?;
    *acknowledged += 1;
    log.commit(&[b"d"])?;
    *acknowledged += 1;
    drop(log);
    let Ok(Opened::Existing(existing)) = computer.open() else { return Err(CommitError::Closed) };
    let mut log = existing.log;
    // A manifest that leaves the recovery parties alone.
    let recovery = RecipientChange::Keep { manifest: manifest(9) };
    log.commit_with(CommitOptions { mode: UNIQUE, recovery }, &[b"e"])?;
    *acknowledged += 1;
    log.commit_with(recoverable(PRODUCT, 2), &[b"product"])?;
    *acknowledged += 1;
    log.commit_with(PRODUCT, &[b"last"])?;
    *acknowledged += 1;
    Ok(())
}

fn open_existing(computer: &Computer) -> Result<(Vec<Vec<u8>>, SealedLog), String> {
    match computer.open().map_err(|error| format!("{error:?}"))? {
        Opened::Existing(existing) => {
            Ok((existing.records.iter().map(|record| record.expose().to_vec()).collect(), existing.log))
        }
        other => Err(format!("expected a state, got {other:?}")),
    }
}

/// Everything acknowledged is there, nothing is there half, the seal mode fits, and life goes on.
fn check(disk: Disk, acknowledged: usize) -> Result<(), String> {
    let computer = Computer::with(disk);
    if acknowledged == 0 && matches!(computer.open(), Ok(Opened::New(_))) {
        return Ok(());
    }
    let (records, mut log) = open_existing(&computer)?;
    if records.len() < acknowledged {
        return Err(format!("{acknowledged} were acknowledged, {} are there", records.len()));
    }
    if ATTEMPTED.get(..records.len()).is_none_or(|expected| expected != records) {
        return Err(format!("unexpected records {records:?}"));
    }
    let expected_mode = if (5..8).contains(&records.len()) { UNIQUE } else { PRODUCT };
    if log.mode() != expected_mode || wrapped_mode(&computer) != expected_mode {
        return Err(format!(
            "{:?} with a key for {:?} after {} records",
            log.mode(),
            wrapped_mode(&computer),
            records.len()
        ));
    }
    check_recovery(&computer.disk(), records.len(), records.len())?;
    log.commit(&[b"after"]).map_err(|error| format!("{error:?}"))?;
    drop(log);
    let (after, _) = open_existing(&computer)?;
    if after.len() != records.len() + 1 {
        return Err(format!("after the crash {} records became {}", records.len(), after.len()));
    }
    check_recovery(&computer.disk(), records.len(), after.len())?;
    Ok(())
}

/// Who can open a repaired state without the TEE's key: those whom the newest manifest names, whatever was on its way.
fn check_recovery(disk: &Disk, records: usize, total: usize) -> Result<(), String> {
    let expected = match records {
        5..=7 => Some(1),
        8 => Some(2),
        _ => None,
    };
    let opener = [1, 2].into_iter().find(|byte| opened_with(disk, *byte).is_some_and(|opened| opened == total));
    let has_file = disk.names().contains(&"sealed_recovery");
    if opener != expected || has_file != opener.is_some() {
        return Err(format!("after {records} records {opener:?} opens the state; file: {has_file}"));
    }
    Ok(())
}

/// How many records a state without `sealed_key` has, if the recovery key opens it.
fn opened_with(disk: &Disk, byte: u8) -> Option<usize> {
    let mut disk = disk.clone();
    disk.delete("sealed_key");
    let Opened::Recovery(recovery) = Computer::with(disk).open().unwrap() else { panic!("expected recovery") };
    Some(recovery.open_with(&recovery_key(byte)).ok()?.records.len())
}

/// The seal mode in `sealed_key` (byte 66, see `docs/state-format.md`).
fn wrapped_mode(computer: &Computer) -> SealMode {
    if computer.file("sealed_key")[66] == 2 { UNIQUE } else { PRODUCT }
}

/// The operations of an undisturbed life.
fn operations() -> Vec<(&'static str, usize)> {
    let computer = Computer::default();
    life(&computer, &mut 0).unwrap();
    computer.lock().operations.clone()
}

fn crash(at: usize, torn: usize) -> (Disk, usize) {
    let computer = Computer::default();
    computer.lock().fault = Some(Fault::Crash { at, torn });
    let mut acknowledged = 0;
    life(&computer, &mut acknowledged).unwrap_err();
    (computer.disk(), acknowledged)
}

/// Every byte of small writes, a sample of the large one that creates the file.
fn cuts(bytes: usize) -> impl Iterator<Item = usize> {
    (0..=bytes).step_by(if bytes > 4096 { 509 } else { 1 })
}

// rules: STA-2.8, R10, R22
#[test]
fn everything_acknowledged_survives_a_kill_at_every_byte_of_every_operation() {
    let operations = operations();
    assert!(operations.len() > 45);
    for (at, (name, bytes)) in operations.into_iter().enumerate() {
        for torn in cuts(bytes) {
            let (disk, acknowledged) = crash(at, torn);
            check(disk.after_kill(), acknowledged)
                .unwrap_or_else(|error| panic!("kill at operation {at} ({name}), byte {torn}: {error}"));
        }
    }
}

// rules: STA-2.8, STA-2.11, R10, R12
#[test]
fn everything_acknowledged_survives_power_loss_at_every_operation() {
    for (at, (name, bytes)) in operations().into_iter().enumerate() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let (disk, acknowledged) = crash(at, random.below(bytes + 1));
            check(disk.after_power_loss(&mut random), acknowledged)
                .unwrap_or_else(|error| panic!("power loss at operation {at} ({name}), seed {seed}: {error}"));
        }
    }
}

#[test]
fn acknowledged_recovery_secrets_open_the_state_after_power_loss_and_loss_of_the_key() {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    let mut log = new.create(PRODUCT, &[b"root"]).unwrap();
    log.commit_with(recoverable(PRODUCT, 1), &[b"manifest"]).unwrap();
    for seed in 0..40 {
        let disk = computer.disk().after_power_loss(&mut Random::new(seed));
        assert_eq!(opened_with(&disk, 1), Some(2), "seed {seed}");
    }
    log.commit_with(recoverable(UNIQUE, 2), &[b"manifest"]).unwrap();
    for seed in 0..40 {
        let disk = computer.disk().after_power_loss(&mut Random::new(seed));
        assert_eq!((opened_with(&disk, 1), opened_with(&disk, 2)), (None, Some(3)), "seed {seed}");
    }
}

// rules: STA-2.8, R11
#[test]
fn opening_with_a_recovery_key_survives_a_crash_and_power_loss_at_every_operation() {
    let computer = Computer::default();
    let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
    new.create(recoverable(UNIQUE, 1), &[b"root", b"manifest"]).unwrap();
    let mut disk = computer.disk();
    disk.delete("sealed_key");
    for (at, seed) in (0..8).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
        let computer = Computer::with(disk.clone());
        let Ok(Opened::Recovery(recovery)) = computer.open() else { panic!("expected recovery") };
        computer.lock().fault = Some(Fault::Crash { at, torn: 30 });
        drop(recovery.open_with(&recovery_key(1)));
        let computer = Computer::with(computer.disk().after_power_loss(&mut Random::new(seed)));
        let records = match computer.open().unwrap() {
            Opened::Existing(existing) => existing.records,
            Opened::Recovery(recovery) => recovery.open_with(&recovery_key(1)).unwrap().records,
            Opened::New(_) => panic!("a first start after a crash at operation {at}, seed {seed}"),
        };
        assert_eq!(records.len(), 2, "operation {at}, seed {seed}");
    }
}

#[test]
fn a_crash_while_a_crash_is_being_repaired_is_survived() {
    let count = operations().len();
    for at in 0..count {
        let (disk, acknowledged) = crash(at, 30);
        for (repair, seed) in (0..14).flat_map(|repair| (0..20).map(move |seed| (repair, seed))) {
            let mut random = Random::new(seed);
            // After a kill, what was not flushed is still to be read.
            let killed = seed % 2 == 0;
            let disk = if killed { disk.after_kill() } else { disk.after_power_loss(&mut random) };
            let computer = Computer::with(disk);
            computer.lock().fault = Some(Fault::Crash { at: repair, torn: 4096 });
            drop(computer.open());
            check(computer.disk().after_power_loss(&mut random), acknowledged).unwrap_or_else(|error| {
                panic!("crash at operation {at} (kill: {killed}), power loss at {repair}, seed {seed}: {error}")
            });
        }
    }
}

#[test]
fn this_suite_notices_when_nothing_is_flushed() {
    let computer = Computer::default();
    computer.lock().fault = Some(Fault::IgnoreSync);
    let mut acknowledged = 0;
    life(&computer, &mut acknowledged).unwrap();
    let lost =
        (0..40).any(|seed| check(computer.disk().after_power_loss(&mut Random::new(seed)), acknowledged).is_err());
    assert!(lost);
}

// rules: STA-2.8, STA-2.6
#[test]
fn disabling_leaves_all_or_nothing_after_a_crash() {
    let prepare = || {
        let computer = Computer::default();
        let Ok(Opened::New(new)) = computer.open() else { panic!("expected an empty store") };
        let log = new.create(recoverable(PRODUCT, 1), &[b"root"]).unwrap();
        (computer, log)
    };
    let (computer, mut log) = prepare();
    let first = computer.lock().operations.len();
    log.commit_with(SealMode::Disabled, &[b"manifest"]).unwrap();
    let last = computer.lock().operations.len();
    for seed in 0..40 {
        let computer = Computer::with(computer.disk().after_power_loss(&mut Random::new(seed)));
        assert!(matches!(computer.open(), Ok(Opened::New(_))), "an erased state is back, seed {seed}");
    }

    let mut outcomes = [false; 2];
    for (at, seed) in (first..last).flat_map(|at| (0..60).map(move |seed| (at, seed))) {
        let (computer, mut log) = prepare();
        computer.lock().fault = Some(Fault::Crash { at, torn: 0 });
        log.commit_with(SealMode::Disabled, &[b"manifest"]).unwrap_err();
        let mut random = Random::new(seed);
        let disk = match seed % 3 {
            0 => computer.disk().after_kill(),
            1 => computer.disk().after_power_loss(&mut random),
            // A kill, and power is lost while the next start finishes the work.
            _ => {
                let computer = Computer::with(computer.disk());
                computer.lock().fault = Some(Fault::Crash { at: random.below(8), torn: 0 });
                drop(computer.open());
                computer.disk().after_power_loss(&mut random)
            }
        };
        let computer = Computer::with(disk);
        match computer.open().unwrap() {
            Opened::New(_) => {
                assert!(computer.disk().names().is_empty());
                outcomes[0] = true;
            }
            Opened::Existing(existing) => {
                assert_eq!((existing.records.len(), existing.report.recovery_rewritten), (1, false));
                outcomes[1] = true;
            }
            Opened::Recovery(recovery) => panic!("operation {at}, seed {seed}: {recovery:?}"),
        }
    }
    assert_eq!(outcomes, [true; 2]);
}

#[test]
fn moving_aside_loses_no_file_in_a_crash() {
    let damaged = || {
        let computer = Computer::default();
        life(&computer, &mut 0).unwrap();
        let mut disk = computer.disk();
        let mut key = disk.file("sealed_key").to_vec();
        key[100] ^= 1;
        disk.put("sealed_key", key);
        disk.put("sealed_data", disk.file("sealed_data").to_vec());
        disk.put("sealed_recovery", b"recovery".to_vec());
        Computer::with(disk)
    };
    let replace = |computer: &Computer| match computer.open().unwrap() {
        Opened::Recovery(recovery) => recovery.replace().map(|_| ()),
        Opened::New(_) => Ok(()),
        Opened::Existing(existing) => panic!("{existing:?}"),
    };
    let computer = damaged();
    replace(&computer).unwrap();
    let steps = computer.lock().operations.len();
    for at in 0..steps {
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let computer = damaged();
            let files = ["sealed_key", "sealed_recovery", "sealed_data"];
            let before = files.map(|name| computer.file(name));
            computer.lock().fault = Some(Fault::Crash { at, torn: 0 });
            replace(&computer).unwrap_err();
            // A kill, and power is lost while the next start goes on.
            let computer = Computer::with(computer.disk());
            computer.lock().fault = Some(Fault::Crash { at: random.below(8), torn: 0 });
            drop(replace(&computer));
            let computer = Computer::with(computer.disk().after_power_loss(&mut random));
            replace(&computer).unwrap();
            let kept = files.map(|name| computer.file(&format!("replaced-1/{name}")));
            assert!(kept == before, "operation {at}, seed {seed}");
        }
    }
}
