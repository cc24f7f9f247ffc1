//! What is kept of a Coordinator for development between two starts.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use marblerun_enclave_image::libraries;
use marblerun_pki::Certificate;
use marblerun_pki::pem;
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::coordinator::PROGRAM;
use super::{Addresses, DevelopmentError, io_error};
use crate::failure::Failure;
use crate::files;
use crate::programs::{self, Program};
use crate::simulator::Simulator;

/// Configuration of the Coordinator's instance, as in the sample.
const OCCLUM_JSON: &str = include_str!("../../../../samples/occlum-coordinator/Occlum.json");
/// A root that lives shorter than this is replaced: it should not end in the middle of the work.
const SHORTEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Collateral is written anew when it is older; it is good for 30 days, or as long as the root.
const COLLATERAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Images of programs that are not used any more are kept this long: one of them may run.
const IMAGE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often the lock is tried, and how long is waited in between.
const LOCK_ATTEMPTS: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Longest file that is read here.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    directory: PathBuf,
}

/// Who renews the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The holder of [`Site::lock`].
    Caller,
    /// Somebody else may hold it.
    Unknown,
}

/// What became of the development root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It is the kept one.
    Kept,
    /// There was none.
    Made,
    /// The kept one was expired, or nearly so.
    Renewed,
}

impl Site {
    /// The user's.
    pub(crate) fn of_user() -> Result<Self, DevelopmentError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
        let directory = data.ok_or(DevelopmentError::NoDataDirectory)?.join("marblerun/dev");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io_error("create", &directory))?;
        Ok(Self { directory })
    }

    /// Keeps other processes from using the state as long as the file is open.
    pub(crate) fn lock(&self) -> Result<File, DevelopmentError> {
        // Another command that only looks whether the state is in use holds the lock for a moment.
        for _ in 1..LOCK_ATTEMPTS {
            match self.try_lock() {
                Err(DevelopmentError::Busy(_)) => std::thread::sleep(LOCK_PAUSE),
                done => return done,
            }
        }
        self.try_lock()
    }

    fn try_lock(&self) -> Result<File, DevelopmentError> {
        let path = self.directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(DevelopmentError::Busy(self.directory.clone())),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// The development root: whoever reads it can forge evidence.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The root's certificate, which verifiers trust.
    pub(crate) fn root_certificate(&self) -> PathBuf {
        self.root().join("root.pem")
    }

    /// The instance whose state is kept.
    pub(crate) fn instance(&self) -> PathBuf {
        self.directory.join("coordinator")
    }

    /// Expected measurement of the Coordinator.
    pub(crate) fn era_config(&self) -> PathBuf {
        self.directory.join("era.json")
    }

    /// Collateral for quotes under the root.
    pub(crate) fn collateral(&self) -> PathBuf {
        self.directory.join("collateral")
    }

    /// Throws the kept state away.
    pub(crate) fn forget_state(&self) -> Result<(), DevelopmentError> {
        remove(&self.instance().join("host/state"))
    }

    /// Makes sure that there is a root that is good for a while, with collateral.
    ///
    /// A state under another root cannot be opened, and is thrown away with the old root; as long as somebody else than the
    /// caller uses it, the old root stays.
    pub(crate) fn renew_root(&self, simulator: &Simulator, owner: Owner) -> Result<Renewal, Failure> {
        // Several may start at the same time.
        let path = self.directory.join("root.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let _lock = lock.and_then(|file| file.lock().map(|()| file)).map_err(io_error("lock", &path))?;
        let root = self.root();
        let renewal = match self.root_expires()? {
            None => Renewal::Made,
            Some(expires) if expires.as_secs() > UnixTime::now().as_secs() + SHORTEST_LIFE.as_secs() => Renewal::Kept,
            // Whoever uses it can go on with it for what remains of its life.
            Some(_) if owner == Owner::Unknown && self.is_in_use()? => Renewal::Kept,
            Some(_) => Renewal::Renewed,
        };
        if renewal != Renewal::Kept {
            self.forget_state()?;
            remove(&self.collateral())?;
            remove(&root)?;
            simulator.call(&["root".as_ref(), "create".as_ref(), root.as_os_str()])?;
        }
        let collateral = self.collateral();
        if !is_younger(&collateral, COLLATERAL_AGE) {
            remove(&collateral)?;
            let arguments =
                ["collateral".as_ref(), "export".as_ref(), collateral.as_os_str(), "--root".as_ref(), root.as_os_str()];
            simulator.call(&arguments)?;
        }
        Ok(renewal)
    }

    /// Whether `marblerun dev` runs.
    fn is_in_use(&self) -> Result<bool, DevelopmentError> {
        match self.try_lock() {
            Ok(_lock) => Ok(false),
            Err(DevelopmentError::Busy(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// When the root expires; `None` if there is none.
    fn root_expires(&self) -> Result<Option<UnixTime>, DevelopmentError> {
        let path = self.root_certificate();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(io_error("read", &path))?,
        };
        let refused = |reason: String| DevelopmentError::Root { path: path.clone(), reason };
        let certificates = pem::decode_certificates(&text).map_err(|error| refused(error.to_string()))?;
        let der = certificates.first().ok_or_else(|| refused("no certificate".to_owned()))?;
        let validity = Certificate::parse(der).and_then(|certificate| certificate.validity());
        Ok(Some(validity.map_err(|error| refused(error.to_string()))?.not_after))
    }

    /// Puts the parts of an instance of the Coordinator into `instance`. Returns its measurement.
    ///
    /// The image is made once for each Coordinator and root; the instance has a link to it.
    pub(crate) fn prepare(&self, simulator: &Simulator, instance: &Path) -> Result<String, Failure> {
        let image = self.image(simulator)?;
        let host = instance.join("host");
        create(&host.join("state"))?;
        remove(&host.join("collateral"))?;
        copy_files(&self.collateral(), &host.join("collateral"))?;
        write(&instance.join("Occlum.json"), OCCLUM_JSON.as_bytes())?;
        let link = instance.join("image");
        remove(&link)?;
        symlink(image.join("image"), &link).map_err(io_error("create", &link))?;
        let known = image.join("mrenclave");
        match fs::read_to_string(&known) {
            Ok(measurement) if !measurement.is_empty() => Ok(measurement),
            _ => {
                let measurement = simulator.measure(instance)?.mrenclave;
                files::replace("measurement", &known, measurement.as_bytes())?;
                Ok(measurement)
            }
        }
    }

    /// The directory with the image of the installed Coordinator; made where it is missing. It has its name from everything
    /// that decides on the image and its measurement.
    fn image(&self, simulator: &Simulator) -> Result<PathBuf, Failure> {
        let program = programs::find(Program::Coordinator)?;
        let root = files::read("software root", &self.root_certificate(), MAX_FILE_BYTES)?;
        let root = String::from_utf8_lossy(&root);
        let key = [&look_of(&program)?, &look_of(simulator.program())?, &*root, OCCLUM_JSON].join("\n");
        let images = self.directory.join("images");
        let directory = images.join(&hex::encode(digest(&SHA256, key.as_bytes()))[..16]);
        if directory.exists() {
            return Ok(directory);
        }
        create(&images)?;
        remove_old(&images)?;
        // Complete or not at all, also where two processes do it at the same time.
        let making = images.join(format!(".making-{}", std::process::id()));
        remove(&making)?;
        let image = making.join("image");
        create(&image.join("etc/marblerun"))?;
        libraries::add_program(&image, &program, Path::new(PROGRAM)).map_err(DevelopmentError::from)?;
        let trust = json!({"Class": "software", "Roots": [root]});
        write(&image.join("etc/marblerun/trust.json"), format!("{trust}\n").as_bytes())?;
        match fs::rename(&making, &directory) {
            Err(source) if !directory.exists() => Err(io_error("create", &directory)(source).into()),
            Err(_) => {
                remove(&making)?;
                Ok(directory)
            }
            Ok(()) => Ok(directory),
        }
    }

    /// Writes down where the running Coordinator is.
    pub(crate) fn announce(&self, addresses: Addresses) -> Result<(), Failure> {
        let text = json!({"client": addresses.client.to_string(), "marble": addresses.marble.to_string()});
        Ok(files::replace("addresses", &self.directory.join("running.json"), format!("{text}\n").as_bytes())?)
    }

    /// Where the Coordinator of `marblerun dev` is, if that runs.
    pub(crate) fn running(&self) -> Result<Addresses, Failure> {
        if !self.is_in_use()? {
            return Err(DevelopmentError::NotRunning.into());
        }
        let text = files::read("addresses", &self.directory.join("running.json"), MAX_FILE_BYTES);
        let text = text.map_err(|_| DevelopmentError::NotRunning)?;
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| DevelopmentError::NotRunning)?;
        let address = |name: &str| value[name].as_str().and_then(|text| text.parse().ok());
        match (address("client"), address("marble")) {
            (Some(client), Some(marble)) => Ok(Addresses { client, marble }),
            _ => Err(DevelopmentError::NotRunning.into()),
        }
    }

    /// Writes down that no Coordinator runs.
    pub(crate) fn withdraw(&self) -> Result<(), DevelopmentError> {
        remove(&self.directory.join("running.json"))
    }
}

/// What a program's file looks like: another one looks different.
fn look_of(program: &Path) -> Result<String, DevelopmentError> {
    let metadata = fs::metadata(program).map_err(io_error("read", program))?;
    let (modified, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    Ok(format!("{} {} {} {modified}.{nanoseconds}", program.display(), metadata.ino(), metadata.len()))
}

fn create(directory: &Path) -> Result<(), DevelopmentError> {
    fs::create_dir_all(directory).map_err(io_error("create", directory))
}

fn write(file: &Path, content: &[u8]) -> Result<(), DevelopmentError> {
    fs::write(file, content).map_err(io_error("write", file))
}

/// Removes a file, a link or a directory with everything in it, if there is one.
fn remove(path: &Path) -> Result<(), DevelopmentError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn is_younger(file: &Path, age: Duration) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|is| is < age))
}

fn remove_old(images: &Path) -> Result<(), DevelopmentError> {
    for entry in fs::read_dir(images).map_err(io_error("read", images))? {
        let path = entry.map_err(io_error("read", images))?.path();
        if !is_younger(&path, IMAGE_AGE) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Copies a directory of files and directories.
fn copy_files(from: &Path, to: &Path) -> Result<(), DevelopmentError> {
    create(to)?;
    for entry in fs::read_dir(from).map_err(io_error("read", from))? {
        let from = entry.map_err(io_error("read", from))?.path();
        let Some(name) = from.file_name() else { continue };
        let to = to.join(name);
        if from.is_dir() {
            copy_files(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(io_error("copy", &from))?;
        }
    }
    Ok(())
}
