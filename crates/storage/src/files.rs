//! The few file operations that a seal directory needs, behind a trait so that tests can fail each of them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Operations on the files of one directory. Names are relative, with at most one folder (`replaced-1/sealed_data`).
///
/// What was written is durable after [`Files::sync`] of the file; names are durable after [`Files::sync_names`].
pub trait Files: Send {
    /// The path of `name`, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// All bytes of a file, or `None` if it does not exist; at most `max + 1` bytes.
    ///
    /// # Errors
    /// As the operating system says; so for all methods.
    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// Also if the file ends early.
    fn read_at(&mut self, name: &str, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// Also if it does not exist, or no longer has a name.
    fn length(&mut self, name: &str) -> io::Result<u64>;

    /// Creates or empties a file, readable by its owner only, and writes `bytes`.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` of an existing file.
    ///
    /// # Errors
    /// A part may have been written.
    fn write_at(&mut self, name: &str, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Makes a file's content and length durable.
    ///
    /// # Errors
    /// It is unknown then what is durable.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that does not exist is no error.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Creates a folder, accessible by its owner only; one that exists is no error.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_folder(&mut self, name: &str) -> io::Result<()>;

    /// Names in the directory.
    ///
    /// # Errors
    /// As the operating system says.
    fn names(&mut self) -> io::Result<Vec<String>>;

    /// Makes names in the directory, or in one of its folders, durable.
    ///
    /// # Errors
    /// It is unknown then what is durable.
    fn sync_names(&mut self, folder: Option<&str>) -> io::Result<()>;

    /// True if other processes are locked out.
    fn is_exclusive(&self) -> bool;
}

/// The flag of `open(2)` on Linux x86-64 with which a pipe that nobody writes to does not block.
const O_NONBLOCK: i32 = 0o4000;

/// A directory of the operating system, locked as long as this value lives.
#[derive(Debug)]
pub struct HostFiles {
    path: PathBuf,
    directory: File,
    exclusive: bool,
    /// The file that was used last: the log, in all commits.
    open: Option<(String, File)>,
}

impl HostFiles {
    /// Creates the directory if needed (mode 0700) and locks it; `None` if another process has the lock.
    ///
    /// The lock is advisory (`flock` on the directory itself, so that no lock file remains). Where the file system has
    /// none, [`Files::is_exclusive`] says so.
    ///
    /// # Errors
    /// If the directory cannot be created, opened or written.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let directory = File::open(path)?;
        let exclusive = match directory.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(None),
            // No locks here (network file systems, LibOSes): comparing the head at each commit still finds a second writer.
            Err(TryLockError::Error(_)) => false,
        };
        Ok(Some(Self { path: path.to_owned(), directory, exclusive, open: None }))
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        Ok(&self.open.as_ref().expect("set above").1)
    }
}

impl Files for HostFiles {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("expected a regular file, got a directory, pipe or device"));
        }
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn read_at(&mut self, name: &str, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file(name)?.read_exact_at(buffer, offset)
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        let metadata = self.file(name)?.metadata()?;
        if metadata.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "file was removed while in use"));
        }
        Ok(metadata.len())
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(self.path.join(name))?;
        file.write_all_at(bytes, 0)?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn write_at(&mut self, name: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // `fdatasync` flushes the length too where reading the content needs it (POSIX, synchronized I/O data integrity).
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open = None;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open = None;
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn create_folder(&mut self, name: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_names(&mut self, folder: Option<&str>) -> io::Result<()> {
        match folder {
            None => self.directory.sync_all(),
            Some(folder) => File::open(self.path.join(folder))?.sync_all(),
        }
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}
