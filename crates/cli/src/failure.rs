//! Why a command failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use marblerun_attestation::{PckError, PlatformId, QuoteError, RootError};
use marblerun_client::{AddressError, ChainError, ClientError, CredentialsError, EraConfigError, RecoveryError};
use marblerun_collateral::{BundleError, FetchError, ProofError, QcnlFileError};
use marblerun_enclave_image::EnclaveError;
use marblerun_enclave_image::check::CheckError;
use marblerun_enclave_image::init::InitError;
use marblerun_json::DecodeError;
use marblerun_pki::pem::PemError;

use crate::commands::occlum::run::RunError;
use crate::development::DevelopmentError;
use crate::exit::ExitStatus;
use crate::findings::Findings;
use crate::head::Difference;
use crate::manifest_edit::EditError;
use crate::profile::{NameError, ProfileError};
use crate::programs::ProgramNotFound;
use crate::simulator::SimulatorError;
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
    #[error("manifest {} {findings}", path.display())]
    Findings { path: PathBuf, findings: Findings },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("{}", path.display())]
    RecoveryKeyFile {
        path: PathBuf,
        #[source]
        source: RecoveryError,
    },
    #[error("{0}")]
    Flags(&'static str),
    #[error("--insecure and a profile exclude each other")]
    InsecureProfile,
    #[error("--pkcs11-config: keys on PKCS#11 tokens are not supported by this version")]
    Pkcs11,
    #[error("the commands for Kubernetes clusters (install, uninstall, precheck, check) are not part of this version")]
    ClusterCommand,
    #[error("recovery data {}: there is no secret {name:?}, only {names}", path.display())]
    RecoveryName { path: PathBuf, name: String, names: String },
    #[error("recovery data {} hold several secrets: {names}", path.display())]
    RecoveryNameMissing { path: PathBuf, names: String },
    #[error("expected recovery data (JSON with RecoverySecrets) in {}, because a name is given", path.display())]
    NoRecoveryData { path: PathBuf },
    #[error("expected a recovery secret in {}, got recovery data (JSON with RecoverySecrets)", path.display())]
    RecoveryDataNotSecret { path: PathBuf },
    #[error("remembered state {}", path.display())]
    Head {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("the Coordinator's state is not the one that is remembered in {}: {difference}", path.display())]
    OtherState { path: PathBuf, difference: Difference },
    #[error("the Coordinator states nothing about its state, but {} remembers a state", path.display())]
    NoState { path: PathBuf },
    #[error("{} is not text, and cannot be kept in a profile", path.display())]
    PathNotText { path: PathBuf },
    #[error(transparent)]
    ProfileName(#[from] NameError),
    #[error("profile {}", path.display())]
    Profile {
        path: PathBuf,
        #[source]
        source: ProfileError,
    },
    #[error("there is no profile {name:?}")]
    NoProfile { name: String, known: Vec<String> },
    #[error("there is a profile {name:?} already")]
    ProfileExists { name: String },
    #[error("{}", path.display())]
    DefaultProfile {
        path: PathBuf,
        #[source]
        source: NameError,
    },
    #[error("evidence {}", path.display())]
    Evidence {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("secrets {}", path.display())]
    SecretsFile {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("secrets {}: {place}: expected one of {expected}", path.display())]
    SecretsMember { path: PathBuf, place: String, expected: String },
    #[error("{}: {reason}", path.display())]
    SecretPem { path: PathBuf, reason: String },
    #[error("secret {name:?}: expected a known type, got {got:?}")]
    SecretType { name: String, got: String },
    #[error("update log {}", path.display())]
    UpdateLog {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error("the running manifest cannot be read: {0}")]
    RunningManifest(String),
    #[error("update log: package {package:?} is not in the manifest")]
    LogPackage { package: String },
    #[error("the Coordinator's manifest is not a JSON object with packages: {reason}")]
    ManifestForm { reason: String },
    #[error("Coordinator public key {}: {reason}", path.display())]
    PublicKeyFile { path: PathBuf, reason: String },
    #[error("manifest {}", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    #[error(transparent)]
    OcclumCheck(#[from] CheckError),
    #[error(transparent)]
    OcclumInit(#[from] InitError),
    #[error("root certificate {}: {reason}", path.display())]
    PinFile { path: PathBuf, reason: &'static str },
    #[error(transparent)]
    Enclave(#[from] EnclaveError),
    #[error(transparent)]
    Program(#[from] ProgramNotFound),
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    #[error(transparent)]
    Development(#[from] DevelopmentError),
    #[error(transparent)]
    OcclumRun(RunError),
    #[error(transparent)]
    NotStarted(Box<Cause>),
    #[error("{}", path.display())]
    ManifestEdit {
        path: PathBuf,
        #[source]
        source: EditError,
    },
    #[error("the manifest is set, but its recovery data could not be saved; it is printed on standard {place}")]
    RecoveryDataNotSaved {
        place: &'static str,
        #[source]
        source: Box<Cause>,
    },
    #[error("collateral from {place}")]
    Collateral {
        place: String,
        #[source]
        source: ProofError,
    },
    #[error("collateral of {platform} cannot be fetched")]
    Fetch {
        platform: PlatformId,
        #[source]
        source: FetchError,
    },
    #[error(transparent)]
    Qcnl(#[from] QcnlFileError),
    #[error("quote of {origin}")]
    QuoteFile {
        origin: String,
        #[source]
        source: QuoteError,
    },
    #[error("quote of {origin}: its platform cannot be told")]
    QuotePlatform {
        origin: String,
        #[source]
        source: PckError,
    },
    #[error("the Coordinator at {address} has no quote: it runs in simulation")]
    NoQuote { address: String },
    #[error("the Coordinator at {address} sends no collateral with its quote")]
    NoCollateralWithQuote { address: String },
    #[error("expected a collateral file with a name like sgx-00906ED50000-processor.json, got {}", path.display())]
    CollateralName { path: PathBuf },
    #[error("expected collateral files (dcap/sgx-FMSPC-CA.json) in {}, got none", path.display())]
    NoCollateral { path: PathBuf },
    #[error("{} is neither a bundle file nor one of Intel's PCS client tool (platform_collaterals.json)", path.display())]
    ToolFile {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("nothing from {from} verifies, so nothing is exported")]
    NothingToExport { from: String },
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
        match self.0.as_ref() {
            Cause::NotStarted(_) => ExitStatus::NotStarted,
            _ => ExitStatus::Failure,
        }
    }

    /// The same failure of a command whose exit code is otherwise that of the program that it starts.
    pub(crate) fn before_the_program(self) -> Self {
        Self(Box::new(Cause::NotStarted(self.0)))
    }

    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<String> {
        Self::hint_of(&self.0)
    }

    fn hint_of(cause: &Cause) -> Option<String> {
        let fixed = match cause {
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
            Cause::NoCache { .. } => Some(
                "run `marblerun manifest verify`, or give --era-config, or --insecure for a simulated Coordinator; then \
                 nothing is verified",
            ),
            Cause::NoConfigDirectory => {
                Some("set HOME, or give the certificate cache with --coordinator-cert; profiles need HOME")
            }
            Cause::OtherRoot { .. } => Some(
                "if the deployment was made anew, verify it with `marblerun manifest verify`; otherwise this is another \
                 Coordinator",
            ),
            Cause::Findings { findings, .. } => findings.hint(),
            Cause::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Some("check the path"),
            Cause::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("name another file: this one is not overwritten")
            }
            Cause::Read { .. } | Cause::Write { .. } => Some("check the path and its permissions"),
            Cause::Yaml { source, .. } => return source.hint(),
            Cause::SignatureLength { .. } | Cause::SignatureNotHex { .. } => Some("check the file's path"),
            Cause::Credentials(error) => error.hint(),
            Cause::Recovery(error) | Cause::RecoveryKeyFile { source: error, .. } => error.hint(),
            Cause::Enclave(error) => error.hint(),
            Cause::Manifest { .. } => Some("`marblerun manifest check` says more"),
            Cause::OcclumCheck(error) => error.hint(),
            Cause::OcclumInit(error) => error.hint(),
            Cause::PinFile { .. } => Some("`marblerun certificate root` writes it"),
            Cause::NoState { .. } => Some(
                "a Coordinator of another kind may answer; --accept-other-state goes on nevertheless and forgets the state",
            ),
            Cause::Profile { .. } => Some("correct the file, or write it anew with `marblerun profile add --replace`"),
            Cause::NoProfile { known, .. } if known.is_empty() => Some("`marblerun profile add` makes one"),
            Cause::Simulator(error) => error.hint(),
            Cause::Development(error) => error.hint(),
            Cause::OcclumRun(error) => error.hint(),
            Cause::NotStarted(cause) => return Self::hint_of(cause),
            Cause::ManifestEdit { source, .. } => source.hint(),
            Cause::Program(error) => return Some(error.hint()),
            Cause::NoProfile { known, .. } => return Some(format!("there are: {}", known.join(", "))),
            Cause::ProfileExists { .. } => Some("--replace replaces it"),
            Cause::DefaultProfile { .. } => Some("`marblerun profile use` writes the file anew"),
            Cause::UpdateLog { .. } => Some("`marblerun manifest log --output FILE` writes it"),
            Cause::Flags(_) => Some("see --help"),
            Cause::InsecureProfile => {
                Some("a profile is always verified: leave --insecure out, or name IP:PORT and no profile")
            }
            Cause::Pkcs11 => Some("give certificate and key as files with --cert and --key"),
            Cause::ClusterCommand => Some("run the Coordinator standalone, as docs/operating.md shows"),
            Cause::RecoveryName { .. } => Some("give the name with --name"),
            Cause::RecoveryNameMissing { .. } => Some("choose yours with --name"),
            Cause::RecoveryDataNotSecret { .. } => {
                Some("`marblerun recover-with-signature encrypt-secret` makes the secret from it")
            }
            Cause::NoRecoveryData { .. } => Some("leave --name out where the file is the raw secret"),
            Cause::Head { .. } => {
                Some("remove the file if it was changed by mistake; `marblerun manifest verify` writes it")
            }
            Cause::OtherState { .. } => Some(
                "find out why first: somebody may have brought back an old state; to trust it nevertheless, remove the file \
                 (`recover`: --accept-other-state)",
            ),
            Cause::SecretsFile { .. } => Some(
                "expected is {\"name\": {\"Key\": base64}} or, for certificates, {\"name\": {\"Cert\": base64 of DER, \
                 \"Private\": base64 of DER}}; PEM files go with --from-pem",
            ),
            Cause::Collateral { source, .. } => source.hint(),
            Cause::Fetch { source, .. } => source.hint(),
            Cause::Qcnl(error) => error.hint(),
            Cause::QuoteFile { source, .. } => source.hint(),
            Cause::QuotePlatform { source, .. } => source.hint(),
            Cause::NoCollateralWithQuote { .. } => {
                Some("it has none, or is of another version; `collateral fetch` asks a service")
            }
            Cause::NoCollateral { .. } => Some("give a directory that `collateral fetch` or a Coordinator wrote"),
            Cause::NothingToExport { .. } => {
                Some("fetch it anew; collateral of a software TEE needs --trust-software-root")
            }
            Cause::RecoveryDataNotSaved { .. } => Some("save the line with RecoverySecrets: it is not given again"),
            _ => None,
        };
        fixed.map(str::to_owned)
    }
}
