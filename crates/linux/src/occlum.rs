//! The system call of Occlum's init stage, which Linux does not have.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::ffi::CString;
use std::io;
use std::ptr;

/// `MountRootFS`: ends the init stage by mounting the root of the application.
///
/// Source: Occlum's `src/libos/src/syscall/mod.rs`.
pub const MOUNT_ROOT_FS: libc::c_long = 363;

/// Bytes of the key of an encrypted image (AES-128).
pub const IMAGE_KEY_LEN: usize = 16;

/// `user_rootfs_config` of Occlum's `src/libos/src/config.rs`. A null pointer keeps what the measured configuration says.
#[repr(C)]
struct RootConfiguration {
    length: usize,
    upper_layer_path: *const libc::c_char,
    lower_layer_path: *const libc::c_char,
    entry_point: *const libc::c_char,
    hostfs_source: *const libc::c_char,
    hostfs_target: *const libc::c_char,
    environment: *const *const libc::c_char,
}

/// Bytes of the root configuration.
pub const ROOT_CONFIGURATION_LEN: usize = size_of::<RootConfiguration>();

const _: () = assert!(ROOT_CONFIGURATION_LEN == 56);
const _: () = assert!(std::mem::offset_of!(RootConfiguration, entry_point) == 24);
const _: () = assert!(std::mem::offset_of!(RootConfiguration, environment) == 48);

/// Mounts the root of the application as the measured configuration describes it, with `key` for its layers.
///
/// `environment` (`NAME=value`) comes before the measured variables of the application and replaces those of the same
/// name. The call goes through the C library, because in Occlum only that is sure to reach the LibOS.
///
/// # Errors
/// The errno: `EPERM` after a mount that succeeded, `EACCES` if key and image do not fit each other, `EINVAL` if an
/// encrypted image gets no key; `ENOSYS` or `EINVAL` outside of Occlum.
pub fn mount_root(key: Option<&[u8; IMAGE_KEY_LEN]>, environment: &[CString]) -> io::Result<()> {
    let mut variables: Vec<*const libc::c_char> = environment.iter().map(|variable| variable.as_ptr()).collect();
    variables.push(ptr::null());
    let configuration = RootConfiguration {
        length: ROOT_CONFIGURATION_LEN,
        upper_layer_path: ptr::null(),
        lower_layer_path: ptr::null(),
        entry_point: ptr::null(),
        hostfs_source: ptr::null(),
        hostfs_target: ptr::null(),
        environment: variables.as_ptr(),
    };
    let key = key.map_or(ptr::null(), |key| key.as_ptr());
    // SAFETY: the key is null or points to 16 live bytes, the configuration is live and says its length, its table of
    // variables ends with a null pointer, and all strings outlive the call, which only reads.
    let result = unsafe { libc::syscall(MOUNT_ROOT_FS, key, &raw const configuration) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_does_not_have_the_call() {
        let error = mount_root(Some(&[0; IMAGE_KEY_LEN]), &[c"A=1".to_owned()]).unwrap_err();
        assert!([libc::ENOSYS, libc::EINVAL].contains(&error.raw_os_error().unwrap()), "{error}");
    }
}
