//! The one owner of writing, on a store that fails when the test says so.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use marblerun_attestation::{EvaluationNumbers, Fmspc, Tee};
use marblerun_coordinator::listener::Limits;
use marblerun_coordinator::metrics::MetricsListener;
use marblerun_coordinator::tls::Listeners;
use marblerun_coordinator::view::SharedView;
use marblerun_coordinator::writer::{self, Backing, WriteError, WriterHandle};
use marblerun_coordinator_core::activation::Candidate;
use marblerun_coordinator_core::ledger::{Command, Ledger, Refusal};
use marblerun_coordinator_core::record::{CollateralAccepted, Genesis, Record, SecretsSet};
use marblerun_coordinator_core::secret::Secret;
use marblerun_coordinator_core::set_manifest;
use marblerun_coordinator_core::snapshot::Status;
use marblerun_coordinator_core::time::Timestamp;
use marblerun_coordinator_core::user_secrets::PreparedUpload;
use marblerun_manifest::SecretType;
use marblerun_pki::AltNames;
use marblerun_sealing::{FixedSealKeys, HEAD_LEN, HEADER_LEN, SealMode, TrustClass, TrustContext};
use marblerun_secret::SecretBytes;
use marblerun_storage::{
    CommitOptions, DirectoryStore, Existing, OpenError, Opened, RecordStore, Settled, StoreError, Stored, open,
};
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::MANIFEST;

const NOW: Timestamp = Timestamp::from_millis(1_769_904_000_000);

/// What the store does with the next records.
const WORKS: u8 = 0;
/// The disk is full; nothing was written.
const FULL: u8 = 1;
/// The records were written, but the error came before the store knew.
const UNKNOWN: u8 = 2;
/// The next records are written once the test says what happens to those after them …
const HOLD: u8 = 3;
/// … which it may do when it sees that they are waiting.
const HELD: u8 = 4;

struct Faulty {
    inner: DirectoryStore,
    mode: Arc<AtomicU8>,
}

fn disk_full() -> StoreError {
    StoreError::Io {
        action: "append to",
        path: "sealed_data".into(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    }
}

impl RecordStore for Faulty {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.inner.load()
    }

    fn settle(&mut self, settled: Settled<'_>) -> Result<(), StoreError> {
        self.inner.settle(settled)
    }

    fn create(
        &mut self,
        wrapped_keys: &[u8],
        header: &[u8; HEADER_LEN],
        frames: &[u8],
        head: &[u8; HEAD_LEN],
    ) -> Result<(), StoreError> {
        self.inner.create(wrapped_keys, header, frames, head)
    }

    fn append(&mut self, frames: &[u8], head: &[u8; HEAD_LEN]) -> Result<(), StoreError> {
        match self.mode.load(Ordering::Acquire) {
            WORKS => self.inner.append(frames, head),
            FULL => Err(StoreError::NothingWritten(Box::new(disk_full()))),
            HOLD => {
                self.mode.store(HELD, Ordering::Release);
                while self.mode.load(Ordering::Acquire) == HELD {
                    std::thread::yield_now();
                }
                self.inner.append(frames, head)
            }
            _ => {
                self.inner.append(frames, head)?;
                Err(disk_full())
            }
        }
    }

    fn replace_keys(&mut self, wrapped_keys: &[u8]) -> Result<(), StoreError> {
        self.inner.replace_keys(wrapped_keys)
    }

    fn stage_recovery(&mut self, recovery: &[u8]) -> Result<(), StoreError> {
        self.inner.stage_recovery(recovery)
    }

    fn publish_recovery(&mut self) -> Result<(), StoreError> {
        self.inner.publish_recovery()
    }

    fn remove_recovery(&mut self) -> Result<(), StoreError> {
        self.inner.remove_recovery()
    }

    fn erase(&mut self) -> Result<(), StoreError> {
        self.inner.erase()
    }

    fn set_aside(&mut self) -> Result<String, StoreError> {
        self.inner.set_aside()
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }
}

struct World {
    writer: WriterHandle,
    view: SharedView,
    mode: Arc<AtomicU8>,
}

impl World {
    /// Opens or creates the state in `directory`; whoever had it before gives it back soon.
    fn open(directory: &Path) -> Self {
        let keys = || Arc::new(FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16])));
        let trust = || TrustContext::new(TrustClass::Simulation, Vec::new());
        let mode = Arc::new(AtomicU8::new(WORKS));
        let deadline = Instant::now() + Duration::from_secs(20);
        let opened = loop {
            match DirectoryStore::open(directory) {
                Ok(inner) => break open(Box::new(Faulty { inner, mode: Arc::clone(&mode) }), keys(), trust()),
                Err(StoreError::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
                Err(error) => break Err(OpenError::Store(error)),
            }
        };
        let (ledger, log) = match opened.unwrap() {
            Opened::New(new) => {
                let genesis = Genesis::create(&AltNames::from_list("localhost"), NOW).unwrap();
                let ledger = Ledger::new(&genesis).unwrap();
                (ledger, new.create(SealMode::default(), &[Record::Genesis(genesis).encode().expose()]).unwrap())
            }
            Opened::Existing(Existing { records, log, .. }) => {
                let records = records.iter().map(|record| Record::decode(record.expose()).unwrap());
                (Ledger::replay(records).unwrap(), log)
            }
            Opened::Recovery(recovery) => panic!("{}", recovery.fault()),
        };
        let backing = Backing::Log(log);
        let view = SharedView::new(writer::view(&ledger, &backing));
        Self { writer: writer::start(ledger, backing, view.clone(), Listeners::new().unwrap()).unwrap(), view, mode }
    }

    async fn set_manifest(&self) -> Result<(), WriteError> {
        let identity = &self.view.load().snapshot.identity;
        let prepared = set_manifest::prepare(identity, MANIFEST.as_bytes(), NOW).unwrap();
        let command = Command::SetManifest(Box::new(prepared.record));
        self.writer.submit_with(command, CommitOptions::default()).await
    }

    fn count_once(&self) -> Command {
        let Candidate { deployment, marble_type } = Candidate::find(&self.view.load().snapshot, "once").unwrap();
        Command::CountActivation { marble_type, deployment }
    }

    fn sequence(&self) -> u64 {
        self.view.load().log.unwrap().head.sequence
    }
}

fn collateral(number: u32) -> Command {
    Command::AcceptCollateral(CollateralAccepted {
        tee: Tee::Sgx,
        fmspc: Fmspc([7; 6]),
        numbers: EvaluationNumbers { tcb_info: number, qe_identity: number },
        newest_issue: UnixTime::since_unix_epoch(Duration::from_secs(u64::from(number))),
    })
}

// rules: STA-1.6, R22
#[tokio::test]
async fn a_change_is_visible_and_stored_once_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.set_manifest().await.unwrap();
    assert_eq!(world.view.load().status(), Status::AcceptingMarbles);
    world.writer.submit(collateral(5)).await.unwrap();
    world.writer.submit(world.count_once()).await.unwrap();
    let snapshot = format!("{:?}", world.view.load().snapshot);
    drop(world);
    let world = World::open(directory.path());
    assert_eq!(format!("{:?}", world.view.load().snapshot), snapshot);
}

// rules: STA-1.7, R16
#[tokio::test]
async fn refused_commands_and_those_without_news_write_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.set_manifest().await.unwrap();
    world.writer.submit(collateral(5)).await.unwrap();
    world.writer.submit(world.count_once()).await.unwrap();
    let sequence = world.sequence();
    let is_refused = |result: Result<(), WriteError>, expected: Refusal| {
        assert!(matches!(&result, Err(WriteError::Refused(refusal)) if **refusal == expected), "{result:?}");
    };
    is_refused(world.set_manifest().await, Refusal::ManifestAlreadySet);
    let budget = Refusal::BudgetUsed { marble_type: "once".to_owned(), limit: 1 };
    is_refused(world.writer.submit(world.count_once()).await, budget);
    world.writer.submit(collateral(5)).await.unwrap();
    world.writer.submit(collateral(4)).await.unwrap();
    assert_eq!(world.sequence(), sequence);
}

#[tokio::test]
async fn many_changes_at_once_are_all_stored() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    let mut waiting = tokio::task::JoinSet::new();
    for number in 1..=400 {
        let writer = world.writer.clone();
        waiting.spawn(async move { writer.submit(collateral(number)).await });
    }
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    let floor = world.view.load().snapshot.floor.clone();
    assert_eq!(floor.entries().next().unwrap().numbers.tcb_info, 400);
    drop(world);
    assert_eq!(World::open(directory.path()).view.load().snapshot.floor, floor);
}

/// The store fails while a budget is used: the Marble is refused, readers go on, and nothing more is written.
async fn check_failure(mode: u8, kept: bool) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.set_manifest().await.unwrap();
    let before = world.view.load();

    world.mode.store(mode, Ordering::Release);
    let (command, other) = (world.count_once(), world.count_once());
    let error = world.writer.submit(command).await.unwrap_err();
    assert!(matches!(error, WriteError::Storage(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("disk space"), "{error:?}");

    // The store works again, but what this process believes may not be what is stored.
    world.mode.store(WORKS, Ordering::Release);
    for command in [other, collateral(9)] {
        let error = world.writer.submit(command).await.unwrap_err();
        assert!(matches!(error, WriteError::Ended), "{error:?}");
        assert!(error.to_string().contains("restart the Coordinator"), "{error}");
    }
    assert!(matches!(world.set_manifest().await, Err(WriteError::Ended)));
    let after = world.view.load();
    assert!(Arc::ptr_eq(&before, &after), "readers keep the last stored state");
    drop((world, before, after));

    let world = World::open(directory.path());
    let result = world.writer.submit(world.count_once()).await;
    assert_eq!(result.is_ok(), !kept, "{result:?}");
}

/// The second command finds its news in the state already, but the record with it is not stored yet, and never will be.
// rules: R22
#[tokio::test]
async fn a_command_without_news_is_not_acknowledged_before_the_record_that_it_relies_on() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    let submit = |command| {
        let writer = world.writer.clone();
        tokio::spawn(async move { writer.submit(command).await })
    };
    world.mode.store(HOLD, Ordering::Release);
    let before = submit(collateral(1));
    while world.mode.load(Ordering::Acquire) != HELD {
        tokio::task::yield_now().await;
    }
    let together = [submit(collateral(5)), submit(collateral(5))];
    tokio::task::yield_now().await;
    world.mode.store(FULL, Ordering::Release);
    before.await.unwrap().unwrap();
    for result in together {
        let result = result.await.unwrap();
        assert!(matches!(result, Err(WriteError::Storage(_))), "{result:?}");
    }
}

// rules: STA-1.6, R22
#[tokio::test]
async fn after_a_full_disk_a_restart_has_the_old_state() {
    check_failure(FULL, false).await;
}

// rules: R22
#[tokio::test]
async fn a_record_whose_fate_is_unknown_counts_after_a_restart_if_it_is_there() {
    check_failure(UNKNOWN, true).await;
}

// rules: STA-1.6, R22
#[tokio::test]
async fn a_manifest_that_cannot_be_stored_is_not_set() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.mode.store(FULL, Ordering::Release);
    assert!(matches!(world.set_manifest().await, Err(WriteError::Storage(_))));
    assert_eq!(world.view.load().status(), Status::AcceptingManifest);
    drop(world);
    let world = World::open(directory.path());
    assert_eq!(world.view.load().status(), Status::AcceptingManifest);
    world.set_manifest().await.unwrap();
}

/// Together they are longer than what the storage takes at once.
#[tokio::test]
async fn long_records_that_wait_together_are_all_stored() {
    const LENGTH: usize = 7 << 20;
    const NUMBER: u8 = 6;
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.set_manifest().await.unwrap();
    let deployment = Arc::clone(world.view.load().snapshot.deployment().unwrap());
    let submit = |command| {
        let writer = world.writer.clone();
        tokio::spawn(async move { writer.submit(command).await })
    };
    let upload = |value: u8| {
        let bytes = SecretBytes::new(vec![value; LENGTH]);
        let secret = Secret {
            secret_type: SecretType::Plain,
            size: 0,
            shared: false,
            user_defined: true,
            valid_for: 0,
            certificate: None,
            public: Some(bytes.duplicate()),
            private: Some(bytes),
        };
        let record = SecretsSet { secrets: vec![("pw".to_owned(), Arc::new(secret))], log_lines: Vec::new() };
        Command::SetSecrets(PreparedUpload { record, deployment: Arc::clone(&deployment) })
    };
    world.mode.store(HOLD, Ordering::Release);
    let before = submit(collateral(1));
    while world.mode.load(Ordering::Acquire) != HELD {
        tokio::task::yield_now().await;
    }
    let together: Vec<_> = (1..=NUMBER).map(|value| submit(upload(b'a' + value))).collect();
    tokio::task::yield_now().await;
    world.mode.store(WORKS, Ordering::Release);
    before.await.unwrap().unwrap();
    for result in together {
        result.await.unwrap().unwrap();
    }
    let stored = |world: &World| {
        let view = world.view.load();
        view.snapshot.deployment().unwrap().secrets.get("pw").unwrap().private.as_ref().unwrap().duplicate()
    };
    let last = stored(&world);
    assert_eq!((last.len(), last.expose()[0]), (LENGTH, b'a' + NUMBER));
    drop(world);
    assert!(stored(&World::open(directory.path())).expose() == last.expose());
}

// rules: STA-1.8, STA-6.6
#[tokio::test]
async fn reading_and_scraping_do_not_wait_for_a_write_that_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path());
    world.set_manifest().await.unwrap();
    let before = world.sequence();
    world.mode.store(HOLD, Ordering::Release);
    let writer = world.writer.clone();
    let write = tokio::spawn(async move { writer.submit(collateral(1)).await });
    while world.mode.load(Ordering::Acquire) != HELD {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.sequence(), before);
    let (view, writer) = (world.view.clone(), world.writer.clone());
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = MetricsListener::bind(address, Limits::default(), Arc::default(), view, writer).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(listener.serve());
    let scrape = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for (path, expected) in [("/metrics", "\ncoordinator_state 3\n"), ("/events", "\r\n\r\nnull\n")] {
        let answer = timeout(Duration::from_secs(20), scrape(path)).await.unwrap();
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    assert!(!write.is_finished());
    world.mode.store(WORKS, Ordering::Release);
    write.await.unwrap().unwrap();
    assert_eq!(world.sequence(), before + 1);
    serving.abort();
}
