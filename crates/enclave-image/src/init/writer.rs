//! Writing into an image directory, and nowhere else.
//!
//! Paths are those of the program inside. A symbolic link of the image leads where it leads for the program, never to a
//! file of this machine: an image may hold `lib -> /usr/lib`, and a file for `/lib` must not end in this machine's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

/// Links that are followed for one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Deepest directory that is copied.
const MAX_DEPTH: usize = 64;

/// Most files and directories that one directory's copy may have.
const MAX_ENTRIES: usize = 1_000_000;

/// Name of a file that is being written, in its directory.
const TEMPORARY: &str = ".marblerun-new";

/// A file cannot be put into the image.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Not a path inside.
    #[error("expected an absolute path in the image without \"..\", got {:?}", .0)]
    Path(PathBuf),
    /// Links in a circle.
    #[error("{}: more than 40 symbolic links of the image lead on", .0.display())]
    Links(PathBuf),
    /// Something else stands there.
    #[error("{} of the image is {got}, expected {expected}", path.display())]
    Occupied {
        /// The path inside.
        path: PathBuf,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        got: &'static str,
    },
    /// A device, socket or pipe.
    #[error("{}: expected a file, a directory or a symbolic link, got a special file", .0.display())]
    Special(PathBuf),
    /// A directory is too deep or too large.
    #[error("{}: expected at most {MAX_DEPTH} levels and {MAX_ENTRIES} entries", .0.display())]
    TooLarge(PathBuf),
    /// A directory would be copied into itself.
    #[error("{} holds the image itself", .0.display())]
    Itself(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { step, path: path.to_owned(), source }
}

/// Opens a regular file of this machine, links followed. Opening a pipe would wait for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<fs::File> {
    match path.metadata()? {
        metadata if metadata.is_file() => fs::File::open(path),
        metadata if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// What becomes of symbolic links when a directory is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are copied as they are.
    Keep,
    /// Those that stay within the copied directory are copied, others are replaced by what they lead to (`rsync
    /// --copy-unsafe-links`).
    FollowUnsafe,
}

/// An image directory that is being filled.
#[derive(Clone, Debug)]
pub(crate) struct ImageWriter {
    root: PathBuf,
}

impl ImageWriter {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The image directory on this machine.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where `inside` lies on this machine, links followed as the program would; components that do not exist yet are taken
    /// as they are. With `follow_last` also a link at the end is followed.
    pub(crate) fn locate(&self, inside: &Path, follow_last: bool) -> Result<PathBuf, WriteError> {
        let bad_path = || WriteError::Path(inside.to_owned());
        if !inside.is_absolute() || inside.components().any(|part| part == Component::ParentDir) {
            return Err(bad_path());
        }
        let mut left: VecDeque<OsString> = names(inside);
        let mut found: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                found.pop();
                continue;
            }
            found.push(name);
            let here = found.iter().fold(self.root.clone(), |path, name| path.join(name));
            let is_last = left.is_empty();
            let is_link = here.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
            if !is_link || (is_last && !follow_last) {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(WriteError::Links(inside.to_owned()));
            }
            let target = fs::read_link(&here).map_err(io_error("read", &here))?;
            found.pop();
            if target.is_absolute() {
                found.clear();
            }
            for name in names(&target).into_iter().rev() {
                left.push_front(name);
            }
        }
        Ok(found.iter().fold(self.root.clone(), |path, name| path.join(name)))
    }

    /// Makes a directory and those above it, all with mode 0755; existing ones stay as they are.
    pub(crate) fn make_directory(&self, inside: &Path) -> Result<PathBuf, WriteError> {
        let mut path = self.root.clone();
        let mut so_far = PathBuf::from("/");
        // `locate` refuses what is no path inside.
        self.locate(inside, true)?;
        for name in names(inside) {
            so_far.push(name);
            path = self.locate(&so_far, true)?;
            if path.symlink_metadata().is_err() {
                self.new_directories(&path)?;
            } else if !path.is_dir() {
                return Err(self.occupied(&so_far, &path, "a directory"));
            }
        }
        Ok(path)
    }

    /// Makes a directory of this machine and those above it, down from the root of the image. A link of the image may lead to a
    /// place of which nothing exists yet.
    fn new_directories(&self, path: &Path) -> Result<(), WriteError> {
        let below: Vec<_> = path.ancestors().take_while(|ancestor| *ancestor != self.root).collect();
        for directory in below.into_iter().rev().filter(|directory| directory.symlink_metadata().is_err()) {
            let mode = fs::Permissions::from_mode(0o755);
            let made = DirBuilder::new().mode(0o755).create(directory);
            // The process' umask must not change what is measured.
            made.and_then(|()| fs::set_permissions(directory, mode)).map_err(io_error("create", directory))?;
        }
        Ok(())
    }

    fn occupied(&self, inside: &Path, path: &Path, expected: &'static str) -> WriteError {
        let got = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => "a directory",
            Ok(metadata) if metadata.is_symlink() => "a symbolic link",
            Ok(metadata) if metadata.is_file() => "a file",
            _ => "something else",
        };
        WriteError::Occupied { path: inside.to_owned(), expected, got }
    }

    /// Puts a file or link at `inside` in one step: `make` makes it under another name, then it is renamed.
    fn put(
        &self,
        inside: &Path,
        step: &'static str,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let (Some(directory), Some(name)) = (inside.parent(), inside.file_name()) else {
            return Err(WriteError::Path(inside.to_owned()));
        };
        let path = self.make_directory(directory)?.join(name);
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(self.occupied(inside, &path, "a file or nothing"));
        }
        // Always the same name: what a killed run left over is measured otherwise, and nobody would find it.
        let temporary = path.with_file_name(TEMPORARY);
        let _ = fs::remove_file(&temporary);
        make(&temporary).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
            // What is left over of a failure is only clutter.
            let _ = fs::remove_file(&temporary);
            io_error(step, &path)(error)
        })
    }

    /// True if a file, directory or link is there.
    pub(crate) fn has(&self, inside: &Path) -> Result<bool, WriteError> {
        Ok(self.locate(inside, false)?.symlink_metadata().is_ok())
    }

    /// Writes a file with the given mode.
    pub(crate) fn write(&self, inside: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
        self.put(inside, "write", |path| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(content)?;
            // The process' umask must not change what is measured.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()
        })
    }

    /// Copies the file `source`, links followed. `None`: its mode is kept.
    pub(crate) fn copy_file(&self, source: &Path, inside: &Path, mode: Option<u32>) -> Result<(), WriteError> {
        let metadata = source.metadata().map_err(io_error("read", source))?;
        if metadata.is_dir() {
            return Err(io_error("copy", source)(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(WriteError::Special(source.to_owned()));
        }
        // The bits that the measurement covers.
        let mode = mode.unwrap_or(metadata.permissions().mode() & 0o777);
        self.put(inside, "write", |path| {
            fs::copy(source, path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })
    }

    /// Makes a symbolic link with the text `target`.
    pub(crate) fn link(&self, target: &Path, inside: &Path) -> Result<(), WriteError> {
        self.put(inside, "create", |path| std::os::unix::fs::symlink(target, path))
    }

    /// Copies what the directory `source` holds into the directory `inside`, in the order of names. `is_excluded` is asked
    /// with each path below `source` and whether it is a directory. Returns the copied files, as paths inside.
    pub(crate) fn copy_directory(
        &self,
        source: &Path,
        inside: &Path,
        links: Links,
        is_excluded: &dyn Fn(&Path, bool) -> bool,
    ) -> Result<Vec<PathBuf>, WriteError> {
        let source = source.canonicalize().map_err(io_error("read", source))?;
        if self.root.canonicalize().is_ok_and(|root| root.starts_with(&source)) {
            return Err(WriteError::Itself(source));
        }
        let mut copy = Copy { writer: self, source: &source, links, is_excluded, files: Vec::new(), entries: 0 };
        copy.directory(&source, Path::new(""), inside, 0)?;
        Ok(copy.files)
    }
}

struct Copy<'a> {
    writer: &'a ImageWriter,
    source: &'a Path,
    links: Links,
    is_excluded: &'a dyn Fn(&Path, bool) -> bool,
    files: Vec<PathBuf>,
    entries: usize,
}

impl Copy<'_> {
    fn directory(&mut self, from: &Path, below: &Path, inside: &Path, depth: usize) -> Result<(), WriteError> {
        if depth > MAX_DEPTH {
            return Err(WriteError::TooLarge(self.source.to_owned()));
        }
        let metadata = from.metadata().map_err(io_error("read", from))?;
        let existed = self.writer.has(inside)?;
        let made = self.writer.make_directory(inside)?;
        let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(io_error("read", from))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(WriteError::TooLarge(self.source.to_owned()));
            }
            let name = entry.file_name();
            self.entry(&entry.path(), &below.join(&name), &inside.join(&name), depth)?;
        }
        // Last: a directory without write permission could not be filled.
        if !existed {
            let mode = metadata.permissions().mode() & 0o777;
            fs::set_permissions(&made, fs::Permissions::from_mode(mode)).map_err(io_error("write", &made))?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, below: &Path, inside: &Path, depth: usize) -> Result<(), WriteError> {
        let mut metadata = from.symlink_metadata().map_err(io_error("read", from))?;
        if (self.is_excluded)(below, metadata.is_dir()) {
            return Ok(());
        }
        if metadata.is_symlink() {
            let target = fs::read_link(from).map_err(io_error("read", from))?;
            if self.links == Links::Keep || stays_within(below, &target) {
                return self.writer.link(&target, inside);
            }
            metadata = from.metadata().map_err(io_error("read", from))?;
        }
        if metadata.is_dir() {
            self.directory(from, below, inside, depth + 1)
        } else if metadata.is_file() {
            self.writer.copy_file(from, inside, None)?;
            self.files.push(inside.to_owned());
            Ok(())
        } else {
            Err(WriteError::Special(from.to_owned()))
        }
    }
}

/// True if a link at `below` with the text `target` does not leave the directory that both are relative to.
fn stays_within(below: &Path, target: &Path) -> bool {
    let mut depth = below.components().count().saturating_sub(1);
    target.is_relative()
        && target.components().all(|part| match part {
            Component::ParentDir => {
                let is_below = depth > 0;
                depth = depth.saturating_sub(1);
                is_below
            }
            Component::Normal(_) => {
                depth += 1;
                true
            }
            _ => true,
        })
}

/// The names of a path, `..` among them.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn writer() -> (tempfile::TempDir, ImageWriter) {
        let directory = tempfile::tempdir().unwrap();
        let writer = ImageWriter::new(directory.path().join("image"));
        fs::create_dir(directory.path().join("image")).unwrap();
        (directory, writer)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_get_their_directories_and_modes() {
        let (_directory, writer) = writer();
        writer.write(Path::new("/etc/a/b"), b"x", 0o644).unwrap();
        let path = writer.root.join("etc/a/b");
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"x"[..], 0o644));
        assert_eq!(mode(&writer.root.join("etc/a")), 0o755);
        writer.write(Path::new("/etc/a/b"), b"y", 0o600).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"y"[..], 0o600));
    }

    // rules: INST-7
    #[test]
    fn links_of_the_image_never_lead_out_of_it() {
        let (directory, writer) = writer();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "host").unwrap();
        for (name, target) in [("lib", outside.to_str().unwrap()), ("up", "../../../../.."), ("bin", "usr/bin")] {
            symlink(target, writer.root.join(name)).unwrap();
        }
        writer.write(Path::new("/lib/file"), b"image", 0o644).unwrap();
        writer.write(Path::new("/up/top"), b"image", 0o644).unwrap();
        writer.write(Path::new("/bin/app"), b"image", 0o755).unwrap();
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"host");
        assert!(writer.root.join("top").is_file());
        assert!(writer.root.join("usr/bin/app").is_file());
        // A link in the place of the file is replaced, not written through.
        symlink(outside.join("file"), writer.root.join("link")).unwrap();
        writer.write(Path::new("/link"), b"image", 0o644).unwrap();
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"host");
        symlink("loop", writer.root.join("loop")).unwrap();
        assert!(matches!(writer.write(Path::new("/loop/x"), b"", 0o644), Err(WriteError::Links(_))));
    }

    #[test]
    fn what_a_killed_run_left_over_is_taken_away() {
        let (directory, writer) = writer();
        let outside = directory.path().join("outside");
        fs::write(&outside, "host").unwrap();
        fs::create_dir(writer.root.join("bin")).unwrap();
        symlink(&outside, writer.root.join("bin").join(TEMPORARY)).unwrap();
        writer.write(Path::new("/bin/app"), b"image", 0o755).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"host");
        assert_eq!(fs::read_dir(writer.root.join("bin")).unwrap().count(), 1);
    }

    #[test]
    fn paths_outside_are_refused() {
        let (_directory, writer) = writer();
        for path in ["etc/x", "/../x", "/a/../x", "/", ""] {
            let error = writer.write(Path::new(path), b"", 0o644).unwrap_err();
            assert!(matches!(error, WriteError::Path(_)), "{path}: {error}");
        }
    }

    #[test]
    fn a_directory_is_copied_with_links_and_modes_without_what_is_excluded() {
        let (directory, writer) = writer();
        let source = directory.path().join("source");
        fs::create_dir_all(source.join("sub/skipped")).unwrap();
        fs::write(source.join("sub/file"), "x").unwrap();
        fs::set_permissions(source.join("sub/file"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(directory.path().join("other"), "other").unwrap();
        symlink("sub/file", source.join("inner")).unwrap();
        symlink("../other", source.join("outer")).unwrap();
        let excluded = |path: &Path, _: bool| path.ends_with("skipped");
        let files = writer.copy_directory(&source, Path::new("/to"), Links::FollowUnsafe, &excluded).unwrap();
        assert_eq!(files, [Path::new("/to/outer"), Path::new("/to/sub/file")]);
        let to = writer.root.join("to");
        assert_eq!(mode(&to.join("sub/file")), 0o751);
        assert_eq!(mode(&to.join("sub")), 0o711);
        assert_eq!(fs::read_link(to.join("inner")).unwrap(), Path::new("sub/file"));
        assert_eq!(fs::read(to.join("outer")).unwrap(), b"other");
        assert!(to.join("outer").symlink_metadata().unwrap().is_file());
        assert!(!to.join("sub/skipped").exists());
        writer.copy_directory(&source, Path::new("/kept"), Links::Keep, &excluded).unwrap();
        assert_eq!(fs::read_link(writer.root.join("kept/outer")).unwrap(), Path::new("../other"));
    }

    #[test]
    fn special_files_and_the_image_itself_are_refused() {
        let (directory, writer) = writer();
        let source = directory.path().join("source");
        fs::create_dir(&source).unwrap();
        let _socket = UnixListener::bind(source.join("socket")).unwrap();
        let copy =
            |source: &Path| writer.copy_directory(source, Path::new("/to"), Links::Keep, &|_, _| false).unwrap_err();
        assert!(matches!(copy(&source), WriteError::Special(_)));
        assert!(matches!(copy(directory.path()), WriteError::Itself(_)));
    }

    #[test]
    fn something_else_in_the_way_is_named() {
        let (_directory, writer) = writer();
        writer.write(Path::new("/file"), b"", 0o644).unwrap();
        writer.make_directory(Path::new("/directory")).unwrap();
        let message = |result: Result<(), WriteError>| result.unwrap_err().to_string();
        assert_eq!(
            message(writer.write(Path::new("/file/x"), b"", 0o644)),
            "/file of the image is a file, expected a directory"
        );
        assert!(message(writer.write(Path::new("/directory"), b"", 0o644)).contains("is a directory"));
    }
}
