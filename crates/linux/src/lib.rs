//! The kernel interface: the only crate with unsafe code.

pub mod limits;
pub mod regular_file;
pub mod sgx;
pub mod uname;
pub mod wiping_alloc;
