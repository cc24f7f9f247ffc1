//! No (key, nonce) pair occurs twice, whatever the host replays, kills or copies.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use marblerun_sealing::{SealMode, SealPolicy, record_nonces};
use marblerun_storage::{LOG_OFFSET, Opened};

use crate::disk::{Computer, Disk, Fault, recoverable};

/// All pairs that any process ever used, by what identifies the key.
#[derive(Default)]
struct Pairs {
    records: HashSet<([u8; 32], u64)>,
    wraps: HashSet<[u8; 32]>,
    recovery_wraps: HashMap<[u8; 32], Vec<u8>>,
}

impl Pairs {
    /// Collects what one process handed to the host.
    fn collect(&mut self, computer: &Computer) {
        let log_offset = usize::try_from(LOG_OFFSET).unwrap();
        let mut salt = None;
        for (name, offset, bytes) in &computer.lock().writes {
            match name.as_str() {
                // The wrap's salt, see `docs/state-format.md`; its only nonce is zero.
                "sealed_key.new" => assert!(self.wraps.insert(bytes[80..112].try_into().unwrap()), "wrap salt repeats"),
                // A file that is written anew from the log is the same again, byte by byte.
                "sealed_recovery.new" => {
                    let salt: [u8; 32] = bytes[88..120].try_into().unwrap();
                    let known = self.recovery_wraps.entry(salt).or_insert_with(|| bytes.clone());
                    assert_eq!(known, bytes, "recovery wrap salt repeats");
                }
                "sealed_data" | "sealed_data.new" if offset + bytes.len() > log_offset => {
                    let records = record_nonces(&bytes[log_offset.saturating_sub(*offset)..]);
                    assert!(!records.is_empty());
                    for record in records {
                        salt = record.start_salt.or(salt);
                        let key = salt.expect("a process begins with a start record");
                        assert!(self.records.insert((key, record.counter)), "pair repeats: {record:?}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// What one process does on a disk that the host chose.
#[derive(Clone, Debug)]
struct Process {
    /// Which of all earlier disks, as a fraction of 1000.
    disk: usize,
    /// Payloads per commit.
    commits: Vec<usize>,
    /// An operation at which it is killed or at which the disk fails once, and how many bytes of it happen.
    crash: Option<(usize, usize, bool)>,
}

fn process() -> impl Strategy<Value = Process> {
    let crash = proptest::option::of((0_usize..12, 0_usize..400, any::<bool>()));
    (0_usize..1000, proptest::collection::vec(0_usize..4, 1..4), crash).prop_map(|(disk, commits, crash)| Process {
        disk,
        commits,
        crash,
    })
}

/// Runs one process; returns the disk after each of its operations.
fn run(disk: Disk, process: &Process, pairs: &mut Pairs) -> Vec<Disk> {
    let computer = Computer::with(disk);
    {
        let mut machine = computer.lock();
        machine.history = Some(Vec::new());
        machine.fault = process.crash.map(|(at, torn, kill)| match kill {
            true => Fault::Crash { at, torn },
            false => Fault::Fail { at, torn, kind: std::io::ErrorKind::StorageFull },
        });
    }
    let log = match computer.open() {
        Ok(Opened::New(new)) => new.create(SealMode::default(), &[b"first"]).ok(),
        Ok(Opened::Existing(existing)) => Some(existing.log),
        Ok(Opened::Recovery(_)) | Err(_) => None,
    };
    if let Some(mut log) = log {
        for (number, count) in process.commits.iter().enumerate() {
            // The same plaintexts over and over, and now and then a change of the seal mode; errors do not stop it.
            let policy = if *count == 3 { SealPolicy::UniqueKey } else { SealPolicy::ProductKey };
            let payloads = vec![[u8::try_from(number).unwrap()].to_vec(); *count];
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let mode = SealMode::Sealed(policy);
            let options = if *count == 2 { recoverable(mode, 1) } else { mode.into() };
            drop(log.commit_with(options, &payloads));
        }
    }
    pairs.collect(&computer);
    let mut disks = computer.lock().history.take().unwrap();
    disks.push(computer.disk());
    disks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pair_repeats_in_any_history_of_starts_kills_copies_and_replays(
        processes in proptest::collection::vec(process(), 2..12),
    ) {
        let mut pairs = Pairs::default();
        let mut disks = vec![Disk::default()];
        for process in &processes {
            let disk = disks[process.disk * disks.len() / 1000].clone();
            disks.extend(run(disk, process, &mut pairs));
        }
    }
}

#[test]
fn no_pair_repeats_when_every_prefix_of_storage_is_replayed_twice() {
    let mut pairs = Pairs::default();
    let process = Process { disk: 0, commits: vec![1, 2, 3, 1], crash: None };
    let first = run(Disk::default(), &process, &mut pairs);
    let mut disks = first.clone();
    disks.extend(run(first.last().unwrap().clone(), &process, &mut pairs));
    assert!(disks.len() > 40);
    for disk in disks {
        for _ in 0..2 {
            run(disk.clone(), &process, &mut pairs);
        }
    }
    assert!(pairs.records.len() > 500);
}

#[test]
fn a_commit_that_failed_never_shares_its_record_key_with_the_next_one() {
    let mut pairs = Pairs::default();
    for at in 0..10 {
        for torn in [0, 100, 1000] {
            let process = Process { disk: 0, commits: vec![1, 1, 1, 1], crash: Some((at + 7, torn, false)) };
            run(Disk::default(), &process, &mut pairs);
        }
    }
}
