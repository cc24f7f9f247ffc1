//! Answers the system calls of the program that Occlum would answer differently.
//!
//! One thread. It never waits for the program: the caller of any call may die at any point, and the end of the first
//! process ends the loop whatever else is open.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use marblerun_linux::process::{self, Signals, Status, Wait};
use marblerun_linux::seccomp::{Answer, Listener, Notification};
use marblerun_linux::{fd, memory};

use crate::child::{MAX_MESSAGE, Message};
use crate::device::{CallerMemory, Device};
use crate::elf;
use crate::exec_rules::{self, ArgumentCount, ExecRefusal};
use crate::filter::{Mode, number};
use crate::isolation;
use crate::outcome::{Failure, Outcome};
use crate::root_fs::FileId;

/// Longest path that is read from a caller (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Longest argument of a program (`MAX_ARG_STRLEN` of Linux).
const MAX_ARGUMENT: usize = 128 * 1024;
/// Most arguments and variables that are counted. More, or more bytes than [`MAX_ARGUMENT_BYTES`], never fit.
const MAX_ARGUMENTS: u64 = 65_536;
const MAX_ARGUMENT_BYTES: u64 = 8 << 20;

/// Length of each member of `struct utsname`.
const UTSNAME_FIELD: usize = 65;

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const EACCES: i32 = 13;
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;

/// Signals that end a run. SIGTERM ends Occlum without notice to the program, so all of them do.
pub const STOPPING_SIGNALS: [i32; 4] = [1, 2, 3, 15];

/// What is the same for all calls of a run.
#[derive(Debug)]
pub struct Supervisor {
    device: Device,
    mode: Mode,
    utsname: Vec<u8>,
    program: String,
}

/// What the run has told so far.
#[derive(Debug, Default)]
struct Progress {
    listener: Option<Listener>,
    sgx: Option<FileId>,
    outcome: Option<Outcome>,
    /// Nothing was set up that would make another isolation useless.
    no_root_yet: bool,
}

/// What the loop found: an end, or that this way of isolation does not work here.
#[derive(Debug)]
pub enum RunEnd {
    /// The run is over.
    Done(Outcome),
    /// The root could not be set up for want of privileges; another way may work.
    NotPermitted(String),
}

impl Supervisor {
    /// A supervisor for one run of `program`.
    pub fn new(device: Device, mode: Mode, host_name: Option<&str>, program: &str) -> Self {
        Self { device, mode, utsname: utsname(host_name), program: program.to_owned() }
    }

    /// Serves the process tree of `child` until it has ended.
    ///
    /// # Errors
    /// The errno of a system call that should not fail; the child is killed before.
    pub fn run(&self, child: i32, socket: OwnedFd, signals: &Signals, isolation: &str) -> io::Result<RunEnd> {
        let end = self.serve(child, &socket, signals, isolation);
        if end.is_err() {
            // The first process takes all others with it. It may have ended already.
            let _ = process::kill(child, SIGKILL);
            let _ = process::wait(child, Wait::Block);
        }
        end
    }

    fn serve(&self, child: i32, socket: &OwnedFd, signals: &Signals, isolation: &str) -> io::Result<RunEnd> {
        let mut progress = Progress { no_root_yet: true, ..Progress::default() };
        let mut not_permitted = None;
        let mut socket = Some(socket.as_fd());
        loop {
            let listener = progress.listener.as_ref().map(AsFd::as_fd);
            let [from_child, calls, signal] = fd::wait_readable([socket, listener, Some(signals.as_fd())], None)?;
            if from_child.readable || from_child.hung_up {
                match receive(socket)? {
                    Some((message, fd)) => self.hear(message, fd, &mut progress, &mut not_permitted, isolation)?,
                    None => socket = None,
                }
            }
            if let Some(listener) = &progress.listener {
                if calls.readable {
                    self.answer_next(listener, progress.sgx)?;
                } else if calls.hung_up {
                    progress.listener = None;
                }
            }
            if signal.readable {
                while let Some(signal) = signals.next()? {
                    if signal != SIGCHLD {
                        let stopped = u8::try_from(signal).unwrap_or_default();
                        progress.outcome = Some(Outcome::Stopped(stopped));
                        // It may have ended already; its end is what the loop waits for.
                        let _ = process::kill(child, SIGKILL);
                    }
                }
            }
            if let Some(ended) = process::wait(child, Wait::Poll)? {
                while let Some((message, fd)) = receive_now(socket)? {
                    self.hear(message, fd, &mut progress, &mut not_permitted, isolation)?;
                }
                if let Some(reason) = not_permitted {
                    return Ok(RunEnd::NotPermitted(reason));
                }
                return Ok(RunEnd::Done(progress.outcome.unwrap_or_else(|| unexplained(ended.status))));
            }
        }
    }

    fn hear(
        &self,
        message: Message,
        fd: Option<OwnedFd>,
        progress: &mut Progress,
        not_permitted: &mut Option<String>,
        isolation: &str,
    ) -> io::Result<()> {
        let outcome = match message {
            Message::Root { sgx, layers, notes } => {
                progress.sgx = Some(sgx);
                progress.no_root_yet = false;
                say(format_args!("mechanism: seccomp user notification; {isolation}; {layers}"));
                for note in notes {
                    say(format_args!("note: {note}"));
                }
                return Ok(());
            }
            Message::Listener => {
                let fd = fd.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                progress.listener = Some(Listener::new(fd)?);
                return Ok(());
            }
            Message::ListenerOccupied => {
                say(format_args!(
                    "error: another seccomp listener watches this process tree, and the kernel allows one; run \
                     marble-sim outside of the other sandbox or marble-sim"
                ));
                Outcome::Failed(Failure::OtherListener)
            }
            Message::Failed { step, errno, reason } => {
                let text = format!("cannot {step}: {reason}");
                if progress.no_root_yet && [1, EACCES].contains(&errno) {
                    *not_permitted = Some(text);
                    return Ok(());
                }
                say(format_args!("error: {text}"));
                // What the configuration names is not there.
                let configured = progress.no_root_yet && [ENOENT, ENOTDIR].contains(&errno);
                Outcome::Failed(if configured { Failure::Configuration } else { Failure::System })
            }
            Message::NotExecuted { errno } => {
                let program = &self.program;
                match errno {
                    ENOENT => say(format_args!(
                        "error: {program}: expected a program in the image, got nothing (or its interpreter is missing); \
                         put it and its libraries into image/"
                    )),
                    errno => {
                        say(format_args!("error: {program} cannot be started: {}", io::Error::from_raw_os_error(errno)))
                    }
                }
                Outcome::NotStarted
            }
            Message::Exited(code) => Outcome::Exited(code),
            Message::Signaled(signal) => Outcome::Signaled(signal),
        };
        // The first word counts: after NotExecuted comes the exit of the process that could not become the program.
        progress.outcome.get_or_insert(outcome);
        Ok(())
    }

    fn answer_next(&self, listener: &Listener, sgx: Option<FileId>) -> io::Result<()> {
        let Some(call) = listener.receive()? else { return Ok(()) };
        let answer = match u32::try_from(call.number).unwrap_or(u32::MAX) {
            number::UNAME => self.uname(&call),
            number::IOCTL => self.ioctl(&call, sgx, listener),
            number::EXECVE => self.execve(&call),
            _ => Answer::Continue,
        };
        listener.answer(call.id, answer)
    }

    fn uname(&self, call: &Notification) -> Answer {
        match memory::write(call.pid, call.arguments[0], &self.utsname) {
            Ok(()) => Answer::Value(0),
            Err(_) => Answer::Errno(EFAULT),
        }
    }

    fn ioctl(&self, call: &Notification, sgx: Option<FileId>, listener: &Listener) -> Answer {
        // Descriptors are 32-bit numbers; the upper half of the register means nothing.
        let fd = call.arguments[0] as i32;
        let command = call.arguments[1] as u32;
        let file = FileId::of(format!("/proc/{}/fd/{fd}", call.pid).as_ref());
        if sgx.is_none() || file.ok() != sgx {
            // Another driver with ioctls of type 's', or no descriptor at all: the kernel knows.
            return Answer::Continue;
        }
        // The thread may have died and its number been given to another process since the notification.
        if !listener.is_waiting(call.id) {
            return Answer::Errno(EINVAL);
        }
        match self.device.ioctl(command, call.arguments[2], &Caller(call.pid)) {
            Ok(()) => Answer::Value(0),
            Err(refusal) => {
                say(format_args!("/dev/sgx: ioctl {command:#010x} refused with EINVAL: {}", chain(&refusal)));
                Answer::Errno(EINVAL)
            }
        }
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
struct Caller(i32);

impl CallerMemory for Caller {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        memory::read(self.0, address, buffer)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        memory::write(self.0, address, bytes)
    }
}

/// The next message; `None` when the other side is gone.
fn receive(socket: Option<BorrowedFd<'_>>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let Some(socket) = socket else { return Ok(None) };
    let mut buffer = vec![0; MAX_MESSAGE];
    let (len, fd) = match fd::receive(socket, &mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    };
    if len == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..len]).map_err(io::Error::from)?;
    Ok(Some((message, fd)))
}

/// The next message if one has arrived.
fn receive_now(socket: Option<BorrowedFd<'_>>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let [ready] = fd::wait_readable([socket], Some(std::time::Duration::ZERO))?;
    if ready.readable { receive(socket) } else { Ok(None) }
}

/// The first process ended without a word.
fn unexplained(status: Status) -> Outcome {
    match status {
        Status::Signaled(signal) => {
            say(format_args!("error: the first process of the simulation was ended by signal {signal}"));
            Outcome::Signaled(signal)
        }
        Status::Exited(_) => {
            say(format_args!("error: the first process of the simulation ended early"));
            Outcome::Failed(Failure::System)
        }
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Prints one line of the simulator's own on stderr. A closed stderr does not end a run.
pub fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "marble-sim: {line}");
}

/// Prints why no isolation works on this machine.
pub fn say_no_private_root(reasons: &[String]) {
    say(format_args!("error: no private root for the program: {}; {}", reasons.join("; "), isolation::advice_here()));
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
