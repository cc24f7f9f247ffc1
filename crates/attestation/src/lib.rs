//! Evidence formats, verification of evidence to claims, admission of claims against a package.
//!
//! A type says how far its content is trusted, and only the step that proves it can build the next one:
//!
//! | step | from | to | proves |
//! |---|---|---|---|
//! | [`Quote::parse`] | bytes | [`Quote`] | the bytes are a well-formed quote, nothing more |
//! | [`Collateral::parse`] | JSON text | [`Collateral`] | the text has the right members and sizes |
//! | [`Collateral::verify`] | roots, time | [`TrustedCollateral`] | the vendor signed it and it is current; done once and kept |
//! | [`verify()`] | quote, collateral, time | [`VerifiedReport`] | the vendor's hardware made the quote; what it claims |
//! | [`admit`] | claims, binding, [`Package`] | [`Admission`] | the claims are what the manifest asks for |
//!
//! Everything here is a pure function of its arguments: no network, files, environment or clock. Time comes in as
//! [`rustls_pki_types::UnixTime`], and [`ClockFloor`] says which time to use when the clock belongs to the host. The
//! roots come in as [`TrustRoots`], which has exactly one [`TrustClass`].
//!
//! The formats are Intel SGX DCAP (quote version 3). The enums that name a TEE are `#[non_exhaustive]`.

mod admission;
mod client_admission;
mod collateral;
mod error;
mod floor;
mod oe_header;
mod pck;
mod pck_cache;
mod pem;
mod quote;
mod report_data;
mod roots;
mod tcb;
mod timestamp;
mod verify;

pub use admission::{Admission, AdmitError, OCCLUM_TEMPLATE_SIGNER, Package, admit};
pub use client_admission::{ClientAdmission, ClientAdmitError, ClientWarning, admit_coordinator};
pub use collateral::{
    Collateral, CollateralError, CollateralItem, MAX_COLLATERAL_BYTES, TrustedCollateral, ValidityError,
};
pub use error::ErrorClass;
pub use floor::{
    CLOCK_TOLERANCE, ClockFloor, CollateralFloor, EvaluationNumbers, FloorEntry, FloorError, VerificationTime,
};
pub use oe_header::{OE_HEADER_LEN, is_raw_sgx_quote, with_oe_header};
pub use pck::{Fmspc, PckCa, PckError, PlatformId, PlatformProperties, SgxType, VerifiedPck, verify_pck};
pub use pck_cache::{MAX_CACHED_PCKS, PckCache};
pub use pem::PemError;
pub use quote::{MAX_QUOTE_BYTES, Quote, QuoteError, SgxReport};
pub use report_data::{ReportData, ReportDataTooLong, ReportDigest};
pub use roots::{INTEL_SGX_ROOT_CA, MAX_SOFTWARE_ROOTS, RootError, TrustClass, TrustRoot, TrustRoots};
pub use tcb::{TcbStatus, Tee};
pub use verify::{Claims, VerifiedReport, VerifyError, verify, verify_with_pck};
