//! Where things are: the programs that are measured, and a place for their files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The repository, its release build, and a working directory that is removed in the end.
pub struct Surroundings {
    workspace: PathBuf,
    programs: PathBuf,
    work: PathBuf,
}

impl Surroundings {
    /// Makes the working directory beside the build: the system's temporary directory may be in memory, where a flush
    /// costs nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn new(workspace: PathBuf, programs: PathBuf) -> Result<Self> {
        let programs =
            fs::canonicalize(&programs).with_context(|| format!("no release build {}", programs.display()))?;
        let work = programs.join(format!("bench-{}", std::process::id()));
        fs::create_dir(&work).with_context(|| format!("cannot create {}", work.display()))?;
        Ok(Self { workspace, programs, work })
    }

    /// A file of the repository.
    pub fn source(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    /// A program of the release build.
    ///
    /// # Errors
    ///
    /// If it was not built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        ensure!(path.exists(), "{} was not built", path.display());
        Ok(path)
    }

    /// A program as it is installed into images, or else of the release build.
    ///
    /// # Errors
    ///
    /// If neither was built.
    pub fn installed(&self, name: &str) -> Result<PathBuf> {
        let path = self.workspace.join("dist").join(name);
        if path.exists() { Ok(path) } else { self.program(name) }
    }

    /// A new directory for one measurement.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// The size of a file in bytes.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn size(path: &Path) -> Result<f64> {
        Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len() as f64)
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        // What remains lies in the build directory and holds nothing of value.
        let _ = fs::remove_dir_all(&self.work);
    }
}
