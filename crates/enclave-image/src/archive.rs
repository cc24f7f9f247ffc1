//! Compressed archives: packages of Occlum instances, and the bundles of EGo.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Most bytes that are unpacked of an archive, files that are skipped included: a package holds a whole image.
pub(crate) const MAX_UNPACKED_BYTES: u64 = 16 << 30;
/// Longest name of a file that has more than the 100 bytes of a header, as of Linux (`PATH_MAX`).
const MAX_NAME_BYTES: u64 = 4096;
/// Most files in an archive.
const MAX_ENTRIES: usize = 1_000_000;
/// What every gzip file begins with (RFC 1952, 2.3.1).
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why an archive was not read to its end.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no tar.gz file, or a damaged one.
    #[error("expected a tar.gz archive")]
    Read(#[source] io::Error),
    /// It unpacks to more than anybody packs.
    #[error("expected an archive of at most {MAX_UNPACKED_BYTES} bytes, got more")]
    TooLarge,
    /// It has more files than anybody packs.
    #[error("expected an archive of at most {MAX_ENTRIES} files, got more")]
    TooManyEntries,
    /// A file in it is larger than any enclave.
    #[error("expected {file} of at most {max} bytes, got {got}")]
    FileTooLarge {
        /// The file.
        file: String,
        /// Longest that is read, in bytes.
        max: u64,
        /// What the archive says.
        got: u64,
    },
}

/// What to do with a file of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Read it, if it has at most this many bytes.
    Read {
        /// Longest that is read.
        max: u64,
    },
    /// Go on with the next one.
    Skip,
}

/// Goes through the regular files of a tar.gz archive. `choose` sees each path, without a leading `./`; `take` gets what
/// was chosen and says whether enough was seen.
pub(crate) fn walk(
    archive: impl Read,
    mut choose: impl FnMut(&Path) -> Choice,
    mut take: impl FnMut(&Path, Vec<u8>) -> bool,
) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(Limited { inner: MultiGzDecoder::new(archive), left: MAX_UNPACKED_BYTES });
    // Not interpreted by the library, which would hold names of any length in memory.
    let mut entries = archive.entries().map_err(broken)?.raw(true);
    let mut long_name = None;
    for count in 0.. {
        let Some(entry) = entries.next() else { break };
        if count == MAX_ENTRIES {
            return Err(ArchiveError::TooManyEntries);
        }
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let name = read_within(&mut entry, || "a name".to_owned(), MAX_NAME_BYTES)?;
            long_name = Some(PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"\0").unwrap_or(&name))));
            continue;
        }
        let path = match long_name.take() {
            Some(name) => name,
            None => entry.path().map_err(broken)?.into_owned(),
        };
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        if !kind.is_file() {
            continue;
        }
        let Choice::Read { max } = choose(&path) else { continue };
        let content = read_within(&mut entry, || path.display().to_string(), max)?;
        if take(&path, content) {
            break;
        }
    }
    Ok(())
}

fn read_within(
    entry: &mut tar::Entry<'_, impl Read>,
    file: impl FnOnce() -> String,
    max: u64,
) -> Result<Vec<u8>, ArchiveError> {
    let got = entry.size();
    if got > max {
        return Err(ArchiveError::FileTooLarge { file: file(), max, got });
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(broken)?;
    Ok(content)
}

fn broken(error: io::Error) -> ArchiveError {
    if error.get_ref().is_some_and(|error| error.is::<TooMuch>()) {
        ArchiveError::TooLarge
    } else {
        ArchiveError::Read(error)
    }
}

/// Fails where more comes than is allowed.
struct Limited<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more than is unpacked")]
struct TooMuch;

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(TooMuch))?;
        Ok(read)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A tar.gz archive of files.
    pub(crate) fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn all(archive: &[u8]) -> Result<Vec<String>, ArchiveError> {
        let mut found = Vec::new();
        let choose = |path: &Path| if path.ends_with("skip") { Choice::Skip } else { Choice::Read { max: 5 } };
        walk(archive, choose, |path, content| {
            found.push(format!("{}={}", path.display(), String::from_utf8(content).unwrap()));
            path.ends_with("last")
        })?;
        Ok(found)
    }

    #[test]
    fn files_are_read_in_order_until_enough_was_seen() {
        let archive = tar_gz(&[("./a/b", b"1"), ("skip", &[7; 10_000]), ("c", b"2"), ("last", b"3"), ("d", b"4")]);
        assert_eq!(all(&archive).unwrap(), ["a/b=1", "c=2", "last=3"]);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let error = all(&tar_gz(&[("big", b"123456")])).unwrap_err();
        assert!(matches!(error, ArchiveError::FileTooLarge { max: 5, got: 6, .. }), "{error}");
        let mut limited = Limited { inner: &[7; 11][..], left: 10 };
        let error = limited.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(broken(error), ArchiveError::TooLarge));
        let mut limited = Limited { inner: &[7; 10][..], left: 10 };
        assert_eq!(limited.read_to_end(&mut Vec::new()).unwrap(), 10);
    }

    #[test]
    fn names_longer_than_a_header_are_read_within_a_bound() {
        let name = format!("{}/a", "n".repeat(200));
        assert_eq!(all(&tar_gz(&[(&name, b"1"), ("b", b"2")])).unwrap(), [format!("{name}=1"), "b=2".to_owned()]);
        let error = all(&tar_gz(&[(&"n".repeat(5000), b"1")])).unwrap_err();
        assert!(matches!(error, ArchiveError::FileTooLarge { max: MAX_NAME_BYTES, got: 5001, .. }), "{error}");
    }

    #[test]
    fn what_is_no_archive_or_ends_early_is_refused() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&[0xAA; 600]).unwrap();
        let archive = tar_gz(&[("a", b"12345"), ("b", b"12345")]);
        for broken in [&b""[..], b"\x1f\x8b", b"plain", &gzip.finish().unwrap(), &archive[..archive.len() / 2]] {
            let error = all(broken).unwrap_err();
            assert!(matches!(error, ArchiveError::Read(_)), "{error}");
        }
    }
}
