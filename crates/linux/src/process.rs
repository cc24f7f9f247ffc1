//! Processes: namespaces, fork, exec, waiting, signals.
//!
//! The forks of this module are for programs with **one thread**: the child continues with a copy of everything.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::check;

/// Which namespaces a child gets of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// A user namespace, in which an ordinary user has the privileges for the others.
    pub user: bool,
    /// Mounts.
    pub mount: bool,
    /// Process ids; the child is number 1, and all die with it.
    pub pid: bool,
}

impl Namespaces {
    fn flags(self) -> libc::c_int {
        let mut flags = 0;
        if self.user {
            flags |= libc::CLONE_NEWUSER;
        }
        if self.mount {
            flags |= libc::CLONE_NEWNS;
        }
        if self.pid {
            flags |= libc::CLONE_NEWPID;
        }
        flags
    }
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The old process; the child has this id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Duplicates this process, the child in namespaces of its own.
///
/// # Errors
/// The errno of `clone`: `EPERM` without privilege, `ENOSPC` where the number of namespaces is limited (to zero), and
/// `InvalidInput` if this process has more than one thread.
pub fn fork(namespaces: Namespaces) -> io::Result<Fork> {
    // A lock held by another thread would stay locked for ever in the child.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "fork in a process with several threads"));
    }
    let flags = libc::c_long::from(namespaces.flags() | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has its own copy of the memory and, with a null stack, continues on the copy of
    // this stack, as after fork(). There is one thread (checked above), so no lock is left held. libc's own fork() cannot
    // create namespaces; what it does beyond this call is run handlers, of which this process has none.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) if pid > 0 => Ok(Fork::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Maps user and group 0 of this new user namespace to `uid` and `gid` outside of it.
///
/// # Errors
/// `EPERM` where the kernel's security module restricts unprivileged user namespaces.
pub fn map_root_user(uid: u32, gid: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Effective user and group of this process.
pub fn effective_user() -> (u32, u32) {
    // SAFETY: these calls take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With an exit code, 0 to 255.
    Exited(u8),
    /// By a signal.
    Signaled(u8),
}

/// A child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// How.
    pub status: Status,
}

/// Whether to wait until a child ends or only to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until one ends.
    Block,
    /// Only those that have ended.
    Poll,
}

/// Collects a child that ended: `pid`, or any with -1. `None`: none has ended yet.
///
/// # Errors
/// The errno of `waitpid`; `ECHILD` if there is no such child.
pub fn wait(pid: i32, how: Wait) -> io::Result<Option<Ended>> {
    let flags = if how == Wait::Poll { libc::WNOHANG } else { 0 };
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer that the call fills.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        if ended == 0 {
            return Ok(None);
        }
        if ended < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if libc::WIFEXITED(status) {
            let code = libc::WEXITSTATUS(status) as u8;
            return Ok(Some(Ended { pid: ended, status: Status::Exited(code) }));
        }
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status) as u8;
            return Ok(Some(Ended { pid: ended, status: Status::Signaled(signal) }));
        }
    }
}

/// Sends `signal` to `pid`.
///
/// # Errors
/// The errno of `kill`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Ends this process at once, without running destructors: for the child of a fork that cannot become its program.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Replaces this process by `program`; returns only the error.
pub fn exec(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the path is NUL-terminated, both tables end with a null pointer, and all strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Has the kernel kill this process when the one that started it ends.
///
/// # Errors
/// The errno of `prctl`.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    Ok(())
}

/// Has the kernel send `signal` to the process that `command` will start when the thread that starts it ends, however
/// that happens. The process does not start at all if that was before.
pub fn end_with_starter(command: &mut std::process::Command, signal: i32) {
    use std::os::unix::process::CommandExt as _;
    let starter = std::process::id();
    let bind = move || {
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
        // SAFETY: it has no arguments and cannot fail.
        let parent = unsafe { libc::getppid() };
        if u32::try_from(parent) == Ok(starter) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec it makes two system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(bind) };
}

/// Orphaned descendants become children of this process.
///
/// # Errors
/// The errno of `prctl`.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Gives up gaining privileges by `execve` (set-user-id bits); what an unprivileged seccomp filter needs.
///
/// # Errors
/// The errno of `prctl`.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Starts a session of its own, so that the terminal's signals do not arrive.
///
/// # Errors
/// The errno of `setsid`.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setsid() })?;
    Ok(())
}

/// Changes the root directory (and the working directory with it).
///
/// # Errors
/// The errno of `chroot`.
pub fn change_root(path: &std::path::Path) -> io::Result<()> {
    std::os::unix::fs::chroot(path)?;
    std::env::set_current_dir("/")
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset initialises it before anything reads it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Signals that are read from a descriptor instead of interrupting.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` and makes them readable.
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let set = signal_set(signals);
        // SAFETY: the set is live and initialised; no old set is asked for.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
        // SAFETY: the set is live and initialised.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that arrived, if any.
    ///
    /// # Errors
    /// The errno of `read`.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // SAFETY: signalfd_siginfo is plain data for which zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the pointer is to a live structure of that length, and any bytes are valid for it.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), len) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        Ok(i32::try_from(info.ssi_signo).ok())
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action and blocks none, as a program expects at its start.
///
/// # Errors
/// The errno of `sigprocmask`.
pub fn default_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // Two signals cannot be changed, and libc keeps some for itself: those fail, and are at their default anyway.
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = signal_set(&[]);
    // SAFETY: the set is live and initialised.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) })?;
    Ok(())
}

/// Gives SIGPIPE its default action: Rust's runtime ignores it, and ignored signals stay ignored across `execve`.
///
/// # Errors
/// The errno of `signal`.
pub fn default_pipe_signal() -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The stack limit (`RLIMIT_STACK`, soft value) of another process in bytes.
///
/// # Errors
/// The errno of `prlimit`.
pub fn stack_limit(pid: i32) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given; the last pointer is to a live structure that the call fills.
    check(unsafe { libc::prlimit(pid, libc::RLIMIT_STACK, std::ptr::null(), &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_forked() {
        let error = std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || stopped.recv());
            let error = fork(Namespaces::default()).unwrap_err();
            drop(stop);
            error
        });
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() {
        use std::os::unix::process::ExitStatusExt as _;
        let start = || {
            let mut command = std::process::Command::new("sleep");
            command.arg("600");
            end_with_starter(&mut command, libc::SIGTERM);
            command.spawn().unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
