//! Answers the system calls of the program that Occlum would answer differently.
//!
//! One thread. It never waits for the program: the caller of any call may die at any point, and the end of the first
//! process ends the loop whatever else is open.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use marblerun_linux::fd;
use marblerun_linux::process::{self, Signals, Status, Wait};
use marblerun_linux::seccomp::{Answer, Listener};
use marblerun_linux::trace::{self, Event};

use crate::calls::Calls;
use crate::child::{MAX_MESSAGE, Message};
use crate::isolation;
use crate::outcome::{Failure, Outcome};
use crate::root_fs::FileId;

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;

/// Signals that end a run. SIGTERM ends Occlum without notice to the program, so all of them do.
pub const STOPPING_SIGNALS: [i32; 4] = [1, 2, 3, 15];

/// What is the same for all calls of a run.
#[derive(Debug)]
pub struct Supervisor {
    calls: Calls,
    program: String,
}

/// What is known of a run so far.
#[derive(Debug)]
struct Progress {
    /// The first process of the namespaces, whose end is the end of the run.
    child: i32,
    isolation: &'static str,
    listener: Option<Listener>,
    /// The program is traced, since another listener watches it.
    traced: bool,
    /// Which file is `/dev/sgx`; known as soon as the root is in place.
    sgx: Option<FileId>,
    /// How the layers of the root are put together.
    layers: String,
    outcome: Option<Outcome>,
    /// Why this way of isolation does not work here.
    not_permitted: Option<String>,
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
    pub fn new(calls: Calls, program: &str) -> Self {
        Self { calls, program: program.to_owned() }
    }

    /// Names another program in what is said from now on.
    pub fn set_program(&mut self, program: &str) {
        program.clone_into(&mut self.program);
    }

    /// What answers the calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Serves the process tree of `child` until it has ended.
    ///
    /// # Errors
    /// The errno of a system call that should not fail; the child is killed before.
    pub fn run(&self, child: i32, socket: OwnedFd, signals: &Signals, isolation: &'static str) -> io::Result<RunEnd> {
        let end = self.serve(child, &socket, signals, isolation);
        if end.is_err() {
            // The first process takes all others with it. It may have ended already.
            let _ = process::kill(child, SIGKILL);
            let _ = process::wait(child, Wait::Block);
        }
        end
    }

    fn serve(&self, child: i32, socket: &OwnedFd, signals: &Signals, isolation: &'static str) -> io::Result<RunEnd> {
        let mut progress = Progress {
            child,
            isolation,
            listener: None,
            traced: false,
            sgx: None,
            layers: String::new(),
            outcome: None,
            not_permitted: None,
        };
        let mut open = true;
        loop {
            let from_child = open.then(|| socket.as_fd());
            let listener = progress.listener.as_ref().map(AsFd::as_fd);
            let [from_child, calls, signal] = fd::wait_readable([from_child, listener, Some(signals.as_fd())], None)?;
            if from_child.readable || from_child.hung_up {
                match receive(socket.as_fd())? {
                    Some((message, fd)) => self.hear(message, fd, socket.as_fd(), &mut progress)?,
                    None => open = false,
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
                stop_if_asked(signals, &mut progress)?;
            }
            if self.calls.end_all() {
                progress.outcome.get_or_insert(Outcome::Signaled(SIGKILL as u8));
                // It may have ended already; its end is what the loop waits for.
                let _ = process::kill(child, SIGKILL);
            }
            let ended = if progress.traced { self.serve_tracees(&progress)? } else { wait_for(child)? };
            if let Some(status) = ended {
                // What the child said before its end counts more than the end itself.
                while open && fd::wait_readable([Some(socket.as_fd())], Some(Duration::ZERO))?[0].readable {
                    match receive(socket.as_fd())? {
                        Some((message, fd)) => self.hear(message, fd, socket.as_fd(), &mut progress)?,
                        None => open = false,
                    }
                }
                return Ok(match (progress.outcome, progress.not_permitted) {
                    (Some(outcome), _) => RunEnd::Done(outcome),
                    (None, Some(reason)) => RunEnd::NotPermitted(reason),
                    (None, None) => RunEnd::Done(unexplained(status)),
                });
            }
        }
    }

    fn hear(
        &self,
        message: Message,
        fd: Option<OwnedFd>,
        socket: BorrowedFd<'_>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let outcome = match message {
            Message::Root { sgx, layers, notes } => {
                progress.sgx = Some(sgx);
                progress.layers = layers;
                for note in notes {
                    say(format_args!("note: {note}"));
                }
                return Ok(());
            }
            Message::Listener => {
                let fd = fd.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                progress.listener = Some(Listener::new(fd)?);
                say_mechanism("seccomp user notification", progress);
                return Ok(());
            }
            Message::ListenerOccupied => match start_tracing(progress.child, socket) {
                Ok(()) => {
                    progress.traced = true;
                    say_mechanism("ptrace, since another seccomp listener watches this process tree", progress);
                    return Ok(());
                }
                Err(error) => {
                    say(format_args!(
                        "error: another seccomp listener watches this process tree, and the program cannot be traced \
                         instead ({error}); run marble-sim outside of the other sandbox"
                    ));
                    // The program waits for a tracer; its end is what the loop waits for.
                    let _ = process::kill(progress.child, SIGKILL);
                    Outcome::Failed(Failure::OtherListener)
                }
            },
            Message::ListenerInterferes => {
                say(format_args!(
                    "error: another seccomp listener answers calls that marble-sim must answer; run marble-sim outside \
                     of the other sandbox or marble-sim"
                ));
                Outcome::Failed(Failure::OtherListener)
            }
            Message::Failed { step, errno, reason, privileged } => {
                let text = format!("cannot {step}: {reason}");
                if privileged && [EPERM, EACCES].contains(&errno) {
                    progress.not_permitted = Some(text);
                    return Ok(());
                }
                say(format_args!("error: {text}"));
                // What the configuration names is not there.
                let configured = progress.sgx.is_none() && [ENOENT, ENOTDIR].contains(&errno);
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
        let answer = self.calls.decide(&call, sgx, || listener.is_waiting(call.id));
        if self.calls.end_all() {
            // Unanswered, so that it is never performed.
            return Ok(());
        }
        listener.answer(call.id, answer)
    }

    /// Handles all that happened to traced threads. Returns how `child` ended, if it did.
    fn serve_tracees(&self, progress: &Progress) -> io::Result<Option<Status>> {
        loop {
            match trace::next_event()? {
                None => return Ok(None),
                Some(Event::Ended(ended)) if ended.pid == progress.child => return Ok(Some(ended.status)),
                Some(Event::Ended(_)) => {}
                Some(Event::Call { pid }) => {
                    // A stopped thread cannot be replaced by another; it can only die, which the answer ignores.
                    let answer = trace::call(pid)
                        .map_or(Answer::Continue, |call| self.calls.decide(&call, progress.sgx, || true));
                    if self.calls.end_all() {
                        let _ = process::kill(progress.child, SIGKILL);
                        return Ok(None);
                    }
                    trace::answer(pid, answer)?;
                }
                Some(Event::Signal { pid, signal }) => trace::resume(pid, signal)?,
                Some(Event::GroupStop { pid }) => trace::stay_stopped(pid)?,
                Some(Event::Notice { pid }) => trace::resume(pid, 0)?,
            }
        }
    }
}

/// How `child` ended, if it did.
fn wait_for(child: i32) -> io::Result<Option<Status>> {
    Ok(process::wait(child, Wait::Poll)?.map(|ended| ended.status))
}

/// Becomes the tracer of the one process that `first` has started, and lets it go on.
fn start_tracing(first: i32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
    let program = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    trace::seize(program.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)?;
    fd::send(socket, &[0], None)
}

/// The next message; `None` when the other side is gone.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
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

/// Ends everything if one of the [`STOPPING_SIGNALS`] has arrived.
fn stop_if_asked(signals: &Signals, progress: &mut Progress) -> io::Result<()> {
    while let Some(signal) = signals.next()? {
        if signal != SIGCHLD {
            progress.outcome.get_or_insert(Outcome::Stopped(u8::try_from(signal).unwrap_or_default()));
            // It may have ended already; its end is what the loop waits for.
            let _ = process::kill(progress.child, SIGKILL);
        }
    }
    Ok(())
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

fn say_mechanism(answers: &str, progress: &Progress) {
    say(format_args!("mechanism: {answers}; {}; {}", progress.isolation, progress.layers));
}

/// Prints why no isolation works on this machine.
pub fn say_no_private_root(reasons: &[String]) {
    say(format_args!("error: no private root for the program: {}; {}", reasons.join("; "), isolation::advice_here()));
}
