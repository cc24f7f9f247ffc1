//! `/dev/sgx` as Occlum offers it: the ioctls of the LibOS for reports, DCAP quotes and sealing keys.
//!
//! Numbers and structures follow Occlum's `src/libos/src/fs/dev_fs/dev_sgx/` (0.31); the SGX structures are those of
//! the Intel SDK (`sgx_report.h`, `sgx_key.h`). They are not the ioctls of the Linux SGX driver, which shares the name.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `_IOWR('s', 4, 24 bytes)`: creates a report of this enclave.
pub const CREATE_REPORT: libc::c_ulong = 0xC018_7304;
/// `_IOR('s', 7, u32)`: the size of a DCAP quote on this platform.
pub const GET_DCAP_QUOTE_SIZE: libc::c_ulong = 0x8004_7307;
/// `_IOWR('s', 8, 24 bytes)`: generates a DCAP quote.
pub const GEN_DCAP_QUOTE: libc::c_ulong = 0xC018_7308;
/// `_IOWR('s', 11, 16 bytes)`: derives a key with EGETKEY.
pub const GET_KEY: libc::c_ulong = 0xC010_730B;

/// Bytes of report data in a report and a quote.
pub const REPORT_DATA_LEN: usize = 64;
/// Bytes of an SGX report: body (384), key id (32), MAC (16).
pub const REPORT_LEN: usize = 432;
/// Bytes of an SGX key request.
pub const KEY_REQUEST_LEN: usize = 512;
/// Bytes of a key that EGETKEY returns.
pub const KEY_LEN: usize = 16;

/// Argument of [`GEN_DCAP_QUOTE`].
#[repr(C)]
struct GenDcapQuote {
    report_data: *const u8,
    quote_size: *mut u32,
    quote_buf: *mut u8,
}

/// Argument of [`CREATE_REPORT`]. A null target means this enclave's own.
#[repr(C)]
struct CreateReport {
    target_info: *const u8,
    report_data: *const u8,
    report: *mut u8,
}

/// Argument of [`GET_KEY`].
#[repr(C)]
struct GetKey {
    key_request: *const u8,
    key: *mut u8,
}

const _: () = assert!(size_of::<GenDcapQuote>() == 24);
const _: () = assert!(size_of::<CreateReport>() == 24);
const _: () = assert!(size_of::<GetKey>() == 16);
const _: () = assert!(std::mem::offset_of!(GenDcapQuote, quote_size) == 8);
const _: () = assert!(std::mem::offset_of!(GenDcapQuote, quote_buf) == 16);
const _: () = assert!(std::mem::offset_of!(CreateReport, report) == 16);
const _: () = assert!(std::mem::offset_of!(GetKey, key) == 8);

/// Builds an ioctl number the way Linux' `_IOC` does; used to prove the constants above.
const fn ioc(direction: u32, number: u32, size: usize) -> libc::c_ulong {
    ((direction << 30) | ((size as u32) << 16) | (0x73 << 8) | number) as libc::c_ulong
}
const READ: u32 = 2;
const READ_WRITE: u32 = 3;
const _: () = assert!(CREATE_REPORT == ioc(READ_WRITE, 4, size_of::<CreateReport>()));
const _: () = assert!(GET_DCAP_QUOTE_SIZE == ioc(READ, 7, size_of::<u32>()));
const _: () = assert!(GEN_DCAP_QUOTE == ioc(READ_WRITE, 8, size_of::<GenDcapQuote>()));
const _: () = assert!(GET_KEY == ioc(READ_WRITE, 11, size_of::<GetKey>()));

/// EGETKEY and EREPORT want their operands aligned; the LibOS copies, but a stricter one may not.
#[repr(C, align(512))]
struct Aligned<const N: usize>([u8; N]);

/// An open `/dev/sgx`.
#[derive(Debug)]
pub struct SgxDevice {
    file: File,
}

impl SgxDevice {
    /// Where Occlum puts the device.
    pub const PATH: &str = "/dev/sgx";

    /// Opens the device read-only and close-on-exec.
    ///
    /// # Errors
    /// Whatever `open` reports, most often that there is no such file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// The size in bytes that a DCAP quote has on this platform.
    ///
    /// # Errors
    /// The errno of the ioctl. Occlum answers `EINVAL` for every cause.
    pub fn dcap_quote_size(&self) -> io::Result<u32> {
        let mut size: u32 = 0;
        // SAFETY: the ioctl writes one u32 through the pointer, which points to a live u32 for the whole call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), GET_DCAP_QUOTE_SIZE, &raw mut size) };
        check(result)?;
        Ok(size)
    }

    /// A DCAP quote over `report_data`; `size` is what [`SgxDevice::dcap_quote_size`] said.
    ///
    /// # Errors
    /// The errno of the ioctl. Occlum answers `EINVAL` for every cause, also for a busy quoting enclave.
    pub fn dcap_quote(&self, report_data: &[u8; REPORT_DATA_LEN], size: u32) -> io::Result<Vec<u8>> {
        let mut quote = vec![0; size as usize];
        let mut quote_size = size;
        let mut argument = GenDcapQuote {
            report_data: report_data.as_ptr(),
            quote_size: &raw mut quote_size,
            quote_buf: quote.as_mut_ptr(),
        };
        // SAFETY: the three pointers are valid for the call: 64 bytes to read, a u32, and a buffer of exactly the
        // `quote_size` bytes that the kernel is told it may write.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), GEN_DCAP_QUOTE, &raw mut argument) };
        check(result)?;
        Ok(quote)
    }

    /// A report of this enclave about itself, with `report_data` in it.
    ///
    /// # Errors
    /// The errno of the ioctl.
    pub fn self_report(&self, report_data: &[u8; REPORT_DATA_LEN]) -> io::Result<[u8; REPORT_LEN]> {
        let mut report = Aligned([0; REPORT_LEN]);
        let data = Aligned(*report_data);
        let mut argument =
            CreateReport { target_info: std::ptr::null(), report_data: data.0.as_ptr(), report: report.0.as_mut_ptr() };
        // SAFETY: a null target is allowed; 64 bytes are read and 432 written, and both buffers have those sizes.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), CREATE_REPORT, &raw mut argument) };
        check(result)?;
        Ok(report.0)
    }

    /// The key that EGETKEY derives for `request`. The caller wipes it.
    ///
    /// # Errors
    /// The errno of the ioctl; `EINVAL` also for a request that the enclave may not make (for example a newer SVN).
    pub fn key(&self, request: &[u8; KEY_REQUEST_LEN]) -> io::Result<[u8; KEY_LEN]> {
        let request = Aligned(*request);
        let mut key = [0; KEY_LEN];
        let mut argument = GetKey { key_request: request.0.as_ptr(), key: key.as_mut_ptr() };
        // SAFETY: 512 bytes are read and 16 written, and both buffers have those sizes.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), GET_KEY, &raw mut argument) };
        check(result)?;
        Ok(key)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_sgx_device_reports_the_errno_of_each_call() {
        let device = SgxDevice::open(Path::new("/dev/null")).unwrap();
        let errno = |error: io::Error| error.raw_os_error();
        assert_eq!(device.dcap_quote_size().map_err(errno), Err(Some(libc::ENOTTY)));
        assert_eq!(device.dcap_quote(&[0; 64], 8).map_err(errno), Err(Some(libc::ENOTTY)));
        assert_eq!(device.self_report(&[0; 64]).map_err(errno), Err(Some(libc::ENOTTY)));
        assert_eq!(device.key(&[0; 512]).map_err(errno), Err(Some(libc::ENOTTY)));
    }

    // rules: OCC-3, ACT-8.10
    #[test]
    fn the_numbers_are_those_that_programs_in_occlum_use() {
        assert_eq!(GET_DCAP_QUOTE_SIZE, 2_147_775_239);
        assert_eq!(GEN_DCAP_QUOTE, 3_222_827_784);
    }
}
