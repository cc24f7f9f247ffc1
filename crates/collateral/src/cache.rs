//! A directory for collateral that was fetched, so that a restart needs no network.
//!
//! It has the form of a bundle. The disk belongs to whoever runs the host: what is read is proven like everything
//! else, and what is written is public.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use marblerun_attestation::PlatformId;

use crate::bundle::SUBDIRECTORY;
use crate::error::{BundleError, LookupError};
use crate::file;
use crate::name;

/// How many files are kept, about 20 KiB each. The oldest gives way.
pub const MAX_CACHED_FILES: usize = 64;

/// `O_NOFOLLOW` on Linux: a symbolic link must not lead the writing elsewhere.
const O_NOFOLLOW: i32 = 0o400_000;

/// A directory that holds what was fetched.
#[derive(Debug)]
pub(crate) struct CacheDirectory {
    directory: PathBuf,
}

impl CacheDirectory {
    /// Makes the directory if there is none.
    pub(crate) fn open(directory: &Path) -> Result<Self, BundleError> {
        let directory = directory.join(SUBDIRECTORY);
        fs::create_dir_all(&directory)
            .map_err(|error| BundleError::Unreadable { directory: directory.clone(), reason: error.to_string() })?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self, platform: &PlatformId) -> PathBuf {
        self.directory.join(name::file_name(platform))
    }

    /// The file's text; `None` if there is no file.
    pub(crate) fn read(&self, platform: &PlatformId) -> Result<Option<Vec<u8>>, LookupError> {
        let path = self.path(platform);
        if !path.exists() {
            return Ok(None);
        }
        file::read(&path).map(|(text, _)| Some(text))
    }

    /// Replaces the file as a whole: whoever reads it sees the old text or the new one.
    ///
    /// Nothing is flushed. A file that a power failure leaves incomplete is not proven and fetched again.
    pub(crate) fn write(&self, platform: &PlatformId, text: &[u8]) -> io::Result<()> {
        let path = self.path(platform);
        self.make_room(&path)?;
        let new = self.directory.join(format!(".{}.new", name::file_name(platform)));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).custom_flags(O_NOFOLLOW).open(&new)?;
        file.write_all(text)?;
        drop(file);
        fs::rename(new, path)
    }

    /// Removes the oldest files until another one fits.
    fn make_room(&self, path: &Path) -> io::Result<()> {
        let files = name::list(&self.directory).map_err(io::Error::other)?;
        let mut files: Vec<_> = files.into_values().flatten().filter(|file| file != path).collect();
        if files.len() < MAX_CACHED_FILES {
            return Ok(());
        }
        let age =
            |file: &PathBuf| fs::metadata(file).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        files.sort_by_cached_key(age);
        files[..=files.len() - MAX_CACHED_FILES].iter().try_for_each(fs::remove_file)
    }
}

#[cfg(test)]
mod tests {
    use marblerun_attestation::{Fmspc, MAX_COLLATERAL_BYTES, PckCa, Tee};

    use super::*;

    fn platform(number: u8) -> PlatformId {
        PlatformId { tee: Tee::Sgx, fmspc: Fmspc([number; 6]), ca: PckCa::Platform }
    }

    fn cache() -> (tempfile::TempDir, CacheDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let cache = CacheDirectory::open(&directory.path().join("new")).unwrap();
        (directory, cache)
    }

    #[test]
    fn a_text_is_read_as_it_was_written_and_replaced_as_a_whole() {
        let (_directory, cache) = cache();
        assert_eq!(cache.read(&platform(1)).unwrap(), None);
        cache.write(&platform(1), b"first, long").unwrap();
        cache.write(&platform(1), b"second").unwrap();
        assert_eq!(cache.read(&platform(1)).unwrap().unwrap(), b"second");
        let names = fs::read_dir(&cache.directory).unwrap().count();
        assert_eq!(names, 1, "nothing is left over");
    }

    #[test]
    fn the_oldest_files_make_room() {
        let (_directory, cache) = cache();
        for number in 0..=MAX_CACHED_FILES {
            let number = u8::try_from(number).unwrap();
            cache.write(&platform(number), b"x").unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + u64::from(number));
            fs::File::options().write(true).open(cache.path(&platform(number))).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), MAX_CACHED_FILES);
        assert_eq!(cache.read(&platform(0)).unwrap(), None);
        assert!(cache.read(&platform(1)).unwrap().is_some());
        // A file that is there needs no room.
        cache.write(&platform(1), b"y").unwrap();
        assert!(cache.read(&platform(2)).unwrap().is_some());
    }

    #[test]
    fn a_link_in_the_way_leads_nowhere() {
        let (directory, cache) = cache();
        let target = directory.path().join("target");
        let link = cache.directory.join(format!(".{}.new", name::file_name(&platform(1))));
        std::os::unix::fs::symlink(&target, link).unwrap();
        assert!(cache.write(&platform(1), b"x").is_err());
        assert!(!target.exists());
    }

    #[test]
    fn what_the_host_makes_of_a_file_is_read_within_limits() {
        let (_directory, cache) = cache();
        fs::write(cache.path(&platform(1)), vec![b' '; MAX_COLLATERAL_BYTES + 1]).unwrap();
        assert!(matches!(cache.read(&platform(1)), Err(LookupError::TooLarge { .. })));
        fs::create_dir(cache.path(&platform(2))).unwrap();
        assert!(matches!(cache.read(&platform(2)), Err(LookupError::NotAFile { .. } | LookupError::Unreadable { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(CacheDirectory::open(file.path()).is_err());
    }
}
