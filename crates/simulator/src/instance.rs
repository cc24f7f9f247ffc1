//! An instance directory: `Occlum.json`, `image/` and `run/`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use marblerun_enclave_image::occlum_json::{self, ConfigError, OcclumJson};
use marblerun_software_tee::EnclaveIdentity;

use crate::measurement::{self, MeasureError};

/// What is simulated: a directory as `occlum init` makes it.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    config: OcclumJson,
}

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
        fs::read_dir(absolute.join("image")).map_err(missing("a readable directory image/"))?;
        Ok(Self { directory: absolute, config })
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
            Ok(EnclaveIdentity {
                mr_enclave: measurement::mr_enclave(&self.config.internal_configuration(), &self.image())?,
                mr_signer: measurement::mr_signer(signing_key)?,
                isv_prod_id: self.config.metadata.product_id,
                isv_svn: self.config.metadata.version_number,
                debug: self.config.metadata.debuggable,
            })
        };
        measure().map_err(|source| InstanceError::Measure { directory: self.directory.clone(), source })
    }
}
