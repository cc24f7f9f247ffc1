//! The kernel interface: the only crate with unsafe code.

pub mod sgx;
