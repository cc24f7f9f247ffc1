//! An instance directory: `Occlum.json`, `image/` (or `image.encrypted`), `run/`, and perhaps `initfs/` for the init stage.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use marblerun_enclave_image::elf;
use marblerun_enclave_image::occlum_json::{self, ConfigError, OcclumJson};
use marblerun_software_tee::EnclaveIdentity;

use crate::measurement::{self, Image, MeasureError, Measured};

/// What is simulated: a directory as `occlum init` makes it.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    config: OcclumJson,
    init: Init,
    is_encrypted: bool,
}

/// Who mounts the image of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// There is no image of an init stage: the image is mounted as Occlum's init would.
    Absent,
    /// The one that `occlum new` puts there. It is linked against Occlum's C library and runs in Occlum only; what it does, the
    /// mount, is done in its place.
    OfOcclum,
    /// Another program, which runs.
    Program,
}

/// The image of the init stage.
const INIT_IMAGE: &str = "initfs";
/// The program of the init stage.
const INIT: &str = "initfs/bin/init";
/// The loader of the C library against which Occlum's init is linked.
const OCCLUM_INIT_LOADER: &str = "/lib/ld-musl-x86_64.so.1";
/// The image of the application where it is encrypted.
pub const ENCRYPTED_IMAGE: &str = "image.encrypted";

/// The directory is not a usable instance.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A part is missing or cannot be read.
    #[error("instance {}: expected {what}", directory.display())]
    Missing {
        /// The instance directory.
        directory: PathBuf,
        /// What should be there.
        what: &'static str,
        /// Why it cannot be used.
        #[source]
        source: io::Error,
    },
    /// The configuration is larger than any that was written by hand.
    #[error("instance {}: Occlum.json: expected at most {} bytes", .0.display(), occlum_json::MAX_LEN)]
    ConfigTooLong(PathBuf),
    /// The configuration is wrong.
    #[error("instance {}", directory.display())]
    Config {
        /// The instance directory.
        directory: PathBuf,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The image is there in clear and encrypted.
    #[error("instance {}: expected either image/ or {ENCRYPTED_IMAGE}, got both", .0.display())]
    TwoImages(PathBuf),
    /// An init stage, which an encrypted image needs, without its program.
    #[error(
        "instance {}: expected the program {INIT} for the init stage (it gets the key of an encrypted image)",
        directory.display()
    )]
    NoInit {
        /// The instance directory.
        directory: PathBuf,
        /// Why it cannot be used.
        #[source]
        source: io::Error,
    },
    /// An encrypted image behind Occlum's init, which gets no key from a Coordinator.
    #[error(
        "instance {}: expected an init that gets the key of the encrypted image from a Coordinator, got Occlum's own in {INIT}",
        .0.display()
    )]
    OcclumInit(PathBuf),
    /// The image or the signing key cannot be measured.
    #[error("instance {} cannot be measured", directory.display())]
    Measure {
        /// The instance directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: MeasureError,
    },
}

impl Instance {
    /// Reads the configuration and looks for the image.
    ///
    /// # Errors
    /// [`InstanceError`], which says what was expected where.
    pub fn open(directory: &Path) -> Result<Self, InstanceError> {
        let missing = |what| move |source| InstanceError::Missing { directory: directory.to_owned(), what, source };
        // Mounts need an absolute path without links.
        let absolute = directory.canonicalize().map_err(missing("a directory"))?;
        let file = File::open(absolute.join("Occlum.json")).map_err(missing("a readable Occlum.json"))?;
        let mut bytes = Vec::new();
        file.take(occlum_json::MAX_LEN + 1).read_to_end(&mut bytes).map_err(missing("a readable Occlum.json"))?;
        if bytes.len() as u64 > occlum_json::MAX_LEN {
            return Err(InstanceError::ConfigTooLong(absolute));
        }
        let config = OcclumJson::parse(&bytes)
            .map_err(|source| InstanceError::Config { directory: absolute.clone(), source })?;
        let is_encrypted = absolute.join(ENCRYPTED_IMAGE).exists();
        match fs::read_dir(absolute.join("image")) {
            Ok(_) if is_encrypted => return Err(InstanceError::TwoImages(absolute)),
            Err(_) if is_encrypted => {}
            image => drop(image.map_err(missing("a readable directory image/"))?),
        }
        let init = if is_encrypted || absolute.join(INIT_IMAGE).exists() {
            init(&absolute.join(INIT))
                .map_err(|source| InstanceError::NoInit { directory: absolute.clone(), source })?
        } else {
            Init::Absent
        };
        if is_encrypted && init == Init::OfOcclum {
            return Err(InstanceError::OcclumInit(absolute));
        }
        Ok(Self { directory: absolute, config, init, is_encrypted })
    }

    /// The directory, absolute and without links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration.
    pub fn config(&self) -> &OcclumJson {
        &self.config
    }

    /// The measured layer of the root.
    pub fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    /// The image of the application where it is encrypted.
    pub fn encrypted_image(&self) -> Option<PathBuf> {
        self.is_encrypted.then(|| self.directory.join(ENCRYPTED_IMAGE))
    }

    /// Who mounts the image.
    pub fn init(&self) -> Init {
        self.init
    }

    /// The measured layer of the init stage's root, if there is one.
    pub fn init_image(&self) -> Option<PathBuf> {
        (self.init != Init::Absent).then(|| self.directory.join(INIT_IMAGE))
    }

    /// Where the writable layer lives.
    pub fn run_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Measures the instance as it is now, signed with `signing_key` (PEM) or the published development key.
    ///
    /// # Errors
    /// [`InstanceError::Measure`].
    pub fn measure(&self, signing_key: Option<&str>) -> Result<EnclaveIdentity, InstanceError> {
        let measure = || {
            let (image, encrypted, init) = (self.image(), self.encrypted_image(), self.init_image());
            let measured = Measured {
                image: encrypted.as_deref().map_or(Image::Directory(&image), Image::Encrypted),
                init: init.as_deref(),
            };
            Ok(EnclaveIdentity {
                mr_enclave: measurement::mr_enclave(&self.config.internal_configuration(), measured)?,
                mr_signer: measurement::mr_signer(signing_key)?,
                isv_prod_id: self.config.metadata.product_id,
                isv_svn: self.config.metadata.version_number,
                debug: self.config.metadata.debuggable,
            })
        };
        measure().map_err(|source| InstanceError::Measure { directory: self.directory.clone(), source })
    }
}

/// Whose init this file is.
fn init(path: &Path) -> io::Result<Init> {
    // Nothing but a regular file is a program, and opening some others would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Ok(Init::Program);
    }
    Ok(match elf::examine(File::open(path)?)? {
        elf::Image::Dynamic { interpreter } if interpreter == OCCLUM_INIT_LOADER => Init::OfOcclum,
        _ => Init::Program,
    })
}
