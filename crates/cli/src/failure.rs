//! Why a command failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use marblerun_attestation::RootError;
use marblerun_client::{AddressError, ChainError, ClientError, EraConfigError};
use marblerun_collateral::BundleError;
use marblerun_pki::pem::PemError;

use crate::exit::ExitStatus;
use crate::findings::Findings;
use crate::yaml::YamlError;

/// The error of a command; [`Failure`] prints it with all its causes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot read {what} {}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("expected at most {max} bytes in {what} {}, got more", path.display())]
    TooLong { what: &'static str, path: PathBuf, max: usize },
    #[error("cannot write {what} {}", path.display())]
    Write {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write to standard output")]
    Stdout(#[from] io::Error),
    #[error("{}", path.display())]
    EraConfig {
        path: PathBuf,
        #[source]
        source: EraConfigError,
    },
    #[error(
        "expected measurements of the Coordinator: no --era-config, and neither era-config.json nor coordinator-era.json in the current directory"
    )]
    NoEraConfig,
    #[error("--accepted-tcb-statuses: expected {expected}, got {got:?}")]
    TcbStatus { expected: String, got: String },
    #[error("software root {}", path.display())]
    RootFile {
        path: PathBuf,
        #[source]
        source: PemError,
    },
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("certificate cache {}", path.display())]
    Cache {
        path: PathBuf,
        #[source]
        source: ChainError,
    },
    #[error("the certificates in {} were not verified when they were written (--insecure)", path.display())]
    UnverifiedCache { path: PathBuf },
    #[error("no certificate cache {}, and no expected measurements to verify the Coordinator with", path.display())]
    NoCache { path: PathBuf },
    #[error("the user's configuration directory cannot be told: neither XDG_CONFIG_HOME nor HOME is an absolute path")]
    NoConfigDirectory,
    #[error("the Coordinator's root certificate is not the one in the certificate cache {}", path.display())]
    OtherRoot { path: PathBuf },
    #[error("manifest {} is neither JSON nor YAML", path.display())]
    Yaml {
        path: PathBuf,
        #[source]
        source: YamlError,
    },
    #[error(
        "expected a manifest file or a signature of 64 hexadecimal digits, got {got:?} with {length} characters, which is no file"
    )]
    SignatureLength { got: String, length: usize },
    #[error("expected a manifest file or a signature of 64 hexadecimal digits, got {got:?}, which is neither")]
    SignatureNotHex { got: String },
    #[error("expected the manifest with signature {expected}, the Coordinator has {got}")]
    OtherManifest { expected: String, got: String },
    #[error("manifest {} {findings}", path.display())]
    Findings { path: PathBuf, findings: Findings },
    #[error("the manifest is set, but its recovery data could not be saved; it is printed on standard output")]
    RecoveryDataNotSaved(#[source] Box<Cause>),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

/// A [`Cause`] with everything behind it in one line.
#[derive(Debug)]
pub(crate) struct Failure(Box<Cause>);

impl<T: Into<Cause>> From<T> for Failure {
    fn from(cause: T) -> Self {
        Self(Box::new(cause.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0.as_ref());
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl Failure {
    /// True if whoever read our output has gone, which is no error.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self.0.as_ref(), Cause::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_status(&self) -> ExitStatus {
        ExitStatus::Failure
    }

    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = match self.0.as_ref() {
            Cause::Address(error) => error.hint(),
            Cause::Client(error) => error.hint(),
            Cause::EraConfig { source, .. } => source.hint(),
            Cause::NoEraConfig => Some(
                "take the file from the Coordinator's release, or use --insecure for a simulated Coordinator; then \
                 nothing is verified",
            ),
            Cause::Root(error) => error.hint(),
            Cause::RootFile { .. } => Some("give the root certificate of the software TEE, PEM or DER"),
            Cause::Bundle(error) => error.hint(),
            Cause::Cache { source: ChainError::Expired { .. }, .. } => Some("check this machine's clock"),
            Cause::Cache { .. } => Some("remove the file and run `marblerun manifest verify`, which writes it anew"),
            Cause::UnverifiedCache { .. } => {
                Some("run `marblerun manifest verify`, which writes verified ones, or give --insecure")
            }
            Cause::NoCache { .. } => Some("run `marblerun manifest verify`, or give --era-config"),
            Cause::NoConfigDirectory => Some("give the certificate cache with --coordinator-cert"),
            Cause::OtherRoot { .. } => Some(
                "if the deployment was made anew, verify it with `marblerun manifest verify`; otherwise this is another \
                 Coordinator",
            ),
            Cause::OtherManifest { .. } => Some("`marblerun manifest get` shows the Coordinator's manifest"),
            Cause::Findings { findings, .. } => findings.hint(),
            Cause::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Some("check the path"),
            Cause::Read { .. } | Cause::Write { .. } => Some("check the path and its permissions"),
            Cause::Yaml { source, .. } => return source.hint(),
            Cause::SignatureLength { .. } | Cause::SignatureNotHex { .. } => Some("check the file's path"),
            Cause::RecoveryDataNotSaved(_) => Some("save the line with RecoverySecrets: it is not given again"),
            _ => None,
        };
        fixed.map(str::to_owned)
    }
}
