//! System call filters with user notification (seccomp(2), seccomp_unotify(2)).

#![expect(unsafe_code, reason = "the kernel interface")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// Longest program that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A filter could not be installed with a listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process already listens to this process's system calls (`EBUSY`).
    #[error("another seccomp listener is already installed for this process")]
    Occupied,
    /// The kernel refused.
    #[error("the kernel refused the system call filter")]
    Refused(#[source] io::Error),
}

fn install(program: &[Instruction], flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program's pointer is to `len` live structures with the layout of sock_filter (repr(C), checked by a
    // test); the kernel copies them during the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    i32::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
}

/// Installs `program` as a filter without a listener. `no_new_privileges` must have been called, or the process be
/// privileged.
///
/// # Errors
/// The errno of `seccomp`.
pub fn install_filter(program: &[Instruction]) -> io::Result<()> {
    install(program, 0).map(drop)
}

/// Installs `program` and returns the descriptor at which its notifications are read.
///
/// A task that waits for an answer is woken only by fatal signals where the kernel can do that
/// (`WAIT_KILLABLE_RECV`, Linux 5.19).
///
/// # Errors
/// [`ListenError::Occupied`] if there is a listener already, [`ListenError::Refused`] for everything else.
pub fn install_with_listener(program: &[Instruction]) -> Result<OwnedFd, ListenError> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match install(program, listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(program, listener),
        other => other,
    };
    match fd {
        // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(ListenError::Occupied),
        Err(error) => Err(ListenError::Refused(error)),
    }
}

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names the notification in the answer.
    pub id: u64,
    /// The calling thread, as numbered in the reader's PID namespace; 0 if it is not visible there.
    pub pid: i32,
    /// Number of the system call.
    pub number: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel runs the call as if there were no filter.
    Continue,
    /// The call is not run and returns this value.
    Value(i64),
    /// The call is not run and fails with this errno.
    Errno(i32),
}

/// The reading side of a filter's notifications.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    request_len: usize,
    response_len: usize,
}

impl Listener {
    /// Takes the descriptor that [`install_with_listener`] returned.
    ///
    /// # Errors
    /// `Unsupported` if this kernel's records are smaller than those of Linux 5.0.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the pointer is to a live structure that the call fills.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let (request_len, response_len) = (usize::from(sizes.seccomp_notif), usize::from(sizes.seccomp_notif_resp));
        if request_len < size_of::<libc::seccomp_notif>() || response_len < size_of::<libc::seccomp_notif_resp>() {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        Ok(Self { fd, request_len, response_len })
    }

    /// The next notification. `None`: the caller died before it could be read.
    ///
    /// Blocks if there is none; wait with [`wait_readable`](crate::fd::wait_readable) first.
    ///
    /// # Errors
    /// The errno of the ioctl.
    pub fn receive(&self) -> io::Result<Option<Notification>> {
        // The kernel may know a longer record than this program, and demands that it be zero (seccomp_unotify(2)).
        let mut record = vec![0_u64; self.request_len.div_ceil(8)];
        // SAFETY: the pointer is to at least as many zeroed bytes as the kernel said that it writes.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_RECV, record.as_mut_ptr()) } {
            0 => {}
            _ => {
                let error = io::Error::last_os_error();
                return match error.raw_os_error() {
                    Some(libc::ENOENT | libc::EINTR) => Ok(None),
                    _ => Err(error),
                };
            }
        }
        // SAFETY: the record is aligned to 8 bytes, at least as long as seccomp_notif (checked in `new`), and any bytes
        // are valid for it.
        let notification = unsafe { record.as_ptr().cast::<libc::seccomp_notif>().read() };
        Ok(Some(Notification {
            id: notification.id,
            pid: notification.pid as i32,
            number: notification.data.nr,
            arguments: notification.data.args,
        }))
    }

    /// True while the caller still waits; what was read from its memory before may be another process's if not.
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the pointer is to a live u64 that the call reads.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Answers a notification. A caller that died meanwhile is not an error.
    ///
    /// # Errors
    /// The errno of the ioctl.
    pub fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let response = match answer {
            Answer::Continue => {
                libc::seccomp_notif_resp { id, val: 0, error: 0, flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 }
            }
            Answer::Value(val) => libc::seccomp_notif_resp { id, val, error: 0, flags: 0 },
            Answer::Errno(errno) => libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 },
        };
        let mut record = vec![0_u64; self.response_len.div_ceil(8)];
        // SAFETY: the record is aligned to 8 bytes and at least as long as the response (checked in `new`).
        unsafe { record.as_mut_ptr().cast::<libc::seccomp_notif_resp>().write(response) };
        // SAFETY: the pointer is to at least as many bytes as the kernel said that it reads.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_SEND, record.as_mut_ptr()) } {
            0 => Ok(()),
            _ => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Fails unless this kernel has seccomp filters with notification.
///
/// # Errors
/// The errno of `seccomp(SECCOMP_GET_ACTION_AVAIL)`.
pub fn check_available() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the pointer is to a live u32 that the call reads.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    check(if result < 0 { -1 } else { 0 }).map(drop)
}

/// `SECCOMP_IOCTL_NOTIF_RECV` (linux/seccomp.h).
const NOTIF_RECV: libc::c_ulong = 0xC050_2100;
/// `SECCOMP_IOCTL_NOTIF_SEND`.
const NOTIF_SEND: libc::c_ulong = 0xC018_2101;
/// `SECCOMP_IOCTL_NOTIF_ID_VALID`.
const NOTIF_ID_VALID: libc::c_ulong = 0x4008_2102;

const _: () = {
    assert!(size_of::<libc::seccomp_notif>() == 80);
    assert!(size_of::<libc::seccomp_notif_resp>() == 24);
    assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
    assert!(std::mem::offset_of!(Instruction, jump_true) == std::mem::offset_of!(libc::sock_filter, jt));
    assert!(std::mem::offset_of!(Instruction, operand) == std::mem::offset_of!(libc::sock_filter, k));
};
