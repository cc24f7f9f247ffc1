//! A seal directory: `sealed_key`, `sealed_data`, perhaps `sealed_recovery`, and for a moment what a change needs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use marblerun_sealing::{HEAD_LEN, HEADER_LEN, MAX_RECOVERY_BYTES, SealKeys, StoredLog, TrustContext};

use crate::error::{OpenError, StoreError};
use crate::files::{Files, HostFiles};
use crate::log::{self, Opened};
use crate::store::{RecordStore, Settled, Stored};

/// The wrapped key. Removing it leads to recovery.
pub const KEY_FILE: &str = "sealed_key";
/// Header, two head blocks and the records.
pub const DATA_FILE: &str = "sealed_data";
/// The key wrapped for the holders of recovery shares; stays when [`KEY_FILE`] is removed.
pub const RECOVERY_FILE: &str = "sealed_recovery";
/// Where the records begin in [`DATA_FILE`].
pub const LOG_OFFSET: u64 = 3 * BLOCK as u64;

const NEW_KEY_FILE: &str = "sealed_key.new";
const NEW_DATA_FILE: &str = "sealed_data.new";
const NEW_RECOVERY_FILE: &str = "sealed_recovery.new";
/// Says that everything is to be removed; the last file that goes.
const ERASE_FILE: &str = "sealed_erase";
const REPLACED_PREFIX: &str = "replaced-";
/// The files of a state, in the order in which they are moved aside.
const STATE_FILES: [&str; 3] = [KEY_FILE, RECOVERY_FILE, DATA_FILE];

/// Header and heads lie in separate pages, so that a torn write of one cannot reach another.
const BLOCK: usize = 4096;
const HEADS_AT: [u64; 2] = [BLOCK as u64, 2 * BLOCK as u64];

/// A wrapped key is below 2 KiB; this leaves room for later versions, whose files get a proper message.
const MAX_KEY_FILE_BYTES: u64 = 1 << 20;
/// Opening reads the log into memory, of which enclaves have little.
const MAX_DATA_FILE_BYTES: u64 = 1 << 30;

/// Opens the sealed state in the directory `path`, which is created if needed.
///
/// # Errors
/// If the directory cannot be used or another process uses it.
pub fn open_directory(path: &Path, keys: Arc<dyn SealKeys>, trust: TrustContext) -> Result<Opened, OpenError> {
    log::open(Box::new(DirectoryStore::open(path)?), keys, trust)
}

/// A [`RecordStore`] in a directory.
#[derive(Debug)]
pub struct DirectoryStore<F = HostFiles> {
    files: F,
    max_data_bytes: u64,
    /// What this process believes to be on disk.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    heads: [Vec<u8>; 2],
    newest: usize,
    length: u64,
}

impl DirectoryStore<HostFiles> {
    /// Creates the directory if needed and locks it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, otherwise [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match HostFiles::open(path) {
            Ok(Some(files)) => Ok(Self::on(files)),
            Ok(None) => Err(StoreError::Locked { path: path.to_owned() }),
            Err(source) => Err(StoreError::Io { action: "open the seal directory", path: path.to_owned(), source }),
        }
    }
}

impl<F: Files> DirectoryStore<F> {
    /// Uses `files`; tests give files that fail.
    pub fn on(files: F) -> Self {
        Self { files, max_data_bytes: MAX_DATA_FILE_BYTES, known: None }
    }

    /// Another limit for the length of `sealed_data`; the default is 1 GiB.
    ///
    /// A commit beyond it is refused, because the state could not be opened again.
    #[must_use]
    pub fn with_data_limit(self, max_data_bytes: u64) -> Self {
        Self { max_data_bytes, ..self }
    }

    /// Runs one file operation and gives its error the path.
    fn at<T>(
        &mut self,
        action: &'static str,
        name: &str,
        operation: impl FnOnce(&mut F, &str) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        operation(&mut self.files, name).map_err(|source| {
            let path = self.files.path(name);
            StoreError::Io { action, path, source }
        })
    }

    fn read(&mut self, name: &str, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.at("read", name, |files, name| files.read(name, max))?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > max => {
                let got = self.at("read", name, |files, name| files.length(name))?;
                Err(StoreError::TooLarge { path: self.files.path(name), max, got })
            }
            other => Ok(other),
        }
    }

    fn sync(&mut self, name: &str) -> Result<(), StoreError> {
        self.at("flush", name, |files, name| files.sync(name))
    }

    fn sync_names(&mut self) -> Result<(), StoreError> {
        self.at("flush", "", |files, _| files.sync_names(None))
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.at("remove", name, |files, name| files.remove(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StoreError> {
        self.at("rename", from, |files, from| files.rename(from, to))
    }

    fn write_durably(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.at("write", name, |files, name| files.create(name, bytes))?;
        self.sync(name)
    }

    /// Finishes or undoes what a crash interrupted. Every step can be interrupted again.
    fn recover_from_crash(&mut self) -> Result<(), StoreError> {
        let names = self.at("list", "", |files, _| files.names())?;
        let has = |name: &str| names.iter().any(|other| other == name);
        if has(ERASE_FILE) {
            return self.finish_erase();
        }
        // What the log holds of a staged recovery file is written anew by whoever opens the log.
        let leftovers = [NEW_KEY_FILE, NEW_RECOVERY_FILE].into_iter().filter(|name| has(name));
        for name in leftovers.clone() {
            self.remove(name)?;
        }
        if leftovers.count() > 0 {
            // Or a later rename of the same name could, after power loss, bring back this half-written file.
            self.sync_names()?;
        }
        if !has(NEW_DATA_FILE) {
            return Ok(());
        }
        // `create` writes the data first, complete, then the key, then gives the data its name.
        if has(KEY_FILE) && !has(DATA_FILE) {
            // What is visible after a kill need not be durable: the key's name first, as in `create`.
            self.sync_names()?;
            self.rename(NEW_DATA_FILE, DATA_FILE)?;
        } else {
            self.remove(NEW_DATA_FILE)?;
        }
        self.sync_names()
    }

    /// Removes everything, beginning with the visible but perhaps not yet durable marker.
    fn finish_erase(&mut self) -> Result<(), StoreError> {
        self.sync_names()?;
        for name in [DATA_FILE, KEY_FILE, RECOVERY_FILE, NEW_DATA_FILE, NEW_KEY_FILE, NEW_RECOVERY_FILE] {
            self.remove(name)?;
        }
        self.sync_names()?;
        self.remove(ERASE_FILE)?;
        self.sync_names()
    }

    fn check_head(&mut self) -> Result<(), StoreError> {
        let Some(known) = &self.known else {
            return Err(self.conflict());
        };
        let (heads, length) = (known.heads.clone(), known.length);
        for (head, offset) in heads.iter().zip(HEADS_AT) {
            let mut stored = [0; HEAD_LEN];
            self.at("read", DATA_FILE, |files, name| files.read_at(name, &mut stored, offset))?;
            if stored.as_slice() != head.as_slice() {
                return Err(self.conflict());
            }
        }
        if self.at("read", DATA_FILE, |files, name| files.length(name))? != length {
            return Err(self.conflict());
        }
        Ok(())
    }

    fn conflict(&self) -> StoreError {
        StoreError::Conflict { path: self.files.path(DATA_FILE) }
    }

    /// After a failed write: puts the log back to `length`, durably.
    fn cut_back(&mut self, length: u64) -> Result<(), StoreError> {
        self.at("cut", DATA_FILE, |files, name| files.truncate(name, length))?;
        self.sync(DATA_FILE)
    }

    fn write_head(&mut self, head: &[u8; HEAD_LEN], block: usize) -> Result<(), StoreError> {
        self.at("write", DATA_FILE, |files, name| files.write_at(name, head, HEADS_AT[block]))?;
        self.remember_head(head, block);
        Ok(())
    }

    fn remember_head(&mut self, head: &[u8; HEAD_LEN], block: usize) {
        if let Some(known) = &mut self.known {
            known.heads[block] = head.to_vec();
            known.newest = block;
        }
    }
}

impl<F: Files> RecordStore for DirectoryStore<F> {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.known = None;
        self.recover_from_crash()?;
        let key = self.read(KEY_FILE, MAX_KEY_FILE_BYTES)?;
        let recovery = self.read_recovery()?;
        let Some(mut data) = self.read(DATA_FILE, self.max_data_bytes)? else {
            return Ok(match (key, recovery) {
                (Some(_), _) => Stored::WithoutData,
                (None, Some(_)) => Stored::OnlyRecovery,
                (None, None) => Stored::Nothing,
            });
        };
        let length = data.len() as u64;
        let frames = data.split_off(data.len().min(3 * BLOCK));
        let mut blocks = data.chunks(BLOCK).map(<[u8]>::to_vec);
        let mut block = || blocks.next().unwrap_or_default();
        let (header, heads) = (block(), [block(), block()]);
        let known_heads = heads.each_ref().map(|head| head[..HEAD_LEN.min(head.len())].to_vec());
        self.known = Some(Known { heads: known_heads, newest: 0, length });
        let log =
            StoredLog { wrapped_keys: Vec::new(), header, heads, heads_at: HEADS_AT, frames, frames_at: LOG_OFFSET };
        Ok(match key {
            Some(wrapped_keys) => Stored::Complete { log: StoredLog { wrapped_keys, ..log }, recovery },
            None => Stored::WithoutKey { log, recovery },
        })
    }

    fn settle(&mut self, settled: Settled<'_>) -> Result<(), StoreError> {
        let Some(known) = &mut self.known else {
            return Err(self.conflict());
        };
        known.newest = settled.newest_head;
        let (length, other) = (LOG_OFFSET + settled.log_bytes, 1 - settled.newest_head);
        if known.length != length {
            known.length = length;
            self.at("cut", DATA_FILE, |files, name| files.truncate(name, length))?;
            self.sync(DATA_FILE)?;
        }
        if let Some(head) = settled.head {
            // The kept records may still be in the page cache only, and callers will act on them.
            self.sync(DATA_FILE)?;
            // All of the block: damage may lie beyond the head's own bytes.
            let mut block = vec![0; BLOCK];
            block[..HEAD_LEN].copy_from_slice(head);
            self.at("write", DATA_FILE, |files, name| files.write_at(name, &block, HEADS_AT[other]))?;
            self.sync(DATA_FILE)?;
            self.remember_head(head, other);
        }
        Ok(())
    }

    fn create(
        &mut self,
        wrapped_keys: &[u8],
        header: &[u8; HEADER_LEN],
        frames: &[u8],
        head: &[u8; HEAD_LEN],
    ) -> Result<(), StoreError> {
        let mut data = vec![0; 3 * BLOCK];
        data[..HEADER_LEN].copy_from_slice(header);
        for block in [BLOCK, 2 * BLOCK] {
            data[block..block + HEAD_LEN].copy_from_slice(head);
        }
        data.extend_from_slice(frames);
        self.write_durably(NEW_DATA_FILE, &data)?;
        self.sync_names()?;
        self.replace_keys(wrapped_keys)?;
        self.rename(NEW_DATA_FILE, DATA_FILE)?;
        self.sync_names()?;
        let heads = [head.to_vec(), head.to_vec()];
        self.known = Some(Known { heads, newest: 0, length: data.len() as u64 });
        Ok(())
    }

    fn append(&mut self, frames: &[u8], head: &[u8; HEAD_LEN]) -> Result<(), StoreError> {
        self.check_head()?;
        let Some(known) = &self.known else {
            return Err(self.conflict());
        };
        let (end, other) = (known.length, 1 - known.newest);
        let (got, max) = (end + frames.len() as u64, self.max_data_bytes);
        if got > max {
            let path = self.files.path(DATA_FILE);
            return Err(StoreError::NothingWritten(Box::new(StoreError::TooLarge { path, max, got })));
        }
        if let Err(error) = self.at("append to", DATA_FILE, |files, name| files.write_at(name, frames, end)) {
            return Err(match self.cut_back(end) {
                Ok(()) => StoreError::NothingWritten(Box::new(error)),
                Err(_) => error,
            });
        }
        self.sync(DATA_FILE)?;
        if let Some(known) = &mut self.known {
            known.length = end + frames.len() as u64;
        }
        // Not flushed: the next commit's flush takes it along, and until then the other block is whole. After a power
        // loss the head may be one commit late, never ahead; the records behind it are kept.
        self.write_head(head, other)
    }

    fn replace_keys(&mut self, wrapped_keys: &[u8]) -> Result<(), StoreError> {
        self.write_durably(NEW_KEY_FILE, wrapped_keys)?;
        self.rename(NEW_KEY_FILE, KEY_FILE)?;
        self.sync_names()
    }

    fn stage_recovery(&mut self, recovery: &[u8]) -> Result<(), StoreError> {
        self.check_head()?;
        self.write_durably(NEW_RECOVERY_FILE, recovery).map_err(|error| {
            // A full disk should get its space back; a leftover would be removed at the next start anyway.
            let _ = self.remove(NEW_RECOVERY_FILE);
            StoreError::NothingWritten(Box::new(error))
        })
    }

    fn publish_recovery(&mut self) -> Result<(), StoreError> {
        self.rename(NEW_RECOVERY_FILE, RECOVERY_FILE)?;
        self.sync_names()
    }

    fn remove_recovery(&mut self) -> Result<(), StoreError> {
        self.remove(RECOVERY_FILE)?;
        self.sync_names()
    }

    fn erase(&mut self) -> Result<(), StoreError> {
        self.known = None;
        self.write_durably(ERASE_FILE, &[])?;
        self.finish_erase()
    }

    fn set_aside(&mut self) -> Result<String, StoreError> {
        self.known = None;
        let names = self.at("list", "", |files, _| files.names())?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(REPLACED_PREFIX)?.parse::<u64>().ok());
        let last = numbers.max().unwrap_or(0);
        // The data go last: a crash in between leaves them without key, which is recovery as before, and what is left
        // then follows into the same folder.
        let folder = match self.folder_takes_more(last, &names)? {
            true => format!("{REPLACED_PREFIX}{last}"),
            false => format!("{REPLACED_PREFIX}{}", last.saturating_add(1)),
        };
        self.at("create", &folder, |files, name| files.create_folder(name))?;
        // The key of an interrupted move has to stay there when the data follow.
        self.sync_names()?;
        for name in STATE_FILES {
            if names.iter().any(|other| other == name) {
                self.rename(name, &format!("{folder}/{name}"))?;
                self.at("flush", &folder, |files, name| files.sync_names(Some(name)))?;
                self.sync_names()?;
            }
        }
        Ok(self.files.path(&folder).display().to_string())
    }

    fn is_exclusive(&self) -> bool {
        self.files.is_exclusive()
    }
}

impl<F: Files> DirectoryStore<F> {
    /// True if the folder of an interrupted move waits for its data file, and has none of the files still to be moved.
    fn folder_takes_more(&mut self, number: u64, names: &[String]) -> Result<bool, StoreError> {
        if number == 0 {
            return Ok(false);
        }
        for name in STATE_FILES {
            let moved = format!("{REPLACED_PREFIX}{number}/{name}");
            let is_there = self.at("read", &moved, |files, name| files.read(name, 0))?.is_some();
            if is_there && (name == DATA_FILE || names.iter().any(|other| other == name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A file that is too long is cut to one byte beyond the limit: it is not the one that the log holds.
    fn read_recovery(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.at("read", RECOVERY_FILE, |files, name| files.read(name, MAX_RECOVERY_BYTES as u64))
    }
}
