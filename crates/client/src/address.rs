//! Where a Coordinator listens.

use std::fmt;
use std::net::Ipv6Addr;

use rustls_pki_types::ServerName;

/// The port of an address without one; Coordinators usually listen on 4433.
pub const DEFAULT_PORT: u16 = 443;

/// A host and a port, written `HOST:PORT`, with an IPv6 host in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
}

/// Why a text is no address.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A URL.
    #[error("expected an address HOST:PORT, got the URL {got:?}")]
    Url {
        /// The text.
        got: String,
    },
    /// Colons without brackets, in which host and port cannot be told apart.
    #[error("expected an IPv6 address in brackets, for example {example}, got {got:?}")]
    Brackets {
        /// The text.
        got: String,
        /// How it was probably meant.
        example: String,
    },
    /// No number from 1 to 65535.
    #[error("expected a port from 1 to 65535 in {got:?}")]
    Port {
        /// The text.
        got: String,
    },
    /// Neither an IP address nor a DNS name.
    #[error("expected a DNS name or an IP address as host, got {got:?}")]
    Host {
        /// The text.
        got: String,
    },
}

impl AddressError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Url { .. } => Some("leave out the scheme and the path"),
            Self::Brackets { .. } | Self::Port { .. } => None,
            Self::Host { .. } => Some("give the address of the Coordinator's client API, for example localhost:4433"),
        }
    }
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    ///
    /// # Errors
    ///
    /// See [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let got = || text.to_owned();
        if text.contains('/') {
            return Err(AddressError::Url { got: got() });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, behind) = rest.split_once(']').ok_or_else(|| AddressError::Host { got: got() })?;
            host.parse::<Ipv6Addr>().map_err(|_| AddressError::Host { got: got() })?;
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return Err(AddressError::Host { got: got() }),
            }
        } else {
            match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(brackets_missing(text)),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(AddressError::Port { got: got() }),
            },
        };
        let server_name = ServerName::try_from(host.to_owned()).map_err(|_| AddressError::Host { got: got() })?;
        Ok(Self { host: host.to_owned(), port, server_name })
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server's certificate must carry.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

/// `HOST:PORT` with an IPv6 host in brackets, as it stands in a URL.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn brackets_missing(text: &str) -> AddressError {
    let example = match text.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            format!("[{host}]:{port}")
        }
        _ if text.parse::<Ipv6Addr>().is_ok() => format!("[{text}]:4433"),
        _ => "[::1]:4433".to_owned(),
    };
    AddressError::Brackets { got: text.to_owned(), example }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, shown: &str) {
        let address = Address::parse(text).unwrap();
        assert_eq!((address.host(), address.port(), address.to_string().as_str()), (host, port, shown));
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        check("localhost:4433", "localhost", 4433, "localhost:4433");
        check("mesh_coordinator:1", "mesh_coordinator", 1, "mesh_coordinator:1");
        check("192.0.2.1", "192.0.2.1", 443, "192.0.2.1:443");
        check("[::1]:4433", "::1", 4433, "[::1]:4433");
        check("[::1]", "::1", 443, "[::1]:443");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(Address::parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_right_form() {
        check_refused("https://h:1", "expected an address HOST:PORT, got the URL \"https://h:1\"");
        check_refused("::1:4433", "expected an IPv6 address in brackets, for example [::1]:4433, got \"::1:4433\"");
        check_refused("fd00::7", "expected an IPv6 address in brackets, for example [fd00::7]:4433, got \"fd00::7\"");
        check_refused("h:70000", "expected a port from 1 to 65535 in \"h:70000\"");
        check_refused("h:0", "expected a port from 1 to 65535 in \"h:0\"");
        check_refused("h:", "expected a port from 1 to 65535 in \"h:\"");
        check_refused("", "expected a DNS name or an IP address as host, got \"\"");
        check_refused("[fe80::1%25lo]:1", "expected a DNS name or an IP address as host, got \"[fe80::1%25lo]:1\"");
        check_refused("[::1]4433", "expected a DNS name or an IP address as host, got \"[::1]4433\"");
        check_refused("bücher:1", "expected a DNS name or an IP address as host, got \"bücher:1\"");
    }
}
