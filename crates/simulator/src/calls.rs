//! The system calls that Occlum answers differently: `uname`, `execve` and the ioctls of `/dev/sgx`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use marblerun_enclave_image::elf;
use marblerun_enclave_image::exec_rules::{self, ArgumentCount, ExecRefusal};
use marblerun_linux::process;
use marblerun_linux::seccomp::{Answer, Notification};
use marblerun_linux::{fd, memory};

use crate::device::{CallerMemory, Device, Refusal};
use crate::filter::{Mode, number};
use crate::limits::{Limit, Limits, resource};
use crate::mount_root::{self, MountRoot};
use crate::root_fs::FileId;
use crate::supervisor::{chain, say};
use crate::watch::Watchers;

/// Longest path that is read from a caller (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Longest argument of a program (`MAX_ARG_STRLEN` of Linux).
const MAX_ARGUMENT: usize = 128 * 1024;
/// Most arguments and variables that are counted. More, or more bytes than [`MAX_ARGUMENT_BYTES`], never fit.
const MAX_ARGUMENTS: u64 = 65_536;
const MAX_ARGUMENT_BYTES: u64 = 8 << 20;

/// Length of each member of `struct utsname`.
const UTSNAME_FIELD: usize = 65;

const ESRCH: i32 = 3;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

/// Answers calls; the same for all calls of a run.
#[derive(Debug)]
pub struct Calls {
    device: Device,
    mode: Mode,
    utsname: Vec<u8>,
    limits: Limits,
    root: MountRoot,
    watchers: Watchers,
}

impl Calls {
    /// Answers as Occlum on a host of this name, with this `/dev/sgx`.
    pub fn new(device: Device, mode: Mode, host_name: Option<&str>, limits: Limits, root: MountRoot) -> Self {
        Self { device, mode, utsname: utsname(host_name), limits, root, watchers: Watchers::default() }
    }

    /// The root of the application, which the init stage mounts.
    pub fn root(&self) -> &MountRoot {
        &self.root
    }

    /// Shows every call to `watchers` first.
    pub fn with_watchers(self, watchers: Watchers) -> Self {
        Self { watchers, ..self }
    }

    /// True if everything must end now, and the last call must not be performed.
    pub fn end_all(&self) -> bool {
        self.watchers.end_all()
    }

    /// The answer to a call. `still_waiting` says whether the caller is the one that the notification meant.
    pub fn decide(&self, call: &Notification, sgx: Option<FileId>, still_waiting: impl Fn() -> bool) -> Answer {
        let caller = Caller { pid: call.pid, still_waiting: &still_waiting };
        if let Some(answer) = self.watchers.see(call, &caller) {
            return answer;
        }
        let [first, second, third, fourth, ..] = call.arguments;
        match u32::try_from(call.number).unwrap_or(u32::MAX) {
            number::UNAME => self.uname(call, &caller),
            number::IOCTL => self.ioctl(call, sgx, &caller),
            number::EXECVE => self.execve(call),
            number::MOUNT_ROOT_FS => self.mount_root(call, &caller),
            number::GETRLIMIT => self.limit(call, LimitRequest { resource: first, new: 0, old: second }, &caller),
            number::SETRLIMIT => self.limit(call, LimitRequest { resource: first, new: second, old: 0 }, &caller),
            // Of another process: the kernel's.
            number::PRLIMIT64 if first != 0 => Answer::Continue,
            number::PRLIMIT64 => self.limit(call, LimitRequest { resource: second, new: third, old: fourth }, &caller),
            _ => Answer::Continue,
        }
    }

    fn uname(&self, call: &Notification, caller: &Caller<'_>) -> Answer {
        answer_of(caller.write(call.arguments[0], &self.utsname))
    }

    fn ioctl(&self, call: &Notification, sgx: Option<FileId>, caller: &Caller<'_>) -> Answer {
        // Descriptors are 32-bit numbers; the upper half of the register means nothing.
        let fd = call.arguments[0] as i32;
        let command = call.arguments[1] as u32;
        let file = FileId::of(format!("/proc/{}/fd/{fd}", call.pid).as_ref());
        if sgx.is_none() || file.ok() != sgx {
            // Another driver with ioctls of type 's', or no descriptor at all: the kernel knows.
            return Answer::Continue;
        }
        match self.device.ioctl(command, call.arguments[2], caller) {
            Ok(()) => Answer::Value(0),
            Err(Refusal::Memory(error)) if error.raw_os_error() == Some(ESRCH) => Answer::Errno(EINVAL),
            Err(refusal) => {
                say(format_args!("/dev/sgx: ioctl {command:#010x} refused with EINVAL: {}", chain(&refusal)));
                Answer::Errno(EINVAL)
            }
        }
    }

    /// Mounts the root of the application.
    fn mount_root(&self, call: &Notification, caller: &Caller<'_>) -> Answer {
        let [key, configuration, ..] = call.arguments;
        let request = match mount_root::read_request(call.pid, key, configuration) {
            // The thread may have died, and its number may be another process's, whose memory this then was.
            Ok(request) if (caller.still_waiting)() => request,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Answer::Errno(EINVAL),
            _ => return Answer::Errno(EFAULT),
        };
        match self.root.mount(request) {
            Ok(()) => Answer::Value(0),
            Err(refusal) => {
                say(format_args!("mounting the root of the application refused: {}", chain(&refusal)));
                Answer::Errno(refusal.errno())
            }
        }
    }

    /// Reads and sets the limits that exist only here; the stack limit is the kernel's, if Occlum's rule allows it.
    fn limit(&self, call: &Notification, request: LimitRequest, caller: &Caller<'_>) -> Answer {
        let LimitRequest { resource, new, old } = request;
        let set = |address| {
            let mut bytes = [0; 16];
            caller.read(address, &mut bytes).map_err(|_| Answer::Errno(EFAULT))?;
            let limit = Limit::from_bytes(bytes);
            self.limits.set(call.pid, resource, limit).map_err(|refusal| {
                say(format_args!("setting a resource limit refused with EINVAL: {refusal}"));
                Answer::Errno(EINVAL)
            })
        };
        let before = self.limits.of(call.pid);
        if new != 0
            && let Err(answer) = set(new)
        {
            return answer;
        }
        let before = match resource {
            resource::AS => before.address_space,
            resource::DATA => before.data,
            _ => return Answer::Continue,
        };
        if old == 0 {
            return Answer::Value(0);
        }
        answer_of(caller.write(old, &before.to_bytes()))
    }

    /// Applies Occlum's loader rules. Where the supervisor cannot see what the kernel will, the kernel decides.
    fn execve(&self, call: &Notification) -> Answer {
        let Ok(path) = memory::read_string(call.pid, call.arguments[0], MAX_PATH) else { return Answer::Continue };
        let shown = String::from_utf8_lossy(&path).into_owned();
        let checked = match self.check_execve(call, path) {
            Ok(checked) => checked,
            Err(_) => return Answer::Continue,
        };
        let Err(refusal) = checked else { return Answer::Continue };
        if self.mode == Mode::Strict {
            say(format_args!("execve of {shown} refused: {refusal}"));
            return Answer::Errno(refusal.errno());
        }
        say(format_args!("warning: Occlum would refuse execve of {shown}: {refusal}"));
        Answer::Continue
    }

    fn check_execve(&self, call: &Notification, path: Vec<u8>) -> io::Result<Result<(), ExecRefusal>> {
        let file = open_as_caller(call.pid, path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Ok(()));
        }
        let image = elf::examine(&file)?;
        if let Err(refusal) = exec_rules::check_image(&image) {
            return Ok(Err(refusal));
        }
        let mut count = ArgumentCount::default();
        count_strings(call.pid, call.arguments[1], &mut count)?;
        count_strings(call.pid, call.arguments[2], &mut count)?;
        Ok(exec_rules::check_argument_area(count, process::stack_limit(call.pid)?))
    }
}

/// Opens a path as the caller would: from its root, or from its working directory.
fn open_as_caller(pid: i32, path: Vec<u8>) -> io::Result<File> {
    let path = CString::new(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // O_NONBLOCK: a pipe must not hold up the supervisor.
    const O_NONBLOCK: i32 = 0o4000;
    if path.as_bytes().starts_with(b"/") {
        let root = File::open(format!("/proc/{pid}/root"))?;
        return fd::open_in_root(root.as_fd(), &path, O_NONBLOCK).map(File::from);
    }
    let directory = File::open(format!("/proc/{pid}/cwd"))?;
    fd::open_at(directory.as_fd(), &path, O_NONBLOCK).map(File::from)
}

/// Counts a null-terminated table of strings in the memory of `pid`.
fn count_strings(pid: i32, table: u64, count: &mut ArgumentCount) -> io::Result<()> {
    let mut at = table;
    // A null table is an empty one (execve(2), Linux).
    while table != 0 && count.strings < MAX_ARGUMENTS && count.bytes < MAX_ARGUMENT_BYTES {
        let mut pointer = [0; 8];
        memory::read(pid, at, &mut pointer)?;
        let pointer = u64::from_le_bytes(pointer);
        if pointer == 0 {
            break;
        }
        count.add(memory::read_string(pid, pointer, MAX_ARGUMENT)?.len());
        at = at.wrapping_add(8);
    }
    Ok(())
}

/// `struct utsname` of an Occlum process. Source: Occlum's `src/libos/src/misc/uname.rs`.
fn utsname(host_name: Option<&str>) -> Vec<u8> {
    let node = host_name.map(str::trim).filter(|name| !name.is_empty()).unwrap_or("occlum-node");
    let mut bytes = Vec::with_capacity(6 * UTSNAME_FIELD);
    for field in ["Occlum", node, "0.1", "0.1", "x86_64", ""] {
        let mut field: Vec<u8> = field.bytes().take(UTSNAME_FIELD - 1).collect();
        field.resize(UTSNAME_FIELD, 0);
        bytes.append(&mut field);
    }
    bytes
}

/// Memory of the thread that made a call.
struct Caller<'a> {
    pid: i32,
    still_waiting: &'a dyn Fn() -> bool,
}

impl CallerMemory for Caller<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        memory::read(self.pid, address, buffer)?;
        // The thread may have died, and its number may be another process's, whose memory this then is.
        if (self.still_waiting)() { Ok(()) } else { Err(io::Error::from_raw_os_error(ESRCH)) }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        if !(self.still_waiting)() {
            return Err(io::Error::from_raw_os_error(ESRCH));
        }
        memory::write(self.pid, address, bytes)
    }
}

/// What a call wants with a limit: addresses of the new value and of where the old one goes, 0 for none.
struct LimitRequest {
    resource: u64,
    new: u64,
    old: u64,
}

fn answer_of(written: io::Result<()>) -> Answer {
    match written {
        Ok(()) => Answer::Value(0),
        Err(_) => Answer::Errno(EFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utsname_is_that_of_occlum() {
        let bytes = utsname(Some("host\n"));
        assert_eq!(bytes.len(), 390);
        assert!(bytes.starts_with(b"Occlum\0"));
        assert!(bytes[65..].starts_with(b"host\0"));
        assert!(bytes[130..].starts_with(b"0.1\0"));
        assert!(bytes[260..].starts_with(b"x86_64\0"));
        assert!(utsname(None)[65..].starts_with(b"occlum-node\0"));
        assert_eq!(utsname(Some(&"x".repeat(100)))[65 + 64], 0);
    }
}
