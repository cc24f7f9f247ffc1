//! Reading and writing the memory of another process.
//!
//! The kernel checks the same permission as for a debugger: the same user and a dumpable process, or privilege over it.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::io;

/// Smallest page size; strings are read page by page, since the next page may not be mapped.
const PAGE: u64 = 4096;

/// Reads exactly `buffer.len()` bytes at `address` of process (or thread) `pid`.
///
/// # Errors
/// The errno of `process_vm_readv`; `EFAULT` also if only a part is readable.
pub fn read(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the local vector is a live buffer of that length; the remote address is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    complete(read, buffer.len())
}

/// Writes all of `bytes` to `address` of process (or thread) `pid`.
///
/// # Errors
/// The errno of `process_vm_writev`; `EFAULT` also if only a part was writable.
pub fn write(pid: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local vector is a live buffer of that length that the kernel only reads.
    let written = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    complete(written, bytes.len())
}

fn complete(done: isize, wanted: usize) -> io::Result<()> {
    match usize::try_from(done) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(done) if done == wanted => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}

/// Reads a NUL-terminated string of at most `max` bytes (without the NUL).
///
/// # Errors
/// As [`read`]; `ENAMETOOLONG` if there is no NUL within `max + 1` bytes.
pub fn read_string(pid: i32, address: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = address;
    while string.len() <= max {
        let to_page_end = usize::try_from(PAGE - at % PAGE).unwrap_or(1);
        let mut page = vec![0; to_page_end.min(max + 1 - string.len())];
        read(pid, at, &mut page)?;
        if let Some(end) = page.iter().position(|byte| *byte == 0) {
            string.extend_from_slice(&page[..end]);
            return Ok(string);
        }
        at = at.wrapping_add(page.len() as u64);
        string.append(&mut page);
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn a_string_across_a_page_border_is_read_whole() {
        let mut memory = vec![b'x'; 3 * PAGE as usize];
        let last = memory.len() - 1;
        memory[last] = 0;
        let string = read_string(me(), memory.as_ptr() as u64, 4 * PAGE as usize).unwrap();
        assert_eq!(string.len(), last);
    }

    #[test]
    fn a_string_without_end_is_refused_at_the_limit() {
        let memory = [b'x'; 64];
        let error = read_string(me(), memory.as_ptr() as u64, 16).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }

    #[test]
    fn an_unmapped_address_is_efault() {
        assert_eq!(read(me(), 8, &mut [0; 8]).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(write(me(), 8, &[0; 8]).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }
}
