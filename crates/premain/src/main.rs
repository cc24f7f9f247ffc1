//! `premain-libos`: runs in the enclave before the application, activates it as a Marble and becomes it.
//!
//! The program is linked dynamically and has one thread when it calls `execve`, as Occlum needs it. What it frees is
//! wiped, because in a LibOS the application shares its memory.

mod exec;
mod log;

use std::convert::Infallible;
use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use marblerun_linux::wiping_alloc::WipingAllocator;
use marblerun_marble::{
    Chain, Config, ConfigError, CoordinatorPin, Event, ImagePolicy, MarbleError, OcclumIssuer, PinFileError,
    RestrictionError, Restrictions, SystemPace, parameters, pin, prepare, restrictions,
};
use marblerun_tee::{Runtime, runtime};
use rustls_pki_types::UnixTime;

use crate::exec::ExecError;
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
            Self::Uname(_) | Self::Pin(_) | Self::Restrictions(_) => None,
        }
    }
}

fn main() -> ExitCode {
    let logger = Logger::new(env::var_os(log::FORMAT).as_deref());
    match run(&logger) {
        Ok(never) => match never {},
        Err(error) => {
            let hint = error.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            logger.fatal(&format!("{}{hint}", Chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Returns only if the application was not started.
fn run(logger: &Logger) -> Result<Infallible, PremainError> {
    match runtime().map_err(PremainError::Uname)? {
        Runtime::Occlum => {}
        Runtime::Gramine => return Err(PremainError::Runtime { found: "Gramine".to_owned() }),
        Runtime::Other { description } => return Err(PremainError::Runtime { found: description }),
    }
    logger.info("detected libOS: Occlum");
    logger.info("starting PreMain");
    let mut report = |event: Event<'_>| logger.event(&event);

    report(Event::FetchingEnvironment);
    let working_directory = env::current_dir().ok();
    let config = Config::read(|name| env::var_os(name), working_directory.as_deref()).map_err(PremainError::Config)?;
    let image = ImagePolicy {
        pin: CoordinatorPin::read(Path::new(pin::PIN_PATH)).map_err(PremainError::Pin)?,
        restrictions: Restrictions::read(Path::new(restrictions::RESTRICTIONS_PATH))
            .map_err(PremainError::Restrictions)?,
    };
    let issuer = OcclumIssuer::default();
    let mut pace = SystemPace::start();
    let received = prepare(&config, &image, &issuer, now(), &mut pace, &mut report).map_err(PremainError::Marble)?;

    report(Event::CreatingFiles);
    parameters::write_files(&received).map_err(|error| PremainError::Marble(error.into()))?;
    report(Event::SettingEnvironment);
    let launch = parameters::launch(received, env::vars_os());
    report(Event::Done);
    exec::exec(launch).map_err(PremainError::Exec)
}

/// The host's clock. Only the premain's own certificate shows it, and nobody checks its validity.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
