//! Answering system calls as a tracer (ptrace(2)), for processes whose seccomp filter says `RET_TRACE`.
//!
//! Slower than [`seccomp`](crate::seccomp) notification, and a traced process cannot have a debugger beside it.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::io;

use crate::check;
use crate::process::{Ended, Status};
use crate::seccomp::{Answer, Notification};

/// Something that happened to a child or a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It ended.
    Ended(Ended),
    /// It is stopped before a system call that its filter hands to the tracer.
    Call {
        /// The thread.
        pid: i32,
    },
    /// It is stopped because this signal is about to be delivered.
    Signal {
        /// The thread.
        pid: i32,
        /// The signal.
        signal: i32,
    },
    /// It is stopped with its whole group, by a signal such as SIGSTOP.
    GroupStop {
        /// The thread.
        pid: i32,
    },
    /// It is stopped for the tracer's information, such as a new thread at its start.
    Notice {
        /// The thread.
        pid: i32,
    },
}

/// Starts tracing `pid` and all that it starts. They are killed when this process ends.
///
/// # Errors
/// The errno of `PTRACE_SEIZE`: `EPERM` if it is traced already or the Yama module forbids it.
pub fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: this request takes numbers only.
    ptrace_result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, options as usize) })
}

/// The next event of any child or traced thread, without waiting. `None`: nothing has happened.
///
/// # Errors
/// The errno of `waitpid`; `ECHILD` if there is nobody to wait for.
pub fn next_event() -> io::Result<Option<Event>> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer that the call fills.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) })?;
    if pid == 0 {
        return Ok(None);
    }
    let ended = |status| Ok(Some(Event::Ended(Ended { pid, status })));
    if libc::WIFEXITED(status) {
        return ended(Status::Exited(libc::WEXITSTATUS(status) as u8));
    }
    if libc::WIFSIGNALED(status) {
        return ended(Status::Signaled(libc::WTERMSIG(status) as u8));
    }
    let signal = libc::WSTOPSIG(status);
    Ok(Some(match status >> 16 {
        libc::PTRACE_EVENT_SECCOMP => Event::Call { pid },
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Event::GroupStop { pid },
        0 => Event::Signal { pid, signal },
        _ => Event::Notice { pid },
    }))
}

/// The system call before which `pid` is stopped; the id of the notification is 0.
///
/// # Errors
/// The errno of `PTRACE_GETREGS`; `ESRCH` if it has died.
pub fn call(pid: i32) -> io::Result<Notification> {
    let registers = registers(pid)?;
    Ok(Notification {
        id: 0,
        pid,
        number: registers.orig_rax as i32,
        arguments: [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9],
    })
}

/// Answers the system call before which `pid` is stopped and lets it go on. A caller that died is not an error.
///
/// # Errors
/// The errno of `ptrace`.
pub fn answer(pid: i32, answer: Answer) -> io::Result<()> {
    let result = match answer {
        Answer::Continue => Ok(()),
        Answer::Value(value) => skip(pid, value),
        Answer::Errno(errno) => skip(pid, i64::from(-errno)),
    };
    unless_dead(result)?;
    resume(pid, 0)
}

/// Number -1 makes the kernel skip the call and return what is in the register already (seccomp(2), `RET_TRACE`).
fn skip(pid: i32, value: i64) -> io::Result<()> {
    let mut registers = registers(pid)?;
    registers.orig_rax = u64::MAX;
    registers.rax = value as u64;
    // SAFETY: the pointer is to a live structure of the kind that the request reads.
    ptrace_result(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0_usize, &raw const registers) })
}

/// Lets a stopped thread go on, with `signal` delivered if it is not 0. One that died is not an error.
///
/// # Errors
/// The errno of `PTRACE_CONT`.
pub fn resume(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: this request takes numbers only.
    unless_dead(ptrace_result(unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0_usize, signal as usize) }))
}

/// Leaves a thread in its group stop until it is continued by a signal. One that died is not an error.
///
/// # Errors
/// The errno of `PTRACE_LISTEN`.
pub fn stay_stopped(pid: i32) -> io::Result<()> {
    // SAFETY: this request takes numbers only.
    unless_dead(ptrace_result(unsafe { libc::ptrace(libc::PTRACE_LISTEN, pid, 0_usize, 0_usize) }))
}

fn registers(pid: i32) -> io::Result<libc::user_regs_struct> {
    // SAFETY: the structure is plain data for which zero is valid.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the kind that the request fills.
    ptrace_result(unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0_usize, &raw mut registers) })?;
    Ok(registers)
}

fn ptrace_result(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn unless_dead(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}
