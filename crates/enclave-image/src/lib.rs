//! What signed enclaves say about themselves.
//!
//! [`read`] finds the signature structure of an enclave and reads the properties that a package in a manifest names. It
//! looks at nothing else: neither at the code, nor whether the signature is good.

mod image;
mod sigstruct;

pub use image::{EnclaveError, EnclaveImage, ImageKind, MAX_ENCLAVE_BYTES, read};
pub use sigstruct::{SIGSTRUCT_BYTES, SigStruct, SigStructError};
