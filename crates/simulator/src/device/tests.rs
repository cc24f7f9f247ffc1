use std::cell::RefCell;

use marblerun_software_tee::RootOptions;
use rustls_pki_types::UnixTime;

use super::*;

/// Memory of 64 KiB whose addresses begin at 4096; all else is unmapped.
struct Flat(RefCell<Vec<u8>>);

const BASE: u64 = 4096;

impl Flat {
    fn new() -> Self {
        Self(RefCell::new(vec![0xaa; 1 << 16]))
    }

    fn range(&self, address: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let start = address.checked_sub(BASE).and_then(|start| usize::try_from(start).ok());
        let start = start.ok_or_else(|| io::Error::from_raw_os_error(14))?;
        let end = start.checked_add(len).filter(|end| *end <= self.0.borrow().len());
        Ok(start..end.ok_or_else(|| io::Error::from_raw_os_error(14))?)
    }

    fn with(self, address: u64, bytes: &[u8]) -> Self {
        self.write(address, bytes).unwrap();
        self
    }

    fn bytes<const LEN: usize>(&self, address: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        self.read(address, &mut bytes).unwrap();
        bytes
    }
}

impl CallerMemory for Flat {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let range = self.range(address, buffer.len())?;
        buffer.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let range = self.range(address, bytes.len())?;
        self.0.borrow_mut()[range].copy_from_slice(bytes);
        Ok(())
    }
}

fn identity(debug: bool) -> EnclaveIdentity {
    EnclaveIdentity { mr_enclave: [1; 32], mr_signer: [2; 32], isv_prod_id: 3, isv_svn: 4, debug }
}

fn device(quoting: Quoting) -> (tempfile::TempDir, Device) {
    let dir = tempfile::tempdir().unwrap();
    let root = DevelopmentRoot::create(dir.path(), UnixTime::now(), RootOptions::default()).unwrap();
    (dir, Device::new(root, identity(false), quoting, false))
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const ARGUMENT: u64 = BASE;
const FIRST: u64 = BASE + 0x1000;
const SECOND: u64 = BASE + 0x2000;
const THIRD: u64 = BASE + 0x3000;

#[track_caller]
fn check_refused(quoting: Quoting, command: u32, argument: u64, memory: Flat, reason: &str) {
    let before = memory.0.borrow().clone();
    let refusal = device(quoting).1.ioctl(command, argument, &memory).unwrap_err();
    assert!(refusal.to_string().contains(reason), "{refusal} does not contain {reason:?}");
    assert!(before == *memory.0.borrow(), "memory was changed");
}

#[test]
fn a_quote_carries_the_report_data_and_has_the_announced_size() {
    let (_dir, device) = device(Quoting::Dcap);
    let data: [u8; 64] = std::array::from_fn(|index| index as u8);
    let memory = Flat::new().with(FIRST, &data);
    device.ioctl(command::GET_DCAP_QUOTE_SIZE, SECOND, &memory).unwrap();
    let len = u32::from_le_bytes(memory.bytes(SECOND));
    let memory = memory.with(ARGUMENT, &words(&[FIRST, SECOND, THIRD]));
    device.ioctl(command::GEN_DCAP_QUOTE, ARGUMENT, &memory).unwrap();
    assert_eq!(memory.bytes::<2>(THIRD), [3, 0]);
    assert_eq!(memory.bytes::<64>(THIRD + 368), data);
    assert_eq!(memory.bytes::<32>(THIRD + 48 + 64), [1; 32]);
    // Exactly the announced bytes are written, and the size word is not.
    assert_eq!(u32::from_le_bytes(memory.bytes(SECOND)), len);
    assert_ne!(memory.bytes::<1>(THIRD + u64::from(len) - 1), [0xaa]);
    assert_eq!(memory.bytes::<1>(THIRD + u64::from(len)), [0xaa]);
}

#[test]
fn a_report_verifies_only_for_its_target() {
    let (_dir, device) = device(Quoting::Dcap);
    let memory = Flat::new().with(ARGUMENT, &words(&[FIRST, 0, SECOND]));
    device.ioctl(command::SELF_TARGET, FIRST, &memory).unwrap();
    device.ioctl(command::CREATE_REPORT, ARGUMENT, &memory).unwrap();
    device.ioctl(command::VERIFY_REPORT, SECOND, &memory).unwrap();
    let memory = memory.with(ARGUMENT, &words(&[0, 0, SECOND]));
    device.ioctl(command::CREATE_REPORT, ARGUMENT, &memory).unwrap();
    let refusal = device.ioctl(command::VERIFY_REPORT, SECOND, &memory).unwrap_err();
    assert!(matches!(refusal, Refusal::Report(_)));
}

#[test]
fn keys_follow_the_policy_of_the_request() {
    let (dir, device) = device(Quoting::Dcap);
    let mut other = identity(false);
    other.mr_enclave = [9; 32];
    let root = DevelopmentRoot::open(dir.path(), UnixTime::now()).unwrap();
    let other = Device::new(root, other, Quoting::Dcap, false);
    let key = |device: &Device, policy: u8| {
        let mut request = [0; KEY_REQUEST_LEN];
        request[0] = 4;
        request[2] = policy;
        request[24..32].copy_from_slice(&0xFF00_0000_0000_000B_u64.to_le_bytes());
        let memory = Flat::new().with(FIRST, &request).with(ARGUMENT, &words(&[FIRST, SECOND]));
        device.ioctl(command::GET_KEY, ARGUMENT, &memory).unwrap();
        memory.bytes::<16>(SECOND)
    };
    assert_eq!(key(&device, 1), key(&device, 1));
    assert_ne!(key(&device, 1), key(&other, 1));
    assert_eq!(key(&device, 2), key(&other, 2));
    assert_ne!(key(&device, 1), key(&device, 2));
}

#[test]
fn failing_calls_leave_memory_untouched() {
    let dcap = Quoting::Dcap;
    check_refused(dcap, 0x8004_730c, FIRST, Flat::new(), "unknown ioctl");
    check_refused(dcap, command::GET_EPID_GROUP_ID, FIRST, Flat::new(), "EPID");
    check_refused(dcap, command::GEN_EPID_QUOTE, FIRST, Flat::new(), "EPID");
    check_refused(dcap, command::VER_DCAP_QUOTE, FIRST, Flat::new(), "does not verify quotes");
    check_refused(dcap, command::GET_DCAP_SUPPLEMENTAL_SIZE, FIRST, Flat::new(), "does not verify quotes");
    for command in [
        command::IS_EDMM_SUPPORTED,
        command::SELF_TARGET,
        command::CREATE_REPORT,
        command::VERIFY_REPORT,
        command::DETECT_DCAP_DRIVER,
        command::GET_DCAP_QUOTE_SIZE,
        command::GEN_DCAP_QUOTE,
        command::GET_KEY,
    ] {
        check_refused(dcap, command, 0, Flat::new(), "null pointer");
        check_refused(dcap, command, 16, Flat::new(), "memory cannot be accessed");
    }
    let size = 100_u32.to_le_bytes();
    let quote = |pointers: [u64; 3]| Flat::new().with(SECOND, &size).with(ARGUMENT, &words(&pointers));
    check_refused(dcap, command::GEN_DCAP_QUOTE, ARGUMENT, quote([0, SECOND, THIRD]), "null pointer");
    check_refused(dcap, command::GEN_DCAP_QUOTE, ARGUMENT, quote([FIRST, 0, THIRD]), "null pointer");
    check_refused(dcap, command::GEN_DCAP_QUOTE, ARGUMENT, quote([FIRST, SECOND, THIRD]), "the buffer 100");
    let large = 9999_u32.to_le_bytes();
    check_refused(dcap, command::GEN_DCAP_QUOTE, ARGUMENT, quote([FIRST, SECOND, 0]).with(SECOND, &large), "null");
    check_refused(dcap, command::VERIFY_REPORT, FIRST, Flat::new(), "report refused");
    let key = Flat::new().with(ARGUMENT, &words(&[FIRST, SECOND]));
    check_refused(dcap, command::GET_KEY, ARGUMENT, key, "key request refused");
}

#[test]
fn without_dcap_there_are_no_quotes_but_reports() {
    for (quoting, driver) in [(Quoting::None, 0), (Quoting::Empty, 1)] {
        check_refused(quoting, command::GET_DCAP_QUOTE_SIZE, FIRST, Flat::new(), "no DCAP quotes");
        check_refused(quoting, command::GEN_DCAP_QUOTE, FIRST, Flat::new(), "no DCAP quotes");
        let (_dir, device) = device(quoting);
        let memory = Flat::new();
        device.ioctl(command::SELF_TARGET, FIRST, &memory).unwrap();
        device.ioctl(command::DETECT_DCAP_DRIVER, SECOND, &memory).unwrap();
        assert_eq!(u32::from_le_bytes(memory.bytes(SECOND)), driver);
    }
}
