//! The kernel interface: the only crate with unsafe code.

pub mod fd;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod occlum;
pub mod process;
pub mod regular_file;
pub mod seccomp;
pub mod sgx;
pub mod trace;
pub mod uname;
pub mod wiping_alloc;

/// Turns the -1 of a libc call into its errno.
pub(crate) fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
