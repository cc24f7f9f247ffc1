//! The ioctls of Occlum's `/dev/sgx`.
//!
//! Every failure is EINVAL and leaves the caller's memory as it was. Source of numbers, structures and that rule:
//! Occlum's `src/libos/src/fs/dev_fs/dev_sgx/`.

use std::io;

use marblerun_secret::SecretBytes;
use marblerun_software_tee::{
    DevelopmentRoot, EnclaveIdentity, IssueError, KEY_REQUEST_LEN, KeyRequest, KeyRequestError, REPORT_LEN,
    ReportError, TARGET_INFO_LEN,
};

/// Length of the data bound into a report or quote.
const REPORT_DATA_LEN: usize = 64;

/// ioctl numbers: direction, size, `'s'`, number.
pub mod command {
    #![allow(missing_docs, reason = "the names of the ioctls")]
    pub const IS_EDMM_SUPPORTED: u32 = 0x8004_7300;
    pub const GET_EPID_GROUP_ID: u32 = 0x8004_7301;
    pub const GEN_EPID_QUOTE: u32 = 0xC080_7302;
    pub const SELF_TARGET: u32 = 0x8200_7303;
    pub const CREATE_REPORT: u32 = 0xC018_7304;
    pub const VERIFY_REPORT: u32 = 0x41B0_7305;
    pub const DETECT_DCAP_DRIVER: u32 = 0x8004_7306;
    pub const GET_DCAP_QUOTE_SIZE: u32 = 0x8004_7307;
    pub const GEN_DCAP_QUOTE: u32 = 0xC018_7308;
    pub const GET_DCAP_SUPPLEMENTAL_SIZE: u32 = 0x8004_7309;
    pub const VER_DCAP_QUOTE: u32 = 0xC030_730A;
    pub const GET_KEY: u32 = 0xC010_730B;
}

/// Which quotes the platform makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// DCAP quotes under the development root.
    Dcap,
    /// The driver is there, but no quote can be made: a premain that is allowed to sends an empty one.
    Empty,
    /// No DCAP at all, as in Occlum's SIM builds.
    None,
}

/// The memory of the process that made the call.
pub trait CallerMemory {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// If not all of it is readable.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` to `address`.
    ///
    /// # Errors
    /// If not all of it is writable.
    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Why an ioctl fails. The caller sees EINVAL for each.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such ioctl.
    #[error("unknown ioctl {0:#010x}")]
    Command(u32),
    /// The EPID service has ended.
    #[error("EPID attestation does not exist any more")]
    Epid,
    /// `--no-dcap`, `--empty-quote`.
    #[error("this run has no DCAP quotes (--no-dcap or --empty-quote)")]
    NoDcap,
    /// Verification by the platform's quote verification enclave.
    #[error("the platform does not verify quotes; verify them in the program")]
    QuoteVerification,
    /// A null pointer where something is needed.
    #[error("null pointer")]
    Null,
    /// The buffer is shorter than the quote.
    #[error("the quote has {needed} bytes, the buffer {got}")]
    ShortBuffer {
        /// Length of the quote.
        needed: usize,
        /// What the caller offers.
        got: u32,
    },
    /// The memory cannot be read or written.
    #[error("the caller's memory cannot be accessed")]
    Memory(#[source] io::Error),
    /// The report is not for this enclave, or the target malformed.
    #[error("report refused")]
    Report(#[source] ReportError),
    /// The key request is refused.
    #[error("key request refused")]
    Key(#[source] KeyRequestError),
    /// The quote cannot be made.
    #[error("the quote cannot be made")]
    Quote(#[source] IssueError),
}

/// The device as one instance sees it.
#[derive(Debug)]
pub struct Device {
    root: DevelopmentRoot,
    identity: EnclaveIdentity,
    quoting: Quoting,
    edmm: bool,
}

impl Device {
    /// A device whose reports and quotes speak for `identity`.
    pub fn new(root: DevelopmentRoot, identity: EnclaveIdentity, quoting: Quoting, edmm: bool) -> Self {
        Self { root, identity, quoting, edmm }
    }

    /// Performs an ioctl: reads what it needs, computes, and writes last.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was written, unless the caller's memory failed during the writing itself.
    pub fn ioctl(&self, command: u32, argument: u64, memory: &dyn CallerMemory) -> Result<(), Refusal> {
        match command {
            command::IS_EDMM_SUPPORTED => put(memory, argument, &u32::from(self.edmm).to_le_bytes()),
            command::GET_EPID_GROUP_ID | command::GEN_EPID_QUOTE => Err(Refusal::Epid),
            command::SELF_TARGET => put(memory, argument, &self.root.target_info(&self.identity)),
            command::CREATE_REPORT => self.create_report(argument, memory),
            command::VERIFY_REPORT => {
                let report: [u8; REPORT_LEN] = get(memory, argument)?;
                self.root.verify_report(&self.identity, &report).map_err(Refusal::Report)
            }
            command::DETECT_DCAP_DRIVER => {
                put(memory, argument, &u32::from(self.quoting != Quoting::None).to_le_bytes())
            }
            command::GET_DCAP_QUOTE_SIZE => {
                self.need_dcap()?;
                let len = u32::try_from(self.root.quote_len()).expect("a quote has a few kilobytes");
                put(memory, argument, &len.to_le_bytes())
            }
            command::GEN_DCAP_QUOTE => self.quote(argument, memory),
            command::GET_DCAP_SUPPLEMENTAL_SIZE | command::VER_DCAP_QUOTE => Err(Refusal::QuoteVerification),
            command::GET_KEY => self.key(argument, memory),
            unknown => Err(Refusal::Command(unknown)),
        }
    }

    fn need_dcap(&self) -> Result<(), Refusal> {
        if self.quoting == Quoting::Dcap { Ok(()) } else { Err(Refusal::NoDcap) }
    }

    fn create_report(&self, argument: u64, memory: &dyn CallerMemory) -> Result<(), Refusal> {
        let [target, data, report] = pointers(get::<24>(memory, argument)?);
        let target: [u8; TARGET_INFO_LEN] = if target == 0 { [0; TARGET_INFO_LEN] } else { get(memory, target)? };
        let data: [u8; REPORT_DATA_LEN] = if data == 0 { [0; REPORT_DATA_LEN] } else { get(memory, data)? };
        let made = self.root.create_report(&self.identity, &target, &data).map_err(Refusal::Report)?;
        put(memory, report, &made)
    }

    fn quote(&self, argument: u64, memory: &dyn CallerMemory) -> Result<(), Refusal> {
        self.need_dcap()?;
        let [data, size, buffer] = pointers(get::<24>(memory, argument)?);
        let data: [u8; REPORT_DATA_LEN] = get(memory, data)?;
        let got = u32::from_le_bytes(get(memory, size)?);
        let quote = self.root.quote(&self.identity, &data).map_err(Refusal::Quote)?;
        if usize::try_from(got).is_ok_and(|got| got < quote.len()) {
            return Err(Refusal::ShortBuffer { needed: quote.len(), got });
        }
        put(memory, buffer, &quote)
    }

    fn key(&self, argument: u64, memory: &dyn CallerMemory) -> Result<(), Refusal> {
        let bytes: [u8; 16] = get(memory, argument)?;
        let [request, key] = pointers(bytes);
        let request: [u8; KEY_REQUEST_LEN] = get(memory, request)?;
        let request = KeyRequest::parse(&request).map_err(Refusal::Key)?;
        let made: SecretBytes = self.root.sgx_key(&request, &self.identity).map_err(Refusal::Key)?;
        put(memory, key, made.expose())
    }
}

/// Splits a structure of pointers.
fn pointers<const BYTES: usize, const COUNT: usize>(bytes: [u8; BYTES]) -> [u64; COUNT] {
    const { assert!(BYTES == 8 * COUNT) };
    std::array::from_fn(|index| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * index + byte])))
}

fn get<const LEN: usize>(memory: &dyn CallerMemory, address: u64) -> Result<[u8; LEN], Refusal> {
    if address == 0 {
        return Err(Refusal::Null);
    }
    let mut bytes = [0; LEN];
    memory.read(address, &mut bytes).map_err(Refusal::Memory)?;
    Ok(bytes)
}

fn put(memory: &dyn CallerMemory, address: u64, bytes: &[u8]) -> Result<(), Refusal> {
    if address == 0 {
        return Err(Refusal::Null);
    }
    memory.write(address, bytes).map_err(Refusal::Memory)
}

#[cfg(test)]
mod tests;
