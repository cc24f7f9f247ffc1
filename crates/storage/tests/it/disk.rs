//! A disk in memory that can be cut off at any byte, lose what was not flushed, and be copied.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use marblerun_sealing::{
    FixedSealKeys, ManifestFingerprint, RecoveryRecipient, RecoveryScheme, RecoveryShare, SealKeys, SealMode,
    TrustClass, TrustContext,
};
use marblerun_secret::SecretBytes;
use marblerun_storage::{CommitOptions, DirectoryStore, Files, OpenError, Opened, RecipientChange};

/// A change that is in the page cache only.
#[derive(Clone, Debug)]
pub enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, inode) => drop(names.insert(name.clone(), *inode)),
            Self::Rename(from, to) => {
                // After a power loss that dropped the file's creation there is nothing to rename.
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// The state of the disk; clone it to keep a copy, as a hostile host does.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
}

impl Disk {
    pub fn names(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    pub fn file(&self, name: &str) -> &[u8] {
        &self.inodes[self.names[name]].content
    }

    pub fn pending(&self, name: &str) -> &[Pending] {
        &self.inodes[self.names[name]].pending
    }

    /// What a hostile host does: gives a file other content, durably.
    pub fn put(&mut self, name: &str, content: Vec<u8>) {
        self.inodes.push(Inode { durable: content.clone(), content, pending: Vec::new() });
        self.names.insert(name.to_owned(), self.inodes.len() - 1);
        self.durable_names = self.names.clone();
    }

    pub fn delete(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names = self.names.clone();
    }

    /// The process was killed; the operating system lives on.
    pub fn after_kill(&self) -> Self {
        self.clone()
    }

    /// Power was lost: of what was not flushed, a random part survived, one change perhaps torn.
    pub fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut names = self.durable_names.clone();
        // POSIX promises no order among changes that were not flushed.
        let survives = |_: &&NameChange| random.below(2) == 0;
        self.pending_names.iter().filter(survives).for_each(|change| change.apply(&mut names));
        let inodes = self.inodes.iter().map(|inode| {
            let mut content = inode.durable.clone();
            for pending in &inode.pending {
                match (random.below(3), pending) {
                    (0, _) => {}
                    (1, Pending::Write(offset, bytes)) => {
                        let torn = bytes[..random.below(bytes.len() + 1)].to_vec();
                        Pending::Write(*offset, torn).apply(&mut content);
                    }
                    _ => pending.apply(&mut content),
                }
            }
            Inode { durable: content.clone(), content, pending: Vec::new() }
        });
        Self { inodes: inodes.collect(), durable_names: names.clone(), names, pending_names: Vec::new() }
    }
}

/// A small generator whose sequence a seed fixes (xorshift64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// What to do to one operation, counted from 0.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// From this operation on nothing happens any more; of a write, so many bytes still do.
    Crash { at: usize, torn: usize },
    /// This operation fails, after so many bytes of a write; later ones work.
    Fail { at: usize, torn: usize, kind: io::ErrorKind },
    /// Flushing does nothing.
    IgnoreSync,
}

#[derive(Debug, Default)]
pub struct Machine {
    pub disk: Disk,
    pub fault: Option<Fault>,
    /// Names of the operations so far, with the number of bytes written.
    pub operations: Vec<(&'static str, usize)>,
    /// All bytes that were handed to the host, with file name and offset, failed or not.
    pub writes: Vec<(String, usize, Vec<u8>)>,
    /// The disk after each operation.
    pub history: Option<Vec<Disk>>,
}

impl Machine {
    /// Registers an operation; `Ok(bytes)` says how much of it happens.
    fn step(&mut self, name: &'static str, bytes: usize) -> Result<usize, (usize, io::Error)> {
        if let Some(history) = &mut self.history {
            history.push(self.disk.clone());
        }
        let number = self.operations.len();
        self.operations.push((name, bytes));
        match self.fault {
            Some(Fault::Crash { at, torn }) if number == at => Err((torn.min(bytes), io::Error::other("crash"))),
            Some(Fault::Crash { at, .. }) if number > at => Err((0, io::Error::other("crashed"))),
            Some(Fault::Fail { at, torn, kind }) if number == at => Err((torn.min(bytes), kind.into())),
            _ => Ok(bytes),
        }
    }

    fn change(&mut self, name: &str, change: Pending) {
        let inode = &mut self.disk.inodes[self.disk.names[name]];
        change.apply(&mut inode.content);
        inode.pending.push(change);
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.disk.names);
        self.disk.pending_names.push(change);
    }
}

/// A machine that outlives the processes that run on it.
#[derive(Clone, Debug, Default)]
pub struct Computer(Arc<Mutex<Machine>>);

impl Computer {
    pub fn with(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(Machine { disk, ..Machine::default() })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    pub fn disk(&self) -> Disk {
        self.lock().disk.clone()
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        self.disk().file(name).to_vec()
    }

    /// Starts a process under the usual keys and trust.
    pub fn open(&self) -> Result<Opened, OpenError> {
        self.open_under(trust())
    }

    pub fn open_under(&self, trust: TrustContext) -> Result<Opened, OpenError> {
        marblerun_storage::open(Box::new(DirectoryStore::on(self.clone())), keys(), trust)
    }
}

pub fn keys() -> Arc<dyn SealKeys> {
    Arc::new(FixedSealKeys::new(SecretBytes::new(vec![1; 16]), SecretBytes::new(vec![2; 16])))
}

pub fn recovery_key(byte: u8) -> SecretBytes {
    SecretBytes::new(vec![byte; 32])
}

/// The options of a manifest with one recovery key.
pub fn recoverable(mode: SealMode, byte: u8) -> CommitOptions {
    let share = RecoveryShare { public_key: vec![byte; 32], share_hash: [!byte; 32] };
    let recipient = RecoveryRecipient::new(recovery_key(byte), RecoveryScheme::Single, vec![share]).unwrap();
    CommitOptions { mode, recovery: RecipientChange::to(Some(recipient), manifest(byte)) }
}

/// The fingerprint of the manifest that [`recoverable`] belongs to.
pub fn manifest(byte: u8) -> ManifestFingerprint {
    ManifestFingerprint::from_bytes([byte ^ 0x55; 32])
}

pub fn trust() -> TrustContext {
    TrustContext::new(TrustClass::Software, vec![[5; 32]])
}

impl Files for Computer {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/state").join(name)
    }

    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let machine = self.lock();
        let Some(inode) = machine.disk.names.get(name) else { return Ok(None) };
        let content = &machine.disk.inodes[*inode].content;
        let length = content.len().min(usize::try_from(max + 1).unwrap());
        Ok(Some(content[..length].to_vec()))
    }

    fn read_at(&mut self, name: &str, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.file(name);
        let offset = usize::try_from(offset).unwrap();
        let bytes = content.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.lock().disk.file(name).len() as u64)
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.lock();
        machine.writes.push((name.to_owned(), 0, bytes.to_vec()));
        let step = machine.step("create", bytes.len());
        // Before its first byte is written, a crash has not created the file either.
        let (length, result) = match step {
            Ok(length) => (length, Ok(())),
            Err((0, error)) => return Err(error),
            Err((length, error)) => (length, Err(error)),
        };
        let inode = machine.disk.inodes.len();
        machine.disk.inodes.push(Inode::default());
        machine.change_names(NameChange::Add(name.to_owned(), inode));
        machine.change(name, Pending::Write(0, bytes[..length].to_vec()));
        result
    }

    fn write_at(&mut self, name: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut machine = self.lock();
        machine.writes.push((name.to_owned(), offset, bytes.to_vec()));
        let (length, result) = match machine.step("write", bytes.len()) {
            Ok(length) => (length, Ok(())),
            Err((length, error)) => (length, Err(error)),
        };
        if length > 0 {
            machine.change(name, Pending::Write(offset, bytes[..length].to_vec()));
        }
        result
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step("truncate", 0).map_err(|(_, error)| error)?;
        machine.change(name, Pending::Truncate(usize::try_from(length).unwrap()));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step("sync", 0).map_err(|(_, error)| error)?;
        if matches!(machine.fault, Some(Fault::IgnoreSync)) {
            return Ok(());
        }
        let number = machine.disk.names[name];
        let inode = &mut machine.disk.inodes[number];
        inode.durable = inode.content.clone();
        inode.pending.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step("rename", 0).map_err(|(_, error)| error)?;
        machine.change_names(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step("remove", 0).map_err(|(_, error)| error)?;
        machine.change_names(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn create_folder(&mut self, _: &str) -> io::Result<()> {
        self.lock().step("create folder", 0).map_err(|(_, error)| error)?;
        Ok(())
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let machine = self.lock();
        Ok(machine.disk.names.keys().map(|name| name.split('/').next().unwrap().to_owned()).collect())
    }

    fn sync_names(&mut self, _: Option<&str>) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step("sync names", 0).map_err(|(_, error)| error)?;
        machine.disk.durable_names = machine.disk.names.clone();
        machine.disk.pending_names.clear();
        Ok(())
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}
