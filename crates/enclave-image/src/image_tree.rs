//! Paths inside an image directory, as programs in it see them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed in one path (`ELOOP` of Linux).
const MAX_LINKS: usize = 40;

/// The directory that becomes the root of an instance.
#[derive(Clone, Debug)]
pub struct ImageTree {
    root: PathBuf,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path inside, without links.
    pub inside: String,
    /// Its path on this machine.
    pub outside: PathBuf,
    /// What it is.
    pub metadata: Metadata,
}

impl ImageTree {
    /// The tree below a directory.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks a path up, starting at the image's root; links are followed inside of the image, absolute ones from its
    /// root. `None` if there is nothing, or if it cannot be reached.
    pub fn find(&self, path: &str) -> Option<Entry> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut reached: Vec<String> = Vec::new();
        let mut links = 0;
        let mut metadata = fs::metadata(&self.root).ok()?;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    reached.pop();
                    metadata = fs::symlink_metadata(self.outside(&reached)).ok()?;
                    continue;
                }
                _ => reached.push(part),
            }
            let outside = self.outside(&reached);
            metadata = fs::symlink_metadata(&outside).ok()?;
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = fs::read_link(&outside).ok()?;
                let target = target.to_str()?;
                reached.pop();
                if target.starts_with('/') {
                    reached.clear();
                }
                rest.extend(target.split('/').rev().map(str::to_owned));
                metadata = fs::symlink_metadata(self.outside(&reached)).ok()?;
            }
        }
        Some(Entry { inside: format!("/{}", reached.join("/")), outside: self.outside(&reached), metadata })
    }

    fn outside(&self, parts: &[String]) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(parts);
        path
    }

    /// Reads a regular file of at most `max` bytes.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for what is no regular file, `FileTooLarge`, and what reading gives.
    pub fn read(&self, path: &str, max: u64) -> io::Result<Vec<u8>> {
        let entry = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        entry.read(max)
    }
}

impl Entry {
    /// Reads it; see [`ImageTree::read`].
    ///
    /// # Errors
    /// As [`ImageTree::read`].
    pub fn read(&self, max: u64) -> io::Result<Vec<u8>> {
        if !self.metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(&self.outside)?.take(max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = |inside: &str| dir.path().join(inside);
        fs::create_dir_all(path("usr/lib")).unwrap();
        fs::write(path("usr/lib/libc.so.6"), "c").unwrap();
        symlink("/usr/lib", path("lib")).unwrap();
        symlink("libc.so.6", path("usr/lib/libc.so")).unwrap();
        symlink("../../../../etc/passwd", path("usr/passwd")).unwrap();
        symlink("loop", path("loop")).unwrap();
        let image = ImageTree::new(dir.path());
        let inside = |path: &str| image.find(path).map(|entry| entry.inside);
        assert_eq!(inside("/lib/libc.so").as_deref(), Some("/usr/lib/libc.so.6"));
        assert_eq!(inside("lib/..//lib/./libc.so.6").as_deref(), Some("/usr/lib/libc.so.6"));
        assert_eq!(inside("/").as_deref(), Some("/"));
        for missing in ["/usr/passwd", "/loop", "/nothing", "/usr/lib/libc.so.6/x"] {
            assert_eq!(inside(missing), None, "{missing}");
        }
        assert_eq!(image.read("/lib/libc.so", 1).unwrap(), b"c");
        assert_eq!(image.read("/lib", 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        fs::write(path("large"), "12").unwrap();
        assert_eq!(image.read("/large", 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
