//! The command line.

mod canaries;
mod collateral;
mod hostile;
mod image;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use marblerun_software_tee::service::ServiceError;
use marblerun_software_tee::{DevelopmentRoot, PlatformError, RootError, RootOptions, refuse_on_real_tee};
use rustls_pki_types::UnixTime;
use serde::Serialize;

use canaries::CanaryArguments;
use collateral::CollateralCommand;
use hostile::HostileArguments;

use crate::device::Quoting;
use crate::filter::Mode;
use crate::hostile::Hostile;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome};
use crate::run::{self, Run};
use crate::supervisor::{chain, say};
use crate::watch::Watchers;

/// Where the development root lives if nobody says otherwise, below the data directory.
const DEFAULT_ROOT: &str = "marble-sim/root";

/// Longest signing key that is read.
const MAX_KEY_LEN: usize = 64 * 1024;

/// Runs unmodified programs on plain Linux so that they see Occlum. A test tool: it protects nothing.
///
/// Exit codes of `run`: those of Occlum (the program's code & 0x7F, 128 + signal, 127 if it cannot be started, 1 if
/// the init stage of the instance failed), and 201 wrong instance or argument, 202 no private root possible, 203 another seccomp listener, 204 no usable development
/// root, 205 the instance is running already, 206 a system call failed, 207 a planted secret crossed the border (whatever
/// the program's own code), 208 a step of a hostile host's plan was not reached or could not be done.
#[derive(Debug, Parser)]
#[command(name = "marble-sim", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The development root under which quotes are made
    #[command(subcommand)]
    Root(RootCommand),
    /// Vendor collateral for the quotes
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// The image of an instance
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Prints the measurement of an instance as JSON, with a package for the manifest
    Measure {
        #[command(flatten)]
        instance: InstanceArguments,
    },
    /// Runs a program in an instance
    ///
    /// Example: marble-sim run --instance hello -- /bin/premain-libos
    Run(RunArguments),
    /// Runs a program under a host that does harm: a test bench for what must hold against it
    ///
    /// Ends with 208 if a step of the plan was not reached or could not be done.
    ///
    /// Example: marble-sim hostile --plan plan.json --instance hello -- /bin/premain-libos
    Hostile(HostileArguments),
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Makes a root that lives 30 days. It is no protection: whoever reads it can forge evidence
    ///
    /// Example: marble-sim root create ./root
    Create {
        /// Directory to make
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RootArgument {
    /// The development root [default: marble-sim/root in the user's data directory, made when missing]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// The platform that issues evidence.
#[derive(Debug, Args)]
struct PlatformArguments {
    #[command(flatten)]
    root: RootArgument,
    /// FMSPC of the platform, beginning with FF: machines of one kind share one [default: FF5357544545]
    #[arg(long, value_name = "HEX", value_parser = parse_fmspc)]
    fmspc: Option<[u8; 6]>,
}

#[derive(Debug, Args)]
struct InstanceArguments {
    /// Directory with Occlum.json and image/
    #[arg(long, value_name = "DIR")]
    instance: PathBuf,
    /// RSA-3072 key (exponent 3, PEM) that signs the enclave [default: a published development key]
    #[arg(long, value_name = "PEM")]
    sign_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    instance: InstanceArguments,
    #[command(flatten)]
    platform: PlatformArguments,
    /// Refuse what Occlum refuses: system calls by number and argument, static programs, long environments
    #[arg(long)]
    strict: bool,
    /// No DCAP, as in Occlum's SIM builds
    #[arg(long, conflicts_with = "empty_quote")]
    no_dcap: bool,
    /// The driver is there, but no quote can be made
    #[arg(long)]
    empty_quote: bool,
    /// Simulate although this machine has a real TEE
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    canaries: CanaryArguments,
    /// The program, an absolute path in the image, and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// Parses the arguments, does what they say and prints at most one error.
pub fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(line) => line.command,
        Err(error) => {
            // Help and version are not errors. A closed stream is not one either.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match command {
        Command::Root(RootCommand::Create { dir }) => create_root(&dir),
        Command::Collateral(command) => collateral::run(command),
        Command::Image(command) => image::run(command),
        Command::Measure { instance } => measure(&instance),
        Command::Run(arguments) => run_program(arguments, |_| Ok(None)),
        Command::Hostile(arguments) => {
            let (plan, run) = arguments.split();
            run_program(run, |instance| plan.host(instance).map(Some))
        }
    };
    result.unwrap_or_else(|(failure, error)| {
        say(format_args!("error: {}", chain(error.as_ref())));
        let hint = error.downcast_ref::<RootError>().and_then(RootError::hint);
        if let Some(hint) = hint.or(error.downcast_ref::<ServiceError>().and_then(ServiceError::hint)) {
            say(format_args!("hint: {hint}"));
        }
        Outcome::Failed(failure).into()
    })
}

type CommandResult = Result<ExitCode, (Failure, anyhow::Error)>;

fn because<E: Into<anyhow::Error>>(failure: Failure) -> impl FnOnce(E) -> (Failure, anyhow::Error) {
    move |error| (failure, error.into())
}

fn create_root(dir: &Path) -> CommandResult {
    let root = DevelopmentRoot::create(dir, UnixTime::now(), RootOptions::default())
        .map_err(because(Failure::DevelopmentRoot))?;
    warn_of_root(&root, dir);
    Ok(ExitCode::SUCCESS)
}

fn warn_of_root(root: &DevelopmentRoot, dir: &Path) {
    say(format_args!("made the development root {:?} in {}", root.subject(), dir.display()));
    say(format_args!(
        "warning: it is NOT protection: whoever can read {} can forge evidence and open what was sealed under it; it \
         expires in 30 days, and verifiers trust it only where they are told to",
        dir.join("seed").display()
    ));
}

/// The output of `marble-sim measure`.
#[derive(Serialize)]
struct Measurement {
    mrenclave: String,
    mrsigner: String,
    isv_prod_id: u16,
    isv_svn: u16,
    debug: bool,
    /// An entry for `Packages` of a manifest.
    package: Package,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Package {
    #[serde(rename = "UniqueID")]
    unique_id: String,
    debug: bool,
}

fn measure(arguments: &InstanceArguments) -> CommandResult {
    let (_, identity) = open_instance(arguments)?;
    let mr_enclave = hex::encode(identity.mr_enclave);
    let measurement = Measurement {
        mrenclave: mr_enclave.clone(),
        mrsigner: hex::encode(identity.mr_signer),
        isv_prod_id: identity.isv_prod_id,
        isv_svn: identity.isv_svn,
        debug: identity.debug,
        package: Package { unique_id: mr_enclave, debug: identity.debug },
    };
    let text = serde_json::to_string_pretty(&measurement).map_err(because(Failure::System))?;
    print(&format!("{text}\n"))
}

fn run_program(
    arguments: RunArguments,
    host: impl FnOnce(&Instance) -> Result<Option<Rc<Hostile>>, (Failure, anyhow::Error)>,
) -> CommandResult {
    if !arguments.force {
        refuse_on_real_tee(Path::new("/")).map_err(because(Failure::Configuration))?;
    }
    let (instance, identity) = open_instance(&arguments.instance)?;
    let root = open_platform(&arguments.platform)?;
    let mut environment: Vec<_> = std::env::vars_os().collect();
    let hostile = host(&instance)?;
    if let Some(hostile) = &hostile {
        hostile.begin(&mut environment);
    }
    let border = arguments.canaries.border(&instance, &arguments.command, &environment)?;
    let outcome = run::run(Run {
        instance,
        identity,
        root,
        mode: if arguments.strict { Mode::Strict } else { Mode::Lenient },
        quoting: match (arguments.no_dcap, arguments.empty_quote) {
            (true, _) => Quoting::None,
            (_, true) => Quoting::Empty,
            _ => Quoting::Dcap,
        },
        command: arguments.command,
        environment,
        watchers: Watchers { border: border.clone(), hostile: hostile.clone() },
    });
    let outcome = match hostile {
        Some(hostile) if !hostile.end() => Outcome::Failed(Failure::PlanNotFollowed),
        _ => outcome,
    };
    match border {
        Some(border) => Ok(arguments.canaries.finish(&border, outcome)?.into()),
        None => Ok(outcome.into()),
    }
}

fn open_instance(
    arguments: &InstanceArguments,
) -> Result<(Instance, marblerun_software_tee::EnclaveIdentity), (Failure, anyhow::Error)> {
    let open = || {
        let key = arguments.sign_key.as_deref().map(read_key).transpose()?;
        let instance = Instance::open(&arguments.instance)?;
        let identity = instance.measure(key.as_deref())?;
        anyhow::Ok((instance, identity))
    };
    open().map_err(because(Failure::Configuration))
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    let bytes = marblerun_linux::regular_file::read_bounded(path, MAX_KEY_LEN)
        .with_context(|| format!("signing key {} cannot be read", path.display()))?
        .ok_or_else(|| anyhow!("signing key {}: expected a PEM file, got nothing", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("signing key {}: expected PEM", path.display()))
}

fn open_root(argument: &RootArgument) -> Result<DevelopmentRoot, (Failure, anyhow::Error)> {
    let now = UnixTime::now();
    if let Some(dir) = &argument.root {
        return DevelopmentRoot::open(dir, now).map_err(because(Failure::DevelopmentRoot));
    }
    let dir = default_root().ok_or_else(|| anyhow!("no home directory: say where the development root is with --root"));
    let dir = dir.map_err(because(Failure::DevelopmentRoot))?;
    match DevelopmentRoot::open(&dir, now) {
        Err(RootError::Missing { .. }) => {
            let root = DevelopmentRoot::create(&dir, now, RootOptions::default())
                .map_err(because(Failure::DevelopmentRoot))?;
            warn_of_root(&root, &dir);
            Ok(root)
        }
        other => other.map_err(because(Failure::DevelopmentRoot)),
    }
}

fn open_platform(platform: &PlatformArguments) -> Result<DevelopmentRoot, (Failure, anyhow::Error)> {
    let root = open_root(&platform.root)?;
    let Some(fmspc) = platform.fmspc else { return Ok(root) };
    let pck_ca = root.pck_ca();
    root.with_platform(fmspc, pck_ca).map_err(|error| match error {
        PlatformError::Fmspc { .. } => (Failure::Configuration, error.into()),
        _ => (Failure::DevelopmentRoot, error.into()),
    })
}

fn parse_fmspc(text: &str) -> Result<[u8; 6], String> {
    let mut fmspc = [0; 6];
    hex::decode_to_slice(text, &mut fmspc).map_err(|_| "expected 12 hexadecimal digits".to_owned())?;
    Ok(fmspc)
}

/// `$XDG_DATA_HOME` or `~/.local/share` (XDG Base Directory Specification).
fn default_root() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join(DEFAULT_ROOT))
}

fn print(text: &str) -> CommandResult {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(because(Failure::System)(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
