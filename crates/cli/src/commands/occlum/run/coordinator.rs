//! The Coordinator that the instance joins.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use marblerun_client::{Address, Client, Coordinator as Remote, NonceChoice, Timeouts};
use marblerun_manifest::{Manifest, fingerprint};
use rustls_pki_types::UnixTime;

use super::RunError;
use crate::args::occlum_run::RunArguments;
use crate::args::{Credentials, Global};
use crate::credentials;
use crate::development::{self, Addresses, Owner, Renewal, Running, Show, Site, Start};
use crate::failure::{Cause, Failure};
use crate::output::Output;
use crate::simulator::{Measurement, Simulator};
use crate::trust;

/// Usual port of the Marble API.
const MARBLE_PORT: u16 = 2001;
/// Status codes of the client API.
const RECOVERY: u64 = 1;
const ACCEPTING_MANIFEST: u64 = 2;

pub(super) struct Coordinator {
    client: Client,
    /// Marble API.
    pub(super) marble: SocketAddr,
    /// It is that of `marblerun dev`.
    pub(super) is_for_development: bool,
    /// The one that ends with the run.
    own: Option<Running>,
}

impl Coordinator {
    /// The one that is named, or a new one.
    pub(super) async fn find(
        global: &Global,
        arguments: &RunArguments,
        simulator: &Simulator,
        site: &Site,
        work: &Path,
        output: &mut Output,
    ) -> Result<Self, Failure> {
        match arguments.given.as_deref() {
            None => Self::start(arguments, simulator, site, work, output).await,
            Some(development::NAME) => {
                let Addresses { client, marble } = site.running()?;
                let marble = arguments.marble_addr.unwrap_or(marble);
                Ok(Self {
                    client: development::connect(site, client).await?,
                    marble,
                    is_for_development: true,
                    own: None,
                })
            }
            Some(address) => {
                let parsed = Address::parse(address)?;
                let marble = match arguments.marble_addr {
                    Some(marble) => marble,
                    None => resolve(parsed.host())?,
                };
                let client = trust::known(global, address, output).await?.client()?;
                Ok(Self { client, marble, is_for_development: false, own: None })
            }
        }
    }

    /// Starts one in the working directory, on free ports.
    async fn start(
        arguments: &RunArguments,
        simulator: &Simulator,
        site: &Site,
        work: &Path,
        output: &mut Output,
    ) -> Result<Self, Failure> {
        match site.renew_root(simulator, Owner::Unknown)? {
            Renewal::Kept => {}
            Renewal::Made => output.aside(&format!("Made a development root in {}", site.root().display()))?,
            Renewal::Renewed => output.aside("The development root had expired, or nearly so: there is a new one")?,
        }
        let instance = work.join("coordinator");
        site.prepare(simulator, &instance)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let start = Start {
            addresses: Addresses { client: any, marble: any },
            instance: &instance,
            root: &site.root(),
            force: arguments.force,
            show: Show::Nothing,
        };
        let running = Running::start(simulator, start).await?;
        let Addresses { client, marble } = running.addresses;
        let address = Address::parse(&client.to_string())?;
        let timeouts = Timeouts::default();
        // It was started just now by this process, which knows the port from it; a quote would prove nothing more.
        let fetched = Remote::new(address.clone(), timeouts)
            .dangerous_fetch_unverified(NonceChoice::Given(Vec::new()), UnixTime::now())
            .await?;
        let client = Client::pinned_to(address, fetched.chain.root(), timeouts)?;
        Ok(Self { client, marble, is_for_development: false, own: Some(running) })
    }

    /// SHA-256 of the root certificate, hexadecimal.
    pub(super) fn root_hash(&self) -> String {
        hex::encode(digest(&SHA256, self.client.root()))
    }

    /// Makes sure that the Coordinator accepts the enclave: sets the manifest, or updates to it where it is needed. False if
    /// it keeps another manifest that does as well.
    pub(super) async fn set(
        &self,
        manifest: &str,
        package: &str,
        measurement: &Measurement,
        user: &Credentials,
    ) -> Result<bool, Failure> {
        if self.own.is_some() {
            self.client.set_manifest(manifest.as_bytes()).await?;
            return Ok(true);
        }
        match self.client.status().await?.code {
            ACCEPTING_MANIFEST => {
                self.client.set_manifest(manifest.as_bytes()).await?;
            }
            RECOVERY => return Err(RunError::Recovery.into()),
            _ => return self.update(manifest, package, measurement, user).await,
        }
        Ok(true)
    }

    async fn update(
        &self,
        manifest: &str,
        package: &str,
        measurement: &Measurement,
        user: &Credentials,
    ) -> Result<bool, Failure> {
        let running = self.client.manifest().await?;
        if running.fingerprint == fingerprint(manifest.as_bytes()) {
            return Ok(true);
        }
        if user.cert.is_none() {
            // Another manifest may be right as well: what counts is that it lets this enclave in.
            let decoded = Manifest::decode(&running.manifest).ok();
            let accepted = decoded
                .and_then(|manifest| manifest.packages.get(package).map(|package| accepts(package, measurement)));
            let unique_id = measurement.mrenclave.clone();
            return match accepted {
                Some(true) => Ok(false),
                _ => Err(RunError::OtherManifest { package: package.to_owned(), unique_id }.into()),
            };
        }
        let user = credentials::user(user)?;
        let outcome = self.client.clone().with_certificate(&user)?.apply_update(manifest.as_bytes()).await?;
        if outcome.is_applied() {
            return Ok(true);
        }
        Err(RunError::Pending { missing: outcome.missing_acknowledgments }.into())
    }

    /// Ends it, if it is this run's own. Returns its last warnings and errors.
    pub(super) async fn stop(self) -> Vec<String> {
        let Some(running) = self.own else { return Vec::new() };
        let trouble = running.trouble();
        running.stop().await;
        trouble
    }
}

/// Whether a package names this enclave.
fn accepts(package: &marblerun_manifest::Package, measurement: &Measurement) -> bool {
    if !package.unique_id.is_empty() {
        return package.unique_id.eq_ignore_ascii_case(&measurement.mrenclave);
    }
    package.signer_id.eq_ignore_ascii_case(&measurement.mrsigner)
        && package.product_id == Some(u64::from(measurement.isv_prod_id))
        && package.security_version.is_some_and(|version| version <= u64::from(measurement.isv_svn))
}

fn resolve(host: &str) -> Result<SocketAddr, Failure> {
    let mut addresses = (host, MARBLE_PORT).to_socket_addrs().map_err(|source| RunError::Io {
        step: "resolve",
        path: host.into(),
        source,
    })?;
    addresses.next().ok_or_else(|| Cause::Flags("--coordinator has no address; give --marble-addr").into())
}
