//! The enclave's border: a look at every byte that leaves.
//!
//! What leaves is what a host of real Occlum gets to see in clear: bytes written to the standard streams, to sockets
//! (all but `AF_UNIX`, which stay inside), and to files of host mounts, also through shared memory maps; names below host
//! mounts; arguments and variables that the host gave. What stays is not looked at: memory, pipes, `AF_UNIX` sockets and
//! the writable layer, which Occlum encrypts.
//!
//! The look is before the kernel performs the call. A program that changes its buffer meanwhile deceives it; this is a
//! tool for honest programs with bugs.

mod files;
mod place;
mod report;
mod visit;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use marblerun_linux::seccomp::Notification;
use marblerun_secret::SecretBytes;

pub use self::report::{Finding, Report};

use self::files::Files;
use self::place::{Places, StreamId};
use self::report::Found;
use self::visit::Visit;
use crate::canaries::Canaries;
use crate::device::CallerMemory;
use crate::filter::Extra;

/// Calls that the border looks at, on x86-64.
mod number {
    pub const WRITE: u32 = 1;
    pub const OPEN: u32 = 2;
    pub const CLOSE: u32 = 3;
    pub const STAT: u32 = 4;
    pub const LSTAT: u32 = 6;
    pub const MMAP: u32 = 9;
    pub const MUNMAP: u32 = 11;
    pub const PWRITE64: u32 = 18;
    pub const WRITEV: u32 = 20;
    pub const ACCESS: u32 = 21;
    pub const MSYNC: u32 = 26;
    pub const SENDFILE: u32 = 40;
    pub const SENDTO: u32 = 44;
    pub const SENDMSG: u32 = 46;
    pub const EXECVE: u32 = 59;
    pub const TRUNCATE: u32 = 76;
    pub const FTRUNCATE: u32 = 77;
    pub const CHDIR: u32 = 80;
    pub const RENAME: u32 = 82;
    pub const MKDIR: u32 = 83;
    pub const RMDIR: u32 = 84;
    pub const CREAT: u32 = 85;
    pub const LINK: u32 = 86;
    pub const UNLINK: u32 = 87;
    pub const SYMLINK: u32 = 88;
    pub const READLINK: u32 = 89;
    pub const CHMOD: u32 = 90;
    pub const CHOWN: u32 = 92;
    pub const LCHOWN: u32 = 94;
    pub const UTIME: u32 = 132;
    pub const MKNOD: u32 = 133;
    pub const STATFS: u32 = 137;
    pub const SETXATTR: u32 = 188;
    pub const LSETXATTR: u32 = 189;
    pub const FSETXATTR: u32 = 190;
    pub const IO_SETUP: u32 = 206;
    pub const UTIMES: u32 = 235;
    pub const OPENAT: u32 = 257;
    pub const MKDIRAT: u32 = 258;
    pub const MKNODAT: u32 = 259;
    pub const FCHOWNAT: u32 = 260;
    pub const FUTIMESAT: u32 = 261;
    pub const NEWFSTATAT: u32 = 262;
    pub const UNLINKAT: u32 = 263;
    pub const RENAMEAT: u32 = 264;
    pub const LINKAT: u32 = 265;
    pub const SYMLINKAT: u32 = 266;
    pub const READLINKAT: u32 = 267;
    pub const FCHMODAT: u32 = 268;
    pub const FACCESSAT: u32 = 269;
    pub const SPLICE: u32 = 275;
    pub const TEE: u32 = 276;
    pub const VMSPLICE: u32 = 278;
    pub const UTIMENSAT: u32 = 280;
    pub const PWRITEV: u32 = 296;
    pub const SENDMMSG: u32 = 307;
    pub const RENAMEAT2: u32 = 316;
    pub const EXECVEAT: u32 = 322;
    pub const COPY_FILE_RANGE: u32 = 326;
    pub const PWRITEV2: u32 = 328;
    pub const STATX: u32 = 332;
    pub const IO_URING_SETUP: u32 = 425;
    pub const OPENAT2: u32 = 437;
    pub const FACCESSAT2: u32 = 439;
    pub const SETXATTRAT: u32 = 463;
}

/// The directory of a path argument.
#[derive(Clone, Copy, Debug)]
enum Directory {
    /// The working directory.
    Working,
    /// The descriptor in this argument.
    Argument(usize),
}

/// A call with paths: its number, its name, and for each path the directory it begins at and the argument that it is.
type CallWithPaths = (u32, &'static str, &'static [(Directory, usize)]);

const PATHS: &[CallWithPaths] = {
    use Directory::{Argument, Working};
    &[
        (number::OPEN, "open", &[(Working, 0)]),
        (number::CREAT, "creat", &[(Working, 0)]),
        (number::STAT, "stat", &[(Working, 0)]),
        (number::LSTAT, "lstat", &[(Working, 0)]),
        (number::ACCESS, "access", &[(Working, 0)]),
        (number::TRUNCATE, "truncate", &[(Working, 0)]),
        (number::RENAME, "rename", &[(Working, 0), (Working, 1)]),
        (number::MKDIR, "mkdir", &[(Working, 0)]),
        (number::RMDIR, "rmdir", &[(Working, 0)]),
        (number::LINK, "link", &[(Working, 0), (Working, 1)]),
        (number::UNLINK, "unlink", &[(Working, 0)]),
        (number::SYMLINK, "symlink", &[(Working, 1)]),
        (number::READLINK, "readlink", &[(Working, 0)]),
        (number::OPENAT, "openat", &[(Argument(0), 1)]),
        (number::OPENAT2, "openat2", &[(Argument(0), 1)]),
        (number::MKDIRAT, "mkdirat", &[(Argument(0), 1)]),
        (number::NEWFSTATAT, "newfstatat", &[(Argument(0), 1)]),
        (number::UNLINKAT, "unlinkat", &[(Argument(0), 1)]),
        (number::RENAMEAT, "renameat", &[(Argument(0), 1), (Argument(2), 3)]),
        (number::RENAMEAT2, "renameat2", &[(Argument(0), 1), (Argument(2), 3)]),
        (number::LINKAT, "linkat", &[(Argument(0), 1), (Argument(2), 3)]),
        (number::SYMLINKAT, "symlinkat", &[(Argument(1), 2)]),
        (number::READLINKAT, "readlinkat", &[(Argument(0), 1)]),
        (number::FACCESSAT, "faccessat", &[(Argument(0), 1)]),
        (number::FACCESSAT2, "faccessat2", &[(Argument(0), 1)]),
        (number::STATX, "statx", &[(Argument(0), 1)]),
        (number::CHDIR, "chdir", &[(Working, 0)]),
        (number::CHMOD, "chmod", &[(Working, 0)]),
        (number::CHOWN, "chown", &[(Working, 0)]),
        (number::LCHOWN, "lchown", &[(Working, 0)]),
        (number::UTIME, "utime", &[(Working, 0)]),
        (number::UTIMES, "utimes", &[(Working, 0)]),
        (number::MKNOD, "mknod", &[(Working, 0)]),
        (number::STATFS, "statfs", &[(Working, 0)]),
        (number::MKNODAT, "mknodat", &[(Argument(0), 1)]),
        (number::FCHOWNAT, "fchownat", &[(Argument(0), 1)]),
        (number::FUTIMESAT, "futimesat", &[(Argument(0), 1)]),
        (number::FCHMODAT, "fchmodat", &[(Argument(0), 1)]),
        (number::UTIMENSAT, "utimensat", &[(Argument(0), 1)]),
        (number::EXECVE, "execve", &[(Working, 0)]),
    ]
};

/// Calls that write bytes from memory.
const WRITES: [u32; 8] = [
    number::WRITE,
    number::PWRITE64,
    number::WRITEV,
    number::PWRITEV,
    number::PWRITEV2,
    number::SENDTO,
    number::SENDMSG,
    number::SENDMMSG,
];

/// Calls after which bytes of a memory map may be gone, or nobody may look at the file again.
const ENDS: [u32; 4] = [number::CLOSE, number::MUNMAP, number::MSYNC, number::FTRUNCATE];

/// Ways around the calls above. Programs have others for most of them, and Occlum has none of them.
const REFUSED: [u32; 11] = [
    number::SPLICE,
    number::TEE,
    number::VMSPLICE,
    number::COPY_FILE_RANGE,
    number::IO_SETUP,
    number::IO_URING_SETUP,
    number::EXECVEAT,
    number::SETXATTR,
    number::LSETXATTR,
    number::FSETXATTR,
    number::SETXATTRAT,
];

/// `MAP_SHARED` (and `MAP_SHARED_VALIDATE`).
const MAP_SHARED: u32 = 1;
/// `O_TRUNC`.
const O_TRUNC: u64 = 0o1000;

/// Most buffers of one call (`IOV_MAX`), and messages of `sendmmsg` (`UIO_MAXIOV`).
const MAX_BUFFERS: u64 = 1024;
/// Streams whose last bytes are remembered.
const MAX_STREAMS: usize = 256;

/// Looks for planted secrets in what leaves; the same for all calls of a run.
#[derive(Debug)]
pub struct Border {
    canaries: Canaries,
    places: Places,
    state: RefCell<State>,
}

/// What changes from call to call.
#[derive(Debug)]
struct State {
    streams: BTreeMap<StreamId, Stream>,
    /// Counts looks, so that the stream that was used longest ago is known.
    looks: u64,
    files: Files,
    report: Report,
}

/// What was written to one place.
#[derive(Debug)]
struct Stream {
    tail: SecretBytes,
    written: u64,
    used: u64,
}

impl Border {
    /// A border with these secrets planted behind it, and host mounts at these places of the program's root.
    ///
    /// # Errors
    /// If the simulator's own standard streams cannot be examined.
    pub fn new(canaries: Canaries, host_mounts: Vec<PathBuf>) -> io::Result<Self> {
        let report = Report::new(canaries.count());
        let state = State { streams: BTreeMap::new(), looks: 0, files: Files::default(), report };
        Ok(Self { canaries, places: Places::new(host_mounts)?, state: RefCell::new(state) })
    }

    /// Forgets which mounts are the host's: the kernel gives their numbers to those of another root.
    pub fn forget_mounts(&self) {
        self.places.forget_mounts();
    }

    /// The calls that must be shown; `mark` is in the simulator's own message.
    pub fn extras(&self, mark: u32) -> Vec<Extra> {
        let own_message = Extra::WatchUnless { number: number::SENDMSG, argument: 5, value: mark };
        let map = Extra::WatchBits { number: number::MMAP, argument: 3, bits: MAP_SHARED };
        let mut extras = vec![own_message, map, Extra::Watch(number::SENDFILE)];
        let paths = PATHS.iter().map(|(number, ..)| *number).filter(|number| *number != number::EXECVE);
        extras.extend(WRITES.into_iter().chain(ENDS).chain(paths).map(Extra::Watch));
        extras.extend(REFUSED.map(Extra::Refuse));
        extras
    }

    /// Looks at what the host gives to the program that it starts.
    pub fn look_at_start(&self, arguments: &[String], environment: &[(OsString, OsString)]) {
        let look = |call, bytes: &[u8]| {
            for hit in self.canaries.search(&[], bytes) {
                let offset = u64::try_from(hit.start).unwrap_or(0);
                let place = Found { call, to: "the program's start", offset, program: "the host", pid: 0 };
                self.state.borrow_mut().report.add(&self.canaries, &hit, place);
            }
        };
        for argument in arguments {
            look("argument", argument.as_bytes());
        }
        for (name, value) in environment {
            look("environment", &[name.as_bytes(), b"=", value.as_bytes()].concat());
        }
    }

    /// Looks at a call before it is performed.
    pub fn look(&self, call: &Notification, caller: &dyn CallerMemory) {
        let number = u32::try_from(call.number).unwrap_or(u32::MAX);
        let [first, second, third, fourth, fifth, _] = call.arguments;
        let visit = Visit { border: self, call, caller };
        match number {
            number::WRITE => visit.buffers("write", first, &[(second, third)]),
            number::PWRITE64 => visit.buffers("pwrite64", first, &[(second, third)]),
            number::SENDTO => visit.buffers("sendto", first, &[(second, third)]),
            number::WRITEV => visit.vector("writev", first, second, third),
            number::PWRITEV => visit.vector("pwritev", first, second, third),
            number::PWRITEV2 => visit.vector("pwritev2", first, second, third),
            number::SENDMSG => visit.message("sendmsg", first, second),
            number::SENDMMSG => {
                // struct mmsghdr: a msghdr of 56 bytes, and a length.
                for index in 0..third.min(MAX_BUFFERS) {
                    visit.message("sendmmsg", first, second.wrapping_add(64 * index));
                }
            }
            number::SENDFILE => visit.sendfile(first, second, third, fourth),
            number::MMAP => visit.map(fifth),
            number::CLOSE => visit.closed_file(first),
            number::MUNMAP => visit.unmapped(first, second),
            number::MSYNC => visit.mapped_files(),
            number::FTRUNCATE => visit.cut_file(first),
            number::SYMLINK => visit.link_target("symlink", first, Directory::Working, 1),
            number::SYMLINKAT => visit.link_target("symlinkat", first, Directory::Argument(1), 2),
            number::EXECVE => visit.execve(),
            _ => {}
        }
        if let Some((_, name, paths)) = PATHS.iter().find(|(known, ..)| *known == number) {
            visit.paths(name, paths);
        }
        match number {
            number::OPEN if second & O_TRUNC != 0 => visit.cut_file_at(Directory::Working, first),
            number::CREAT | number::TRUNCATE => visit.cut_file_at(Directory::Working, first),
            number::OPENAT if third & O_TRUNC != 0 => visit.cut_file_at(Directory::Argument(0), second),
            number::OPENAT2 => visit.cut_file_at(Directory::Argument(0), second),
            _ => {}
        }
    }

    /// Looks at the written files a last time and tells what was found.
    pub fn finish(&self) -> Report {
        let mut state = self.state.borrow_mut();
        let State { files, report, .. } = &mut *state;
        files.look(&self.canaries, report, |_| true, "the end of the run", 0);
        std::mem::replace(report, Report::new(self.canaries.count()))
    }
}
