//! The side of the program: the first process of the new namespaces, and the program that it starts.
//!
//! Both speak to the supervisor through one socket that keeps message borders.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use marblerun_linux::fd;
use marblerun_linux::limits::{self, Limit, Resource};
use marblerun_linux::process::{self, Fork, Namespaces, Status, Wait};
use marblerun_linux::seccomp::{self, Instruction, ListenError};
use marblerun_linux::uname::uname;
use serde::{Deserialize, Serialize};

use crate::isolation::Isolation;
use crate::root_fs::{self, FileId, RootPlan};

/// Longest message between child and supervisor.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// What the supervisor hears from the other side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The root is in place.
    Root {
        /// Which file is `/dev/sgx`.
        sgx: FileId,
        /// How the layers are put together.
        layers: String,
        /// What differs from the plan.
        notes: Vec<String>,
    },
    /// The filter is installed; its listener comes with the message.
    Listener,
    /// Another listener is installed already. The sender waits until it is traced, which an empty message tells it.
    ListenerOccupied,
    /// The other listener answers calls that the tracer should.
    ListenerInterferes,
    /// A step failed; nothing follows but the end.
    Failed {
        /// What was being done and with what.
        step: String,
        /// The errno, 0 if there is none.
        errno: i32,
        /// The error's text.
        reason: String,
        /// True for what needs privileges over namespaces: another way of isolation may work.
        privileged: bool,
    },
    /// The program could not be executed.
    NotExecuted {
        /// The errno.
        errno: i32,
    },
    /// The program ended by itself.
    Exited(u8),
    /// The program was ended by a signal.
    Signaled(u8),
}

/// All that the child needs to know.
#[derive(Debug)]
pub struct Program {
    /// The root to build.
    pub root: RootPlan,
    /// How the child is kept apart.
    pub isolation: Isolation,
    /// User and group outside of the user namespace.
    pub user: (u32, u32),
    /// The filter.
    pub filter: Vec<Instruction>,
    /// What the filter knows the child's own first message by, so that it does not wait for the supervisor.
    pub mark: u32,
    /// The filter to use under a tracer.
    pub traced_filter: Vec<Instruction>,
    /// Absolute path in the root.
    pub path: CString,
    /// Arguments, the first one the path.
    pub arguments: Vec<CString>,
    /// The merged environment.
    pub environment: Vec<CString>,
    /// `RLIMIT_STACK` of the program.
    pub stack_bytes: u64,
}

/// A failed step.
struct StepError {
    step: String,
    error: io::Error,
    privileged: bool,
}

fn step(name: &str) -> impl FnOnce(io::Error) -> StepError {
    move |error| StepError { step: name.to_owned(), error, privileged: false }
}

fn privileged_step(name: &str) -> impl FnOnce(io::Error) -> StepError {
    move |error| StepError { step: name.to_owned(), error, privileged: true }
}

/// Sends a message. The supervisor's death is not an error here: the kernel ends this process with it.
fn tell(socket: BorrowedFd<'_>, message: &Message, listener: Option<BorrowedFd<'_>>) {
    tell_marked(socket, message, listener, 0);
}

fn tell_marked(socket: BorrowedFd<'_>, message: &Message, listener: Option<BorrowedFd<'_>>, mark: u32) {
    if let Ok(text) = serde_json::to_vec(message) {
        let _ = fd::send_marked(socket, &text, listener, mark);
    }
}

fn tell_failure(socket: BorrowedFd<'_>, failure: StepError) {
    let StepError { step, error, privileged } = failure;
    let errno = error.raw_os_error().unwrap_or(0);
    tell(socket, &Message::Failed { step, errno, reason: error.to_string(), privileged }, None);
}

/// Runs as the first process of the namespaces until the program has ended. Never returns.
pub fn run(program: &Program, socket: OwnedFd) -> ! {
    match start(program, socket.as_fd()) {
        Ok(pid) => reap(pid, socket.as_fd()),
        Err(error) => tell_failure(socket.as_fd(), error),
    }
    process::exit_now(0)
}

fn start(program: &Program, socket: BorrowedFd<'_>) -> Result<i32, StepError> {
    process::die_with_parent().map_err(step("follow the supervisor's end"))?;
    process::adopt_orphans().map_err(step("adopt orphans"))?;
    // No signal of the host's terminal reaches an enclave.
    process::new_session().map_err(step("start a session"))?;
    if program.isolation.has_user_namespace() {
        process::map_root_user(program.user.0, program.user.1)
            .map_err(privileged_step("map the user of the namespace"))?;
    }
    let entered = match program.isolation {
        Isolation::ChangedRoot => root_fs::enter_copy(&program.root),
        Isolation::Namespaces | Isolation::UserNamespace => root_fs::enter(&program.root),
    };
    let root = entered.map_err(|error| StepError {
        step: error.to_string(),
        privileged: error.mounting,
        error: error.source,
    })?;
    tell(socket, &Message::Root { sgx: root.sgx, layers: root.layers.to_owned(), notes: root.notes }, None);
    match process::fork(Namespaces::default()).map_err(step("start the program's process"))? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => become_program(program, socket),
    }
}

/// Collects every process that ends, as the first process of a namespace must, until the program is among them.
fn reap(program: i32, socket: BorrowedFd<'_>) {
    loop {
        match process::wait(-1, Wait::Block) {
            Ok(Some(ended)) if ended.pid == program => {
                let message = match ended.status {
                    Status::Exited(code) => Message::Exited(code),
                    Status::Signaled(signal) => Message::Signaled(signal),
                };
                return tell(socket, &message, None);
            }
            Ok(_) => {}
            Err(error) => return tell_failure(socket, step("wait for the program")(error)),
        }
    }
}

/// Waits for the tracer and installs the filter that asks it.
fn install_under_tracer(program: &Program, socket: BorrowedFd<'_>) {
    tell(socket, &Message::ListenerOccupied, None);
    let install = || {
        fd::receive(socket, &mut [0; 1]).map_err(step("wait for the tracer"))?;
        seccomp::install_filter(&program.traced_filter).map_err(step("install the system call filter"))?;
        uname().map_err(step("ask for the system's name"))
    };
    match install() {
        Ok(name) if name.sysname == "Occlum" => {}
        // A filter with a listener outranks one with a tracer (seccomp(2)).
        Ok(_) => {
            tell(socket, &Message::ListenerInterferes, None);
            process::exit_now(0)
        }
        Err(error) => {
            tell_failure(socket, error);
            process::exit_now(0)
        }
    }
}

/// Prepares this process and executes the program in it.
///
/// From the installation of the filter on, only calls that it lets through in strict mode are made.
fn become_program(program: &Program, socket: BorrowedFd<'_>) -> ! {
    let prepare = || {
        process::die_with_parent().map_err(step("follow the first process's end"))?;
        let hard = limits::limit(Resource::Stack).map_err(step("read the stack limit"))?.hard;
        let stack = Limit { soft: program.stack_bytes.min(hard), hard };
        limits::set_limit(Resource::Stack, stack).map_err(step("set the stack limit"))?;
        process::default_signals().map_err(step("reset the signals"))?;
        fd::close_all_on_exec().map_err(step("close descriptors at execve (needs Linux 5.11)"))?;
        process::no_new_privileges().map_err(step("give up privileges"))
    };
    if let Err(error) = prepare() {
        tell_failure(socket, error);
        process::exit_now(0)
    }
    match seccomp::install_with_listener(&program.filter) {
        Ok(listener) => tell_marked(socket, &Message::Listener, Some(listener.as_fd()), program.mark),
        Err(ListenError::Occupied) => install_under_tracer(program, socket),
        Err(ListenError::Refused(error)) => {
            tell_failure(socket, step("install the system call filter")(error));
            process::exit_now(0)
        }
    }
    let error = process::exec(&program.path, &program.arguments, &program.environment);
    tell(socket, &Message::NotExecuted { errno: error.raw_os_error().unwrap_or(0) }, None);
    process::exit_now(0)
}
