//! Collateral as files, in the layout that programs without a network read.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;

use crate::collateral::CollateralOptions;
use crate::error::IssueError;
use crate::files;
use crate::root::DevelopmentRoot;

/// A bundle could not be written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The collateral could not be made.
    #[error("collateral cannot be made")]
    Issue(#[source] IssueError),
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DevelopmentRoot {
    /// Writes collateral issued at `now` to `<dir>/dcap/sgx-<FMSPC>-<platform|processor>.json` and returns that path.
    ///
    /// An existing file is replaced in one step, so that a program which re-reads it never sees a part.
    ///
    /// # Errors
    /// [`BundleError`] if the collateral cannot be made or written.
    pub fn export_bundle(
        &self,
        dir: &Path,
        now: UnixTime,
        options: &CollateralOptions,
    ) -> Result<PathBuf, BundleError> {
        let collateral = self.collateral(now, options).map_err(BundleError::Issue)?;
        let directory = dir.join("dcap");
        files::create_directory(&directory, false)
            .map_err(|source| BundleError::Write { path: directory.clone(), source })?;
        let fmspc = hex::encode_upper(options.fmspc);
        let path = directory.join(format!("sgx-{fmspc}-{}.json", self.pck_ca().as_str()));
        files::write_atomically(&path, collateral.as_bytes())
            .map_err(|source| BundleError::Write { path: path.clone(), source })?;
        Ok(path)
    }
}
