//! `marble-sim run`: one start of a program in a simulated instance.

use std::ffi::{CString, OsString};
use std::fs::{self, File, TryLockError};
use std::path::Path;

use marblerun_enclave_image::entry_points;
use marblerun_enclave_image::occlum_json::{Environment, OcclumJson};
use marblerun_linux::process::{self, Fork, Signals};
use marblerun_linux::{fd, seccomp};
use marblerun_software_tee::{DevelopmentRoot, EnclaveIdentity};

use crate::calls::Calls;
use crate::child::{self, Program};
use crate::device::{Device, Quoting};
use crate::encrypted_image;
use crate::filter::{self, Mode, Trap};
use crate::instance::{Init, Instance};
use crate::isolation::Isolation;
use crate::limits::Limits;
use crate::mount_root::{MountRoot, StoredImage};
use crate::orphans::Orphans;
use crate::outcome::{Failure, Outcome};
use crate::root_fs::{Lower, RootPlan};
use crate::start;
use crate::supervisor::{self, RunEnd, STOPPING_SIGNALS, Supervisor, chain, say};
use crate::watch::Watchers;

/// Signal that tells of a child's end.
const SIGCHLD: i32 = 17;

/// The program of the init stage, which the LibOS starts before every other.
const INIT: &str = "/bin/init";

/// What to run.
#[derive(Debug)]
pub struct Run {
    /// The instance.
    pub instance: Instance,
    /// Its measurement.
    pub identity: EnclaveIdentity,
    /// What signs the quotes.
    pub root: DevelopmentRoot,
    /// How closely Occlum is kept.
    pub mode: Mode,
    /// Which quotes there are.
    pub quoting: Quoting,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The environment of the host.
    pub environment: Vec<(OsString, OsString)>,
    /// What else looks at the program's calls.
    pub watchers: Watchers,
}

/// Runs the program to its end. Everything worth saying goes to stderr, one line each.
///
/// The calling process must have one thread.
pub fn run(run: Run) -> Outcome {
    say(format_args!("SIMULATION of Occlum, no protection: this machine's users can read and change everything in it"));
    let EnclaveIdentity { mr_enclave, mr_signer, isv_prod_id, isv_svn, debug } = run.identity;
    say(format_args!(
        "MRENCLAVE {} MRSIGNER {} product {isv_prod_id} version {isv_svn}{}",
        hex::encode(mr_enclave),
        hex::encode(mr_signer),
        if debug { " debug" } else { "" }
    ));
    start(run).unwrap_or_else(|(failure, text)| {
        say(format_args!("error: {text}"));
        failure
    })
}

/// How a run ends that could not go on, and why.
type Refused = (Outcome, String);

fn configuration(error: &dyn std::error::Error) -> Refused {
    (Outcome::Failed(Failure::Configuration), chain(error))
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Refused {
    move |error| (Outcome::Failed(Failure::System), format!("cannot {what}: {error}"))
}

fn start(run: Run) -> Result<Outcome, Refused> {
    let mut config = run.instance.config().clone();
    let path = run.command.first().map(String::as_str).unwrap_or_default().to_owned();
    let check_entry_point = |config: &OcclumJson| {
        entry_points::check_entry_point(config, &path).map_err(|error| (Outcome::NotStarted, error.to_string()))
    };
    let init = RootPlan::of_init(&run.instance);
    // An init stage may choose another entry point.
    if init.is_none() {
        check_entry_point(&config)?;
    }
    if run.instance.init() == Init::OfOcclum {
        say(format_args!(
            "init stage: {INIT} is Occlum's own and runs in Occlum only; the image is mounted in its place"
        ));
    }
    let host = run.environment;
    let merge = |env: &Environment| start::merge_environment(env, host.clone()).map_err(|error| configuration(&error));
    let mut environment = merge(&config.env)?;

    seccomp::check_available()
        .map_err(system("use seccomp user notification (needs Linux 5.0, and no sandbox around that forbids it)"))?;
    let mut plan = RootPlan::new(&run.instance, false);
    let mount = mount_root(&run.instance, init.is_some(), &mut plan)?;
    for plan in init.iter().chain([&plan]) {
        plan.prepare()
            .map_err(|error| (Outcome::Failed(Failure::Configuration), format!("cannot {}", chain(&error))))?;
    }
    let _lock = if plan.temporary && init.is_none() { None } else { Some(lock(&run.instance)?) };

    let mut mark = [0; 4];
    aws_lc_rs::rand::fill(&mut mark)
        .map_err(|_| (Outcome::Failed(Failure::System), "cannot draw random bytes".to_owned()))?;
    // Never 0, which an unmarked call has.
    let mark = u32::from_le_bytes(mark) | 1;
    let extras = run.watchers.extras(mark);
    let program = |root: RootPlan, command: &[String], environment: &[String]| {
        Ok(Program {
            root,
            isolation: Isolation::Namespaces,
            user: process::effective_user(),
            filter: filter::program(run.mode, Trap::Notify, &extras),
            traced_filter: filter::program(run.mode, Trap::Trace, &extras),
            mark,
            path: c_string(command.first().map(String::as_str).unwrap_or_default())?,
            arguments: c_strings(command)?,
            environment: c_strings(environment)?,
            stack_bytes: run.instance.config().process.default_stack_size.0,
        })
    };
    let mut signals = STOPPING_SIGNALS.to_vec();
    signals.push(SIGCHLD);
    let signals = Signals::block(&signals).map_err(system("block signals"))?;
    let host_name = fs::read_to_string("/etc/hostname").ok();
    let device = Device::new(run.root, run.identity, run.quoting, config.feature.enable_edmm);
    let calls = Calls::new(device, run.mode, host_name.as_deref(), Limits::new(&config.process), mount)
        .with_watchers(run.watchers.clone());
    let mut supervisor = Supervisor::new(calls, &path);

    if let Some(root) = init {
        say(format_args!("init stage: {INIT}"));
        supervisor.set_program(INIT);
        let mut program = program(root, &[INIT.to_owned()], &environment)?;
        let mounted = match run_program(&mut program, &supervisor, &signals)? {
            Outcome::Exited(0) => supervisor.calls().root().take().ok_or_else(|| not_initialized("without a mount"))?,
            Outcome::Exited(code) => return Err(not_initialized(&format!("with code {code}"))),
            Outcome::Signaled(signal) => return Err(not_initialized(&format!("by signal {signal}"))),
            Outcome::NotStarted => return Ok(Outcome::NotInitialized),
            ended => return Ok(ended),
        };
        config.env = start::after_init(&config.env, mounted.environment);
        if let Some(entry_point) = mounted.entry_point {
            config.entry_points = vec![entry_point];
        }
        if let Some(image) = mounted.image {
            plan.lower = Lower::Memory(image);
        }
        check_entry_point(&config)?;
        environment = merge(&config.env)?;
        supervisor.set_program(&path);
        run.watchers.begin_program();
    }
    let mut program = program(plan, &run.command, &environment)?;
    run_program(&mut program, &supervisor, &signals)
}

fn not_initialized(how: &str) -> Refused {
    (Outcome::NotInitialized, format!("the init stage ended {how}, so Occlum starts no program"))
}

fn c_string(text: &str) -> Result<CString, Refused> {
    CString::new(text).map_err(|_| (Outcome::NotStarted, format!("argument {text:?}: expected text without NUL")))
}

fn c_strings(list: &[String]) -> Result<Vec<CString>, Refused> {
    list.iter().map(|text| c_string(text)).collect()
}

/// What the init stage has to mount. `plan`, the root of the application, is changed for an encrypted image.
fn mount_root(instance: &Instance, has_init: bool, plan: &mut RootPlan) -> Result<MountRoot, Refused> {
    let Some(file) = instance.encrypted_image() else {
        return Ok(if has_init { MountRoot::waiting(StoredImage::Plain) } else { MountRoot::done() });
    };
    if !plan.temporary {
        plan.temporary = true;
        say(format_args!(
            "note: what the program writes is kept in memory and lost at its end; Occlum encrypts it with the image key"
        ));
    }
    let sealed = encrypted_image::read(&file).map_err(|error| configuration(&error))?;
    Ok(MountRoot::waiting(StoredImage::Encrypted(sealed)))
}

/// Runs one program and what it starts to the end, kept apart in the best way that works here.
fn run_program(program: &mut Program, supervisor: &Supervisor, signals: &Signals) -> Result<Outcome, Refused> {
    let mut reasons = Vec::new();
    for isolation in Isolation::candidates(program.user.0).iter().copied() {
        program.isolation = isolation;
        program.root.in_user_namespace = isolation.has_user_namespace();
        let orphans = match isolation {
            Isolation::ChangedRoot => Some(Orphans::adopt().map_err(system("adopt orphans"))?),
            Isolation::Namespaces | Isolation::UserNamespace => None,
        };
        let (ours, theirs) = fd::packet_pair().map_err(system("make a socket"))?;
        let child = match isolation.fork() {
            Ok(Fork::Child) => {
                drop(ours);
                child::run(program, theirs)
            }
            Ok(Fork::Parent(child)) => child,
            Err(error) => {
                reasons.push(format!("{}: {error}", isolation.name()));
                continue;
            }
        };
        drop(theirs);
        let end = supervisor.run(child, ours, signals, isolation.name());
        if let Some(orphans) = orphans {
            orphans.end().map_err(system("end what the program left behind"))?;
        }
        program.root.release();
        match end.map_err(system("supervise the program"))? {
            RunEnd::Done(outcome) => return Ok(outcome),
            RunEnd::NotPermitted(reason) => reasons.push(format!("{}: {reason}", isolation.name())),
        }
    }
    supervisor::say_no_private_root(&reasons);
    Ok(Outcome::Failed(Failure::NoPrivateRoot))
}

/// Occlum runs one program tree per instance; with a writable layer on disk a second one would damage it.
fn lock(instance: &Instance) -> Result<File, Refused> {
    let path = instance.run_directory().join(".lock");
    let file = open_lock(&path).map_err(|error| {
        (Outcome::Failed(Failure::Configuration), format!("cannot write {}: {error}", path.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let directory = instance.directory().display();
            let text = format!("instance {directory} is running already; stop it, or make a copy of the directory");
            Err((Outcome::Failed(Failure::InstanceBusy), text))
        }
        Err(TryLockError::Error(error)) => {
            Err((Outcome::Failed(Failure::System), format!("cannot lock {}: {error}", path.display())))
        }
    }
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}
