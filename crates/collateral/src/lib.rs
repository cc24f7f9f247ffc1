//! Vendor collateral: from bundles on disk, and from a collateral service (PCS or PCCS).
//!
//! A bundle is a directory with one file per kind of platform, so that evidence can be verified without network:
//!
//! ```text
//! DIR/dcap/<tee>-<FMSPC>-<ca>.json      for example DIR/dcap/sgx-00906ED50000-processor.json
//! ```
//!
//! `<tee>` is `sgx`, `<FMSPC>` has 12 hex digits in either case, `<ca>` is `processor` or `platform`. The content is
//! the text that [`marblerun_attestation::Collateral`] reads, and [`Client`] writes. Other files are ignored. Disk and
//! network belong to whoever runs the host, so every size, number and wait is limited, and nothing counts before its
//! signatures are verified.
//!
//! No service is asked unless it was configured: there is no default.

mod base_url;
mod bundle;
mod cache;
mod client;
mod error;
mod exchange;
mod fetch_error;
mod file;
mod name;
mod prove;
mod qcnl;
mod resolver;
mod service;
mod supply;
mod tls;

pub use base_url::{BaseUrl, BaseUrlError, INTEL_PCS_URL};
pub use bundle::{Bundle, KeptCollateral, MAX_KEPT, Origin, RECHECK_INTERVAL};
pub use cache::MAX_CACHED_FILES;
pub use client::{Client, ClientOptions, REQUEST_TIMEOUT, ServerCertificate};
pub use error::{BundleError, LookupError};
pub use fetch_error::FetchError;
pub use name::{MAX_DIRECTORY_ENTRIES, file_name};
pub use prove::{ProofError, prove};
pub use qcnl::{MAX_QCNL_BYTES, QCNL_PATH, Qcnl, QcnlError, QcnlFileError};
pub use service::TcbUpdate;
pub use supply::{
    Figures, MAX_FLIGHTS, MAX_REFRESH, MAX_WAIT, MAX_WAITING, MAX_WAITING_PER_PLATFORM, Request, ServiceFailure,
    Supply, SupplyError, SupplyOptions,
};
