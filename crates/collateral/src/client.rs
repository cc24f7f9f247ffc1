//! A client of a PCS or PCCS.

use std::sync::Arc;
use std::time::Duration;

use marblerun_attestation::PlatformId;

use crate::base_url::BaseUrl;
use crate::exchange::{Exchange, get};
use crate::fetch_error::FetchError;
use crate::resolver::Resolver;
use crate::service::{Answers, Requests, TcbUpdate};
use crate::tls;

pub use crate::tls::ServerCertificate;

/// How long one request may take, from the name's resolution to the last byte of the answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Which service is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The service.
    pub base_url: BaseUrl,
    /// Whether the server must show a certificate of a public authority.
    pub server_certificate: ServerCertificate,
    /// Which publication of TCB info is asked for.
    pub tcb_update: TcbUpdate,
    /// How long one request may take; a fetch makes four at the same time.
    pub timeout: Duration,
}

impl ClientOptions {
    /// The service at `base_url`, the usual way.
    pub fn new(base_url: BaseUrl) -> Self {
        Self {
            base_url,
            server_certificate: ServerCertificate::default(),
            tcb_update: TcbUpdate::default(),
            timeout: REQUEST_TIMEOUT,
        }
    }
}

/// A client of one collateral service. It needs no files and nothing of the system but its resolver.
///
/// No redirect is followed, no proxy is used, and no address but the configured one is asked (and, for Intel's own
/// service, that of Intel's root revocation list).
#[derive(Clone, Debug)]
pub struct Client {
    options: ClientOptions,
    tls: Arc<rustls::ClientConfig>,
    resolver: Arc<Resolver>,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(options: ClientOptions) -> Self {
        let tls = tls::config(options.server_certificate);
        Self { options, tls, resolver: Arc::default() }
    }

    /// The service.
    pub fn base_url(&self) -> &BaseUrl {
        &self.options.base_url
    }

    /// Asks for everything that verifying quotes of `platform` needs, and gives it as the text of a bundle file.
    ///
    /// The text is well-formed and nothing in it is proven: give it to [`crate::prove()`].
    ///
    /// # Errors
    ///
    /// The first request that failed, as [`FetchError`].
    pub async fn fetch(&self, platform: &PlatformId) -> Result<Vec<u8>, FetchError> {
        let options = &self.options;
        let requests = Requests::of(&options.base_url, platform, options.tcb_update);
        let exchange = Exchange { tls: &self.tls, resolver: &self.resolver, timeout: options.timeout, platform };
        let (tcb_info, qe_identity, pck_crl, root_crl) = tokio::try_join!(
            get(exchange, &requests.tcb_info),
            get(exchange, &requests.qe_identity),
            get(exchange, &requests.pck_crl),
            get(exchange, &requests.root_crl),
        )?;
        Answers { tcb_info, qe_identity, pck_crl, root_crl }.assemble(&options.base_url)
    }
}
