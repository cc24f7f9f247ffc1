//! What a Marble is told by its environment.
//!
//! The variables are those of MarbleRun v1.9.1 and two of ours. An empty value counts as unset everywhere. Blanks
//! around the entries of a list are dropped; MarbleRun v1.9.1 keeps them, but such an entry can never match.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::duration;

/// `host:port` of the Coordinator's Marble API; default `localhost:2001`.
pub const COORDINATOR_ADDR: &str = "EDG_MARBLE_COORDINATOR_ADDR";
/// The Marble's type, a name under `Marbles` of the manifest; required.
pub const MARBLE_TYPE: &str = "EDG_MARBLE_TYPE";
/// The Marble's type in Occlum's init stage ([`init_stage`](crate::init_stage)); default: the value of [`MARBLE_TYPE`].
pub const INIT_TYPE: &str = "EDG_MARBLE_INIT_TYPE";
/// Comma-separated DNS names and IP addresses for the Marble's certificate; default `localhost`.
pub const DNS_NAMES: &str = "EDG_MARBLE_DNS_NAMES";
/// File that keeps the Marble's UUID; default `uuid` in the working directory.
pub const UUID_FILE: &str = "EDG_MARBLE_UUID_FILE";
/// Directory for the default of [`UUID_FILE`] instead of the working directory.
pub const CWD: &str = "EDG_CWD";
/// How long an unreachable or busy Coordinator is tried again: `90s`, `5m`, `1h30m`, or a number of seconds. Default
/// 5 minutes; `0` means one try, which may take 10 seconds.
pub const ACTIVATION_TIMEOUT: &str = "EDG_MARBLE_ACTIVATION_TIMEOUT";
/// `1` allows activation without evidence where none can be issued. A Coordinator outside simulation refuses it.
pub const SIMULATION: &str = "EDG_MARBLE_SIMULATION";

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 2001;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Longer is a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// RFC 1035 2.3.4, without the final dot.
const MAX_DNS_NAME_LEN: usize = 253;
/// RFC 1035 2.3.4.
const MAX_DNS_LABEL_LEN: usize = 63;
/// A certificate with more names than this is refused by common TLS stacks for its size.
const MAX_ALT_NAMES: usize = 256;

/// Everything a Marble needs to know before it activates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the Coordinator is.
    pub coordinator: CoordinatorAddress,
    /// The Marble's type.
    pub marble_type: String,
    /// DNS names for the certificate.
    pub dns_names: Vec<String>,
    /// IP addresses for the certificate, without the loopback addresses that every Marble gets.
    pub ip_addresses: Vec<IpAddr>,
    /// Where the UUID is kept.
    pub uuid_file: PathBuf,
    /// How long an unreachable or busy Coordinator is tried again.
    pub activation_timeout: Duration,
    /// Activation without evidence is allowed.
    pub simulation: bool,
}

/// Host and port of the Coordinator's Marble API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for CoordinatorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One mistake in the environment.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// A required variable is missing.
    #[error("environment variable not set: {name}")]
    Missing {
        /// The variable.
        name: &'static str,
    },
    /// A value is not text.
    #[error("{name}: expected UTF-8 text")]
    NotUtf8 {
        /// The variable.
        name: &'static str,
    },
    /// A value has another form.
    #[error("{name}: expected {expected}, got {got:?}")]
    Form {
        /// The variable.
        name: &'static str,
        /// The form that is expected.
        expected: String,
        /// The value.
        got: String,
    },
}

/// All mistakes in the environment, at least one.
#[derive(Debug)]
pub struct ConfigError {
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// The mistakes, in the order of the variables.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        let missing = self.mistakes.iter().any(|mistake| matches!(mistake, Mistake::Missing { .. }));
        missing.then_some(
            "Occlum passes a variable of the host only if its name is listed in env.untrusted of Occlum.json; a fixed \
             value goes to env.default",
        )
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads the variables through `variable`, which returns `None` for an unset one.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        working_directory: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader { variable, mistakes: Vec::new() };
        let coordinator = reader
            .parsed(COORDINATOR_ADDR, parse_address)
            .unwrap_or_else(|| CoordinatorAddress { host: DEFAULT_HOST.to_owned(), port: DEFAULT_PORT });
        let marble_type = reader.required(MARBLE_TYPE);
        let names = reader.parsed(DNS_NAMES, parse_names).filter(|names| !names.is_empty());
        let uuid_file = reader.uuid_file(working_directory);
        let activation_timeout = reader.parsed(ACTIVATION_TIMEOUT, parse_timeout).unwrap_or(DEFAULT_TIMEOUT);
        let simulation = reader.parsed(SIMULATION, parse_switch).unwrap_or(false);
        if !reader.mistakes.is_empty() {
            return Err(ConfigError { mistakes: reader.mistakes });
        }
        let names = names.unwrap_or_else(|| AltNames { dns: vec![DEFAULT_HOST.to_owned()], ips: Vec::new() });
        Ok(Self {
            coordinator,
            marble_type,
            dns_names: names.dns,
            ip_addresses: names.ips,
            uuid_file,
            activation_timeout,
            simulation,
        })
    }
}

struct Reader<F> {
    variable: F,
    mistakes: Vec<Mistake>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn raw(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        match self.raw(name)?.into_string() {
            Ok(text) => Some(text),
            Err(_) => {
                self.mistakes.push(Mistake::NotUtf8 { name });
                None
            }
        }
    }

    fn required(&mut self, name: &'static str) -> String {
        if self.raw(name).is_none() {
            self.mistakes.push(Mistake::Missing { name });
        }
        self.text(name).unwrap_or_default()
    }

    /// `parse` returns the expected form as its error.
    fn parsed<T>(&mut self, name: &'static str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.mistakes.push(Mistake::Form { name, expected, got: text });
                None
            }
        }
    }

    fn uuid_file(&mut self, working_directory: Option<&Path>) -> PathBuf {
        if let Some(path) = self.raw(UUID_FILE) {
            return path.into();
        }
        match self.raw(CWD).map(PathBuf::from).or_else(|| working_directory.map(Path::to_owned)) {
            Some(directory) => directory.join("uuid"),
            None => {
                self.mistakes.push(Mistake::Missing { name: UUID_FILE });
                PathBuf::new()
            }
        }
    }
}

fn parse_address(text: &str) -> Result<CoordinatorAddress, String> {
    let form = || "host:port".to_owned();
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("host:port with the IPv6 address in brackets, such as [{text}]:{DEFAULT_PORT}"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
    let port = port.parse().map_err(|_| "host:port with a port from 1 to 65535".to_owned())?;
    if port == 0 {
        return Err("host:port with a port from 1 to 65535".to_owned());
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => {
            return Err(format!("host:port with the IPv6 address in brackets, such as [{host}]:{port}"));
        }
        // As Go's dialler has it.
        None if host.is_empty() => DEFAULT_HOST,
        None => host,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c)) {
        return Err(form());
    }
    Ok(CoordinatorAddress { host: host.to_owned(), port })
}

struct AltNames {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
}

impl AltNames {
    fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty()
    }
}

fn parse_names(text: &str) -> Result<AltNames, String> {
    let mut names = AltNames { dns: Vec::new(), ips: Vec::new() };
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        if names.dns.len() + names.ips.len() == MAX_ALT_NAMES {
            return Err(format!("at most {MAX_ALT_NAMES} names"));
        }
        let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
        if let Ok(ip) = bare.parse() {
            names.ips.push(ip);
            continue;
        }
        if !entry.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("names of ASCII characters (entry {entry:?})"));
        }
        let length_ok = entry.len() <= MAX_DNS_NAME_LEN + usize::from(entry.ends_with('.'));
        if !length_ok || entry.split('.').any(|label| label.len() > MAX_DNS_LABEL_LEN) {
            return Err(format!("names of at most 253 and labels of at most 63 characters (entry {entry:?})"));
        }
        names.dns.push(entry.to_owned());
    }
    Ok(names)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .filter(|timeout| *timeout <= MAX_TIMEOUT)
        .ok_or_else(|| "a duration of at most 7 days such as 90s, 5m or 1h30m".to_owned())
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("0 or 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Config::read(lookup, Some(Path::new("/srv")))
    }

    #[track_caller]
    fn check_refused(name: &str, value: &str, message: &str) {
        let error = read(&[(MARBLE_TYPE, "web"), (name, value)]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn defaults_are_those_of_marblerun() {
        let expected = Config {
            coordinator: CoordinatorAddress { host: "localhost".into(), port: 2001 },
            marble_type: "web".into(),
            dns_names: vec!["localhost".into()],
            ip_addresses: vec![],
            uuid_file: "/srv/uuid".into(),
            activation_timeout: Duration::from_secs(300),
            simulation: false,
        };
        assert_eq!(read(&[(MARBLE_TYPE, "web")]).unwrap(), expected);
        // Empty counts as unset.
        let empty = [COORDINATOR_ADDR, DNS_NAMES, UUID_FILE, CWD, ACTIVATION_TIMEOUT, SIMULATION].map(|n| (n, ""));
        assert_eq!(read(&[&[(MARBLE_TYPE, "web")], &empty[..]].concat()).unwrap(), expected);
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let error = read(&[(COORDINATOR_ADDR, "nowhere"), (ACTIVATION_TIMEOUT, "soon"), (SIMULATION, "yes")]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "EDG_MARBLE_COORDINATOR_ADDR: expected host:port, got \"nowhere\"; environment variable not set: \
             EDG_MARBLE_TYPE; EDG_MARBLE_ACTIVATION_TIMEOUT: expected a duration of at most 7 days such as 90s, 5m or \
             1h30m, got \"soon\"; EDG_MARBLE_SIMULATION: expected 0 or 1, got \"yes\""
        );
    }

    #[test]
    fn a_missing_type_says_where_occlum_lists_variables() {
        let error = read(&[]).unwrap_err();
        assert_eq!(error.to_string(), "environment variable not set: EDG_MARBLE_TYPE");
        assert!(error.hint().unwrap().contains("env.untrusted"));
    }

    #[test]
    fn addresses_may_be_names_ipv4_and_bracketed_ipv6() {
        for (text, host, port) in [
            ("coordinator:2001", "coordinator", 2001),
            ("mesh_coordinator:1", "mesh_coordinator", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:2001", "::1", 2001),
            ("[fe80::1%lo]:2001", "fe80::1%lo", 2001),
            (":2001", "localhost", 2001),
        ] {
            let config = read(&[(MARBLE_TYPE, "web"), (COORDINATOR_ADDR, text)]).unwrap();
            assert_eq!(config.coordinator, CoordinatorAddress { host: host.into(), port }, "{text}");
        }
        assert_eq!(CoordinatorAddress { host: "::1".into(), port: 2 }.to_string(), "[::1]:2");
        assert_eq!(CoordinatorAddress { host: "a".into(), port: 2 }.to_string(), "a:2");
    }

    #[test]
    fn addresses_of_another_form_are_refused_with_the_form_expected() {
        for (text, expected) in [
            ("coordinator", "host:port"),
            ("a b:1", "host:port"),
            ("https://a:1", "host:port with the IPv6 address in brackets, such as [https://a]:1"),
            ("a/b:1", "host:port"),
            ("[]:1", "host:port"),
            ("a:0", "host:port with a port from 1 to 65535"),
            ("a:65536", "host:port with a port from 1 to 65535"),
            ("::1", "host:port with the IPv6 address in brackets, such as [::1]:2001"),
            ("fe80::1%lo:2001", "host:port with the IPv6 address in brackets, such as [fe80::1%lo]:2001"),
        ] {
            check_refused(
                COORDINATOR_ADDR,
                text,
                &format!("EDG_MARBLE_COORDINATOR_ADDR: expected {expected}, got {text:?}"),
            );
        }
    }

    #[test]
    fn name_lists_are_trimmed_and_split_into_names_and_addresses() {
        let text = " a.example, ,b_1,*.example,A.Example,10.1.2.3,[::1],fd00::7,c.";
        let config = read(&[(MARBLE_TYPE, "web"), (DNS_NAMES, text)]).unwrap();
        assert_eq!(config.dns_names, ["a.example", "b_1", "*.example", "A.Example", "c."]);
        let ips: Vec<IpAddr> = ["10.1.2.3", "::1", "fd00::7"].map(|ip| ip.parse().unwrap()).to_vec();
        assert_eq!(config.ip_addresses, ips);
        let blank = read(&[(MARBLE_TYPE, "web"), (DNS_NAMES, " , ")]).unwrap();
        assert_eq!(blank.dns_names, ["localhost"]);
    }

    #[test]
    fn names_that_no_certificate_can_hold_are_refused_with_the_entry() {
        check_refused(
            DNS_NAMES,
            "a,b\u{fc}cher",
            "EDG_MARBLE_DNS_NAMES: expected names of ASCII characters (entry \"b\u{fc}cher\"), got \"a,b\u{fc}cher\"",
        );
        for long in ["a".repeat(64), vec!["abc"; 64].join("."), "a b".to_owned()] {
            assert!(read(&[(MARBLE_TYPE, "web"), (DNS_NAMES, &long)]).is_err(), "{long}");
        }
        assert!(read(&[(MARBLE_TYPE, "web"), (DNS_NAMES, &"a".repeat(63))]).is_ok());
        let many = vec!["a"; 257].join(",");
        assert!(read(&[(MARBLE_TYPE, "web"), (DNS_NAMES, &many)]).is_err());
    }

    // rules: ACT-8.2
    #[test]
    fn the_uuid_file_defaults_to_the_directory_of_the_host_program() {
        let base = [(MARBLE_TYPE, "web"), (CWD, "/host")];
        assert_eq!(read(&base).unwrap().uuid_file, Path::new("/host/uuid"));
        let with_file = [base[0], base[1], (UUID_FILE, "/id")];
        assert_eq!(read(&with_file).unwrap().uuid_file, Path::new("/id"));
    }
}
