//! A host that does harm, as a plan says: a test bench for what must hold against it.
//!
//! The plan is followed step by step; each step tells on one line of JSON what was done. Whatever a step does lies within
//! what the host of a real enclave can do: it answers calls wrongly, changes files that are its own, ends everything at any
//! moment, runs copies, and decides where connections lead.

mod clock;
mod disk;
pub mod plan;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use marblerun_linux::memory;
use marblerun_linux::process;
use marblerun_linux::seccomp::{Answer, Notification};
use serde::Serialize;

use self::disk::Disk;
use self::plan::{Action, At, CallName, Occasion, Plan, Step};
use crate::device::{CallerMemory, command};
use crate::filter::Extra;
use crate::supervisor::say;

const SIGKILL: i32 = 9;

const IOCTL: u32 = 16;
const CONNECT: u32 = 42;
const SENDMSG: u32 = 46;
const EXECVE: u32 = 59;

/// Longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// First byte of the address family of IPv6.
const AF_INET6: u8 = 10;
const ESRCH: i32 = 3;
const EFAULT: i32 = 14;
/// `AT_FDCWD`.
const WORKING_DIRECTORY: i32 = -100;

/// Where a call has the file that it is about.
#[derive(Clone, Copy, Debug)]
enum Subject {
    /// Nowhere.
    None,
    /// A path in this argument.
    Path(usize),
    /// A path in the second argument, from the directory in the first.
    PathAt(usize, usize),
    /// A descriptor in this argument.
    Descriptor(usize),
}

/// The calls of each kind, on x86-64. For a renaming the new name counts.
const CALLS: &[(CallName, u32, Subject)] = {
    use Subject::{Descriptor, None, Path, PathAt};
    &[
        (CallName::Open, 2, Path(0)),
        (CallName::Open, 85, Path(0)),
        (CallName::Open, 257, PathAt(0, 1)),
        (CallName::Open, 437, PathAt(0, 1)),
        (CallName::Read, 0, Descriptor(0)),
        (CallName::Read, 17, Descriptor(0)),
        (CallName::Read, 19, Descriptor(0)),
        (CallName::Read, 295, Descriptor(0)),
        (CallName::Read, 327, Descriptor(0)),
        (CallName::Write, 1, Descriptor(0)),
        (CallName::Write, 18, Descriptor(0)),
        (CallName::Write, 20, Descriptor(0)),
        (CallName::Write, 296, Descriptor(0)),
        (CallName::Write, 328, Descriptor(0)),
        (CallName::Fsync, 74, Descriptor(0)),
        (CallName::Fsync, 75, Descriptor(0)),
        (CallName::Rename, 82, Path(1)),
        (CallName::Rename, 264, PathAt(2, 3)),
        (CallName::Rename, 316, PathAt(2, 3)),
        (CallName::Unlink, 87, Path(0)),
        (CallName::Unlink, 263, PathAt(0, 1)),
        (CallName::Mkdir, 83, Path(0)),
        (CallName::Mkdir, 258, PathAt(0, 1)),
        (CallName::Truncate, 76, Path(0)),
        (CallName::Truncate, 77, Descriptor(0)),
        (CallName::Connect, CONNECT, None),
        (CallName::Send, 44, None),
        (CallName::Send, SENDMSG, None),
        (CallName::Send, 307, None),
        (CallName::Execve, EXECVE, Path(0)),
    ]
};

/// Follows a plan during one run.
#[derive(Debug)]
pub struct Hostile {
    plan: Plan,
    disk: Disk,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    steps: Vec<Progress>,
    offset_seconds: Option<i64>,
    redirects: Vec<Redirect>,
    killed: bool,
    report: Option<File>,
}

/// A rule for connections.
#[derive(Clone, Copy, Debug)]
struct Redirect {
    /// Index of its step.
    step: usize,
    from: SocketAddr,
    to: SocketAddr,
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Calls that fitted.
    count: u32,
    done: bool,
    failed: bool,
}

/// A line of the report.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Number of the step, from 1.
    step: usize,
    /// What the plan says.
    action: &'static str,
    /// `done`, `failed`, or `not reached` at the end of the run.
    result: &'static str,
    /// `start`, `end`, or the kind of the call.
    at: String,
    /// How many calls fitted up to now.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    /// The calling thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The file that the call is about, as the program names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a Path>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Hostile {
    /// Follows `plan`, whose paths begin at `plan_directory`, against the instance in `instance`. The report goes to
    /// `report`, or to standard error.
    pub fn new(plan: Plan, plan_directory: &Path, instance: &Path, report: Option<File>) -> Self {
        let steps = vec![Progress::default(); plan.steps.len()];
        let state = State { steps, offset_seconds: None, redirects: Vec::new(), killed: false, report };
        let disk = Disk { instance: instance.to_owned(), plan: plan_directory.to_owned() };
        Self { plan, disk, state: RefCell::new(state) }
    }

    /// Does what the host does before the start, also to the environment that it gives.
    pub fn begin(&self, environment: &mut Vec<(OsString, OsString)>) {
        for (index, step) in self.steps_at(&At::Start) {
            if let Action::Environment { drop, set, duplicate } = &step.action {
                let name_is = |name: &OsString, known: &String| name == known.as_str();
                environment.retain(|(name, _)| !drop.iter().chain(set.keys()).any(|known| name_is(name, known)));
                environment.extend(set.iter().chain(duplicate).map(|(name, value)| (name.into(), value.into())));
            }
            let result = self.perform(index, &step.action, &At::Start);
            self.tell(index, result, None);
        }
    }

    /// Does what the host does in the end. False if a step was not reached or failed; what comes after a `kill` is excused.
    pub fn end(&self) -> bool {
        for (index, step) in self.steps_at(&At::End) {
            let result = self.perform(index, &step.action, &At::End);
            self.tell(index, result, None);
        }
        let killed = self.state.borrow().killed;
        let steps = self.state.borrow().steps.clone();
        let mut all = true;
        for (index, progress) in steps.iter().enumerate() {
            if !progress.done && !progress.failed {
                self.write(self.line(index, "not reached", Some(progress.count)));
                all &= killed;
            }
            all &= !progress.failed;
        }
        all
    }

    /// True if everything must end now.
    pub fn has_killed(&self) -> bool {
        self.state.borrow().killed
    }

    /// The calls that must be shown; `mark` is in the simulator's own message.
    pub fn extras(&self, mark: u32) -> Vec<Extra> {
        let mut extras = vec![Extra::WatchUnless { number: SENDMSG, argument: 5, value: mark }];
        let watched =
            |name: CallName| self.plan.steps.iter().any(|step| step.occasion().is_some_and(|at| at.name == name));
        if !watched(CallName::Send) {
            extras.clear();
        }
        let calls = CALLS.iter().filter(|(name, ..)| watched(*name));
        // The supervisor sees every execve anyway, and its own message is above.
        let calls = calls.map(|(_, number, _)| *number).filter(|number| ![EXECVE, SENDMSG].contains(number));
        extras.extend(calls.map(Extra::Watch));
        if self.has(|action| matches!(action, Action::Redirect { .. })) {
            extras.push(Extra::Watch(CONNECT));
        }
        if self.turns_the_clock() {
            extras.extend(clock::EXTRAS);
        }
        extras
    }

    /// Does what the plan says at this call. An answer is final; after a `kill` it does not matter.
    pub fn see(&self, call: &Notification, caller: &dyn CallerMemory) -> Option<Answer> {
        if self.turns_the_clock() && clock::is_program_start(call) {
            // Who has ended asks for no time.
            match clock::replace_own_clock(call.pid) {
                Err(error) if error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(ESRCH) => {
                    self.fail_clocks(call.pid, &error);
                }
                _ => {}
            }
            return None;
        }
        let answer = self.steps_of(call);
        if answer.is_some() || self.has_killed() {
            return answer;
        }
        let offset = self.state.borrow().offset_seconds;
        if let Some(answer) = offset.and_then(|offset| clock::answer(call, offset, caller)) {
            return Some(answer);
        }
        if u32::try_from(call.number) == Ok(CONNECT) {
            self.redirect(call, caller);
        }
        None
    }

    fn has(&self, action: impl Fn(&Action) -> bool) -> bool {
        self.plan.steps.iter().any(|step| action(&step.action))
    }

    fn turns_the_clock(&self) -> bool {
        self.has(|action| matches!(action, Action::Clock { .. }))
    }

    fn steps_at<'a>(&'a self, at: &'a At) -> impl Iterator<Item = (usize, &'a Step)> {
        self.plan.steps.iter().enumerate().filter(move |(_, step)| step.at == *at)
    }

    fn steps_of(&self, call: &Notification) -> Option<Answer> {
        let number = u32::try_from(call.number).ok()?;
        let (name, subject) = match number {
            IOCTL if call.arguments[1] as u32 == command::GEN_DCAP_QUOTE => (CallName::Quote, Subject::None),
            _ => CALLS.iter().find(|(_, known, _)| *known == number).map(|(name, _, subject)| (*name, *subject))?,
        };
        let path = path_of(call, subject);
        let mut answer = None;
        for (index, step) in self.plan.steps.iter().enumerate() {
            let Some(occasion) = step.occasion() else { continue };
            if occasion.name != name || !occasion.is_about(path.as_deref()) {
                continue;
            }
            let count = {
                let progress = &mut self.state.borrow_mut().steps[index];
                progress.count = progress.count.saturating_add(1);
                progress.count
            };
            if !occasion.is_due(count) {
                continue;
            }
            let result = match &step.action {
                Action::Fail { errno } => {
                    answer = Some(Answer::Errno(errno.number()));
                    Ok(())
                }
                Action::Kill => {
                    self.state.borrow_mut().killed = true;
                    end_process(call.pid)
                }
                action => self.perform(index, action, &step.at),
            };
            self.tell(index, result, Some((call.pid, path.as_deref())));
        }
        answer
    }

    fn perform(&self, step: usize, action: &Action, at: &At) -> io::Result<()> {
        match action {
            // Done where the call or the environment is.
            Action::Fail { .. } | Action::Note | Action::Kill | Action::Environment { .. } => Ok(()),
            Action::Clock { offset_seconds } => {
                self.state.borrow_mut().offset_seconds = Some(*offset_seconds);
                Ok(())
            }
            Action::Redirect { from, to } => {
                self.state.borrow_mut().redirects.push(Redirect { step, from: *from, to: *to });
                Ok(())
            }
            Action::Replace { file, with } => self.disk.replace(file, with),
            Action::Truncate { file, bytes } => self.disk.truncate(file, *bytes),
            Action::Remove { file } => self.disk.remove(file),
            Action::Save { to } => self.disk.save(to),
            // A writable layer that is mounted must not change beneath the mount.
            Action::Restore { from } => self.disk.restore(from, !matches!(at, At::Call(_))),
            Action::Clone { into } => self.disk.clone_into(into),
        }
    }

    /// Changes the address of a connection in the caller's memory.
    fn redirect(&self, call: &Notification, caller: &dyn CallerMemory) {
        let [_, address, len, ..] = call.arguments;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0).min(28)];
        if caller.read(address, &mut bytes).is_err() {
            return;
        }
        let Some(wanted) = parse_address(&bytes) else { return };
        let redirects = self.state.borrow().redirects.clone();
        // The newest rule for an address counts.
        let Some(Redirect { step, to, .. }) = redirects.iter().rev().find(|rule| is_same(rule.from, wanted)) else {
            return;
        };
        set_address(&mut bytes, *to);
        let written = match caller.write(address, &bytes) {
            // Constants are in read-only memory.
            Err(error) if error.raw_os_error() == Some(EFAULT) => clock::overwrite(call.pid, address, &bytes),
            other => other,
        };
        if let Err(error) = written {
            self.tell(*step, Err(error), Some((call.pid, None)));
        }
    }

    /// A program has a clock that cannot be turned.
    fn fail_clocks(&self, pid: i32, error: &io::Error) {
        let text = error.to_string();
        for (index, step) in self.plan.steps.iter().enumerate() {
            if matches!(step.action, Action::Clock { .. }) {
                self.tell(index, Err(io::Error::other(text.clone())), Some((pid, None)));
            }
        }
    }

    fn line(&self, index: usize, result: &'static str, count: Option<u32>) -> Line<'_> {
        let step = &self.plan.steps[index];
        let at = match &step.at {
            At::Start => "start".to_owned(),
            At::End => "end".to_owned(),
            At::Call(occasion) => occasion.name.to_string(),
        };
        let count = count.filter(|_| step.occasion().is_some());
        Line {
            step: index + 1,
            action: step.action.name(),
            result,
            at,
            count,
            pid: None,
            program: None,
            path: None,
            error: None,
        }
    }

    fn tell(&self, index: usize, result: io::Result<()>, call: Option<(i32, Option<&Path>)>) {
        let count = {
            let progress = &mut self.state.borrow_mut().steps[index];
            match result {
                Ok(()) => progress.done = true,
                Err(_) => progress.failed = true,
            }
            progress.count
        };
        let mut line = self.line(index, if result.is_ok() { "done" } else { "failed" }, Some(count));
        if let Some((pid, path)) = call {
            line.pid = Some(pid);
            line.program = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.display().to_string());
            line.path = path;
        }
        line.error = result.err().map(|error| error.to_string());
        self.write(line);
    }

    fn write(&self, line: Line<'_>) {
        let Ok(json) = serde_json::to_string(&line) else { return };
        match &mut self.state.borrow_mut().report {
            Some(file) => {
                if let Err(error) = writeln!(file, "{json}") {
                    say(format_args!("warning: hostile: the report cannot be written: {error}"));
                }
            }
            None => say(format_args!("hostile: {json}")),
        }
    }
}

impl Step {
    fn occasion(&self) -> Option<&Occasion> {
        match &self.at {
            At::Call(occasion) => Some(occasion),
            At::Start | At::End => None,
        }
    }
}

impl Occasion {
    fn is_about(&self, path: Option<&Path>) -> bool {
        match (&self.path, path) {
            (None, _) => true,
            (Some(wanted), Some(path)) => path.starts_with(wanted),
            (Some(_), None) => false,
        }
    }
}

/// Ends the process of a thread; the rest follows when the supervisor ends the first process.
fn end_process(thread: i32) -> io::Result<()> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    process::kill(process.unwrap_or(thread), SIGKILL)
}

/// The file that a call is about, as the program names it.
fn path_of(call: &Notification, subject: Subject) -> Option<PathBuf> {
    let pid = call.pid;
    let link = |what: &str| fs::read_link(format!("/proc/{pid}/{what}")).ok();
    let (directory, path) = match subject {
        Subject::None => return None,
        Subject::Descriptor(index) => return link(&format!("fd/{}", call.arguments[index] as i32)),
        Subject::Path(path) => (None, path),
        Subject::PathAt(directory, path) => (Some(call.arguments[directory] as i32), path),
    };
    let bytes = memory::read_string(pid, call.arguments[path], MAX_PATH).ok()?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&bytes));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let directory = match directory.filter(|fd| *fd != WORKING_DIRECTORY) {
        Some(fd) => link(&format!("fd/{fd}"))?,
        None => link("cwd")?,
    };
    Some(directory.join(path))
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let address: IpAddr = match u16::from_le_bytes([bytes[0], bytes[1]]) {
        2 => <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?.into(),
        10 => <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// True for the same address, also where an IPv6 socket names one of IPv4 (RFC 4291 2.5.5.2).
fn is_same(from: SocketAddr, wanted: SocketAddr) -> bool {
    (from.ip(), from.port()) == (wanted.ip(), wanted.port())
        || (from.ip(), from.port()) == (wanted.ip().to_canonical(), wanted.port())
}

/// Writes an address of the same family over the one in `bytes`, which [`parse_address`] has read.
fn set_address(bytes: &mut [u8], to: SocketAddr) {
    bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
    match to.ip() {
        IpAddr::V4(address) if bytes[0] == AF_INET6 => {
            bytes[8..24].copy_from_slice(&address.to_ipv6_mapped().octets());
        }
        IpAddr::V4(address) => bytes[4..8].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes[8..24].copy_from_slice(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_replaced() {
        let mut bytes = vec![2, 0, 0x07, 0xd1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse_address(&bytes), Some("127.0.0.1:2001".parse().unwrap()));
        set_address(&mut bytes, "127.0.0.2:80".parse().unwrap());
        assert_eq!(parse_address(&bytes), Some("127.0.0.2:80".parse().unwrap()));
        let mut bytes = vec![0; 28];
        bytes[0] = 10;
        set_address(&mut bytes, "[::1]:443".parse().unwrap());
        assert_eq!(parse_address(&bytes), Some("[::1]:443".parse().unwrap()));
        set_address(&mut bytes, "127.0.0.2:80".parse().unwrap());
        let mapped = parse_address(&bytes).unwrap();
        assert_eq!(mapped, "[::ffff:127.0.0.2]:80".parse().unwrap());
        assert!(is_same("127.0.0.2:80".parse().unwrap(), mapped));
        assert!(!is_same("127.0.0.2:81".parse().unwrap(), mapped));
        assert!(!is_same("127.0.0.3:80".parse().unwrap(), mapped));
        // The address of a socket of IPv4 has no room for one of IPv6.
        assert!(!is_same("[::ffff:127.0.0.2]:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()));
        for len in 0..16 {
            assert_eq!(parse_address(&[1; 16][..len]), None);
        }
    }
}
