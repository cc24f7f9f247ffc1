//! The premain as `/bin/init` of Occlum: the image of the application is mounted with what the Coordinator sent.
//!
//! Nothing is written but the UUID file. When this stage ends with code 0, Occlum starts the program of the host's choice
//! among the entry points; with every other code nothing is started.

use std::env;
use std::io;
use std::path::Path;

use marblerun_linux::occlum::{self, IMAGE_KEY_LEN};
use marblerun_marble::init_stage::{self, DIRECTORY, IMAGE_CONFIG_PATH, INIT_PATH, root_mount};
use marblerun_marble::{Config, Event, ImageType, RootMount};

use crate::log::Logger;
use crate::{Activated, PremainError, Timing, activate};

/// Why Occlum did not mount the image.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct MountError {
    reason: &'static str,
    source: io::Error,
}

/// The errno of an image that does not open.
const EACCES: i32 = 13;

impl MountError {
    fn new(source: io::Error) -> Self {
        const EPERM: i32 = 1;
        const EINVAL: i32 = 22;
        let reason = match source.raw_os_error() {
            Some(EPERM) => "it is mounted already",
            Some(EACCES) => "the image cannot be opened with this key, or it was changed",
            Some(EINVAL) => "Occlum does not accept this key or this environment",
            _ => "Occlum refused the call",
        };
        Self { reason, source }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        (self.source.raw_os_error() == Some(EACCES)).then_some(
            "the secret that the manifest sends as image key must be the key that the image was built with \
             (occlum build --image-key)",
        )
    }
}

/// True if this process is the init stage: its program is `/bin/init`.
///
/// Not the first argument decides, which the host chooses for an entry point, but what the LibOS says was loaded.
pub(crate) fn is_init() -> bool {
    match env::current_exe() {
        Ok(program) => program == Path::new(INIT_PATH),
        Err(_) => env::args_os().next().is_some_and(|name| name == INIT_PATH),
    }
}

/// Activates as a Marble of the init stage and has the image mounted.
pub(crate) fn run(logger: &Logger) -> Result<(), PremainError> {
    // Before the activation: what is missing in the image needs no Coordinator to be found.
    let image = ImageType::read(Path::new(IMAGE_CONFIG_PATH)).map_err(PremainError::Init)?;
    logger.event(&Event::FetchingEnvironment);
    let lookup = |name: &str| init_stage::variable(name, |name| env::var_os(name));
    let config = Config::read(lookup, Some(Path::new(DIRECTORY))).map_err(PremainError::Config)?;
    let Activated { parameters, replied } = activate(&config, logger)?;
    logger.event(&Event::SettingEnvironment);
    let mount = root_mount(parameters, image).map_err(PremainError::Init)?;
    logger.event(&Event::MountingRoot);
    Timing { replied, what: "the mount" }.tell(logger);
    mount_root(&mount).map_err(|error| PremainError::Mount(MountError::new(error)))?;
    // Key and variables are wiped here; the application will share this memory.
    drop(mount);
    logger.event(&Event::Done);
    Ok(())
}

fn mount_root(mount: &RootMount) -> io::Result<()> {
    let key: Option<&[u8; IMAGE_KEY_LEN]> = match &mount.key {
        None => None,
        Some(key) => Some(key.expose().try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?),
    };
    occlum::mount_root(key, &mount.environment)
}
