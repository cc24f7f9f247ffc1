//! Binding the socket of a listener.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until we take them, if the system allows as many (`net.core.somaxconn`). When they
/// are more, it drops new ones, which come again after a second.
const BACKLOG: u32 = 4096;

/// Binds `address`; on a machine without IPv6, `[::]` means all IPv4 interfaces.
///
/// # Errors
///
/// The socket's error, for example that the port is in use.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        Err(error) => match fallback(address, &error) {
            Some(address) => listen(address),
            None => Err(error),
        },
        bound => bound,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the kernel has forgotten the connections of before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What to bind instead, where IPv6 is all that is missing.
fn fallback(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_no_ipv6 = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(AF_NOT_SUPPORTED);
    (address.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6)
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// `EAFNOSUPPORT` of Linux: a kernel without IPv6.
const AF_NOT_SUPPORTED: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_interfaces_fall_back_to_ipv4_and_only_without_ipv6() {
        let missing = io::Error::from_raw_os_error(AF_NOT_SUPPORTED);
        let switched_off = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for error in [&missing, &switched_off] {
            assert_eq!(fallback(address("[::]:9000"), error), Some(address("0.0.0.0:9000")));
            assert_eq!(fallback(address("[::1]:9000"), error), None);
            assert_eq!(fallback(address("0.0.0.0:9000"), error), None);
        }
        assert_eq!(fallback(address("[::]:9000"), &in_use), None);
    }
}
