//! The environment, which belongs to the host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use marblerun_marble::Config;
use marblerun_marble::config::{COORDINATOR_ADDR, MARBLE_TYPE};
use marblerun_pki::request::premain_request;
use marblerun_pki::{AltNames, CertificateRequest, KeyPair};

use crate::Verdict;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("the provider makes P-384 keys"));

/// A Marble's environment, one `NAME=value` per line: the names in it make a request that a Coordinator can read, the
/// address is written as it is read, and nothing waits longer than a week.
pub fn marble_environment(data: &[u8]) -> Verdict {
    let value = |name: &str| -> Option<OsString> {
        let mut lines = data.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(OsStr::from_bytes(value).to_owned())
    };
    let read = Config::read(value, Some(Path::new("/work")));
    let Ok(config) = &read else { return Verdict::of(&read) };
    assert!(config.coordinator.port != 0 && !config.coordinator.host.is_empty());
    assert!(config.activation_timeout <= Duration::from_secs(7 * 24 * 60 * 60));

    let address = config.coordinator.to_string();
    let again = Config::read(
        |name| match name {
            COORDINATOR_ADDR => Some(OsString::from(&address)),
            MARBLE_TYPE => Some(OsString::from("web")),
            _ => None,
        },
        Some(Path::new("/work")),
    );
    assert_eq!(again.expect("the address as we write it reads").coordinator, config.coordinator);

    let names = AltNames { dns: config.dns_names.clone(), ips: config.ip_addresses.clone() };
    let request = premain_request(&KEY, &names).expect("the names were checked");
    let parsed = CertificateRequest::parse_and_verify(&request).expect("our own request reads");
    assert_eq!(parsed.names().dns, names.dns);
    // An IPv4 address in IPv6 form is written in IPv4 form, as Go does.
    assert!(names.ips.iter().all(|ip| parsed.names().ips.contains(&ip.to_canonical())));
    Verdict::Accepted
}
