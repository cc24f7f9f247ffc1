//! `premain-libos`: runs in the enclave before the application, activates it as a Marble and becomes it.
//!
//! As `/bin/init` of Occlum's init image it activates, hands key and environment over to Occlum, which mounts the image
//! of the application, and ends; see [`init`].
//!
//! The program is linked dynamically and has one thread when it calls `execve`, as Occlum needs it. What it frees is
//! wiped, because in a LibOS the application shares its memory.

mod exec;
mod init;
mod log;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use marblerun_linux::wiping_alloc::WipingAllocator;
use marblerun_marble::{
    Chain, Config, ConfigError, CoordinatorPin, Event, ImagePolicy, InitError, MarbleError, OcclumIssuer, Parameters,
    PinFileError, RestrictionError, Restrictions, SystemPace, parameters, pin, prepare, restrictions,
};
use marblerun_tee::{Runtime, runtime};
use rustls_pki_types::UnixTime;

use crate::exec::ExecError;
use crate::init::MountError;
use crate::log::Logger;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// Why the application does not run.
#[derive(Debug, thiserror::Error)]
enum PremainError {
    #[error("failed to detect libOS: the kernel does not say what it is")]
    Uname(#[source] std::io::Error),
    #[error("failed to detect libOS: expected Occlum, got {found}")]
    Runtime { found: String },
    #[error("activating Occlum Marble failed")]
    Config(#[source] ConfigError),
    #[error("activating Occlum Marble failed")]
    Pin(#[source] PinFileError),
    #[error("activating Occlum Marble failed")]
    Restrictions(#[source] RestrictionError),
    #[error("activating Occlum Marble failed")]
    Marble(#[source] MarbleError),
    #[error("starting the application failed")]
    Exec(#[source] ExecError),
    #[error("mounting the image of the application failed")]
    Init(#[source] InitError),
    #[error("mounting the image of the application failed")]
    Mount(#[source] MountError),
}

impl PremainError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Runtime { .. } => Some(
                "this program belongs into an Occlum image as its entry point; marble-sim runs such an image without \
                 SGX hardware",
            ),
            Self::Config(error) => error.hint(),
            Self::Marble(error) => error.hint(),
            Self::Exec(error) => error.hint(),
            Self::Init(error) => error.hint(),
            Self::Mount(error) => error.hint(),
            Self::Uname(_) | Self::Pin(_) | Self::Restrictions(_) => None,
        }
    }
}

fn main() -> ExitCode {
    let logger = Logger::new(env::var_os(log::FORMAT).as_deref());
    match run(&logger) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            logger.fatal(&format!("{}{hint}", Chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Returns when the init stage is over, or if the application was not started.
fn run(logger: &Logger) -> Result<(), PremainError> {
    match runtime().map_err(PremainError::Uname)? {
        Runtime::Occlum => {}
        Runtime::Gramine => return Err(PremainError::Runtime { found: "Gramine".to_owned() }),
        Runtime::Other { description } => return Err(PremainError::Runtime { found: description }),
    }
    logger.info("detected libOS: Occlum");
    logger.info("starting PreMain");
    if init::is_init() { init::run(logger) } else { become_application(logger) }
}

fn become_application(logger: &Logger) -> Result<(), PremainError> {
    logger.event(&Event::FetchingEnvironment);
    let working_directory = env::current_dir().ok();
    let config = Config::read(|name| env::var_os(name), working_directory.as_deref()).map_err(PremainError::Config)?;
    let activated = activate(&config, logger)?;

    logger.event(&Event::CreatingFiles);
    parameters::write_files(&activated.parameters).map_err(|error| PremainError::Marble(error.into()))?;
    logger.event(&Event::SettingEnvironment);
    let launch = parameters::launch(activated.parameters, env::vars_os());
    logger.event(&Event::Done);
    let timing = Timing { replied: activated.replied, what: "the program" };
    match exec::exec(launch, || timing.tell(logger)).map_err(PremainError::Exec)? {}
}

/// What the Coordinator sent, checked, and when.
struct Activated {
    parameters: Parameters,
    replied: Option<Instant>,
}

fn activate(config: &Config, logger: &Logger) -> Result<Activated, PremainError> {
    let image = ImagePolicy {
        pin: CoordinatorPin::read(Path::new(pin::PIN_PATH)).map_err(PremainError::Pin)?,
        restrictions: Restrictions::read(Path::new(restrictions::RESTRICTIONS_PATH))
            .map_err(PremainError::Restrictions)?,
    };
    let issuer = OcclumIssuer::default();
    let mut pace = SystemPace::start();
    let mut replied = None;
    let mut report = |event: Event<'_>| {
        if let Event::Replied { received } = event {
            replied = Some(received);
        }
        logger.event(&event);
    };
    let parameters = prepare(config, &image, &issuer, now(), &mut pace, &mut report).map_err(PremainError::Marble)?;
    Ok(Activated { parameters, replied })
}

/// Asks for one line with the time from the Coordinator's answer to the last call of the premain.
const TIMING: &str = "EDG_MARBLE_TIMING";

/// How long the premain took after the Coordinator's answer.
struct Timing {
    replied: Option<Instant>,
    what: &'static str,
}

impl Timing {
    /// Writes the line if [`TIMING`] is `1`.
    fn tell(&self, logger: &Logger) {
        if let Some(replied) = self.replied
            && env::var_os(TIMING).is_some_and(|value| value == "1")
        {
            let milliseconds = replied.elapsed().as_secs_f64() * 1e3;
            logger.info(&format!("{milliseconds:.3} ms from the Coordinator's answer to {}", self.what));
        }
    }
}

/// The host's clock. Only the premain's own certificate shows it, and nobody checks its validity.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
