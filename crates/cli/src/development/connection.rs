//! Talking to a Coordinator for development.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use marblerun_attestation::TrustRoots;
use marblerun_client::{
    Address, Client, CollateralSource, Coordinator, EraConfig, MAX_ERA_CONFIG_BYTES, NonceChoice, Policy, Timeouts,
};
use marblerun_collateral::Bundle;
use marblerun_pki::pem;
use rustls_pki_types::UnixTime;

use super::Site;
use crate::failure::{Cause, Failure};
use crate::files;

const MAX_ROOT_BYTES: usize = 64 * 1024;

/// Where a listener can be reached from this machine: one on all interfaces also by the loopback.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(loopback, address.port())
}

/// Verifies the Coordinator of the site at this address, with the files that are told to the user.
pub(crate) async fn connect(site: &Site, client: SocketAddr) -> Result<Client, Failure> {
    let address = Address::parse(&reachable(client).to_string())?;
    let path = site.era_config();
    let text = files::read("expected measurements", &path, MAX_ERA_CONFIG_BYTES)?;
    let expected = EraConfig::parse(&text).map_err(|source| Cause::EraConfig { path, source })?;
    let path = site.root_certificate();
    let text = files::read("software root", &path, MAX_ROOT_BYTES)?;
    let certificates = pem::decode_certificates(&text).map_err(|source| Cause::RootFile { path, source })?;
    let roots = TrustRoots::software(certificates.iter().map(|der| ("development root", der.as_slice())))?;
    let collateral = CollateralSource::directory(Bundle::open(site.collateral(), roots.clone())?);
    let policy = Policy { expected, roots, collateral };
    let timeouts = Timeouts::default();
    let coordinator = Coordinator::new(address.clone(), timeouts);
    let attested = coordinator.attest(&policy, NonceChoice::Fresh, UnixTime::now()).await?;
    Ok(Client::pinned_to(address, attested.chain().root(), timeouts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_by_the_loopback() {
        for (listener, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("127.0.0.1:3", "127.0.0.1:3"),
            ("10.0.0.1:4", "10.0.0.1:4"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()).to_string(), expected);
        }
    }
}
