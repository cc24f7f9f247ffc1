//! The directory of a development root: made once, opened by every process that plays hardware.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use der::{DateTime, Encode};
use marblerun_secret::SecretBytes;
use rustls_pki_types::UnixTime;
use x509_cert::Certificate;

use crate::enclave::EnclaveIdentity;
use crate::error::IssueError;
use crate::files;
use crate::pck_extension::FMSPC;
use crate::pki::{self, Certificates, Keys, PckCa};
use crate::quote;
use crate::seed::{Seed, SigningKey};
use crate::x509;

/// The longest life of a development root.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The secret of the root: 32 bytes, mode 0600.
pub const SEED_FILE: &str = "seed";
/// The root certificate, DER: what verifiers are told to trust. Written last, so that it exists in complete roots only.
pub const ROOT_DER_FILE: &str = "root.der";
/// The root certificate, PEM.
pub const ROOT_PEM_FILE: &str = "root.pem";
/// PCK leaf, PCK CA and root, PEM, as quotes carry them.
pub const PCK_CHAIN_FILE: &str = "pck-chain.pem";
/// TCB signing certificate and root, PEM, as collateral carries them.
pub const TCB_SIGNING_CHAIN_FILE: &str = "tcb-signing-chain.pem";

/// Three certificates of about 1 KiB each are far below; more than this was not written by us.
const MAX_CERTIFICATE_FILE_BYTES: usize = 16 * 1024;

/// What kind of root to make.
#[derive(Clone, Copy, Debug)]
pub struct RootOptions {
    /// How long the root lives, at most [`MAX_LIFETIME`].
    pub lifetime: Duration,
    /// Which PCK CA certifies the platform.
    pub pck_ca: PckCa,
}

impl Default for RootOptions {
    fn default() -> Self {
        Self { lifetime: MAX_LIFETIME, pck_ca: PckCa::Platform }
    }
}

/// A development root could not be made or opened.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The root shall live longer than allowed, or not at all.
    #[error("lifetime of a development root: expected 1 to {} seconds, got {got}", MAX_LIFETIME.as_secs())]
    Lifetime {
        /// Seconds asked for.
        got: u64,
    },
    /// There is a root in the directory already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// The directory holds no root.
    #[error("{} holds no development root", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Making the root was interrupted, or a file was removed.
    #[error("the development root is incomplete: {} is missing", path.display())]
    Incomplete {
        /// The file that is missing.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Read or write.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read the seed.
    #[error("seed file {} is open to others: expected mode 0600, got {mode:04o}", path.display())]
    SeedPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The seed has the wrong length.
    #[error("seed file {} is malformed: expected 32 bytes, got {got}", path.display())]
    SeedLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes, up to 33.
        got: usize,
    },
    /// A certificate file is malformed.
    #[error("certificate file {} is malformed: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate file belongs to another seed.
    #[error("certificate file {} does not belong to the seed beside it", path.display())]
    ForeignCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The root's life is over.
    #[error("the development root has expired: it was valid until {not_after}, now is {now}")]
    Expired {
        /// The last second of its validity.
        not_after: DateTime,
        /// The time it was opened at.
        now: DateTime,
    },
    /// The root was made later than now.
    #[error("the development root is not valid yet: it is valid from {not_before}, now is {now}")]
    NotYetValid {
        /// The first second of its validity.
        not_before: DateTime,
        /// The time it was opened at.
        now: DateTime,
    },
    /// A key or certificate could not be made.
    #[error("the development root's keys and certificates cannot be made")]
    Issue(#[source] IssueError),
}

/// A platform cannot be simulated.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// Hardware could have this FMSPC.
    #[error("FMSPC of a software platform: expected FF as its first byte, as in FF5357544545, got {got}")]
    Fmspc {
        /// In hexadecimal.
        got: String,
    },
    /// A certificate could not be made.
    #[error("the certificates of the platform cannot be made")]
    Issue(#[from] IssueError),
}

impl RootError {
    /// What to do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exists { .. } => Some("use the root that is there, or make the new one in another directory"),
            Self::Missing { .. } => Some("make one with `marble-sim root create DIR`"),
            Self::Incomplete { .. } | Self::ForeignCertificate { .. } | Self::Certificate { .. } => {
                Some("remove the directory and make a new root with `marble-sim root create DIR`")
            }
            Self::SeedPermissions { .. } => {
                Some("whoever read the seed can forge this root's evidence; make a new root, or run `chmod 600` on it")
            }
            Self::SeedLength { .. } => Some("restore the seed file, or make a new root"),
            Self::Expired { .. } => {
                Some("development roots live at most 30 days; make a new one and tell the verifiers about it")
            }
            Self::NotYetValid { .. } => Some("check this machine's clock"),
            Self::Lifetime { .. } | Self::Io { .. } | Self::Issue(_) => None,
        }
    }
}

/// A development root with everything that derives from it.
///
/// Opening the same directory in several processes gives the same keys and certificates, so that one of them can make
/// quotes and another one the collateral for them. `Debug` shows the root certificate's subject only.
pub struct DevelopmentRoot {
    seed: Seed,
    keys: Keys,
    root_der: Vec<u8>,
    root_pem: String,
    pck_ca: PckCa,
    fmspc: [u8; 6],
    pck_chain: String,
    pck_ca_chain: String,
    tcb_signing_chain: String,
    subject: String,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl fmt::Debug for DevelopmentRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentRoot").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl DevelopmentRoot {
    /// Makes a root in `dir`, valid from `now`, and opens it. Missing directories are made with mode 0700.
    ///
    /// # Errors
    /// [`RootError::Exists`] if `dir` holds any file of a root; of several processes that make a root in the same
    /// directory, exactly one succeeds.
    pub fn create(dir: &Path, now: UnixTime, options: RootOptions) -> Result<Self, RootError> {
        let seconds = options.lifetime.as_secs();
        if seconds == 0 || options.lifetime > MAX_LIFETIME {
            return Err(RootError::Lifetime { got: seconds });
        }
        for name in [SEED_FILE, ROOT_DER_FILE, ROOT_PEM_FILE, PCK_CHAIN_FILE, TCB_SIGNING_CHAIN_FILE] {
            let path = dir.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(RootError::Exists { path });
            }
        }

        let seed = Seed::generate().map_err(RootError::Issue)?;
        let keys = Keys::derive(&seed).map_err(RootError::Issue)?;
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().saturating_add(seconds)));
        let certificates =
            Certificates::issue(&keys, options.pck_ca, &FMSPC, now, not_after).map_err(RootError::Issue)?;
        let pem = |der: &[u8]| x509::certificate_pem(der).map_err(RootError::Issue);
        let root_pem = pem(&certificates.root)?;
        let pck_chain = pem(&certificates.pck)? + &pem(&certificates.pck_ca)? + &root_pem;
        let tcb_signing_chain = pem(&certificates.tcb_signing)? + &root_pem;

        files::create_directory(dir, true).map_err(io_error("create", dir))?;
        // The seed comes first and exclusively: it decides which of several creators goes on.
        create_file(dir, SEED_FILE, 0o600, seed.expose())?;
        create_file(dir, PCK_CHAIN_FILE, 0o644, pck_chain.as_bytes())?;
        create_file(dir, TCB_SIGNING_CHAIN_FILE, 0o644, tcb_signing_chain.as_bytes())?;
        create_file(dir, ROOT_PEM_FILE, 0o644, root_pem.as_bytes())?;
        let root_path = dir.join(ROOT_DER_FILE);
        files::write_atomically(&root_path, &certificates.root).map_err(io_error("write", &root_path))?;
        Self::open(dir, now)
    }

    /// Opens the root in `dir` at the time `now`.
    ///
    /// # Errors
    /// [`RootError`] if there is none, if it is incomplete, foreign to its seed, readable by others, or not valid now.
    pub fn open(dir: &Path, now: UnixTime) -> Result<Self, RootError> {
        let seed = read_seed(dir)?;
        let keys = Keys::derive(&seed).map_err(RootError::Issue)?;

        let root_path = dir.join(ROOT_DER_FILE);
        let root_der = read_file(&root_path)?;
        let root = <Certificate as der::Decode>::from_der(&root_der)
            .map_err(|error| RootError::Certificate { path: root_path.clone(), reason: error.to_string() })?;
        check_key(&root_path, &root, &keys.root)?;
        let not_after = check_validity(&root, now)?;

        let (pck_chain, pck_certificates) =
            read_chain(&dir.join(PCK_CHAIN_FILE), [&keys.pck, &keys.pck_ca, &keys.root])?;
        let (tcb_signing_chain, _) = read_chain(&dir.join(TCB_SIGNING_CHAIN_FILE), [&keys.tcb_signing, &keys.root])?;
        let pck_ca_certificate = &pck_certificates[1];
        let pck_ca = if pck_ca_certificate.tbs_certificate().subject().to_string().contains(PckCa::Processor.word()) {
            PckCa::Processor
        } else {
            PckCa::Platform
        };
        let root_pem = x509::certificate_pem(&root_der).map_err(RootError::Issue)?;
        let pck_ca_der = pck_ca_certificate.to_der().map_err(IssueError::der("PCK CA")).map_err(RootError::Issue)?;
        Ok(Self {
            pck_ca_chain: x509::certificate_pem(&pck_ca_der).map_err(RootError::Issue)? + &root_pem,
            subject: root.tbs_certificate().subject().to_string(),
            seed,
            keys,
            root_der,
            root_pem,
            pck_ca,
            fmspc: FMSPC,
            pck_chain,
            tcb_signing_chain,
            not_before: UnixTime::since_unix_epoch(root.tbs_certificate().validity().not_before.to_unix_duration()),
            not_after,
        })
    }

    /// The root certificate, DER: what a verifier has to be told to trust.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The root certificate's subject, for messages.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The last second at which the root is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Which PCK CA certifies the platform.
    pub fn pck_ca(&self) -> PckCa {
        self.pck_ca
    }

    /// The kind of the platform, as its quotes and collateral name it.
    pub fn fmspc(&self) -> [u8; 6] {
        self.fmspc
    }

    /// The same vendor with another platform: its quotes carry this FMSPC and a certificate of this PCK CA.
    ///
    /// Nothing is written; the other platform's certificates are issued anew by each process, under the same keys.
    ///
    /// # Errors
    /// [`PlatformError`] if the FMSPC could be that of hardware, or a certificate cannot be made.
    pub fn with_platform(mut self, fmspc: [u8; 6], pck_ca: PckCa) -> Result<Self, PlatformError> {
        if fmspc[0] != FMSPC[0] {
            return Err(PlatformError::Fmspc { got: hex::encode_upper(fmspc) });
        }
        let pck = pki::pck(&self.keys, pck_ca, &fmspc, self.not_before, self.not_after)?;
        self.pck_ca_chain = self.pck_ca_chain_of(pck_ca)?;
        self.pck_chain = x509::certificate_pem(&pck)? + &self.pck_ca_chain;
        self.pck_ca = pck_ca;
        self.fmspc = fmspc;
        Ok(self)
    }

    /// PCK leaf, PCK CA and root, PEM, as every quote carries them.
    pub fn pck_chain(&self) -> &str {
        &self.pck_chain
    }

    /// A raw DCAP quote, version 3, that says: the enclave `identity` asked for these 64 bytes to be signed.
    ///
    /// No Open Enclave header is in front of it.
    ///
    /// # Errors
    /// [`IssueError`] if the crypto library fails.
    pub fn quote(&self, identity: &EnclaveIdentity, report_data: &[u8; 64]) -> Result<Vec<u8>, IssueError> {
        quote::quote(&self.keys, &self.pck_chain, identity, report_data)
    }

    /// The length in bytes of every quote of this root.
    pub fn quote_len(&self) -> usize {
        quote::quote_len(&self.pck_chain)
    }

    pub(crate) fn seed(&self) -> &Seed {
        &self.seed
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// PCK CA and root, PEM. The CA that did not certify the platform gets its certificate here.
    pub(crate) fn pck_ca_chain_of(&self, ca: PckCa) -> Result<String, IssueError> {
        if ca == self.pck_ca {
            return Ok(self.pck_ca_chain.clone());
        }
        let certificate = pki::pck_ca(&self.keys, ca, self.not_before, self.not_after)?;
        Ok(x509::certificate_pem(&certificate)? + &self.root_pem)
    }

    /// TCB signing certificate and root, PEM.
    pub(crate) fn tcb_signing_chain(&self) -> &str {
        &self.tcb_signing_chain
    }
}

fn read_seed(dir: &Path) -> Result<Seed, RootError> {
    let path = dir.join(SEED_FILE);
    let mut file = File::open(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => RootError::Missing { path: dir.to_owned() },
        _ => RootError::Io { action: "read", path: path.clone(), source },
    })?;
    let mode = file.metadata().map_err(io_error("read", &path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(RootError::SeedPermissions { path, mode });
    }
    let bytes = SecretBytes::new(files::read_bounded(&mut file, Seed::LEN + 1).map_err(io_error("read", &path))?);
    let got = bytes.len();
    Seed::from_bytes(bytes).ok_or(RootError::SeedLength { path, got })
}

fn read_file(path: &Path) -> Result<Vec<u8>, RootError> {
    let mut file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => RootError::Incomplete { path: path.to_owned() },
        _ => RootError::Io { action: "read", path: path.to_owned(), source },
    })?;
    files::read_bounded(&mut file, MAX_CERTIFICATE_FILE_BYTES).map_err(io_error("read", path))
}

/// Reads a PEM chain whose certificates have exactly these `keys`, leaf first.
fn read_chain<const N: usize>(path: &Path, keys: [&SigningKey; N]) -> Result<(String, Vec<Certificate>), RootError> {
    let malformed = |reason: String| RootError::Certificate { path: path.to_owned(), reason };
    let bytes = read_file(path)?;
    let certificates = Certificate::load_pem_chain(&bytes).map_err(|error| malformed(error.to_string()))?;
    if certificates.len() != N {
        return Err(malformed(format!("expected {N} certificates, got {}", certificates.len())));
    }
    for (certificate, key) in certificates.iter().zip(keys) {
        check_key(path, certificate, key)?;
    }
    let text = String::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    Ok((text, certificates))
}

fn check_key(path: &Path, certificate: &Certificate, key: &SigningKey) -> Result<(), RootError> {
    let public = &certificate.tbs_certificate().subject_public_key_info().subject_public_key;
    match public.raw_bytes().split_first() {
        Some((4, point)) if point == key.public_point() => Ok(()),
        _ => Err(RootError::ForeignCertificate { path: path.to_owned() }),
    }
}

/// Returns the certificate's notAfter if it is valid at `now`.
fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<UnixTime, RootError> {
    let validity = certificate.tbs_certificate().validity();
    let seconds = now.as_secs();
    let now = x509::date_time(now).map_err(RootError::Issue)?;
    if seconds < validity.not_before.to_unix_duration().as_secs() {
        return Err(RootError::NotYetValid { not_before: validity.not_before.to_date_time(), now });
    }
    if seconds > validity.not_after.to_unix_duration().as_secs() {
        return Err(RootError::Expired { not_after: validity.not_after.to_date_time(), now });
    }
    Ok(UnixTime::since_unix_epoch(validity.not_after.to_unix_duration()))
}

fn create_file(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), RootError> {
    let path = dir.join(name);
    files::create_new(&path, mode, bytes).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => RootError::Exists { path: path.clone() },
        _ => RootError::Io { action: "write", path: path.clone(), source },
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootError {
    let path = path.to_owned();
    move |source| RootError::Io { action, path, source }
}
