//! Mounts and the root directory, in a mount namespace of our own.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::check;

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn mount(source: &Path, target: &Path, kind: &CStr, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let source = c_string(source.as_os_str().as_bytes())?;
    let target = c_string(target.as_os_str().as_bytes())?;
    let data = c_string(data.as_bytes())?;
    // SAFETY: all four are NUL-terminated strings that live until the call returns.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })?;
    Ok(())
}

/// Keeps mounts of this namespace from reaching the one it was copied from (`MS_REC | MS_PRIVATE` on `/`).
///
/// # Errors
/// The errno of `mount`.
pub fn make_all_private() -> io::Result<()> {
    mount(Path::new("none"), Path::new("/"), c"none", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// Mounts an empty memory file system on `target`, with options such as `mode=755`.
///
/// # Errors
/// The errno of `mount`.
pub fn tmpfs(target: &Path, options: &str) -> io::Result<()> {
    mount(Path::new("tmpfs"), target, c"tmpfs", libc::MS_NOSUID, options)
}

/// Mounts the process file system of the current PID namespace on `target`.
///
/// # Errors
/// The errno of `mount`.
pub fn proc(target: &Path) -> io::Result<()> {
    mount(Path::new("proc"), target, c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "")
}

/// Mounts an overlay on `target`: `options` is the kernel's option string, whose paths must not hold `,` or `:`.
///
/// # Errors
/// The errno of `mount`.
pub fn overlay(target: &Path, options: &str) -> io::Result<()> {
    mount(Path::new("overlay"), target, c"overlay", 0, options)
}

/// Shows `source` (a directory with all mounts below it, or a file) also at `target`.
///
/// # Errors
/// The errno of `mount`.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(source, target, c"none", libc::MS_BIND | libc::MS_REC, "")
}

/// Makes `new_root` the root of this mount namespace, forgets the old one and goes to `/`.
///
/// # Errors
/// The errno of the call that failed.
pub fn enter_root(new_root: &Path) -> io::Result<()> {
    std::env::set_current_dir(new_root)?;
    // pivot_root(2), "pivot_root(".", ".")": the old root is stacked over the new one and then detached.
    // SAFETY: both arguments are NUL-terminated literals.
    let result = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the argument is a NUL-terminated literal.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    std::env::set_current_dir("/")
}

/// `mknod`: creates a character device node.
///
/// # Errors
/// The errno of `mknod`.
pub fn character_device(path: &Path, mode: u32, major: u32, minor: u32) -> io::Result<()> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // SAFETY: path is NUL-terminated.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | mode, libc::makedev(major, minor)) })?;
    Ok(())
}
