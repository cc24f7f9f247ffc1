//! Whom places are counted for.

use std::net::{IpAddr, Ipv6Addr};

/// Where a connection comes from, as far as it says whose it is: an IPv4 address, or an IPv6 network of 64 bits, since
/// one host may take any number of addresses in it (RFC 4291 2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot build its input must fail")]

    use super::*;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn addresses_of_one_host_are_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff:ffff:ffff"));
        assert_eq!(source("::ffff:10.1.2.3"), source("10.1.2.3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("10.1.2.3"), source("10.1.2.4"));
        assert_ne!(source("::1"), source("127.0.0.1"));
    }
}
