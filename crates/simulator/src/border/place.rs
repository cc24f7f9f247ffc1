//! Where a descriptor or a path of the program leads: inside, or to the host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use marblerun_linux::fd;

/// `AF_UNIX`.
const AF_UNIX: i32 = 1;
const O_PATH: i32 = 0o10_000_000;
const O_ACCMODE: i32 = 0o3;
const O_RDONLY: i32 = 0;
/// Sockets and mounts whose side is remembered before all are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// Names what is written to, whatever the descriptor: device, inode, mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    device: u64,
    inode: u64,
    mount: u64,
}

impl StreamId {
    /// True for this file, whatever the mount.
    pub(super) fn is(self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }
}

/// A place outside of the enclave.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which.
    pub(super) id: StreamId,
    /// For people.
    pub(super) name: String,
    /// A file of a host mount, which can be looked at again.
    pub(super) is_file: bool,
    /// Opened for writing.
    pub(super) is_writable: bool,
}

/// Tells inside from outside.
#[derive(Debug)]
pub(super) struct Places {
    host_mounts: Vec<PathBuf>,
    /// The simulator's standard streams, which the program inherits.
    standard: Vec<(StreamId, &'static str)>,
    /// Whether a mount is one of the host's.
    mounts: RefCell<BTreeMap<u64, bool>>,
    /// Whether a socket leads out.
    sockets: RefCell<BTreeMap<u64, bool>>,
}

impl Places {
    pub(super) fn new(host_mounts: Vec<PathBuf>) -> io::Result<Self> {
        let mut standard = Vec::new();
        for (fd, name) in [(1, "standard output"), (2, "standard error"), (0, "standard input")] {
            match examine("self", fd) {
                Ok(Some(Descriptor { id, .. })) => standard.push((id, name)),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { host_mounts, standard, mounts: RefCell::default(), sockets: RefCell::default() })
    }

    pub(super) fn forget_mounts(&self) {
        self.mounts.borrow_mut().clear();
    }

    /// Where a descriptor of thread `pid` leads, if it leads out. A closed one leads nowhere.
    pub(super) fn of_descriptor(&self, pid: i32, fd: i32) -> io::Result<Option<Place>> {
        let process = pid.to_string();
        let Some(Descriptor { id, metadata, is_writable }) = examine(&process, fd)? else { return Ok(None) };
        if let Some((_, name)) = self.standard.iter().find(|(standard, _)| *standard == id) {
            return Ok(Some(Place { id, name: (*name).to_owned(), is_file: false, is_writable }));
        }
        let leaves = if metadata.file_type().is_socket() {
            self.socket_leaves(pid, fd, id.inode)?
        } else {
            self.mount_is_host(&process, id.mount)?
        };
        if !leaves {
            return Ok(None);
        }
        let target = fs::read_link(format!("/proc/{process}/fd/{fd}"));
        let name = target.map_or_else(|_| "unknown".to_owned(), |target| target.display().to_string());
        Ok(Some(Place { id, name, is_file: metadata.is_file(), is_writable }))
    }

    /// Device and inode of the file that `path` of thread `pid` leads to, if it exists.
    pub(super) fn file_at(&self, pid: i32, directory: Option<i32>, path: &[u8]) -> Option<(u64, u64)> {
        let start = start_of(pid, directory, path).ok()?;
        let metadata = File::from(find(&start, path)?).metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// True if `path` of thread `pid` leads below a host mount, so that the host sees the name.
    pub(super) fn path_is_outside(&self, pid: i32, directory: Option<i32>, path: &[u8]) -> bool {
        let Ok(start) = start_of(pid, directory, path) else { return false };
        // The deepest directory that exists decides.
        let mut path = path.to_vec();
        loop {
            if let Some(found) = find(&start, &path) {
                let mount = describe("self", found.as_raw_fd()).ok().flatten().map(|(mount, _)| mount);
                return mount.is_some_and(|mount| self.mount_is_host(&pid.to_string(), mount).unwrap_or(false));
            }
            if path.is_empty() || path == b"/" {
                return false;
            }
            let parent = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at.max(1));
            path.truncate(if parent == path.len() { 0 } else { parent });
        }
    }

    /// True if `mount` is one of the host's in the mount namespace of `process`.
    fn mount_is_host(&self, process: &str, mount: u64) -> io::Result<bool> {
        if self.host_mounts.is_empty() {
            return Ok(false);
        }
        let mut mounts = self.mounts.borrow_mut();
        if let Some(known) = mounts.get(&mount) {
            return Ok(*known);
        }
        if mounts.len() >= MAX_REMEMBERED {
            mounts.clear();
        }
        let list = fs::read_to_string(format!("/proc/{process}/mountinfo"))?;
        // proc(5): number, parent, device, root, mount point; blanks and backslashes of a path are octal.
        let point = list.lines().find_map(|line| {
            let mut fields = line.split(' ');
            (fields.next()?.parse() == Ok(mount)).then(|| fields.nth(3))?
        });
        let is_host = point.is_some_and(|point| {
            let point = unescaped(point);
            self.host_mounts.iter().any(|target| Path::new(&point) == target)
        });
        mounts.insert(mount, is_host);
        Ok(is_host)
    }

    fn socket_leaves(&self, pid: i32, fd: i32, inode: u64) -> io::Result<bool> {
        let mut sockets = self.sockets.borrow_mut();
        if let Some(known) = sockets.get(&inode) {
            return Ok(*known);
        }
        if sockets.len() >= MAX_REMEMBERED {
            sockets.clear();
        }
        let domain = process_of(pid)
            .and_then(|process| fd::of_process(process, fd))
            .and_then(|socket| fd::socket_domain(socket.as_fd()));
        let leaves = match domain {
            Ok(domain) => domain != AF_UNIX,
            // A process whose first thread has ended gives no descriptors away.
            Err(_) => !is_listed_as_local(pid, inode)?,
        };
        sockets.insert(inode, leaves);
        Ok(leaves)
    }
}

/// Where `path` of thread `pid` begins.
fn start_of(pid: i32, directory: Option<i32>, path: &[u8]) -> io::Result<File> {
    let start = match (path.first(), directory) {
        (Some(b'/'), _) => format!("/proc/{pid}/root"),
        (_, Some(fd)) => format!("/proc/{pid}/fd/{fd}"),
        (_, None) => format!("/proc/{pid}/cwd"),
    };
    File::options().read(true).custom_flags(O_PATH).open(start)
}

/// What `path` leads to from `start`, which is the root for an absolute one.
fn find(start: &File, path: &[u8]) -> Option<OwnedFd> {
    let text = CString::new(if path.is_empty() { b"." } else { path }).ok()?;
    let opened = if path.first() == Some(&b'/') {
        fd::open_in_root(start.as_fd(), &text, O_PATH)
    } else {
        fd::open_at(start.as_fd(), &text, O_PATH)
    };
    opened.ok()
}

/// True if the kernel lists the socket among those of `AF_UNIX` (the seventh column of unix(7)).
fn is_listed_as_local(pid: i32, inode: u64) -> io::Result<bool> {
    let list = fs::read(format!("/proc/{pid}/net/unix"))?;
    let list = String::from_utf8_lossy(&list);
    Ok(list.lines().any(|line| line.split_whitespace().nth(6).and_then(|field| field.parse().ok()) == Some(inode)))
}

/// What a descriptor is.
struct Descriptor {
    id: StreamId,
    metadata: fs::Metadata,
    is_writable: bool,
}

/// What a descriptor of `process` is; `None` if it is closed.
fn examine(process: &str, fd: i32) -> io::Result<Option<Descriptor>> {
    let metadata = match fs::metadata(format!("/proc/{process}/fd/{fd}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let Some((mount, is_writable)) = describe(process, fd)? else { return Ok(None) };
    let id = StreamId { device: metadata.dev(), inode: metadata.ino(), mount };
    Ok(Some(Descriptor { id, metadata, is_writable }))
}

/// The mount through which a descriptor was opened, and whether for writing (`mnt_id` and `flags` of proc(5)).
fn describe(process: &str, fd: i32) -> io::Result<Option<(u64, bool)>> {
    let info = match fs::read_to_string(format!("/proc/{process}/fdinfo/{fd}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let field = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let mount = field("mnt_id:").and_then(|mount| mount.parse().ok());
    let flags = field("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
    Ok(mount.map(|mount| (mount, flags.is_none_or(|flags| flags & O_ACCMODE != O_RDONLY))))
}

/// The process of a thread.
pub(super) fn process_of(thread: i32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    process.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// A path of `/proc/<pid>/mountinfo` as it is.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, byte)| path.replace(escaped, byte))
}
