//! Evidence and identity from Occlum's `/dev/sgx`.

use std::io;
use std::thread;

use marblerun_linux::sgx::{KEY_LEN, KEY_REQUEST_LEN, REPORT_LEN, SgxDevice};

use crate::{REPORT_DATA_LEN, RetryPolicy};

/// The largest quote that is believed; real ones have about 5 KB.
const MAX_QUOTE_LEN: u32 = 64 * 1024;

/// `EIO`: Occlum could not start its quote generator and will not try again for the life of the instance.
const EIO: i32 = 5;

/// The calls of `/dev/sgx` that this crate makes; a trait so that tests can stand in for the LibOS.
pub trait Sgx {
    /// Size of a DCAP quote in bytes.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn dcap_quote_size(&self) -> io::Result<u32>;
    /// A DCAP quote of `size` bytes over `report_data`.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn dcap_quote(&self, report_data: &[u8; REPORT_DATA_LEN], size: u32) -> io::Result<Vec<u8>>;
    /// A report of the enclave about itself.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn self_report(&self, report_data: &[u8; REPORT_DATA_LEN]) -> io::Result<[u8; REPORT_LEN]>;
    /// The key of an SGX key request.
    ///
    /// # Errors
    /// The errno of the ioctl.
    fn key(&self, request: &[u8; KEY_REQUEST_LEN]) -> io::Result<[u8; KEY_LEN]>;
}

impl Sgx for SgxDevice {
    fn dcap_quote_size(&self) -> io::Result<u32> {
        SgxDevice::dcap_quote_size(self)
    }
    fn dcap_quote(&self, report_data: &[u8; REPORT_DATA_LEN], size: u32) -> io::Result<Vec<u8>> {
        SgxDevice::dcap_quote(self, report_data, size)
    }
    fn self_report(&self, report_data: &[u8; REPORT_DATA_LEN]) -> io::Result<[u8; REPORT_LEN]> {
        SgxDevice::self_report(self, report_data)
    }
    fn key(&self, request: &[u8; KEY_REQUEST_LEN]) -> io::Result<[u8; KEY_LEN]> {
        SgxDevice::key(self, request)
    }
}

/// Why there is no evidence. Occlum gives one errno for every cause, so the message names the call.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The device cannot be opened.
    #[error("/dev/sgx cannot be opened")]
    Open(#[source] io::Error),
    /// The size of a quote is not known.
    #[error("GET_DCAP_QUOTE_SIZE on /dev/sgx failed")]
    QuoteSize(#[source] io::Error),
    /// The size of a quote makes no sense.
    #[error("GET_DCAP_QUOTE_SIZE: expected 1 to {MAX_QUOTE_LEN} bytes, got {got}")]
    QuoteSizeRange {
        /// The size that the platform gave.
        got: u32,
    },
    /// No quote was generated in any try.
    #[error("GEN_DCAP_QUOTE on /dev/sgx failed in {tries} tries")]
    Quote {
        /// How often it was tried.
        tries: u32,
        /// The last errno.
        source: io::Error,
    },
    /// The platform said yes and delivered nothing.
    #[error("the host delivered an empty quote")]
    EmptyQuote,
    /// The enclave's own report could not be made.
    #[error("CREATE_REPORT on /dev/sgx failed")]
    Report(#[source] io::Error),
}

impl EvidenceError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open(_) => Some("Occlum.json must not hide /dev: the devfs mount is made by default"),
            Self::QuoteSize(_) | Self::QuoteSizeRange { .. } | Self::Quote { .. } | Self::EmptyQuote => Some(
                "usual causes: the DCAP service (AESM) was not running when the instance started (start it, then \
                 restart the instance), a simulation build of Occlum, or a busy quoting enclave",
            ),
            Self::Report(_) => None,
        }
    }
}

/// Who this enclave is, from its own report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Measurement of the enclave (unique ID).
    pub mr_enclave: [u8; 32],
    /// Hash of the signer's key (signer ID).
    pub mr_signer: [u8; 32],
    /// Product number that the signer gave.
    pub isv_prod_id: u16,
    /// Security version that the signer gave.
    pub isv_svn: u16,
    /// True if the host may read the enclave's memory.
    pub debug: bool,
    /// Security version of the processor.
    pub cpu_svn: [u8; 16],
}

impl Identity {
    /// Reads the report body (Intel SDK, `sgx_report.h`).
    fn from_report(report: &[u8; REPORT_LEN]) -> Self {
        const ATTRIBUTE_DEBUG: u8 = 0x02;
        Self {
            mr_enclave: field(report, 64),
            mr_signer: field(report, 128),
            isv_prod_id: u16::from_le_bytes(field(report, 256)),
            isv_svn: u16::from_le_bytes(field(report, 258)),
            debug: report[48] & ATTRIBUTE_DEBUG != 0,
            cpu_svn: field(report, 0),
        }
    }
}

fn field<const N: usize>(report: &[u8; REPORT_LEN], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&report[offset..offset + N]);
    out
}

/// The Occlum LibOS, through its SGX device.
#[derive(Debug)]
pub struct Occlum<D> {
    pub(crate) device: D,
    retry: RetryPolicy,
}

impl Occlum<SgxDevice> {
    /// Opens `/dev/sgx`.
    ///
    /// # Errors
    /// [`EvidenceError::Open`].
    pub fn open(retry: RetryPolicy) -> Result<Self, EvidenceError> {
        let device = SgxDevice::open(std::path::Path::new(SgxDevice::PATH)).map_err(EvidenceError::Open)?;
        Ok(Self::new(device, retry))
    }
}

impl<D: Sgx> Occlum<D> {
    /// Uses an open device.
    pub fn new(device: D, retry: RetryPolicy) -> Self {
        Self { device, retry }
    }

    /// Evidence over `report_data`: the 16-byte Open Enclave header followed by the DCAP quote.
    ///
    /// # Errors
    /// See [`EvidenceError`]; a failing quote is tried again as the retry policy says.
    pub fn evidence(&self, report_data: &[u8; REPORT_DATA_LEN]) -> Result<Vec<u8>, EvidenceError> {
        Ok(with_header(&self.quote(report_data)?))
    }

    pub(crate) fn quote_size(&self) -> Result<u32, EvidenceError> {
        let tries = self.retry.tries.max(1);
        let mut attempt = 1;
        loop {
            match self.device.dcap_quote_size() {
                Ok(got) if got == 0 || got > MAX_QUOTE_LEN => return Err(EvidenceError::QuoteSizeRange { got }),
                Ok(size) => return Ok(size),
                Err(error) if attempt == tries || is_final(&error) => return Err(EvidenceError::QuoteSize(error)),
                Err(_) => self.pause(&mut attempt),
            }
        }
    }

    fn quote(&self, report_data: &[u8; REPORT_DATA_LEN]) -> Result<Vec<u8>, EvidenceError> {
        let tries = self.retry.tries.max(1);
        let mut attempt = 1;
        loop {
            let size = self.quote_size()?;
            match self.device.dcap_quote(report_data, size) {
                Ok(quote) if quote.iter().all(|&byte| byte == 0) => return Err(EvidenceError::EmptyQuote),
                Ok(quote) => return Ok(quote),
                Err(source) if attempt == tries || is_final(&source) => {
                    return Err(EvidenceError::Quote { tries: attempt, source });
                }
                Err(_) => self.pause(&mut attempt),
            }
        }
    }

    fn pause(&self, attempt: &mut u32) {
        *attempt += 1;
        thread::sleep(self.retry.pause);
    }

    /// Who this enclave is.
    ///
    /// # Errors
    /// [`EvidenceError::Report`].
    pub fn identity(&self) -> Result<Identity, EvidenceError> {
        let report = self.device.self_report(&[0; REPORT_DATA_LEN]).map_err(EvidenceError::Report)?;
        Ok(Identity::from_report(&report))
    }
}

fn is_final(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// Puts the header of an Open Enclave report in front: version 1, type 2 (remote SGX report), length.
fn with_header(quote: &[u8]) -> Vec<u8> {
    let mut evidence = Vec::with_capacity(16 + quote.len());
    evidence.extend_from_slice(&1u32.to_le_bytes());
    evidence.extend_from_slice(&2u32.to_le_bytes());
    evidence.extend_from_slice(&(quote.len() as u64).to_le_bytes());
    evidence.extend_from_slice(quote);
    evidence
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;

    /// A LibOS that follows a script.
    pub(crate) struct FakeSgx {
        pub(crate) size: Result<u32, i32>,
        pub(crate) quote_errors: RefCell<Vec<i32>>,
        pub(crate) quote_byte: u8,
        pub(crate) quotes_asked: Cell<u32>,
        pub(crate) isv_svn: u16,
        pub(crate) requests: RefCell<Vec<[u8; 512]>>,
    }

    impl Default for FakeSgx {
        fn default() -> Self {
            Self {
                size: Ok(100),
                quote_errors: RefCell::default(),
                quote_byte: 0xAB,
                quotes_asked: Cell::new(0),
                isv_svn: 5,
                requests: RefCell::default(),
            }
        }
    }

    impl Sgx for FakeSgx {
        fn dcap_quote_size(&self) -> io::Result<u32> {
            self.size.map_err(io::Error::from_raw_os_error)
        }
        fn dcap_quote(&self, report_data: &[u8; 64], size: u32) -> io::Result<Vec<u8>> {
            self.quotes_asked.set(self.quotes_asked.get() + 1);
            if let Some(errno) = self.quote_errors.borrow_mut().pop() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let mut quote = vec![self.quote_byte; size as usize];
            if self.quote_byte != 0 && size >= 64 {
                quote[..64].copy_from_slice(report_data);
            }
            Ok(quote)
        }
        fn self_report(&self, _: &[u8; 64]) -> io::Result<[u8; 432]> {
            let mut report = [0; 432];
            report[..16].copy_from_slice(&[1; 16]);
            report[48] = 0x07;
            report[64..96].copy_from_slice(&[2; 32]);
            report[128..160].copy_from_slice(&[3; 32]);
            report[256..258].copy_from_slice(&4u16.to_le_bytes());
            report[258..260].copy_from_slice(&self.isv_svn.to_le_bytes());
            Ok(report)
        }
        fn key(&self, request: &[u8; 512]) -> io::Result<[u8; 16]> {
            // As the processor does: a security version above the enclave's own is refused.
            if u16::from_le_bytes([request[4], request[5]]) > self.isv_svn {
                return Err(io::Error::from_raw_os_error(22));
            }
            self.requests.borrow_mut().push(*request);
            let mut key = [0; 16];
            key.iter_mut().zip(&request[40..56]).for_each(|(out, id)| *out = id ^ request[2] ^ request[4]);
            Ok(key)
        }
    }

    fn occlum(device: FakeSgx) -> Occlum<FakeSgx> {
        Occlum::new(device, RetryPolicy { tries: 3, pause: Duration::ZERO })
    }

    // rules: OCC-4, ACT-8.10, ERT-1
    #[test]
    fn evidence_is_the_header_followed_by_a_quote_over_the_report_data() {
        let evidence = occlum(FakeSgx { size: Ok(4598), ..FakeSgx::default() }).evidence(&[9; 64]).unwrap();
        assert_eq!(evidence[..16], *b"\x01\0\0\0\x02\0\0\0\xf6\x11\0\0\0\0\0\0");
        assert_eq!(evidence.len(), 16 + 4598);
        assert_eq!(evidence[16..80], [9; 64]);
    }

    #[test]
    fn a_busy_quoting_enclave_is_tried_again() {
        let occlum = occlum(FakeSgx { quote_errors: RefCell::new(vec![22, 16]), ..FakeSgx::default() });
        assert!(occlum.evidence(&[1; 64]).is_ok());
        assert_eq!(occlum.device.quotes_asked.get(), 3);
    }

    // rules: OCC-5
    #[test]
    fn tries_end_with_the_policy_and_the_error_names_call_and_causes() {
        let occlum = occlum(FakeSgx { quote_errors: RefCell::new(vec![22; 9]), ..FakeSgx::default() });
        let error = occlum.evidence(&[1; 64]).unwrap_err();
        assert_eq!(error.to_string(), "GEN_DCAP_QUOTE on /dev/sgx failed in 3 tries");
        assert!(error.hint().unwrap().contains("DCAP"));
        assert_eq!(occlum.device.quotes_asked.get(), 3);
    }

    #[test]
    fn a_generator_that_failed_to_start_is_not_tried_again() {
        let occlum = occlum(FakeSgx { quote_errors: RefCell::new(vec![5; 9]), ..FakeSgx::default() });
        assert!(matches!(occlum.evidence(&[1; 64]), Err(EvidenceError::Quote { tries: 1, .. })));
    }

    // rules: OCC-4
    #[test]
    fn sizes_outside_1_to_65536_are_refused() {
        for got in [0, 65537, u32::MAX] {
            let error = occlum(FakeSgx { size: Ok(got), ..FakeSgx::default() }).evidence(&[1; 64]).unwrap_err();
            assert_eq!(error.to_string(), format!("GET_DCAP_QUOTE_SIZE: expected 1 to 65536 bytes, got {got}"));
        }
        assert!(occlum(FakeSgx { size: Ok(65536), ..FakeSgx::default() }).evidence(&[1; 64]).is_ok());
    }

    // rules: OCC-5
    #[test]
    fn a_failing_size_call_is_named() {
        let error = occlum(FakeSgx { size: Err(22), ..FakeSgx::default() }).evidence(&[1; 64]).unwrap_err();
        assert_eq!(error.to_string(), "GET_DCAP_QUOTE_SIZE on /dev/sgx failed");
    }

    // rules: STA-9.7
    #[test]
    fn a_quote_of_zeros_is_refused() {
        let error = occlum(FakeSgx { quote_byte: 0, ..FakeSgx::default() }).evidence(&[1; 64]).unwrap_err();
        assert_eq!(error.to_string(), "the host delivered an empty quote");
    }

    #[test]
    fn the_identity_comes_from_the_enclaves_own_report() {
        let expected = Identity {
            mr_enclave: [2; 32],
            mr_signer: [3; 32],
            isv_prod_id: 4,
            isv_svn: 5,
            debug: true,
            cpu_svn: [1; 16],
        };
        assert_eq!(occlum(FakeSgx::default()).identity().unwrap(), expected);
    }
}
