//! What signed enclaves and Occlum instances say about themselves.
//!
//! * [`read`] finds the signature structure of an enclave and reads the properties that a package in a manifest names. It
//!   looks at nothing else: neither at the code, nor whether the signature is good.
//! * [`occlum_json`], [`entry_points`], [`elf`] and [`exec_rules`] hold the rules of Occlum's build tool and program loader.
//! * [`libraries`] finds what a program needs to start.
//! * [`init`] makes an instance directory, [`copy_bom`] fills its image from a bill of materials.
//! * [`check`] judges an instance together with an entry of a manifest; [`loader`] finds libraries inside an image.
//! * [`sizing`] computes the sizes of an instance, [`prepare`] makes an existing one a Marble.

mod archive;
pub mod check;
pub mod copy_bom;
pub mod elf;
pub mod entry_points;
pub mod exec_rules;
mod image;
pub mod image_tree;
pub mod init;
pub mod libraries;
pub mod loader;
pub mod occlum_json;
pub mod prepare;
mod signer;
mod sigstruct;
pub mod sizing;

pub use archive::ArchiveError;
pub use image::{EnclaveError, EnclaveImage, ImageKind, MAX_ENCLAVE_BYTES, read};
pub use signer::{DEVELOPMENT_SIGNER, OCCLUM_TEMPLATE_SIGNER, PublishedKey};
pub use sigstruct::{SIGSTRUCT_BYTES, SigStruct, SigStructError};
