//! What the Coordinator needs from a place that keeps sealed records.

use marblerun_sealing::{HEAD_LEN, HEADER_LEN, StoredLog};

use crate::error::StoreError;

/// What a store holds.
#[derive(Debug)]
pub enum Stored {
    /// Nothing.
    Nothing,
    /// Records without the wrapped key.
    WithoutKey {
        /// The log, with empty `wrapped_keys`.
        log: StoredLog,
        /// The wrap for the recovery recipient.
        recovery: Option<Vec<u8>>,
    },
    /// The wrapped key without records.
    WithoutData,
    /// Only the wrap for the recovery recipient.
    OnlyRecovery,
    /// Both.
    Complete {
        /// The log.
        log: StoredLog,
        /// The wrap for the recovery recipient.
        recovery: Option<Vec<u8>>,
    },
}

/// What opening decided about a stored log.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// Length in bytes of the records to keep.
    pub log_bytes: u64,
    /// Which of the two head blocks holds the newest head.
    pub newest_head: usize,
    /// The head to write, if records behind the stored head were kept or a head block is damaged.
    pub head: Option<&'a [u8; HEAD_LEN]>,
}

/// A place that keeps the sealed records of one deployment.
///
/// The bytes are opaque to it. Each method that writes returns when its effect is durable, and is atomic under a crash
/// as it says. Only one process writes at a time; another one that did is noticed by comparing the head.
pub trait RecordStore: Send {
    /// Reads everything; finishes or undoes first what a crash interrupted.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Tells the store what [`RecordStore::load`] turned out to be: it cuts what follows the kept records, makes these
    /// durable and writes the head. It writes nothing if there is nothing to repair.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn settle(&mut self, settled: Settled<'_>) -> Result<(), StoreError>;

    /// Stores a new deployment: after a crash there is nothing or all of it.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn create(
        &mut self,
        wrapped_keys: &[u8],
        header: &[u8; HEADER_LEN],
        frames: &[u8],
        head: &[u8; HEAD_LEN],
    ) -> Result<(), StoreError>;

    /// Appends `frames`, makes them durable, then writes `head`, provided that the stored head is still the one that
    /// this store wrote or loaded last.
    ///
    /// After a crash some of the records may be there, the first ones always before the later ones.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the head has changed. After [`StoreError::NothingWritten`] the log is as before;
    /// after every other error it is unknown what is stored.
    fn append(&mut self, frames: &[u8], head: &[u8; HEAD_LEN]) -> Result<(), StoreError>;

    /// Replaces the wrapped keys: after a crash there are the old ones or the new ones.
    ///
    /// # Errors
    /// If the store cannot be written; then it is unknown which ones are stored.
    fn replace_keys(&mut self, wrapped_keys: &[u8]) -> Result<(), StoreError>;

    /// Makes a new wrap for the recovery recipient durable beside the one in force, provided that the stored head is
    /// still the one that this store wrote or loaded last.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the head has changed. After [`StoreError::NothingWritten`] everything is as before.
    fn stage_recovery(&mut self, recovery: &[u8]) -> Result<(), StoreError>;

    /// Puts the staged wrap in force: after a crash there is the former one, if any, or the staged one.
    ///
    /// # Errors
    /// If the store cannot be written; then it is unknown which one is stored.
    fn publish_recovery(&mut self) -> Result<(), StoreError>;

    /// Removes the wrap for the recovery recipient; one that does not exist is no error.
    ///
    /// # Errors
    /// If the store cannot be written; then it is unknown whether it is stored.
    fn remove_recovery(&mut self) -> Result<(), StoreError>;

    /// Removes everything: after a crash there is all or, after the next [`RecordStore::load`], nothing.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn erase(&mut self) -> Result<(), StoreError>;

    /// Moves everything aside, so that a new deployment can be created, and returns where it is now.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn set_aside(&mut self) -> Result<String, StoreError>;

    /// True if other processes are kept from writing here as long as this store lives.
    fn is_exclusive(&self) -> bool;
}
