//! Descriptors: passing them between processes, waiting for them, keeping them from leaking.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::check;

/// Room for the control message of one descriptor: `CMSG_SPACE(sizeof(int))` is 24 on 64-bit Linux.
const CONTROL_LEN: usize = 32;

/// The control buffer of `sendmsg` and `recvmsg`, aligned as `struct cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Two connected sockets that keep message borders (`SOCK_SEQPACKET`), both close-on-exec.
///
/// # Errors
/// The errno of `socketpair`.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the pointer is to two integers that the call fills.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so both are open descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Sends one message, and with it a descriptor if there is one (`SCM_RIGHTS`).
///
/// # Errors
/// The errno of `sendmsg`; `EPIPE` if the other side is gone (no signal is raised).
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_marked(socket, message, fd, 0)
}

/// As [`send`], with `mark` as the sixth argument of the call: the kernel ignores it, and a filter can know the call by it.
///
/// # Errors
/// As [`send`].
pub fn send_marked(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>, mark: u32) -> io::Result<()> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut iov = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if let Some(fd) = fd {
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<i32>() as u32) } as usize;
        // SAFETY: the control buffer is aligned and larger than one header with one descriptor (CONTROL_LEN), so
        // CMSG_FIRSTHDR is not null and its data lies inside the buffer.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as usize;
            libc::CMSG_DATA(first).cast::<i32>().write_unaligned(fd.as_raw_fd());
        }
    }
    let (socket, flags, mark) = (socket.as_raw_fd(), libc::MSG_NOSIGNAL, libc::c_long::from(mark));
    // SAFETY: all pointers of the header are to live buffers of the lengths given; the kernel only reads them. libc's
    // own function has no place for the mark.
    let sent = unsafe { libc::syscall(libc::SYS_sendmsg, socket, &raw const header, flags, 0, 0, mark) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message into `buffer`: its length (0: the other side is gone) and the descriptor that came with it.
///
/// # Errors
/// The errno of `recvmsg`; `InvalidData` if the message is longer than `buffer`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN;
    // SAFETY: all pointers of the header are to live buffers of the lengths given.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut fd = None;
    // SAFETY: the kernel filled the control buffer and its length; CMSG_FIRSTHDR is null or points into it, and a
    // SCM_RIGHTS message of at least CMSG_LEN(4) bytes holds a descriptor that now belongs to us.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        if !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_RIGHTS
            && (*first).cmsg_len >= libc::CMSG_LEN(size_of::<i32>() as u32) as usize
        {
            fd = Some(OwnedFd::from_raw_fd(libc::CMSG_DATA(first).cast::<i32>().read_unaligned()));
        }
    }
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message longer than the buffer"));
    }
    Ok((received, fd))
}

/// What [`wait_readable`] found about one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Something can be read.
    pub readable: bool,
    /// The other side is gone; nothing more will come after what is readable.
    pub hung_up: bool,
}

/// Waits until one of `fds` is readable or hung up, or `timeout` has passed (`None`: for ever).
///
/// Signals that interrupt the wait lead to an answer in which nothing is ready.
///
/// # Errors
/// The errno of `poll`.
pub fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[Readiness; N]> {
    // A negative descriptor is skipped by poll(2).
    let mut polled =
        fds.map(|fd| libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events: libc::POLLIN, revents: 0 });
    let timeout = timeout.map_or(-1, |timeout| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: the pointer is to N live pollfd structures.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) }) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok([Readiness::default(); N]),
        Err(error) => return Err(error),
    }
    Ok(polled.map(|entry| Readiness {
        readable: entry.revents & libc::POLLIN != 0,
        hung_up: entry.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0,
    }))
}

/// A duplicate of descriptor `fd` of process `process` (not of one of its threads), close-on-exec (Linux 5.6).
///
/// # Errors
/// The errno of `pidfd_open` or `pidfd_getfd`: the same permission as for a debugger is needed.
pub fn of_process(process: i32, fd: i32) -> io::Result<OwnedFd> {
    let owned = |result: libc::c_long| match i32::try_from(result) {
        // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: no memory is passed.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: no memory is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

/// Address family of a socket (`SO_DOMAIN`): 1 for those of this machine (`AF_UNIX`).
///
/// # Errors
/// The errno of `getsockopt`; `ENOTSOCK` for other descriptors.
pub fn socket_domain(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut domain: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and the length is that of the first.
    check(unsafe {
        let value = (&raw mut domain).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN, value, &raw mut len)
    })?;
    Ok(domain)
}

/// Marks every descriptor above the three standard streams close-on-exec (Linux 5.11).
///
/// # Errors
/// The errno of `close_range`.
pub fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens `path` below `root` as if `root` were the root directory: absolute symbolic links and `..` stay inside
/// (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6).
///
/// # Errors
/// The errno of `openat2`; `InvalidInput` if `path` contains a NUL byte.
pub fn open_in_root(root: BorrowedFd<'_>, path: &std::ffi::CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain data for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: path is NUL-terminated, `how` is live and its true size is given.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    check(fd)?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a path relative to the directory `dir`, following links as usual.
///
/// # Errors
/// The errno of `openat`.
pub fn open_at(dir: BorrowedFd<'_>, path: &std::ffi::CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: path is NUL-terminated; the mode, which O_CREAT would need, is given.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, 0) })?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_a_process_is_duplicated_and_its_family_told() {
        let (ours, theirs) = packet_pair().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let copy = of_process(me, theirs.as_raw_fd()).unwrap();
        assert_eq!(socket_domain(std::os::fd::AsFd::as_fd(&copy)).unwrap(), libc::AF_UNIX);
        send_marked(std::os::fd::AsFd::as_fd(&copy), b"x", None, 7).unwrap();
        assert_eq!(receive(std::os::fd::AsFd::as_fd(&ours), &mut [0; 4]).unwrap().0, 1);
        let null = std::fs::File::open("/dev/null").unwrap();
        let error = socket_domain(std::os::fd::AsFd::as_fd(&null)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        assert_eq!(of_process(me, -1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
