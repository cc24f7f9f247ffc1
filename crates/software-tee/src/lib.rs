//! A mock silicon vendor for development: roots, byte-exact quotes, collateral.
//!
//! **Nothing here protects anything.** A [`DevelopmentRoot`] is a directory with a 32-byte seed. Whoever can read that
//! seed can forge evidence and derive every sealing key, so it stands for "some software on this machine said so". What
//! it is good for: a laptop or a CI runner without SGX runs the very same verification, admission and sealing code as
//! production does, over evidence of the very same bytes. The only difference is the root, which a verifier trusts only
//! when it was told so explicitly.
//!
//! | Hardware has | Here |
//! |---|---|
//! | Intel SGX Root CA, PCK CA, PCK and TCB Signing certificates | [`DevelopmentRoot::create`] |
//! | the quoting enclave: quote v3 with a PCK chain | [`DevelopmentRoot::quote`] |
//! | the provisioning service: TCB info, QE identity, CRLs | [`DevelopmentRoot::collateral`]; over HTTP: feature `service` |
//! | `EREPORT`, `EGETKEY` | [`DevelopmentRoot::create_report`], [`DevelopmentRoot::sgx_key`] |
//!
//! Every certificate carries `Software TEE` and `NOT HARDWARE` in its names, and the platform's FMSPC is
//! `FF5357544545` (`0xFF`, then `SWTEE` in ASCII), which no real platform has. Roots live at most
//! [`MAX_LIFETIME`](root::MAX_LIFETIME), so that none of them becomes a fixture that somebody trusts for years.

mod bundle;
mod collateral;
mod enclave;
mod error;
mod files;
mod hardware;
mod key_request;
mod local_report;
mod pck_extension;
mod pki;
mod quote;
pub mod root;
mod seed;
#[cfg(feature = "service")]
pub mod service;
mod x509;

pub use bundle::BundleError;
pub use collateral::{CollateralOptions, Dates, Revoked, Tamper, TcbInfoSigner};
pub use enclave::{CPU_SVN, EnclaveIdentity, PCE_SVN, REPORT_BODY_LEN};
pub use error::IssueError;
pub use hardware::{RealTeePresent, real_tee_devices, refuse_on_real_tee};
pub use key_request::{KEY_REQUEST_LEN, KeyRequest, KeyRequestError, key_name, key_policy};
pub use local_report::{REPORT_LEN, ReportError, TARGET_INFO_LEN};
pub use pck_extension::FMSPC;
pub use pki::PckCa;
pub use root::{DevelopmentRoot, PlatformError, RootError, RootOptions};
