//! Vendor collateral from bundles on disk.
//!
//! A bundle is a directory with one file per kind of platform, so that evidence can be verified without network:
//!
//! ```text
//! DIR/dcap/<tee>-<FMSPC>-<ca>.json      for example DIR/dcap/sgx-00906ED50000-processor.json
//! ```
//!
//! `<tee>` is `sgx`, `<FMSPC>` has 12 hex digits in either case, `<ca>` is `processor` or `platform`. The content is
//! the text that [`marblerun_attestation::Collateral`] reads. Other files are ignored. The directory belongs to
//! whoever runs the host, so every size and number is limited, and nothing counts before its signatures are verified.

mod bundle;
mod error;
mod file;
mod name;

pub use bundle::{Bundle, KeptCollateral, MAX_KEPT, RECHECK_INTERVAL};
pub use error::{BundleError, LookupError};
pub use name::{MAX_DIRECTORY_ENTRIES, file_name};
