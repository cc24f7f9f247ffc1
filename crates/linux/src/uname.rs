//! What the kernel says it is.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::ffi::CStr;
use std::io;

/// The parts of `uname` that tell runtimes apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uname {
    /// `Linux`, or `Occlum` inside the Occlum LibOS.
    pub sysname: String,
    /// Kernel release, for example `6.1.0-18-amd64`; Gramine says `3.10.0`.
    pub release: String,
    /// Kernel version text; Gramine says `1`.
    pub version: String,
    /// Machine, for example `x86_64`.
    pub machine: String,
}

/// Asks through libc's `uname`: in Occlum only the library call is sure to reach the LibOS.
///
/// # Errors
/// The errno of `uname`.
pub fn uname() -> io::Result<Uname> {
    // SAFETY: utsname consists of byte arrays, for which all zeros is a valid value.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live utsname structure that the call fills.
    if unsafe { libc::uname(&raw mut name) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Uname {
        sysname: text(&name.sysname),
        release: text(&name.release),
        version: text(&name.version),
        machine: text(&name.machine),
    })
}

/// The text before the first NUL; the whole field where the kernel left no room for one.
fn text(field: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|&c| c as u8).collect();
    match CStr::from_bytes_until_nul(&bytes) {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_the_test_machine_names_itself() {
        let name = uname().unwrap();
        assert!(!name.sysname.is_empty() && !name.release.is_empty() && !name.machine.is_empty(), "{name:?}");
    }

    #[test]
    fn a_field_without_nul_is_taken_whole() {
        assert_eq!(text(&[b'a' as libc::c_char, b'b' as libc::c_char]), "ab");
        assert_eq!(text(&[b'a' as libc::c_char, 0, b'b' as libc::c_char]), "a");
    }
}
