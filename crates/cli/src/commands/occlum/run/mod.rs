//! `occlum run`: one start of an instance as a Marble, in `marble-sim`, without changing it.
//!
//! Standard output is the program's. The exit code is that of `marble-sim run`: the program's code & 0x7F, 128 + signal, 127
//! if it cannot be started, 201 to 206 failures of the simulator. What keeps it from being started at all is 200.

mod coordinator;
mod instance;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus as ChildStatus;
use std::time::Duration;

use marblerun_enclave_image::entry_points::EntryPointError;
use marblerun_enclave_image::occlum_json::ConfigError;
use marblerun_manifest::DecodeError;

use crate::args::Global;
use crate::args::occlum_run::RunArguments;
use crate::args::package_info::By;
use crate::development::{self, Signals, Site};
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::findings::Findings;
use crate::manifest_edit;
use crate::output::Output;
use crate::simulator::Simulator;
use crate::trust;
use coordinator::Coordinator;
use instance::Instance;

const SIGTERM: i32 = 15;
/// How long `marble-sim` may take to end what runs in it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance cannot be run.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: ConfigError,
    },
    #[error("expected an instance with the directory image/, got {}", .0.display())]
    NoImage(PathBuf),
    #[error("expected a file, directory or symbolic link in the image, got {}", .0.display())]
    NoFile(PathBuf),
    #[error("expected a directory for the Coordinator's pin, got {}", .0.display())]
    NoDirectory(PathBuf),
    #[error("manifest {}", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("manifest {} has no Marble {marble:?}, only {names}", path.display())]
    NoMarble { path: PathBuf, marble: String, names: String },
    #[error("manifest {} has several Marbles: {names}", path.display())]
    WhichMarble { path: PathBuf, names: String },
    #[error("--marble is {given:?}, but the measured EDG_MARBLE_TYPE is {measured:?}")]
    OtherType { given: String, measured: String },
    #[error("the instance does not learn that it is Marble {marble:?}: EDG_MARBLE_TYPE is in no list of Occlum.json")]
    TypeNotPassed { marble: String },
    #[error("expected the premain, or one file as the only entry point, got {entry_points}")]
    WhichProgram { entry_points: String },
    #[error(transparent)]
    EntryPoint(#[from] EntryPointError),
    #[error("the Coordinator is in recovery mode: its state does not open")]
    Recovery,
    #[error("the Coordinator's manifest names another enclave in package {package:?}; this one is {unique_id}")]
    OtherManifest { package: String, unique_id: String },
    #[error("the update is not in force: {missing} more users have to acknowledge it")]
    Pending { missing: u64 },
}

impl RunError {
    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config { .. } => Some("`marblerun occlum check` tells more"),
            Self::NoImage(_) => {
                Some("an instance with an encrypted image only is run with `marble-sim run --instance DIR`")
            }
            Self::WhichMarble { .. } => Some("choose one with --marble"),
            Self::TypeNotPassed { .. } => Some("add it to env.default, or `marblerun occlum prepare` does"),
            Self::WhichProgram { .. } => Some("`marblerun occlum prepare` makes the premain the only entry point"),
            Self::Recovery => Some("for `marblerun dev`: --fresh throws the state away"),
            Self::OtherManifest { .. } => Some(
                "leave --coordinator out, or start `marblerun dev --fresh`; --cert with --key of a user of that manifest makes \
                 the update",
            ),
            _ => None,
        }
    }
}

/// For `map_err`.
fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Io { step, path: path.to_owned(), source }
}

pub(super) fn run(global: &Global, arguments: &RunArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    // The terminal belongs to the program.
    output.end_progress();
    start(global, arguments, output).map_err(Failure::before_the_program)
}

fn start(global: &Global, arguments: &RunArguments, output: &mut Output) -> Result<ExitStatus, Failure> {
    let simulator = Simulator::find()?;
    let instance = Instance::read(arguments)?;
    let site = Site::of_user()?;
    trust::block_on(async {
        // Before there is anything that would have to be removed or ended.
        let mut signals = Signals::take().map_err(Cause::Runtime)?;
        let work = instance.work_directory()?;
        let ready = tokio::select! {
            ready = prepare(global, arguments, &simulator, &site, &instance, work.path(), output) => ready?,
            signal = signals.next() => return Ok(ExitStatus::Signal(signal)),
        };
        let status = ready.run(&simulator, arguments, &instance, &mut signals).await?;
        let trouble = ready.coordinator.stop().await;
        let code = code(status);
        if code != 0 {
            trouble.iter().try_for_each(|line| output.aside(&format!("coordinator: {line}")))?;
        }
        Ok(ExitStatus::Program(code))
    })
}

/// Everything that the program needs.
struct Ready {
    coordinator: Coordinator,
    copy: instance::WorkingCopy,
    root: PathBuf,
}

async fn prepare(
    global: &Global,
    arguments: &RunArguments,
    simulator: &Simulator,
    site: &Site,
    instance: &Instance,
    work: &Path,
    output: &mut Output,
) -> Result<Ready, Failure> {
    let coordinator = Coordinator::find(global, arguments, simulator, site, work, output);
    let copy = async { instance.copy_to(work).map_err(Failure::from) };
    // The copy is made while the Coordinator starts.
    let (coordinator, copy) = tokio::try_join!(coordinator, copy)?;
    copy.pin(&coordinator.root_hash())?;
    let measurement = simulator.measure(&copy.directory)?;
    let identity = [
        ("UniqueID", format!("\"{}\"", measurement.mrenclave)),
        ("SignerID", format!("\"{}\"", measurement.mrsigner)),
        ("ProductID", measurement.isv_prod_id.to_string()),
        ("SecurityVersion", measurement.isv_svn.to_string()),
    ];
    let identity = identity.each_ref().map(|(member, value)| (*member, value.as_str()));
    let path = arguments.manifest.clone().unwrap_or_else(|| arguments.directory.join("manifest.json"));
    // What keeps running while the program is compiled anew lets each build in.
    let by = coordinator.is_for_development.then_some(By::Signer);
    let by = by.filter(|_| manifest_edit::has_placeholder(&instance.manifest, &instance.package));
    let (manifest, _) = manifest_edit::set_package(&instance.manifest, &instance.package, &identity, by, &[])
        .map_err(|source| Cause::ManifestEdit { path: path.clone(), source })?;
    let findings = Findings::of(manifest.as_bytes(), &[]);
    if !findings.are_acceptable(true) {
        return Err(Cause::Findings { path, findings }.into());
    }
    if !coordinator.set(&manifest, &instance.package, &measurement, &arguments.credentials).await? {
        output.warn(&format!(
            "the Coordinator keeps the manifest that it has, which differs from {}: parameters come from that one",
            path.display()
        ))?;
    }
    let root = arguments.root.clone().unwrap_or_else(|| site.root());
    Ok(Ready { coordinator, copy, root })
}

impl Ready {
    /// Runs the program to its end, also if a signal asks for that.
    async fn run(
        &self,
        simulator: &Simulator,
        arguments: &RunArguments,
        instance: &Instance,
        signals: &mut Signals,
    ) -> Result<ChildStatus, Failure> {
        let mut words: Vec<OsString> = vec!["run".into()];
        if !arguments.lenient {
            words.push("--strict".into());
        }
        if arguments.force {
            words.push("--force".into());
        }
        words.extend(["--instance".into(), self.copy.directory.clone().into()]);
        words.extend(["--root".into(), self.root.clone().into(), "--".into(), instance.program.clone().into()]);
        words.extend(arguments.arguments.iter().map(OsString::from));
        let words: Vec<_> = words.iter().map(OsString::as_os_str).collect();
        let mut command = simulator.command(&words);
        command.env("EDG_MARBLE_COORDINATOR_ADDR", development::reachable(self.coordinator.marble).to_string());
        if instance.type_is_untrusted {
            command.env("EDG_MARBLE_TYPE", &instance.marble);
        }
        marblerun_linux::process::end_with_starter(&mut command, SIGTERM);
        let program = PathBuf::from(command.get_program());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(io_error("start", &program))?;
        let waited = tokio::select! {
            waited = child.wait() => Some(waited),
            _ = signals.next() => None,
        };
        let waited = match waited {
            Some(waited) => waited,
            None => {
                if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                    // From a terminal it has the signal already; it may have ended this moment.
                    let _ = marblerun_linux::process::kill(id, SIGTERM);
                }
                match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
                    Ok(waited) => waited,
                    Err(_) => {
                        let _ = child.kill().await;
                        child.wait().await
                    }
                }
            }
        };
        Ok(waited.map_err(io_error("wait for", &program))?)
    }
}

fn code(status: ChildStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + (signal & 0x7f)));
    // An exit code has eight bits.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Cause::OcclumRun(error).into()
    }
}
